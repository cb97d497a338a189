"""Alignment in laid-out texts: which pieces that a scanner finds are the values of a place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from slm_assets.canonical import Json
from slm_assets.models.linear.align import Occurrence, Place
from slm_assets.models.linear.paths import ABSENT
from slm_assets.models.linear.scan import kinds_for
from slm_assets.models.linear.spans import Document, Label
from slm_assets.models.linear.text import CASTS, casts_for

COVERED: Final = 0.9
_LINES: Final = 4


def is_laid_out(docs: Sequence[Sequence[Document]]) -> bool:
    """Whether most texts are made of lines."""
    texts = [document.text for row in docs for document in row]
    return 2 * sum(text.count("\n") >= _LINES for text in texts) > len(texts)


def align_laid(
    docs: Sequence[Sequence[Document]],
    occurrences: Sequence[Occurrence],
    name: str,
    form: str | None,
    months: Mapping[str, int],
) -> Label | None:
    """Find the pieces that are the occurrences' values (their `places`: text, start, end) and return the label,
    or None where no scanner finds nine of ten."""
    casts = tuple(dict.fromkeys(c for o in occurrences for c in casts_for(o.value, form)))
    for kind in kinds_for([o.value for o in occurrences], casts) if casts else ():
        hits = [_hits(docs[o.row], o.value, kind, casts, months) for o in occurrences]
        if sum(map(bool, hits)) < COVERED * len(occurrences):
            continue
        chosen = _enough(hits)
        for occurrence, own in zip(occurrences, hits, strict=True):
            kept = [(place, by) for place, by in own if not by.isdisjoint(chosen)]
            occurrence.places = [place for place, _ in kept]
            occurrence.casts = tuple(sorted({cast for _, by in kept for cast in by if cast in chosen}))
        return Label(name, chosen, months=dict(months) if form == "date" else {}, scanner=kind)
    return None


Hits = list[tuple[Place, frozenset[str]]]


def _hits(docs: Sequence[Document], value: Json, kind: str, casts: Sequence[str], months: Mapping[str, int]) -> Hits:
    by: dict[Place, set[str]] = {}
    for d, document in enumerate(docs):
        pieces = document.pieces(kind)
        for name in casts:
            for (start, end), found in zip(pieces, document.read(kind, name, months), strict=True):
                if found is not ABSENT and found == value:
                    by.setdefault((d, start, end), set()).add(name)
    return [(place, frozenset(names)) for place, names in sorted(by.items())]


def _enough(hits: Sequence[Hits]) -> tuple[str, ...]:
    """The casts that read most values, then those that read what is left, down to one in a hundred."""
    left = [own for own in hits if own]
    least = max(1, len(left) // 100)
    chosen: list[str] = []
    while left:
        counts = Counter(cast for own in left for cast in {c for _, by in own for c in by})
        best = min(counts, key=lambda c: (-counts[c], list(CASTS).index(c)))
        if counts[best] < least:
            break
        chosen.append(best)
        left = [own for own in left if not any(best in by for _, by in own)]
    return tuple(chosen)
