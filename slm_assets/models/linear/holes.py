"""Which places of the output are computed (holes) and by which sources; the rest is shape.

Judged per general path (array indices as `*`), on all training rows at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slm_assets.canonical import Json
from slm_assets.models.linear.align import Occurrence, align, locate
from slm_assets.models.linear.cover import cover, shortlist
from slm_assets.models.linear.formats import convention, month_names
from slm_assets.models.linear.items import Listed, learn_items
from slm_assets.models.linear.laid import align_laid, is_laid_out
from slm_assets.models.linear.paths import ABSENT, Path, general, get, text_of, walk
from slm_assets.models.linear.schema import Contract
from slm_assets.models.linear.sources import (
    Codes,
    Interner,
    Source,
    apply_map,
    columns,
    learn_map,
    learn_table,
    rank,
)
from slm_assets.models.linear.spans import Document, Label
from slm_assets.models.linear.stated import align_stated

OPEN: Final = 0.95
OPEN_TEXT: Final = 0.8
MANY: Final = 50
PRECISE: Final = 0.97
TEXTUAL: Final = 0.9
_SAMPLE: Final = 200
_LEAST: Final = 10


@dataclass
class Occurrences:
    """Where a general path occurs: row, path and value code of each time; nulls are left out."""

    rows: list[int] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)


@dataclass
class Hole:
    """A computed place. `shortlist`: sources worth trying, with their columns; `label`: how texts give it;
    `aligned`: (row, path) found in the texts → the conventions that read it right; `unexplained`: share of
    its values that no source yields; `textual`: nearly all of its values stand in the texts and nowhere else
    in the input; `listed`: how a text lists the items of an array."""

    name: str
    shortlist: list[tuple[Source, Codes]]
    label: Label | None
    found: list[Occurrence]
    unexplained: float
    aligned: dict[tuple[int, Path], frozenset[str]] = field(default_factory=dict)
    textual: bool = False
    listed: Listed | None = None


@dataclass
class Corpus:
    """Training rows in the forms that the search needs."""

    inputs: Sequence[Json]
    outputs: Sequence[Json]
    docs: list[list[Document]]
    text_names: frozenset[str]
    contract: Contract
    interner: Interner
    base: Path = ()
    keys: list[str] = field(default_factory=list)
    places: dict[str, Occurrences] = field(default_factory=dict)
    given: dict[Source, Codes] = field(default_factory=dict)
    decoded: dict[str, dict[Source, Codes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.base, self.keys = _base(self.outputs, self.contract)
        for row, output in enumerate(self.outputs):
            for path, node in walk(output):
                if node is not None:
                    place = self.places.setdefault(general(path), Occurrences())
                    place.rows.append(row)
                    place.paths.append(path)
                    place.codes.append(self.interner.code(node))
        self.given = columns("in", self.inputs, self.interner)
        for key in self.keys:
            path = (*self.base, key)
            parts = [get(output, path) for output in self.outputs]
            self.decoded[key] = columns("out", parts, self.interner, path)
        if len(self.keys) > 1:
            self.keys = _dependency_order(self)

    @cached_property
    def laid_out(self) -> bool:
        """Whether the texts are made of lines, as documents are."""
        return is_laid_out(self.docs)

    @cached_property
    def months(self) -> dict[str, int]:
        """Names of months in the languages of the texts, beside English."""
        return month_names({token.low for row in self.docs for document in row for token in document.tokens})

    def columns_for(self, key: str | None) -> list[dict[Source, Codes]]:
        """What a value under a top key may be computed from: the input and the keys before it."""
        earlier = self.keys[: self.keys.index(key)] if key in self.keys else []
        return [self.given, *(self.decoded[k] for k in earlier)]

    def top_key(self, name_path: Path) -> str | None:
        """The top key that a path stands under, None where the output has none."""
        depth = len(self.base)
        step = name_path[depth] if len(name_path) > depth else None
        return step if isinstance(step, str) and step in self.decoded else None


def _base(outputs: Sequence[Json], contract: Contract) -> tuple[Path, list[str]]:
    """The path down to the first object that does not have one and the same key in all rows, and its keys."""
    base: Path = ()
    while True:
        parts = [get(output, base) for output in outputs]
        if not parts or not all(isinstance(part, dict) for part in parts):
            return base, []
        keys = sorted({key for part in parts for key in part})
        if len(keys) != 1 or not all(keys[0] in part for part in parts):
            listed = {key: i for i, key in enumerate(contract.property_order())} if not base else {}
            return base, sorted(keys, key=lambda key: (listed.get(key, len(listed)), key))
        base = (*base, keys[0])


def _dependency_order(corpus: Corpus) -> list[str]:
    """Top keys so that what others are copied from comes first; ties as in the contract."""
    keys = corpus.keys
    wins = dict.fromkeys(keys, 0)
    loose = {key: _unexplained_leaves(corpus, key) for key in keys}
    for i, a in enumerate(keys):
        for b in keys[i + 1 :]:
            forward, back = _explained(loose[b], corpus.decoded[a]), _explained(loose[a], corpus.decoded[b])
            if forward > 1.2 * back:
                wins[a] += 1
            elif back > 1.2 * forward:
                wins[b] += 1
    return sorted(keys, key=lambda key: (-wins[key], keys.index(key)))


Leaf = tuple[NDArray[np.int64], Codes]


def _unexplained_leaves(corpus: Corpus, key: str) -> list[Leaf]:
    start = general((*corpus.base, key))
    left: list[Leaf] = []
    for name, place in corpus.places.items():
        if name != start and not name.startswith(start + "/"):
            continue
        rows, codes = np.asarray(place.rows), np.asarray(place.codes, np.int32)
        first = corpus.interner.texts[codes[0]][:1]
        if len(np.unique(codes)) <= 2 or first in "{[":
            continue
        covered, _ = cover(rows, codes, shortlist(rows, codes, [corpus.given]))
        if not covered.all():
            left.append((rows[~covered], codes[~covered]))
    return left


def _explained(leaves: Sequence[Leaf], decoded: dict[Source, Codes]) -> int:
    hit = 0
    for rows, codes in leaves:
        covered, _ = cover(rows, codes, shortlist(rows, codes, [decoded]))
        hit += int(covered.sum())
    return hit


def find_holes(corpus: Corpus) -> tuple[dict[str, Hole], list[dict[str, Json]]]:
    """Holes by general path, largest subtrees first, and the leaves that nothing explains.

    A leaf in the second list: `path`, `share_of_rows` (rows with such a value that no source yields),
    `reason`.
    """
    search = _Search(corpus)
    search.visit("")
    return search.holes, search.uncovered


class _Search:
    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.holes: dict[str, Hole] = {}
        self.uncovered: list[dict[str, Json]] = []
        self.children: dict[str, list[str]] = {}
        for name in corpus.places:
            if name:
                self.children.setdefault(name.rpartition("/")[0], []).append(name)

    def visit(self, name: str) -> None:
        """Decide a place and what is under it."""
        place = self.corpus.places.get(name)
        if place is None:
            return
        distinct = len(set(place.codes))
        if distinct <= 2 and not self._literal(place):
            return
        texts = [self.corpus.interner.texts[code] for code in place.codes]
        container = any(text[0] in "{[" for text in texts)
        choices = self.corpus.contract.choices(place.paths[0])
        copied = not container and self._copied(place)
        if not container and choices is not None and choices <= 8 and not copied:
            stated = self._laid(name, place, listed=True)
            if stated is not None:
                self._open(stated, len(texts))
            return
        listed = choices is not None or (distinct <= MANY and len(texts) >= 5 * distinct)
        hole = self._hole(
            name,
            place,
            lookup=not container and (choices is None or choices > MANY),
            tables=not container and not listed,
        )
        scattered = listed and hole.label is not None and len(hole.label.table) > 6 * distinct
        if container and hole.unexplained > 1 - OPEN and self._list(name, place, hole):
            return
        if copied or (hole.unexplained <= 1 - (OPEN_TEXT if hole.found else OPEN) and not scattered):
            self._open(hole, len(texts))
        elif container:
            self._descend(name, place, distinct)
        elif not listed:
            self._open(hole, len(texts))
        elif choices is None and texts[0][0] in "-0123456789":
            self._report(
                name,
                hole.unexplained * len(texts),
                "number that no source yields; only values seen in training are answered",
            )

    def _list(self, name: str, place: Occurrences, hole: Hole) -> bool:
        """Open an array whose items the texts list; whether it is one."""
        corpus = self.corpus
        if any(corpus.interner.texts[code][0] != "[" for code in set(place.codes)):
            return False
        covered, _ = cover(np.asarray(place.rows), np.asarray(place.codes, np.int32), hole.shortlist)
        arrays = [
            (row, path, corpus.interner.value(code))
            for row, path, code, known in zip(place.rows, place.paths, place.codes, covered, strict=True)
            if not known
        ]
        fields = [child.rpartition("/")[2] for child in self.children.get(f"{name}/*", [])]
        if not fields or "*" in fields or len(set(place.rows)) < len(place.rows):
            return False
        forms = {key: corpus.contract.form((*place.paths[0], 0, key)) for key in fields}
        months = corpus.months if "date" in forms.values() else {}
        hole.listed = learn_items(corpus.docs, name, arrays, forms, months, laid_out=corpus.laid_out)
        if hole.listed is None:
            return False
        hole.label, hole.found, hole.aligned, hole.unexplained = None, [], {}, 0.0
        self._open(hole, len(place.rows))
        return True

    def _literal(self, place: Occurrences) -> bool:
        """Whether the values are free strings that stand in the texts just so, in 95 % of a sample."""
        corpus = self.corpus
        values = [corpus.interner.value(code) for code in set(place.codes)]
        if not all(isinstance(v, str) and v for v in values) or corpus.contract.choices(place.paths[0]) is not None:
            return False
        step = max(1, len(place.rows) // _SAMPLE)
        sample = list(zip(place.rows, place.codes, strict=True))[::step]
        found = sum(bool(locate(corpus.docs[row], corpus.interner.value(code))) for row, code in sample)
        return len(sample) >= _LEAST and found >= OPEN * len(sample)

    def _copied(self, place: Occurrences) -> bool:
        """Whether some of the values, be they listed or not, are plain copies from the input: where the copy
        exists it is right in 97 %, in at least 2 % of the rows, and of more than two values."""
        rows, codes = np.asarray(place.rows), np.asarray(place.codes, np.int32)
        for source, column in self.corpus.given.items():
            taken = column[rows]
            have = taken >= 0
            right = have & (taken == codes)
            enough = int(right.sum()) >= max(5, 0.02 * len(rows), PRECISE * int(have.sum()))
            if enough and not source.part and not source.cast and len(np.unique(codes[right])) > 2:
                return True
        return False

    def _descend(self, name: str, place: Occurrences, distinct: int) -> None:
        known = set(self.holes)
        reported = len(self.uncovered)
        for child in sorted(self.children.get(name, [])):
            self.visit(child)
        added = [self.holes[n] for n in self.holes if n not in known]
        by_memory = any(h.label is not None and h.label.table for h in added)
        values = [self.corpus.interner.value(code) for code in sorted(set(place.codes))]
        alike = len({tuple(sorted(v)) for v in values if isinstance(v, dict)}) == 1 and all(values)
        if not (by_memory or len(self.uncovered) > reported) or not alike or distinct > len(place.rows) // 2:
            return
        whole = self._hole(name, place, lookup=True, tables=True)
        worst = max((h.unexplained for h in added), default=1.0)
        if whole.unexplained <= min(1 - OPEN_TEXT, worst + 0.05):
            for hole in added:
                del self.holes[hole.name]
            del self.uncovered[reported:]
            self._open(whole, len(place.rows))

    def _open(self, hole: Hole, count: int) -> None:
        self.holes[hole.name] = hole
        if hole.unexplained > 0.01:
            self._report(hole.name, hole.unexplained * count, "value found neither in the input nor in a text")

    def _report(self, name: str, rows: float, reason: str) -> None:
        share = round(rows / len(self.corpus.outputs), 4)
        if share > 0:
            self.uncovered.append({"path": name, "share_of_rows": share, "reason": reason})

    def _hole(self, name: str, place: Occurrences, *, lookup: bool, tables: bool) -> Hole:
        corpus = self.corpus
        rows, codes = np.asarray(place.rows), np.asarray(place.codes, np.int32)
        known = corpus.columns_for(corpus.top_key(place.paths[0]))
        candidates = shortlist(rows, codes, known)
        covered, _ = cover(rows, codes, candidates)
        if not covered.all() and corpus.interner.texts[codes[0]][0] == "[":
            maps = self._maps(place, known[0])
            if maps:
                candidates = shortlist(rows, codes, [*known, maps])
                covered, _ = cover(rows, codes, candidates)
        if tables and covered.mean() < 0.995:
            learned = self._tables(rows, codes, known)
            if learned:
                candidates = shortlist(rows, codes, [*known, learned])
                covered, _ = cover(rows, codes, candidates)
        scalar = corpus.interner.texts[codes[0]][0] not in "{["
        if scalar and tables and corpus.laid_out:
            given, _ = cover(rows, codes, shortlist(rows, codes, known[:1]))
            hole = self._laid(name, place) if given.mean() < 0.98 else None
            if hole is not None:
                return hole
        label: Label | None = None
        found: list[Occurrence] = []
        aligned: dict[tuple[int, Path], frozenset[str]] = {}
        if covered.mean() < 0.98 and any(corpus.docs):
            items = [
                Occurrence(place.rows[k], place.paths[k], corpus.interner.value(place.codes[k]))
                for k in np.flatnonzero(~covered)
                if corpus.docs[place.rows[k]]
            ]
            form = corpus.contract.form(place.paths[0])
            months = corpus.months if form == "date" else None
            label = align(corpus.docs, items, name, lookup=lookup, form=form, months=months)
            found = [item for item in items if item.places]
            aligned = {(item.row, item.path): frozenset(map(convention, item.casts)) for item in found}
            if len(found) < max(1, len(rows) // 200) or not (label.casts or label.table):
                label, found, aligned = None, [], {}
        unexplained = 1 - (int(covered.sum()) + len(found)) / len(rows)
        textual = len(found) >= TEXTUAL * len(rows)
        return Hole(name, candidates, label, found, max(0.0, unexplained), aligned, textual)

    def _laid(self, name: str, place: Occurrences, *, listed: bool = False) -> Hole | None:
        """The hole of a place whose values are pieces of laid-out texts, if it is one: read from there alone."""
        corpus = self.corpus
        if not corpus.laid_out or any(isinstance(step, int) for step in place.paths[0]):
            return None
        items = [
            Occurrence(row, path, corpus.interner.value(code))
            for row, path, code in zip(place.rows, place.paths, place.codes, strict=True)
        ]
        form = corpus.contract.form(place.paths[0])
        months = corpus.months if form == "date" else {}
        label = align_stated(corpus.docs, items, name) if listed else align_laid(corpus.docs, items, name, form, months)
        if label is None:
            return None
        found = [item for item in items if item.places]
        aligned = {(item.row, item.path): frozenset(map(convention, item.casts)) for item in found}
        return Hole(name, [], label, found, 1 - len(found) / len(items), aligned, textual=True)

    def _tables(
        self, rows: NDArray[np.int64], codes: Codes, known: Sequence[dict[Source, Codes]]
    ) -> dict[Source, Codes]:
        """Table sources: from each scalar that foretells the value in the rows that have it."""
        texts = self.corpus.interner.texts
        made: list[tuple[float, Any, Source, Codes]] = []
        for columns_ in known:
            for source, column in columns_.items():
                if source.part or source.cast or general(source.path) in self.corpus.text_names:
                    continue
                keys = column[rows]
                if len(np.unique(keys)) < 2 or texts[keys.max()][0] in "{[":
                    continue
                foretold, table = learn_table(keys, codes)
                if not table:
                    continue
                content = {texts[k]: self.corpus.interner.value(v) for k, v in table.items()}
                lookup = np.full(len(texts) + 1, -1, np.int32)
                lookup[list(table)] = list(table.values())
                kind = "table" if source.kind == "in" else "otable"
                learned = Source(kind, source.path, extra=text_of(content) or "{}")
                made.append((-foretold, rank(learned), learned, lookup[column]))
        made.sort(key=lambda item: item[:2])
        return {learned: column for _, _, learned, column in made[:4]}

    def _maps(self, place: Occurrences, given: dict[Source, Codes]) -> dict[Source, Codes]:
        """Map sources for an array: one per input array whose items its items are made of."""
        corpus = self.corpus
        first = dict(zip(reversed(place.rows), reversed(place.codes), strict=True))
        maps: dict[Source, Codes] = {}
        for source in [s for s, column in given.items() if corpus.interner.texts[column.max()][0] == "["]:
            arrays = {row: get(corpus.inputs[row], source.path) for row in first}
            arrays = {row: a for row, a in arrays.items() if a is not ABSENT and isinstance(a, list)}
            pairs = [(a, corpus.interner.value(first[row])) for row, a in sorted(arrays.items()) if a]
            template = learn_map([p for p in pairs if isinstance(p[1], list)]) if pairs else None
            if not template:
                continue
            made = Source("map", source.path, extra=corpus.interner.texts[corpus.interner.code(template)])
            column = np.full(len(corpus.inputs), -1, np.int32)
            for row, array in arrays.items():
                column[row] = corpus.interner.code(apply_map(template, array))
            maps[made] = column
        return maps
