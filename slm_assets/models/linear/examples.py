"""Training of the tagger: one chain of tags for each distinct text, from the places where values stand."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any, Final

from slm_assets.models.linear.align import Occurrence, Place
from slm_assets.models.linear.crf import Crf
from slm_assets.models.linear.crf_fit import Chain, fit_crf
from slm_assets.models.linear.gazetteer import Gazetteer, phrase_of
from slm_assets.models.linear.lexicon import Ids, Lexicon
from slm_assets.models.linear.paths import Path
from slm_assets.models.linear.spans import Document, Label
from slm_assets.models.linear.tagger import Tagger, token_ids

FINAL: Final = 80
ROUGH: Final = 50
"""Iterations of a tagger that is kept, and of one that only helps to make it."""

_MANY: Final = 0.3
_SHARED: Final = 0.05
_ROUGH_ROWS: Final = 1_000
_EMPTY: Final = 3
_EMPTY_LEAST: Final = 500

Chosen = list[tuple[int, Place]]
"""(label, place) of the values of a row."""


@dataclass(frozen=True)
class Split:
    """Rows under several CRFs: the place whose value chooses, value → CRF, and the CRF of each row (−1: none)."""

    path: Path | None
    groups: dict[str, int]
    of_row: Sequence[int]


class Examples:
    """The texts of all rows and where their values stand, for every tagger that is fitted on them."""

    def __init__(
        self,
        docs: Sequence[Sequence[Document]],
        labels: list[Label],
        arrays: Sequence[str],
        found: Sequence[Sequence[Occurrence]],
        split: Split,
        groups: Sequence[str],
    ) -> None:
        """`found`: the aligned occurrences of each label, in the order of `labels`.

        `arrays`: of which array's items each label is, "" for none.
        """
        self.docs = docs
        self.labels = labels
        self.split = split
        self.groups = groups
        self.by_row: dict[int, list[tuple[int, Occurrence]]] = defaultdict(list)
        for k, occurrences in enumerate(found):
            for occurrence in occurrences:
                self.by_row[occurrence.row].append((k, occurrence))
        self.lexicon = Lexicon()
        self._ids: dict[tuple[str, str], list[Ids]] = {}
        self._chosen: dict[int, Chosen] = {}
        self.layers = self._layers(arrays)
        self.layer_of = {k: at for at, layer in enumerate(self.layers) for k in layer}

    def _layers(self, arrays: Sequence[str]) -> list[list[int]]:
        """Labels that are tagged together: of one array's items, or of none, and not of the same pieces."""
        total: Counter[int] = Counter()
        shared: Counter[tuple[int, int]] = Counter()
        for items in self.by_row.values():
            total.update({k for k, _ in items})
            shared.update({(k, n) for k, a in items for n, b in items if k < n and a.places == b.places})
        layers: list[tuple[str, list[int]]] = []
        for k, array in enumerate(arrays):
            for name, layer in layers:
                if name == array and all(shared[n, k] <= _SHARED * min(total[n], total[k]) for n in layer):
                    layer.append(k)
                    break
            else:
                layers.append((array, [k]))
        return [layer for _, layer in layers]

    def train(self, skip: set[int], *, iterations: int) -> Tagger:
        """A tagger from the rows outside `skip`.

        Where a value stands at several places, the one is taken whose neighbourhood most rows share; where
        that is the case in many rows, a rough tagger chooses once more.
        """
        if not self._chosen:
            self._chosen = self._choose()
        return self._fit(self._chosen, skip, iterations)

    def _choose(self) -> dict[int, Chosen]:
        rows = sorted(self.by_row)
        unclear = [row for row in rows if self._clash(self.by_row[row])]
        votes = self._votes(rows)
        chosen = {row: self._apart(row, partial(self._vote, votes, row)) for row in rows}
        if len(unclear) > _MANY * len(rows):
            step = -(-len(rows) // _ROUGH_ROWS)
            tagger = self._fit(chosen, set(rows) - set(rows[::step]), ROUGH)
            for row in unclear:
                chosen[row] = self._apart(row, tagger.read(self.docs[row], self.split.of_row[row]).probability)
        return chosen

    def _votes(self, rows: Sequence[int]) -> Counter[tuple[int, str]]:
        """In how many rows a value of a label may stand in a neighbourhood."""
        votes: Counter[tuple[int, str]] = Counter()
        for row in rows:
            seen = {
                (k, name)
                for k, occurrence in self.by_row[row]
                for d, i, j in occurrence.places
                for name in self.docs[row][d].around(i, j)
            }
            votes.update(seen)
        return votes

    def _vote(self, votes: Counter[tuple[int, str]], row: int, k: int, place: Place) -> float:
        d, i, j = place
        return float(sum(votes[k, name] for name in self.docs[row][d].around(i, j)))

    def _clash(self, items: Sequence[tuple[int, Occurrence]]) -> bool:
        """Whether a value stands at several places, or two of a layer at one."""
        used: set[tuple[int, int, int]] = set()
        for k, occurrence in items:
            if len(occurrence.places) > 1:
                return True
            for d, i, j in occurrence.places:
                spot = {(self.layer_of[k], d, t) for t in range(i, j + 1)}
                if used & spot:
                    return True
                used |= spot
        return False

    def _apart(self, row: int, worth: Callable[[int, Place], float]) -> Chosen:
        """One place for each value of a row, the most worth first, none in use twice in a layer."""
        ranked = [
            (-worth(k, place) if len(occurrence.places) > 1 else -inf, n, k, place)
            for n, (k, occurrence) in enumerate(self.by_row[row])
            for place in occurrence.places
        ]
        done: set[int] = set()
        used: set[tuple[int, int, int]] = set()
        chosen: Chosen = []
        for _, n, k, (d, i, j) in sorted(ranked):
            spot = {(self.layer_of[k], d, t) for t in range(i, j + 1)}
            if n not in done and not used & spot:
                done.add(n)
                used |= spot
                chosen.append((k, (d, i, j)))
        return chosen

    def _fit(self, chosen: dict[int, Chosen], skip: set[int], iterations: int) -> Tagger:
        distinct = list(self._distinct(chosen, skip))
        of_group: dict[str, Counter[tuple[str, int]]] = {}
        for row, _, document, spans in distinct:
            of_group.setdefault(self.groups[row], Counter()).update(_phrases(document, spans))
        gazetteer = Gazetteer.of_rows(of_group.values())
        count = 1 + max(self.split.of_row, default=0)
        crfs = [self._crf(group, distinct, gazetteer, of_group, iterations) for group in range(count)]
        return Tagger(self.labels, gazetteer, crfs, self.split.path, self.split.groups)

    def _distinct(
        self, chosen: dict[int, Chosen], skip: set[int]
    ) -> Iterator[tuple[int, int, Document, list[tuple[int, int, int]]]]:
        """(row, CRF, text, its (label, first token, last token)), each text once."""
        seen: set[Any] = set()
        for row, docs in enumerate(self.docs):
            group = self.split.of_row[row]
            if row in skip or group < 0:
                continue
            for d, document in enumerate(docs):
                spans = sorted((k, i, j) for k, (at, i, j) in chosen.get(row, []) if at == d)
                key = (group, document.place, document.text, tuple(spans))
                if key not in seen:
                    seen.add(key)
                    yield row, group, document, spans

    def _rows(self, document: Document, names: Sequence[Sequence[str]]) -> list[Ids]:
        """The features of a document's tokens, all but the gazetteer's worked out once for every fit."""
        key = (document.place, document.text)
        if key not in self._ids:
            self._ids[key] = token_ids(document, self.lexicon, [()] * len(document.tokens))
        return [[*ids, *self.lexicon.others(own)] for ids, own in zip(self._ids[key], names, strict=True)]

    def _crf(
        self,
        group: int,
        distinct: Sequence[tuple[int, int, Document, Any]],
        gazetteer: Gazetteer,
        of_group: Mapping[str, Counter[tuple[str, int]]],
        iterations: int,
    ) -> Crf:
        own = [(row, document, spans) for row, g, document, spans in distinct if g == group]
        seen = {k for _, _, spans in own for k, _, _ in spans}
        layers = [sorted(seen.intersection(layer)) for layer in self.layers]
        layers = [layer for layer in layers if layer]
        tag = {k: (at, 1 + 2 * place) for at, layer in enumerate(layers) for place, k in enumerate(layer)}
        chains: list[list[Chain]] = [[] for _ in layers]
        for row, document, spans in own if layers else ():
            names = gazetteer.names(document.tokens, of_group[self.groups[row]])
            rows = self._rows(document, names)
            tags = [[0] * len(rows) for _ in layers]
            for k, i, j in spans:
                layer, first = tag[k]
                tags[layer][i] = first
                tags[layer][i + 1 : j + 1] = [first + 1] * (j - i)
            for start, end in document.chains:
                for layer, line in enumerate(tags):
                    chains[layer].append((rows[start:end], line[start:end]))
        chains = [_balanced(own) for own in chains]
        return fit_crf(list(zip(layers, chains, strict=True)), self.lexicon, iterations=iterations)


def _balanced(chains: list[Chain]) -> list[Chain]:
    """The chains with a value, and of the others, evenly, at most _EMPTY times as many."""
    empty = [k for k, (_, tags) in enumerate(chains) if not any(tags)]
    most = max(_EMPTY_LEAST, _EMPTY * (len(chains) - len(empty)))
    if len(empty) <= most:
        return chains
    dropped = set(empty) - {empty[k * len(empty) // most] for k in range(most)}
    return [chain for k, chain in enumerate(chains) if k not in dropped]


def _phrases(document: Document, spans: Sequence[tuple[int, int, int]]) -> list[tuple[str, int]]:
    named = [(phrase_of(document.tokens[i : j + 1]), k) for k, i, j in spans]
    return [(phrase, k) for phrase, k in named if phrase]


def one_tagger(count: int) -> Split:
    """No split: all rows under one CRF."""
    return Split(None, {}, [0] * count)


def split_by(path: Path, values: Sequence[str | None]) -> Split:
    """A CRF for each value (canonical text; None: the row is left out)."""
    groups = {value: k for k, value in enumerate(sorted({v for v in values if v is not None}))}
    return Split(path, groups, [groups[v] if v is not None else -1 for v in values])
