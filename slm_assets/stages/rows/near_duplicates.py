"""Near-duplicates without comparing all pairs: MinHash bands propose, exact word sets decide.

Two rows are near-duplicates when their structured parts are equal and the Jaccard similarity of
their word sets reaches the threshold; texts under `min_words` count only when they are equal.
A *unit* is one distinct pair of structure and text.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slm_assets.stages.rows.corpus import Corpus, Hashes, Ints, Mask, batches

NUM_HASHES = 64
BATCH = 100_000
CACHED = 8_192
"""Units whose signatures fit a processor's cache."""

MAX_PER_BUCKET = 64
"""Eval units that one train unit is compared with per bucket: keeps skewed buckets linear."""

Signatures = npt.NDArray[np.uint32]
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)


@dataclass(frozen=True)
class Units:
    """`of_row`: each row's unit, shape (rows,), −1 where the row is left out. `row`: a row of each
    unit; `structure`: its hash; `long`: whether its text has enough words to be compared."""

    of_row: Ints
    row: Ints
    structure: Hashes
    long: Mask

    def __len__(self) -> int:
        return len(self.row)


def units_of(corpus: Corpus, kept: Mask, min_words: int) -> Units:
    """The distinct units of the kept rows, ordered by hash."""
    rows = np.flatnonzero(kept)
    _, first, inverse = np.unique(corpus.hashes("unit")[rows], return_index=True, return_inverse=True)
    of_row = np.full(len(corpus), -1, dtype=np.int64)
    of_row[rows] = inverse
    row = rows[first]
    return Units(of_row, row, corpus.hashes("structure")[row], corpus.ints("words")[row] >= min_words)


def signatures(corpus: Corpus, units: Ints, rows: Ints, seed: int) -> Signatures:
    """MinHash signatures of the words of some units, shape (len(units), 64)."""
    os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")
    os.environ.setdefault("DAFT_PROGRESS_BAR", "0")
    import daft
    import pyarrow as pa
    from daft.functions import minhash

    result = np.empty((len(units), NUM_HASHES), dtype=np.uint32)
    done = 0
    for part in batches(units, BATCH):
        # By buffers in and out: Arrow's conversions of lists and arrays would import pandas first.
        data, offsets = corpus.texts_at(rows[part])
        column = pa.LargeStringArray.from_buffers(len(part), pa.py_buffer(offsets), pa.py_buffer(data))
        frame = daft.from_arrow(pa.Table.from_arrays([column], names=["text"]))
        hashes = minhash(frame["text"], num_hashes=NUM_HASHES, ngram_size=1, seed=seed, hash_function="xxhash").alias(
            "hashes"
        )
        found = frame.select(hashes).to_arrow().column("hashes").combine_chunks().flatten()
        values = np.frombuffer(found.buffers()[1], dtype=np.uint32)[found.offset :][: len(found)]
        result[done : done + len(part)] = values.reshape(len(part), NUM_HASHES)
        done += len(part)
    return result


def band_rows(threshold: float, recall: float) -> int:
    """The most hashes per band with which a pair at the threshold still shares a band with probability
    `recall`: 1 − (1 − tʳ)^⌊64/r⌋ (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, 3.4)."""
    for rows in range(8, 1, -1):
        if 1 - (1 - threshold**rows) ** (NUM_HASHES // rows) >= recall:
            return rows
    return 1


def band_keys(hashes: Signatures, structure: Hashes, rows: int) -> npt.NDArray[np.uint64]:
    """A key per band and unit, shape (bands, units); equal keys in a band mean equal structure and equal
    hashes in it."""
    bands = NUM_HASHES // rows
    keys = np.empty((bands, len(hashes)), dtype=np.uint64)
    for start in range(0, len(hashes), CACHED):
        part = slice(start, start + CACHED)
        block = hashes[part]
        for band in range(bands):
            key = structure[part] ^ np.uint64(band)
            for column in range(band * rows, (band + 1) * rows):
                key = (key ^ block[:, column]) * _MULTIPLIER
                key ^= key >> _SHIFT
            keys[band, part] = key
    return keys


class Similarity:
    """Exact comparison of units by their word sets, behind a filter on the signatures."""

    def __init__(self, corpus: Corpus, units: Units, threshold: float) -> None:
        self._corpus = corpus
        self._units = units
        self._threshold = threshold
        # Four standard deviations of 64 trials: a pair at the threshold is not filtered away.
        slack = 4 * np.sqrt(max(threshold * (1 - threshold), 0.04) / NUM_HASHES)
        self._agreement = int(np.floor((threshold - slack) * NUM_HASHES))
        self._words: dict[int, frozenset[bytes]] = {}

    def likely(self, hashes: Signatures, left: Ints, right: Ints) -> Mask:
        """Which pairs of signature rows agree often enough to be compared."""
        passed = np.empty(len(left), dtype=np.bool_)
        for part in batches(np.arange(len(left)), BATCH):
            agree = hashes[left[part]] == hashes[right[part]]
            passed[part] = np.count_nonzero(agree, axis=1) >= self._agreement
        return passed

    def near(self, left: int, right: int) -> bool:
        """Whether two units are near-duplicates."""
        first, second = self.words(left), self.words(right)
        smaller, larger = sorted((len(first), len(second)))
        if smaller < self._threshold * larger:
            return False
        shared = len(first & second)
        return shared >= self._threshold * (smaller + larger - shared)

    def words(self, unit: int) -> frozenset[bytes]:
        """The distinct words of a unit."""
        found = self._words.get(unit)
        if found is None:
            if len(self._words) >= BATCH:
                self._words.clear()
            found = frozenset(self._corpus.text(int(self._units.row[unit])).split(b" "))
            self._words[unit] = found
        return found


def components(corpus: Corpus, units: Units, threshold: float, seed: int) -> Ints:
    """Groups of units connected by near-duplicates, shape (units,); each is named by its smallest unit.

    Edges are drawn in each bucket from its first unit and its neighbour: linear in the bucket's size.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    long = np.flatnonzero(units.long)
    labels = np.arange(len(units))
    if not len(long):
        return labels
    hashes = signatures(corpus, long, units.row, seed)
    similarity = Similarity(corpus, units, threshold)
    edges = []
    for keys in band_keys(hashes, units.structure[long], band_rows(threshold, 0.99)):
        left, right = _star_edges(keys)
        likely = similarity.likely(hashes, left, right)
        edges.append(left[likely] * len(long) + right[likely])
    pairs = np.unique(np.concatenate(edges))
    left, right = long[pairs // len(long)], long[pairs % len(long)]
    near = np.fromiter((similarity.near(int(a), int(b)) for a, b in zip(left, right, strict=True)), np.bool_, len(left))
    links = (np.ones(int(near.sum()), dtype=np.int8), (left[near], right[near]))
    _, found = connected_components(coo_array(links, shape=(len(units), len(units))), directed=False)
    _, first = np.unique(found, return_index=True)
    return np.asarray(first[found], dtype=np.int64)


def _star_edges(keys: Hashes) -> tuple[Ints, Ints]:
    """Pairs (smaller, larger) of positions with equal keys: to the bucket's first and to the neighbour."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    again = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
    starts = np.ones(len(order), dtype=np.bool_)
    starts[again] = False
    first = np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))[again]
    left = np.concatenate([order[first], order[again - 1]])
    right = np.concatenate([order[again], order[again]])
    return left, right


def near_to(corpus: Corpus, units: Units, wanted: Mask, searched: Mask, threshold: float, seed: int) -> Mask:
    """Which of the `searched` units are near-duplicates of a `wanted` unit (or are one themselves).

    Masks have the shape (units,). Uses its own signatures and narrower bands than `components`, and
    none of its edges, so that either can find what the other missed.
    """
    found = wanted & searched
    targets = np.flatnonzero(wanted & units.long)
    # Only structures that occur on both sides can hold a pair.
    shared = np.isin(units.structure, units.structure[targets])
    open_units = np.flatnonzero(searched & units.long & shared & ~found)
    if not len(targets) or not len(open_units):
        return found
    targets = targets[np.isin(units.structure[targets], units.structure[open_units])]
    both = np.concatenate([targets, open_units])
    hashes = signatures(corpus, both, units.row, seed)
    similarity = Similarity(corpus, units, threshold)
    done = np.zeros(len(both), dtype=np.bool_)
    compared: set[int] = set()
    for band, keys in enumerate(band_keys(hashes, units.structure[both], band_rows(threshold, 0.999))):
        left, right = _cross_pairs(keys, len(targets), np.flatnonzero(~done[len(targets) :]), band)
        likely = similarity.likely(hashes, left, right)
        for a, b in zip(left[likely].tolist(), right[likely].tolist(), strict=True):
            pair = a * len(both) + b
            if done[b] or pair in compared:
                continue
            compared.add(pair)
            done[b] = similarity.near(int(both[a]), int(both[b]))
    found[both[done]] = True
    return found


def _cross_pairs(keys: Hashes, targets: int, searched: Ints, band: int) -> tuple[Ints, Ints]:
    """Pairs (target, searched) of positions with equal keys, at most MAX_PER_BUCKET for each searched
    one; which of a larger bucket they are changes with the band."""
    order = np.argsort(keys[:targets], kind="stable")
    ordered = keys[:targets][order]
    wanted = keys[targets:][searched]
    low = np.searchsorted(ordered, wanted, side="left")
    hit = np.flatnonzero(ordered[np.minimum(low, targets - 1)] == wanted)
    low, searched = low[hit], searched[hit]
    count = np.searchsorted(ordered, wanted[hit], side="right") - low
    taken = np.minimum(count, MAX_PER_BUCKET)
    ends = np.cumsum(taken)
    nth = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - taken, taken)
    start = np.where(count > taken, (searched * 31 + band * MAX_PER_BUCKET) % count, 0)
    offset = (np.repeat(start, taken) + nth) % np.repeat(count, taken)
    return order[np.repeat(low, taken) + offset], np.repeat(searched, taken) + targets
