"""Choosing among the pieces of laid-out texts: each piece, and silence, has a score for each label.

One value: the softmax over the pieces and silence (a log-linear model, the right pieces summed out where a value
stands at several places). Fields of listed items: each piece by itself. Prediction needs numpy alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slm_assets.models.linear.choice import Choice, Ranker
from slm_assets.models.linear.formats import convention
from slm_assets.models.linear.paths import ABSENT, Path
from slm_assets.models.linear.scan import Piece
from slm_assets.models.linear.spans import Document, Found, Label, casts_of
from slm_assets.models.linear.text import MAX_CHARS

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
        choices = ranker.choices
        self._choice = {label: (c, k) for c, choice in enumerate(choices) for k, label in enumerate(choice.labels)}
        self._choices = choices
        self._values_of: dict[tuple[int, str], dict[str, Any]] = {}
        self._chances_of: dict[int, NDArray[np.float64]] = {}
        self._found: dict[tuple[int, str], list[Found]] = {}
        self._tops: dict[int, tuple[list[tuple[tuple[int, Piece], float, dict[str, Any]]], float]] = {}

    def __contains__(self, label: int) -> bool:
        return label in self._choice

    def _chances(self, c: int) -> tuple[list[tuple[int, Piece]], NDArray[np.float64]]:
        """The pieces of a choice and the probability [pieces and silence, labels] of each."""
        pieces, own = self._scored[c]
        chances = self._chances_of.get(c)
        if chances is None:
            chances = self._chances_of[c] = _probabilities(self._choices[c], own)
        return pieces, chances

    @cached_property
    def _scored(self) -> list[tuple[list[tuple[int, Piece]], NDArray[np.float64]]]:
        return self._ranker.scores(self._docs)

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
        ranked = sorted(best, key=total.__getitem__, reverse=True)
        return [Found(v, *best[v], min(1.0, total[v]), total[v] > silence) for v in ranked]

    def _likely(self, label: int) -> tuple[list[tuple[tuple[int, Piece], float, dict[str, Any]]], float]:
        """The likeliest pieces with a value, their chances and values by convention ("": any); the chance of none."""
        known = self._tops.get(label)
        if known is None:
            c, k = self._choice[label]
            pieces, chances = self._chances(c)
            column = chances[:, k].tolist()
            silence = column.pop()
            tops: list[tuple[tuple[int, Piece], float, dict[str, Any]]] = []
            for at in sorted(range(len(column)), key=column.__getitem__, reverse=True)[:_READ]:
                if tops and column[at] < _FAINT:
                    break
                values = self._read(label, pieces[at])
                if values[""] is not ABSENT:
                    tops.append((pieces[at], column[at], values))
            known = self._tops[label] = (tops, silence)
        return known

    def _read(self, label: int, piece: tuple[int, Piece]) -> dict[str, Any]:
        """The values of a piece by convention."""
        d, (start, end) = piece
        key = self._ranker.family[label], self._docs[d].text[start:end]
        out = self._values_of.get(key)
        if out is None:
            out = self._values_of[key] = {"": ABSENT}
            for name, value in casts_of(self._labels[label], key[1]):
                out.setdefault(convention(name), value)
                if out[""] is ABSENT:
                    out[""] = value
        return out

    def told(self, label: int) -> list[tuple[int, int, Found]]:
        """The values of an item's field: text, line (unlike those of other texts), value; also unlikely ones, which
        are not `told`."""
        c, k = self._choice[label]
        pieces, chances = self._chances(c)
        rivals = [n for n, name in enumerate(self._choices[c].listed) if name == self._choices[c].listed[k]]
        best = chances[:-1, rivals].max(axis=1)  # a piece is one field of an item
        out = []
        for at in np.flatnonzero((chances[:-1, k] > _UNLIKELY) & (chances[:-1, k] >= best)).tolist():
            value = self._read(label, pieces[at])[""]
            if value is not ABSENT:
                chance = float(chances[at, k])
                d, (start, end) = pieces[at]
                line = d * MAX_CHARS + self._docs[d].page.cell_at(start).line
                out.append((d, line, Found(value, self._docs[d].path, start, end, chance, chance > 0.5)))
        return out

    def mentions(self) -> list[str]:
        """Names of structured features: what stands beside the values that no text lacks."""
        out: list[str] = []
        for choice in self._choices:
            for label, silent, listed in zip(choice.labels, choice.silent, choice.listed, strict=True):
                if not silent and not listed and choice.kind in _TELLING:
                    found = self.find(label, "", must=True)
                    out += _near(self._labels[label].name, self._docs, found[0]) if found else []
        return out

    def possible(self, label: int) -> float:
        """The probability of the likeliest piece."""
        c, k = self._choice[label]
        chances = self._chances(c)[1][:-1, k]
        return float(chances.max()) if len(chances) else 0.0


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


def _probabilities(choice: Choice, own: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of one value: the softmax over pieces and silence. Of a listed one: of each piece by itself."""
    single, listed, spoken = choice.columns
    out = 1 / (1 + np.exp(-np.clip(own, -50, 50))) if listed or len(own) == 1 else own
    if single and len(own) > 1:
        chosen = own[:, single] if listed else own
        chosen[-1, spoken] = -np.inf
        raised = np.exp(chosen - np.maximum.reduce(chosen, axis=0))
        shares: NDArray[np.float64] = raised / np.add.reduce(raised, axis=0)
        if not listed:
            return shares
        out[:, single] = shares
    return out
