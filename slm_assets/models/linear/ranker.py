"""Choosing among the pieces of laid-out texts: each piece, and silence, has a score for each label.

One value: the softmax over the pieces and silence (a log-linear model, the right pieces summed out where a value
stands at several places). Fields of listed items: each piece by itself. Prediction needs numpy alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slm_assets.models.linear.context import SILENCE, TEMPLATES, Lookup, describe, forms, names
from slm_assets.models.linear.paths import ABSENT
from slm_assets.models.linear.scan import Piece
from slm_assets.models.linear.spans import Document, Found, Label, cast_text
from slm_assets.models.linear.text import MAX_CHARS

Floats = NDArray[np.float32]

_READ: Final = 12
_FAINT: Final = 0.01
_BLOCKS: Final = 50_000


@dataclass
class Choice:
    """Labels that one scanner's pieces may stand for. `labels`: indices of the tagger's; `names` of features;
    `weights` [features, labels]; `silent`: may the text lack a value; `listed`: array whose items a label belongs
    to, "" for none; `barren`: forms of pieces that are never a value."""

    kind: str
    labels: list[int]
    names: list[str]
    weights: Floats
    silent: list[bool]
    listed: list[str]
    barren: frozenset[str]

    def __post_init__(self) -> None:
        self._index = {name: k for k, name in enumerate(self.names)}
        self._blocks = Blocks(self._sum)

    def _sum(self, template: int, text: str) -> Floats:
        known = [self._index[name] for name in names(template, text) if name in self._index]
        total: Floats = np.add.reduce(self.weights.take(known, axis=0), axis=0)
        return total

    def scores(self, docs: Sequence[Document]) -> tuple[list[tuple[int, Piece]], NDArray[np.float64]]:
        """The pieces of all texts (text, piece), and the score [pieces and silence, labels] of each."""
        if len(self._blocks.sums) > _BLOCKS:
            self._blocks = Blocks(self._sum)
        blocks = self._blocks
        pieces, rows, silence = described(docs, self.kind, self.barren, blocks.numbers)
        table = blocks.table(len(self.labels))
        each = [np.add.reduce(table[np.asarray(own)], axis=1) for own in rows if own]
        last = np.add.reduce(table.take(silence, axis=0), axis=0, keepdims=True)
        return pieces, np.concatenate([*each, last]).astype(np.float64)


class Numbers(dict[str, int]):
    """String → number of the block of one template; what is missing is made."""

    def __init__(self, make: Callable[[str], int]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, text: str) -> int:
        number = self[text] = self._make(text)
        return number


class Blocks:
    """The sums of blocks by number; every block is worked out once."""

    def __init__(self, sum_of: Callable[[int, str], Floats]) -> None:
        self.sums: list[Floats] = []
        self.numbers = [Numbers(partial(self._new, template)) for template in range(len(TEMPLATES))]
        self._sum_of = sum_of
        self._lock = Lock()
        self._room: Floats = np.zeros((0, 0), np.float32)
        self._filled = 0

    def _new(self, template: int, text: str) -> int:
        total = self._sum_of(template, text)
        with self._lock:
            self.sums.append(total)
            return len(self.sums) - 1

    def table(self, columns: int) -> Floats:
        """The sums [blocks, columns] of at least all blocks numbered so far."""
        with self._lock:
            count = len(self.sums)
            if count > len(self._room):
                room = np.zeros((max(1_024, 2 * count), columns), np.float32)
                room[: self._filled] = self._room[: self._filled] if self._filled else 0.0
                self._room = room
            if count > self._filled:
                self._room[self._filled : count] = self.sums[self._filled : count]
                self._filled = count
            return self._room


def described(
    docs: Sequence[Document], kind: str, barren: frozenset[str], block: Lookup
) -> tuple[list[tuple[int, Piece]], list[list[list[int]]], list[int]]:
    """The pieces of all texts (text, piece) whose forms are not barren; per text the blocks of each; those of silence."""
    pieces: list[tuple[int, Piece]] = []
    rows: list[list[list[int]]] = []
    silence: dict[int, None] = {}
    for d, document in enumerate(docs):
        page = document.page
        every = document.pieces(kind)
        written = forms(page, every, kind)
        kept = [pair for pair in zip(every, written, strict=True) if pair[1] not in barren]
        own, quiet = describe(page, [piece for piece, _ in kept], [own for _, own in kept], kind, block)
        pieces += [(d, piece) for piece, _ in kept]
        rows.append(own)
        silence.update(dict.fromkeys(quiet))
    return pieces, rows, list(silence) or [block(SILENCE, "")]


class Ranked:
    """The pieces of one input's texts, scored where asked for."""

    def __init__(self, labels: Sequence[Label], choices: Sequence[Choice], docs: Sequence[Document]) -> None:
        self._labels = labels
        self._docs = docs
        self._choice = {label: (c, k) for c, choice in enumerate(choices) for k, label in enumerate(choice.labels)}
        self._choices = choices
        self._scored: dict[int, tuple[list[tuple[int, Piece]], NDArray[np.float64]]] = {}
        self._found: dict[tuple[int, str], list[Found]] = {}

    def __contains__(self, label: int) -> bool:
        return label in self._choice

    def _chances(self, c: int) -> tuple[list[tuple[int, Piece]], NDArray[np.float64]]:
        """The pieces of a choice and the probability [pieces and silence, labels] of each."""
        known = self._scored.get(c)
        if known is None:
            pieces, own = self._choices[c].scores(self._docs)
            known = self._scored[c] = (pieces, _probabilities(self._choices[c], own))
        return known

    def find(self, label: int, reading: str, *, must: bool) -> list[Found]:
        """Values for a label, the likeliest first; none where silence is likelier, unless there `must` be one."""
        found = self._found.get((label, reading))
        if found is None:
            found = self._found[label, reading] = self._values(label, reading)
        return found if must or (found and found[0].told) else []

    def _values(self, label: int, reading: str) -> list[Found]:
        c, k = self._choice[label]
        pieces, chances = self._chances(c)
        column = chances[:-1, k]
        best: dict[Any, Found] = {}
        total: dict[Any, float] = {}
        for at in np.argsort(-column, kind="stable")[:_READ].tolist():
            if best and column[at] < _FAINT:
                break
            found = self._made(label, pieces[at], float(column[at]), reading)
            if found is not None:
                best.setdefault(found.value, found)
                total[found.value] = total.get(found.value, 0.0) + float(column[at])
        silence = float(chances[-1, k])
        ranked = sorted(best, key=lambda value: (-total[value], best[value].path, best[value].start))
        return [best[v]._replace(probability=min(1.0, total[v]), told=total[v] > silence) for v in ranked]

    def told(self, label: int) -> list[tuple[int, int, Found]]:
        """The values of an item's field: text, line (unlike those of other texts), value."""
        c, k = self._choice[label]
        pieces, chances = self._chances(c)
        rivals = [n for n, name in enumerate(self._choices[c].listed) if name == self._choices[c].listed[k]]
        best = chances[:-1, rivals].max(axis=1)
        out = []
        for at in np.flatnonzero((chances[:-1, k] > 0.5) & (chances[:-1, k] >= best)).tolist():
            found = self._made(label, pieces[at], float(chances[at, k]), "")
            if found is not None:
                d, (start, _) = pieces[at]
                out.append((d, d * MAX_CHARS + self._docs[d].page.cell_at(start).line, found))
        return out

    def possible(self, label: int) -> float:
        """The probability of the likeliest piece."""
        c, k = self._choice[label]
        chances = self._chances(c)[1][:-1, k]
        return float(chances.max()) if len(chances) else 0.0

    def _made(self, label: int, piece: tuple[int, Piece], chance: float, reading: str) -> Found | None:
        d, (start, end) = piece
        document = self._docs[d]
        value = cast_text(self._labels[label], document.text[start:end], reading)
        return None if value is ABSENT else Found(value, document.path, start, end, min(1.0, chance), True)


def _probabilities(choice: Choice, own: NDArray[np.float64]) -> NDArray[np.float64]:
    listed = np.asarray([bool(name) for name in choice.listed])
    silent = np.asarray(choice.silent)
    own[-1, ~silent & ~listed] = -np.inf
    out = 1 / (1 + np.exp(-np.clip(own, -50, 50)))
    single = own[:, ~listed]
    if single.shape[1] and len(own) > 1:
        raised = np.exp(single - single.max(axis=0))
        out[:, ~listed] = raised / raised.sum(axis=0)
    return out
