"""The weights by which pieces of laid-out texts are scored: each piece, and silence, for each label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from threading import Lock
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slm_assets.models.linear.context import Describer, Rows
from slm_assets.models.linear.formats import convention
from slm_assets.models.linear.naming import SILENCE, TEMPLATES, names
from slm_assets.models.linear.paths import ABSENT
from slm_assets.models.linear.scan import Piece
from slm_assets.models.linear.spans import Document, Label, casts_of

Floats = NDArray[np.float32]

_BLOCKS: Final = 50_000
_TEXTS: Final = 20_000
_VALUES: Final = 20_000


@dataclass
class Choice:
    """Labels that one scanner's pieces may stand for. `labels`: indices of the tagger's; `names` of features, by
    template; `weights` [features, labels]; `silent`: may the text lack a value; `listed`: array whose items a
    label belongs to, "" for none; `barren`: forms of pieces that are never a value."""

    kind: str
    labels: list[int]
    names: list[tuple[int, str]]
    weights: Floats
    silent: list[bool]
    listed: list[str]
    barren: frozenset[str]


class Blocks:
    """The sums of the weights of blocks, by number; every block is worked out once."""

    def __init__(
        self, index: Sequence[Mapping[str, int]], weights: Floats, barren: Mapping[str, frozenset[str]]
    ) -> None:
        self.describer = Describer(self._new, barren)
        self._index = index
        self._weights = weights
        self._known: list[list[int]] = []
        self._room: Floats = np.zeros((1_024, weights.shape[1]), np.float32)
        self._filled = 0
        self._lock = Lock()

    @property
    def full(self) -> bool:
        """Whether there is more than is worth to be kept."""
        return len(self._known) > _BLOCKS or len(self.describer) > _TEXTS

    def _new(self, template: int, text: str) -> int:
        known = [i for i in map(self._index[template].get, names(template, text)) if i is not None]
        with self._lock:
            self._known.append(known or [-1])  # the last row, all zeros
            return len(self._known) - 1

    def sums(self) -> Floats:
        """The sums [blocks, labels] of at least all blocks numbered so far."""
        with self._lock:
            filled, count = self._filled, len(self._known)
            if count > len(self._room):
                self._room = np.concatenate(
                    [self._room[:filled], np.zeros((2 * count - filled, *self._room.shape[1:]), np.float32)]
                )
            if count > filled:
                fresh = self._known[filled:count]
                starts = [0, *accumulate(map(len, fresh[:-1]))]
                taken = self._weights.take(list(chain.from_iterable(fresh)), axis=0)
                self._room[filled:count] = np.add.reduceat(taken, starts, axis=0)
                self._filled = count
            return self._room


class Ranker:
    """The weights of some choices in one table, so that a text is described once for all of them. `place`: of each
    label, its choice and its column; `rivals`: the other fields of its items; `columns`: of each choice; `spoken`:
    those among them that no text lacks; `listed`: all columns of items' fields."""

    def __init__(self, labels: Sequence[Label], choices: Sequence[Choice]) -> None:
        self.choices = list(choices)
        self._labels = labels
        self._family = [next(k for k, first in enumerate(labels) if first.reads_as(label)) for label in labels]
        self._values: dict[tuple[int, str], Mapping[str, Any]] = {}
        self._index: list[dict[str, int]] = [{} for _ in TEMPLATES]
        places = []
        count = 0
        for choice in choices:
            own = []
            for template, name in choice.names:
                place = self._index[template].setdefault(name, count)
                count += place == count
                own.append(place)
            places.append(own)
        self.columns: list[slice] = []
        width = sum(len(choice.labels) for choice in choices)
        self._weights: Floats = np.zeros((count + 1, width), np.float32)
        for choice, own in zip(choices, places, strict=True):
            start = self.columns[-1].stop if self.columns else 0
            self.columns.append(slice(start, start + len(choice.labels)))
            self._weights[own, self.columns[-1]] = choice.weights
        self.place: dict[int, tuple[int, int]] = {}
        self.rivals: dict[int, list[int]] = {}
        self.listed: list[int] = []
        self.spoken: list[list[int]] = []
        for c, (choice, columns) in enumerate(zip(choices, self.columns, strict=True)):
            names = list(zip(choice.labels, choice.listed, strict=True))
            at = range(columns.start, columns.stop)
            self.place.update({label: (c, column) for label, column in zip(choice.labels, at, strict=True)})
            self.rivals.update({k: [n for n, other in names if other == name and n != k] for k, name in names})
            self.listed += [column for column, name in zip(at, choice.listed, strict=True) if name]
            told = zip(at, choice.silent, choice.listed, strict=True)
            self.spoken.append([column for column, silent, name in told if not silent and not name])
        self._barren = {choice.kind: choice.barren for choice in choices}
        self._blocks = Blocks(self._index, self._weights, self._barren)

    def scores(self, docs: Sequence[Document]) -> tuple[list[list[tuple[int, Piece]]], NDArray[np.float64]]:
        """Per choice, the pieces of all texts (text, piece); the sums [pieces and silence of each choice, columns]."""
        if self._blocks.full:
            self._blocks = Blocks(self._index, self._weights, self._barren)
        blocks = self._blocks
        found = described(docs, [choice.kind for choice in self.choices], blocks.describer)
        rows = [row for _, own in found for row in own]
        if not rows:
            return [], np.zeros((0, 0))
        starts = [0, *accumulate(map(len, rows[:-1]))]
        taken = blocks.sums().take(list(chain.from_iterable(rows)), axis=0)
        return [pieces for pieces, _ in found], np.add.reduceat(taken, starts, axis=0).astype(np.float64)

    def read(self, label: int, piece: str) -> Mapping[str, Any]:
        """The values of a piece for a label by convention ("": any). Labels that read alike share them."""
        key = self._family[label], piece
        known = self._values.get(key)
        if known is None:
            out: dict[str, Any] = {"": ABSENT}
            for name, value in casts_of(self._labels[label], piece):
                out.setdefault(convention(name), value)
                if out[""] is ABSENT:
                    out[""] = value
            if len(self._values) >= _VALUES:
                self._values.clear()
            known = self._values[key] = out
        return known


def described(
    docs: Sequence[Document], kinds: Sequence[str], describer: Describer
) -> list[tuple[list[tuple[int, Piece]], Rows]]:
    """Per kind, the pieces (text, piece) that are not barren; the blocks of each, and at last those of silence."""
    lines = [describer.lines(document.page) for document in docs]
    out = []
    for kind in kinds:
        pieces: list[tuple[int, Piece]] = []
        rows: Rows = []
        silence: dict[int, None] = {}
        for d, page in enumerate(lines):
            found, own, quiet = describer.describe(page, kind)
            pieces += [(d, piece) for piece in found]
            rows += own
            silence.update(dict.fromkeys(quiet))
        out.append((pieces, [*rows, list(silence) or [describer.block[SILENCE][""]]]))
    return out
