"""Alignment: where each value of the output stands in the texts of its row, and by which cast or alias."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson

from slm_assets.canonical import Json
from slm_assets.models.linear.formats import convention
from slm_assets.models.linear.lexicon import outline
from slm_assets.models.linear.paths import Path, text_of
from slm_assets.models.linear.spans import Document, Label, alias_of, spans_up_to
from slm_assets.models.linear.text import CASTS, casts_for, close

Place = tuple[int, int, int]
"""Document, first token, last token (inclusive)."""

_ALIAS_TOKENS: Final = 4
_FORMS: Final = 8
_ALIASES: Final = 6


@dataclass
class Occurrence:
    """One value of the output to be found in the texts of its row; `casts` read it from its places."""

    row: int
    path: Path
    value: Json
    places: list[Place] = field(default_factory=list)
    casts: tuple[str, ...] = ()


def locate(
    docs: Sequence[Document], value: Json, form: str | None = None, months: Mapping[str, int] | None = None
) -> list[tuple[Place, tuple[str, ...]]]:
    """Places where a text holds the value, each with the casts that yield it. `form`: the contract's format."""
    casts = casts_for(value, form)
    if not casts or value == "":
        return []
    found: list[tuple[Place, tuple[str, ...]]] = []
    for d, document in enumerate(docs):
        if isinstance(value, str) and casts[0] == "same":
            own = list(_written(document, value, casts[:4]))
            if not own and value.isdigit():
                own = _read_as(document, value, casts[4:], months or {})
        else:
            own = _read_as(document, value, casts, months or {})
        found += [((d, i, j), by) for i, j, by in own]
    return found


def _written(document: Document, value: str, casts: Sequence[str]) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """Pieces that are the value itself, in some case."""
    low = document.text.lower()
    if len(low) != len(document.text):
        return
    wanted = value.lower()
    at = low.find(wanted)
    while at >= 0:
        first, last = document.starts.get(at), document.ends.get(at + len(wanted))
        if first is not None and last is not None:
            piece = document.text[at : at + len(wanted)]
            by = next((c for c in casts if CASTS[c](piece) == value), None)
            if by:
                yield first, last, (by,)
        at = low.find(wanted, at + 1)


def _read_as(
    document: Document, value: Json, casts: Sequence[str], months: Mapping[str, int]
) -> list[tuple[int, int, tuple[str, ...]]]:
    """Pieces that some casts turn into the value."""
    by: dict[tuple[int, int], list[str]] = {}
    for name in casts:
        for i, j in document.values(name, months).get(_key(value), ()):
            by.setdefault((i, j), []).append(name)
    return [(i, j, tuple(names)) for (i, j), names in sorted(by.items())]


def _key(value: Json) -> Json:
    """What equal values have in common: 5 and 5.0 are one amount."""
    return float(value) if isinstance(value, (int, float)) and abs(value) < 2**53 else value


def learn_aliases(docs: Sequence[Sequence[Document]], occurrences: Sequence[Occurrence]) -> dict[str, Json]:
    """Alias → value: short word sequences that stand for one value in the rows of these occurrences.

    An alias is right in at least 60 % of the rows that contain it (and 40 points more often than the value
    occurs at all: a value of half of the rows is a default, no name), and in at least three rows (two where
    that is half of the value's rows). Each value takes as few aliases as cover its rows.
    """
    total: Counter[str] = Counter()
    joint: Counter[tuple[str, str]] = Counter()
    grams: list[set[str]] = []
    keys = [text_of(o.value) or "" for o in occurrences]
    rows_of: dict[str, list[int]] = defaultdict(list)
    for k, occurrence in enumerate(occurrences):
        found = _grams(docs[occurrence.row])
        grams.append(found)
        total.update(found)
        joint.update((gram, keys[k]) for gram in found)
        rows_of[keys[k]].append(k)
    least = {key: max(0.6, len(rows) / len(keys) + 0.4) for key, rows in rows_of.items()}
    precise = {gram for (gram, key), n in joint.items() if n >= least[key] * total[gram]}
    by_key: dict[str, list[str]] = defaultdict(list)
    for (gram, key), n in joint.items():
        if n >= 2 and n >= least[key] * total[gram] and 2 * len(rows_of[key]) < len(keys):
            by_key[key].append(gram)
    table: dict[str, Json] = {}
    for key in sorted(rows_of):
        left = set(rows_of[key])
        order = sorted(by_key[key], key=lambda g: _preference(g, joint[g, key], total[g], precise))
        chosen: list[str] = []
        for gram in order:
            gain = [k for k in left if gram in grams[k]]
            if len(gain) < (2 if 2 * len(gain) >= len(rows_of[key]) else 3):
                continue
            chosen.append(gram)
            left.difference_update(gain)
            if 2 * len(left) <= len(rows_of[key]):
                typos = {g for k in left for g in grams[k] if g[:1] == gram[:1] and close(g, gram)}
                left = {k for k in left if not grams[k] & typos}
        for gram in chosen:
            table.setdefault(gram, orjson.loads(key))
    return dict(sorted(table.items()))


def _preference(gram: str, joint: int, total: int, precise: set[str]) -> tuple[float, int, int, str]:
    words = gram.split(" ")
    vague = sum(word not in precise for word in words)
    return (-joint * joint / total, vague, -len(words), gram)


def _grams(docs: Sequence[Document]) -> set[str]:
    found: set[str] = set()
    for document in docs:
        for i, j in spans_up_to(document, _ALIAS_TOKENS):
            if document.tokens[i].low[0].isalnum() and document.tokens[j].low[-1].isalnum():
                found.add(alias_of(document, i, j))
    return found


def align(
    docs: Sequence[Sequence[Document]],
    occurrences: Sequence[Occurrence],
    name: str,
    *,
    lookup: bool,
    form: str | None = None,
    months: Mapping[str, int] | None = None,
) -> Label:
    """Find the places of the occurrences (set on them) and return the label that describes them."""
    casts: Counter[str] = Counter()
    longest = 1
    pending: list[Occurrence] = []
    located: list[tuple[Occurrence, list[tuple[Place, tuple[str, ...]]]]] = []
    for occurrence in occurrences:
        hits = locate(docs[occurrence.row], occurrence.value, form, months)
        if hits:
            located.append((occurrence, hits))
        else:
            pending.append(occurrence)
    least = max(1, len(occurrences) // 100)
    left = located
    while left:  # what most places can be read by, then what most of the others can
        counts = Counter(cast for _, hits in left for cast in {c for _, by in hits for c in by})
        best = min(counts, key=lambda c: (-counts[c], list(CASTS).index(c)))
        if counts[best] < least:
            break
        casts[best] = counts[best]
        left = [(o, hits) for o, hits in left if not any(best in by for _, by in hits)]
    for occurrence, hits in located:
        kept = [(place, by) for place, by in hits if not casts.keys().isdisjoint(by)]
        occurrence.places = [place for place, _ in kept]
        occurrence.casts = tuple(sorted({c for _, by in kept for c in by if c in casts}))
        longest = max([longest, *(j - i + 1 for _, i, j in occurrence.places[:1])])
    ordered = tuple(sorted(casts, key=lambda c: (-casts[c], c)))
    forms = () if any(map(convention, ordered)) else _forms(docs, occurrences)
    label = Label(name, ordered, {}, longest, forms, dict(months or {}))
    if lookup and len(pending) >= 2 and len(pending) > 0.02 * len(occurrences):
        table = learn_aliases(docs, pending)
        few = len(table) <= _ALIASES * len({text_of(o.value) for o in pending})
        label.table = table if few else {}  # many for each value: words of a topic, no names
        label.longest = max([longest, *(len(alias.split(" ")) for alias in label.table)])
        aliases: dict[str | None, list[str]] = defaultdict(list)
        for alias, value in label.table.items():
            aliases[text_of(value)].append(alias)
        for occurrence in pending:
            wanted = aliases.get(text_of(occurrence.value), [])
            occurrence.places = _by_alias(docs[occurrence.row], wanted, label.longest) if wanted else []
    return label


def _forms(docs: Sequence[Sequence[Document]], occurrences: Sequence[Occurrence]) -> tuple[str, ...]:
    """The outlines of the pieces that were found, where these are few."""
    counts: Counter[str] = Counter()
    for occurrence in occurrences:
        for d, i, j in occurrence.places[:1]:
            counts[outline(docs[occurrence.row][d].piece(i, j))] += 1
    total = counts.total()
    kept = [form for form, n in counts.most_common() if n >= max(2, 0.005 * total)]
    few = len(kept) <= _FORMS and total >= 20 and sum(counts[form] for form in kept) >= 0.97 * total
    return tuple(sorted(kept)) if few else ()


def _by_alias(docs: Sequence[Document], aliases: Sequence[str], longest: int) -> list[Place]:
    exact, firsts = set(aliases), {alias[:1] for alias in aliases}
    places: list[Place] = []
    loose: list[Place] = []
    for d, document in enumerate(docs):
        for i, j in spans_up_to(document, longest):
            written = alias_of(document, i, j)
            if written in exact:
                places.append((d, i, j))
            elif written[:1] in firsts and any(close(written, alias) for alias in aliases):
                loose.append((d, i, j))
    return places or loose
