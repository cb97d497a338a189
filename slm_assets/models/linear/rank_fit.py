"""Training of the choice among pieces: L-BFGS on a convex loss, but for values that stand at several places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slm_assets.models.linear.align import Occurrence
from slm_assets.models.linear.choice import Choice, described
from slm_assets.models.linear.context import Describer, Rows, forms
from slm_assets.models.linear.naming import names
from slm_assets.models.linear.scan import Piece
from slm_assets.models.linear.spans import Document, Label

L2: Final = 0.3
WITHOUT: Final = 0.3
"""Weight of the same texts with the right pieces taken out, where silence is right: what is no value has to look
like none, not only worse than one."""

_ITERATIONS: Final = 120
_RARE: Final = 3
_SMALL: Final = 0.01
_OFTEN: Final = 200

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass
class Task:
    """What one label's right pieces are. `places`: row → where its values stand; rows in neither this nor `unknown`
    hold none."""

    label: int
    listed: str
    places: Mapping[int, Sequence[tuple[int, int, int]]]
    unknown: set[int]


def tasks_of(
    labels: Sequence[Label], arrays: Sequence[str], found: Sequence[Sequence[Occurrence]], missing: Sequence[set[int]]
) -> list[Task]:
    """The tasks of the labels that have a scanner. `missing`: rows that have a value of which nothing is known."""
    out = []
    for k, label in enumerate(labels):
        if label.scanner:
            places: dict[int, list[tuple[int, int, int]]] = {}
            for occurrence in found[k]:
                places.setdefault(occurrence.row, []).extend(occurrence.places)
            out.append(Task(k, arrays[k], places, missing[k] - places.keys()))
    return out


def fit_choices(docs: Sequence[Sequence[Document]], labels: Sequence[Label], tasks: Sequence[Task]) -> list[Choice]:
    """One choice for each scanner. Equal rows in equal order give equal weights."""
    kinds = sorted({labels[task.label].scanner for task in tasks})
    tasks_of = {kind: [task for task in tasks if labels[task.label].scanner == kind] for kind in kinds}
    barren = {kind: _barren(docs, kind, tasks_of[kind]) for kind in kinds}
    blocks: list[tuple[int, str]] = []

    def make(template: int, text: str) -> int:
        blocks.append((template, text))
        return len(blocks) - 1

    describer = Describer(make, barren)
    pages: list[_Pages] = [_Pages() for _ in kinds]
    for own in docs:
        for page, (pieces, rows) in zip(pages, described(own, kinds, describer), strict=True):
            page.add(pieces, rows)
    features = _Features(blocks)
    return [
        _fit(page, features, len(docs), kind, tasks_of[kind], barren[kind])
        for page, kind in zip(pages, kinds, strict=True)
    ]


@dataclass
class _Pages:
    """The pieces of a kind in all texts. `index`, `starts`: the blocks of each, silence after those of its row;
    `ends`: where each row's begin."""

    index: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])
    ends: list[int] = field(default_factory=lambda: [0])
    rows: list[dict[tuple[int, int, int], int]] = field(default_factory=list)

    def add(self, pieces: Sequence[tuple[int, Piece]], rows: Rows) -> None:
        """The pieces of the next row."""
        self.rows.append({(d, *piece): self.ends[-1] + at for at, (d, piece) in enumerate(pieces)})
        for group in rows:
            self.index += group
            self.starts.append(len(self.index))
        self.ends.append(len(self.starts) - 1)


def _fit(
    pages: _Pages, features: _Features, count: int, kind: str, tasks: Sequence[Task], barren: frozenset[str]
) -> Choice:
    x, names = features.frequent(pages.index, pages.starts)
    ends, rows = pages.ends, pages.rows
    problem = _Problem(np.asarray(ends))
    weights = np.zeros((len(names), len(tasks)), np.float32)
    silent = []
    for k, task in enumerate(tasks):
        good = np.zeros(ends[-1], bool)
        for row, places in task.places.items():
            good[[rows[row][place] for place in places if place in rows[row]]] = True
        known = np.ones(count, bool)
        known[sorted(task.unknown)] = False
        held = np.zeros(count, bool)
        held[sorted(task.places)] = True
        may = bool((known & ~held).any())
        silent.append(may)
        fit = problem.listed if task.listed else problem.single
        loss = partial(fit, good=good, known=known, held=held, silent=may)
        weights[:, k] = _descend(x, loss)
    weights[np.abs(weights) < _SMALL] = 0.0
    kept = np.flatnonzero(weights.any(axis=1)).tolist()
    rounded = weights[kept].astype(np.float16).astype(np.float32)
    listed = [task.listed for task in tasks]
    return Choice(kind, [t.label for t in tasks], [names[i] for i in kept], rounded, silent, listed, barren)


def _barren(docs: Sequence[Sequence[Document]], kind: str, tasks: Sequence[Task]) -> frozenset[str]:
    """Forms that many pieces have and no value."""
    right: dict[int, set[tuple[int, int, int]]] = {}
    for task in tasks:
        for row, places in task.places.items():
            right.setdefault(row, set()).update(places)
    times: Counter[str] = Counter()
    used: set[str] = set()
    for row, own in enumerate(docs):
        for d, document in enumerate(own):
            pieces = document.pieces(kind)
            for piece, written in zip(pieces, forms(document.page, pieces, kind), strict=True):
                times[written] += 1
                if (d, *piece) in right.get(row, ()):
                    used.add(written)
    return frozenset(written for written, n in times.items() if n >= _OFTEN and written not in used)


class _Features:
    """The features of numbered blocks."""

    def __init__(self, blocks: Sequence[tuple[int, str]]) -> None:
        ids: dict[tuple[int, str], int] = {}
        bounds = [0]
        columns: list[int] = []
        for template, text in blocks:
            columns += [ids.setdefault((template, name), len(ids)) for name in names(template, text)]
            bounds.append(len(columns))
        self._ids = list(ids)
        self._of_blocks = _ones(columns, bounds, len(ids))

    def frequent(self, index: Sequence[int], starts: Sequence[int]) -> tuple[Any, list[tuple[int, str]]]:
        """The matrix [pieces, features] of the features that enough of some pieces have, and their names."""
        x = _ones(index, starts, self._of_blocks.shape[0]) @ self._of_blocks
        least = _RARE if x.shape[0] >= 2_000 else 1
        kept = np.flatnonzero(np.bincount(x.indices, minlength=len(self._ids)) >= least)
        order = sorted(kept.tolist(), key=self._ids.__getitem__)
        out = x[:, order]
        out.sort_indices()
        return out, [self._ids[i] for i in order]


def _ones(columns: Sequence[int], bounds: Sequence[int], width: int) -> Any:
    from scipy import sparse

    shape = (len(bounds) - 1, width)
    return sparse.csr_matrix((np.ones(len(columns), np.float32), np.asarray(columns), np.asarray(bounds)), shape=shape)


def _descend(x: Any, loss: Any) -> Floats:
    """The weights of least loss plus L2/2 times their square."""
    from scipy.optimize import minimize

    turned = x.T.tocsr()

    def value(w: Floats) -> tuple[float, Floats]:
        total, slope = loss(np.asarray(x @ w.astype(np.float32), np.float64))
        return total + L2 / 2 * float(w @ w), turned @ slope.astype(np.float32) + L2 * w

    start = np.zeros(x.shape[1])
    found: Floats = minimize(value, start, jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS}).x
    return found


class _Problem:
    """Losses over the pieces of all texts. `ends`: where each row's pieces begin; its last one is silence."""

    def __init__(self, ends: NDArray[np.int64]) -> None:
        self.count = len(ends) - 1
        self.row = np.repeat(np.arange(self.count), np.diff(ends))
        self.last = ends[1:] - 1
        self.silence = np.zeros(ends[-1], bool)
        self.silence[self.last] = True

    def _sum(self, values: Floats) -> Floats:
        return np.bincount(self.row, values, minlength=self.count).astype(np.float64)

    def single(self, s: Floats, good: Flags, known: Flags, held: Flags, silent: bool) -> tuple[float, Floats]:
        """Minus the log-probability that a right piece, or else silence, is chosen; where there may be silence,
        also of silence without the right pieces."""
        s = s if silent else np.where(self.silence, -np.inf, s)
        top = np.full(self.count, -np.inf)
        np.maximum.at(top, self.row, s)
        raised = np.exp(s - np.where(np.isfinite(top), top, 0.0)[self.row])
        right = np.where(self.silence, ~held[self.row], good)
        everything = np.maximum(self._sum(raised), 1e-300)
        wanted = np.maximum(self._sum(raised * right), 1e-300)
        use = known & (wanted > 1e-300)
        total = float(np.log(everything / wanted)[use].sum())
        slope = (raised / everything[self.row] - raised * right / wanted[self.row]) * use[self.row]
        if silent:
            use = known & held
            left = raised * ~(good & ~self.silence)
            rest = np.maximum(self._sum(left), 1e-300)
            quiet = np.maximum(raised[self.last], 1e-300)
            total += WITHOUT * float(np.log(rest / quiet)[use].sum())
            slope += WITHOUT * (left / rest[self.row] - self.silence) * use[self.row]
        return total, slope

    def listed(self, s: Floats, good: Flags, known: Flags, held: Flags, silent: bool) -> tuple[float, Floats]:
        """Logistic loss of each piece by itself."""
        use = known[self.row] & ~self.silence
        total = float(np.logaddexp(0.0, np.where(good, -s, s))[use].sum())
        chance = 1 / (1 + np.exp(-np.clip(s, -50, 50)))
        return total, (chance - good) * use
