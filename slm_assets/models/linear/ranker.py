"""Choosing among the pieces of laid-out texts: each piece, and silence, has a score for each label.

One value: the softmax over the pieces and silence (a log-linear model, the right pieces summed out where a value
stands at several places). Fields of listed items: each piece by itself. Prediction needs numpy alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slm_assets.models.linear.choice import Ranker
from slm_assets.models.linear.paths import ABSENT, Path
from slm_assets.models.linear.scan import Piece
from slm_assets.models.linear.spans import Document, Found, Label
from slm_assets.models.linear.text import MAX_CHARS

Floats = NDArray[np.float64]

_LETTERS: Final = re.compile(r"[^\W\d_]+")
_END: Final = "|"
_TELLING: Final = ("number", "date")
_READ: Final = 12
_FAINT: Final = 0.01
_UNLIKELY: Final = 0.03


class Ranked:
    """The pieces of one input's texts, scored where asked for."""

    def __init__(self, labels: Sequence[Label], ranker: Ranker, docs: Sequence[Document]) -> None:
        self._labels = labels
        self._docs = docs
        self._ranker = ranker
        self._found: dict[tuple[int, str], list[Found]] = {}
        self._tops: dict[int, tuple[list[tuple[tuple[int, Piece], float, Mapping[str, Any]]], float]] = {}

    def __contains__(self, label: int) -> bool:
        return label in self._ranker.place

    @cached_property
    def _scored(self) -> tuple[list[list[tuple[int, Piece]]], list[list[float]], list[int]]:
        """Per choice its pieces; per column the probabilities of all choices' pieces; where each choice's begin,
        silence after them."""
        found, sums = self._ranker.scores(self._docs)
        starts = [0, *accumulate(len(pieces) + 1 for pieces in found)]
        return found, probabilities(self._ranker, sums, starts).T.tolist(), starts

    def _chances(self, label: int) -> tuple[list[tuple[int, Piece]], list[float]]:
        """The pieces that a label may stand for, and the probability of each and of silence."""
        c, column = self._ranker.place[label]
        found, chances, starts = self._scored
        return found[c], chances[column][starts[c] : starts[c + 1]]

    def find(self, label: int, reading: str, *, must: bool) -> list[Found]:
        """Values for a label, the likeliest first; none where silence is likelier, unless there `must` be one."""
        found = self._found.get((label, reading))
        if found is None:
            found = self._found[label, reading] = self._values(label, reading)
        return found if must or (found and found[0].told) else []

    def _values(self, label: int, reading: str) -> list[Found]:
        likely, silence = self._likely(label)
        best: dict[Any, tuple[Path, int, int]] = {}
        total: dict[Any, float] = {}
        for piece, chance, known in likely:
            value = known.get(reading, known[""])
            if value in total:
                total[value] += chance
            elif value is not ABSENT:
                d, (start, end) = piece
                total[value] = chance
                best[value] = (self._docs[d].path, start, end)
        ranked = sorted(best, key=total.__getitem__, reverse=True) if len(best) > 1 else best
        return [Found(v, *best[v], min(1.0, total[v]), total[v] > silence) for v in ranked]

    def _likely(self, label: int) -> tuple[list[tuple[tuple[int, Piece], float, Mapping[str, Any]]], float]:
        """The likeliest pieces with a value, their chances and values by convention ("": any); the chance of none."""
        known = self._tops.get(label)
        if known is None:
            pieces, column = self._chances(label)
            silence = column.pop()
            tops: list[tuple[tuple[int, Piece], float, Mapping[str, Any]]] = []
            order = sorted(range(len(column)), key=column.__getitem__, reverse=True)[:_READ]
            for at in order:
                if tops and column[at] < _FAINT:
                    break
                values = self._read(label, pieces[at])
                if values[""] is not ABSENT:
                    tops.append((pieces[at], column[at], values))
            known = self._tops[label] = (tops, silence)
        return known

    def _read(self, label: int, piece: tuple[int, Piece]) -> Mapping[str, Any]:
        d, (start, end) = piece
        return self._ranker.read(label, self._docs[d].text[start:end])

    def told(self, label: int) -> list[tuple[int, int, Found]]:
        """The values of an item's field: text, line (unlike those of other texts), value; also unlikely ones, which
        are not `told`."""
        pieces, column = self._chances(label)
        likely = [at for at, chance in enumerate(column[:-1]) if chance > _UNLIKELY]
        if not likely:
            return []
        rivals = [self._chances(rival)[1] for rival in self._ranker.rivals[label]]
        out = []
        for at in likely:
            chance = column[at]
            if any(rival[at] > chance for rival in rivals):  # a piece is one field of an item
                continue
            value = self._read(label, pieces[at])[""]
            if value is not ABSENT:
                d, (start, end) = pieces[at]
                line = d * MAX_CHARS + self._docs[d].page.cell_at(start).line
                out.append((d, line, Found(value, self._docs[d].path, start, end, chance, chance > 0.5)))
        return out

    def mentions(self) -> list[str]:
        """Names of structured features: what stands beside the values that no text lacks."""
        out: list[str] = []
        for choice in self._ranker.choices:
            for label, silent, listed in zip(choice.labels, choice.silent, choice.listed, strict=True):
                if not silent and not listed and choice.kind in _TELLING:
                    found = self.find(label, "", must=True)
                    out += _near(self._labels[label].name, self._docs, found[0]) if found else []
        return out

    def possible(self, label: int) -> float:
        """The probability of the likeliest piece."""
        return max(self._chances(label)[1][:-1], default=0.0)


def _near(name: str, docs: Sequence[Document], found: Found) -> list[str]:
    """The words beside a value, and those of its label."""
    page = next(document.page for document in docs if document.path == found.path)
    cell = page.cell_at(found.start)
    before, above = page.beside(cell, -1), page.above(cell)
    inside = page.norm[cell.start : found.start].split()
    after = page.norm[found.end : cell.end].split() or [_END]
    label = before or above
    words = page.norm[label.start : label.end] if label is not None else ""
    return [
        f"near:{name} < {(inside or [_END])[-1]}", f"near:{name} > {after[0]}",
        f"near:{name}^{' '.join(_LETTERS.findall(' '.join(inside) if any(map(str.isalpha, inside)) else words))}",
        f"near:{name}^@{' '.join(_LETTERS.findall(words))}",
    ]  # fmt: skip


def probabilities(ranker: Ranker, sums: Floats, starts: Sequence[int]) -> Floats:
    """Of one value: the softmax over pieces and silence. Of a listed one: of each piece by itself. All choices in one
    table [pieces and silence of each, columns], 0 where a column has no say; `starts`: where each choice's begin."""
    out = np.full(sums.shape, -np.inf)
    for columns, spoken, (start, end) in zip(ranker.columns, ranker.spoken, pairwise(starts), strict=True):
        out[start:end, columns] = sums[start:end, columns]
        if spoken and end - start > 1:
            out[end - 1, spoken] = -np.inf
    listed = out[:, ranker.listed] if ranker.listed else None
    np.exp(out - np.maximum.reduce(out, axis=0), out=out)
    out /= np.add.reduce(out, axis=0)
    if listed is not None:
        out[:, ranker.listed] = 1 / (1 + np.exp(-np.clip(listed, -50, 50)))
    return out
