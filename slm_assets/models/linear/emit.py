"""Scores of tokens under a CRF: the features that `Lexicon.rows` lists one by one, for all tokens of all texts
of an input at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from slm_assets.models.linear.lexicon import AFFIX, BIAS, EDGES, OTHER, PAIR, WORD, Lexicon, affixes, masked
from slm_assets.models.linear.spans import Document

Floats = NDArray[np.float32]
Seen = tuple[int, int, int, int]
"""Of a word as it is written: its number, the features of its form, beginning and end."""

_CACHE: Final = 50_000
_EDGE: Final = len(EDGES) // 2
_LAST: Final = np.iinfo(np.int64).max


class Emitter:
    """The weights of a lexicon that grows no more. Words have numbers; a word's features are a row of a table,
    those of two neighbours one of another; what has no weight is the last feature, all zeros."""

    def __init__(self, lexicon: Lexicon, weights: Floats) -> None:
        tables, self._none = lexicon.tables, lexicon.size
        self._weights = np.concatenate([weights, np.zeros((1, weights.shape[1]), np.float32)])
        self._other = tables[OTHER]
        self._affix = [tables[template] for template in AFFIX]
        pairs = sorted({name for template in PAIR for name in tables[template]})
        halves = {half for name in pairs for half in name.split(" ")}
        words = sorted(halves.union(*(tables[template] for template in WORD)))
        self._number = {word: k for k, word in enumerate(words)}
        self._words = self._rows(WORD, tables, words)
        keys = [self._key(*map(self._number.__getitem__, name.split(" "))) for name in pairs]
        order = np.argsort(np.asarray(keys, np.int64), kind="stable")
        self._keys = np.append(np.asarray(keys, np.int64)[order], _LAST)
        self._pairs = self._rows(PAIR, tables, [pairs[k] for k in order])
        self._seen: dict[str, Seen] = {}
        none = self._none
        self._edges: list[Seen] = [(self._number.get(edge, len(words)), none, none, none) for edge in EDGES]
        reach = np.asarray([0, -1, 1, -2, 2]) * len(WORD) + np.arange(len(WORD))
        self._of_word = reach[None, :]
        self._of_pair = (np.asarray([-1, 0, -2, 1]) * len(PAIR) + np.arange(len(PAIR)))[None, :]

    def _rows(
        self, templates: Sequence[str], tables: dict[str, dict[str, int]], names: Sequence[str]
    ) -> NDArray[np.int64]:
        """The features [names and one that is not known, templates]."""
        none = self._none
        rows = [[tables[template].get(name, none) for template in templates] for name in names]
        return np.asarray([*rows, [none] * len(templates)], np.int64)

    def _key(self, first: int, second: int) -> int:
        return first * (len(self._number) + 1) + second

    def _look(self, surface: str) -> Seen:
        number = self._number.get(masked(surface.lower()), len(self._number))
        form, head, tail = (t.get(name, self._none) for t, name in zip(self._affix, affixes(surface), strict=True))
        if len(self._seen) >= _CACHE:
            self._seen.clear()
        self._seen[surface] = found = (number, form, head, tail)
        return found

    def scores(self, docs: Sequence[Document], known: Sequence[Sequence[Sequence[str]]]) -> Floats:
        """Scores [tokens of all texts, tags]. `known`: further names for each token of each text."""
        line: list[Seen] = []
        at: list[int] = []
        places: list[int] = []
        seen = self._seen
        for document in docs:
            text = document.text
            begin = len(line) + _EDGE
            written = [text[start:end] for start, end, _ in document.tokens]
            line += self._edges[:_EDGE]
            line += [seen.get(surface) or self._look(surface) for surface in written]
            line += self._edges[_EDGE:]
            at += range(begin, begin + len(written))
            places += [self._other.get("@" + document.place, self._none)] * len(written)
        if not at:
            return np.zeros((0, self._weights.shape[1]), np.float32)
        out = self._sums(np.asarray(line, np.int64), np.asarray(at, np.int64), np.asarray(places, np.int64))
        for i, names in enumerate(names for document in known for names in document):
            for name in names:
                if name in self._other:
                    out[i] += self._weights[self._other[name]]
        return out

    def _sums(self, line: NDArray[np.int64], at: NDArray[np.int64], places: NDArray[np.int64]) -> Floats:
        """The scores of the words at some places of a line, in the order in which `Lexicon.rows` lists features."""
        numbers = line[:, 0]
        keys = numbers[:-1] * (len(self._number) + 1) + numbers[1:]
        found = self._keys.searchsorted(keys)
        found[self._keys.take(found) != keys] = len(self._keys) - 1
        ids = np.empty((len(at), len(WORD) + len(AFFIX) + len(PAIR) + 2), np.int64)
        a, b = len(WORD), len(WORD) + len(AFFIX)
        ids[:, :a] = self._words.take(numbers, axis=0).take((at * len(WORD))[:, None] + self._of_word)
        ids[:, a:b] = line[:, 1:].take(at, axis=0)
        ids[:, b:-2] = self._pairs.take(found, axis=0).take((at * len(PAIR))[:, None] + self._of_pair)
        ids[:, -2] = self._other.get(BIAS, self._none)
        ids[:, -1] = places
        out: Floats = np.add.reduce(self._weights.take(ids, axis=0), axis=1)
        return out
