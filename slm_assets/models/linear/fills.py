"""How each hole of each shape is filled: a list of sources of which the first that yields something is
right, or, where no such list is, a small classifier that ranks the sources."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

from slm_assets.canonical import Json
from slm_assets.models.linear.holes import PRECISE, Hole
from slm_assets.models.linear.paths import Path
from slm_assets.models.linear.sources import Interner, Source
from slm_assets.models.linear.spans import Label

_MAX_CONSTANTS: Final = 50
_EITHER: Final = -2
_WRONG: Final = 2**31 - 1


@dataclass
class Fill:
    """Sources of one hole. `start`: first column of its classifier (one column a source), −1 for a list
    that is tried in order. `trust`: share of the training rows that the list fills right. `resort`:
    canonical JSON of the most frequent value, `common` its share of the rows: taken where no source yields
    any, or where that is likelier than what a text seems to say."""

    sources: list[Source]
    start: int = -1
    trust: float = 1.0
    resort: str = "null"
    common: float = 0.0
    rows: list[int] = field(default_factory=list)
    truth: list[int] = field(default_factory=list)

    def to_json(self) -> Json:
        """What a checkpoint keeps."""
        return [[source.to_json() for source in self.sources], self.start, self.trust, self.resort, self.common]

    @classmethod
    def from_json(cls, value: Json) -> Fill:
        """The inverse of `to_json`."""
        sources, start, trust, resort, common = value
        return cls([Source.from_json(source) for source in sources], start, trust, resort, common)


def learn_fill(
    hole: Hole, rows: Sequence[int], path: Path, codes: NDArray[np.int32], interner: Interner
) -> tuple[Fill, set[int]]:
    """The fill of the hole at `path` in these rows, and the rows whose value is read from a text."""
    if hole.label is not None and hole.label.scanner:
        return _pieces_fill(hole, hole.label, rows, path)
    index = np.asarray(rows)
    candidates = [(source, column[index]) for source, column in hole.shortlist]
    if hole.label is not None:
        candidates += _texts(hole.label.conventions, [hole.aligned.get((row, path)) for row in rows], codes)
    if hole.listed is not None:
        items = Source("items", extra=hole.name)
        if not candidates:  # what lengths and values will come is open: no constants beside the text
            return Fill([items]), set()
        laid = np.asarray([row in hole.listed.rows for row in rows])
        candidates.append((items, np.where(laid, codes, -1).astype(np.int32)))
    order, owner = _decision_list(candidates, codes)
    best = np.zeros(len(rows), bool)
    for _, column in candidates:
        best |= column == codes
    right = np.asarray([owner[i] >= 0 and candidates[owner[i]][1][i] == codes[i] for i in range(len(rows))])
    if order and right.mean() >= min(0.99 * best.mean(), 1.0) and right.mean() >= 0.9:
        sources = [candidates[k][0] for k in order]
        texts = {rows[i] for i in range(len(rows)) if right[i] and candidates[owner[i]][0].kind == "text"}
        return Fill(sources, trust=round(float(right.mean()), 4)), texts
    return _ranked_fill(candidates, codes, rows, interner)


def _pieces_fill(hole: Hole, label: Label, rows: Sequence[int], path: Path) -> tuple[Fill, set[int]]:
    """A hole that pieces of texts fill: by the one convention that is right, or by a classifier among them that
    learns from the rows that only one reads right."""
    right = [hole.aligned.get((row, path)) for row in rows]
    names = label.conventions
    texts = {row for row, by in zip(rows, right, strict=True) if by is not None}
    trust = round(len(texts) / len(rows), 4)
    truth = [names.index(next(iter(by))) if by and len(by) == 1 and "" not in by else -1 for by in right]
    if len(set(truth) - {-1}) < 2:
        best = Counter(k for k in truth if k >= 0).most_common(1)
        return Fill([Source("text", cast=names[best[0][0]] if best else "")], trust=trust), texts
    used = [i for i, k in enumerate(truth) if k >= 0]
    sources = [Source("text", cast=name) for name in names]
    return Fill(sources, trust=trust, rows=[rows[i] for i in used], truth=[truth[i] for i in used]), texts


def _decision_list(
    candidates: Sequence[tuple[Source, NDArray[np.int32]]], codes: NDArray[np.int32]
) -> tuple[list[int], NDArray[np.int64]]:
    """Greedy list of precise sources, texts last, and the position of the source that decides each row."""
    owner = np.full(len(codes), -1, np.int64)
    order: list[int] = []
    least = max(1, ceil(0.002 * len(codes)))
    while (owner < 0).any():
        left = owner < 0
        options = []
        for k, (source, column) in enumerate(candidates):
            yields = left & (column >= 0)
            right = int((yields & (column == codes)).sum())
            if k not in order and right >= least and right >= PRECISE * int(yields.sum()):
                options.append((source.kind in ("text", "items"), -right, k))
        if not options:
            break
        k = min(options)[2]
        order.append(k)
        owner[left & (candidates[k][1] >= 0)] = k
    return order, owner


def _ranked_fill(
    candidates: Sequence[tuple[Source, NDArray[np.int32]]],
    codes: NDArray[np.int32],
    rows: Sequence[int],
    interner: Interner,
) -> tuple[Fill, set[int]]:
    """Sources by greedy cover, then the constants of the rows that no source explains."""
    candidates = [*candidates, *_constants(codes, interner)]
    truth = np.full(len(codes), -1, np.int64)
    sources: list[Source] = []
    least = max(1, len(codes) // 100)
    while True:
        gains = [int(((truth < 0) & (column == codes)).sum()) for _, column in candidates]
        best = int(np.argmax(gains)) if gains else -1
        if best < 0 or gains[best] < least or len(sources) == 12:
            break
        truth[(truth < 0) & (candidates[best][1] == codes)] = len(sources)
        sources.append(candidates[best][0])
    by_text = [k for k, source in enumerate(sources) if source.kind == "text"]
    texts = {rows[i] for i in np.flatnonzero(np.isin(truth, by_text)).tolist()}
    explained = truth >= 0
    if len(by_text) > 1:  # a text that either convention reads right says nothing about which one it follows
        columns = dict(candidates)
        either = np.sum([columns[sources[k]] == codes for k in by_text], axis=0) > 1
        truth[either & np.isin(truth, by_text)] = _EITHER
    counts = Counter(codes[truth == -1].tolist())
    common = sorted(counts, key=lambda code: (-counts[code], interner.texts[code]))
    repeated = [code for code in common if counts[code] >= 2 or len(codes) < 50]
    for code in (repeated or common[:1])[:_MAX_CONSTANTS]:
        truth[(truth == -1) & (codes == code)] = len(sources)
        sources.append(Source("const", extra=interner.texts[code]))
    used = np.flatnonzero(truth >= 0).tolist()
    share = round(float((explained | (truth >= 0)).mean()), 4)
    fill = Fill(sources, trust=share, rows=[rows[i] for i in used], truth=truth[used].tolist())
    return fill, texts


def _texts(
    conventions: Sequence[str], right: Sequence[frozenset[str] | None], codes: NDArray[np.int32]
) -> list[tuple[Source, NDArray[np.int32]]]:
    """The text as a source, one for each convention that it may follow; −1 where it does not hold the value,
    WRONG where another convention reads it."""
    if len(conventions) < 2:
        return [(Source("text"), np.where([by is not None for by in right], codes, -1).astype(np.int32))]
    out = []
    for name in conventions:
        column = [-1 if by is None else code if name in by else _WRONG for by, code in zip(right, codes, strict=True)]
        out.append((Source("text", cast=name), np.asarray(column, np.int32)))
    return out


def _constants(codes: NDArray[np.int32], interner: Interner) -> list[tuple[Source, NDArray[np.int32]]]:
    """Values of at least a fifth of the rows, as sources: a default is likelier than a lucky find in a text."""
    values, counts = np.unique(codes, return_counts=True)
    common = [int(value) for value, n in zip(values, counts, strict=True) if n >= 0.2 * len(codes)]
    return [(Source("const", extra=interner.texts[v]), np.full(len(codes), v, np.int32)) for v in common]
