"""Near-duplicates without comparing all pairs: MinHash bands propose, exact word sets decide.

Two rows are near-duplicates when their structured parts are equal and the Jaccard similarity of
their word sets reaches the threshold; texts under `min_words` count only when they are equal.
A *unit* is one distinct pair of structure and text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from slm_assets.stages.rows import plans
from slm_assets.stages.rows.corpus import Corpus, Hashes, Ints, Mask, batches

NUM_HASHES = 64
BATCH = 100_000
CACHED = 8_192
"""Units whose signatures fit a processor's cache."""

ROUNDS = ((0, 1), (1, 8), (8, 64))
"""Which eval units of a bucket one train unit is compared with, until one is near: at most 64 keep skewed
buckets linear, and in those the first is mostly enough."""

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
    daft = plans.daft()
    import pyarrow as pa
    from daft.functions import minhash

    result = np.empty((len(units), NUM_HASHES), dtype=np.uint32)
    done = 0
    for part in batches(units, BATCH):
        # By buffers in and out: Arrow's conversions of lists and arrays would import pandas first.
        data, offsets = corpus.texts_at(rows[part])
        column = pa.LargeStringArray.from_buffers(len(part), pa.py_buffer(offsets), pa.py_buffer(data))
        place = pa.Array.from_buffers(pa.int64(), len(part), [None, pa.py_buffer(np.arange(len(part), dtype=np.int64))])
        frame = plans.spread(daft.from_arrow(pa.Table.from_arrays([place, column], names=["place", "text"])))
        hashes = minhash(frame["text"], num_hashes=NUM_HASHES, ngram_size=1, seed=seed, hash_function="xxhash").alias(
            "hashes"
        )
        table = frame.select(frame["place"], hashes).to_arrow()
        found = table.column("hashes").combine_chunks().flatten()
        values = np.frombuffer(found.buffers()[1], dtype=np.uint32)[found.offset :][: len(found)]
        # A cluster gives the pieces back in any order.
        places = table.column("place").combine_chunks()
        order = np.frombuffer(places.buffers()[1], dtype=np.int64)[places.offset :][: len(places)]
        result[done + order] = values.reshape(len(part), NUM_HASHES)
        done += len(part)
    return result


def band_rows(threshold: float, recall: float) -> int:
    """The most hashes per band with which a pair at the threshold still shares a band with probability
    `recall`: 1 − (1 − tʳ)^⌊64/r⌋ (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, 3.4)."""
    for rows in range(8, 1, -1):
        if 1 - (1 - threshold**rows) ** (NUM_HASHES // rows) >= recall:
            return rows
    return 1


def band_keys(hashes: Signatures, structure: Hashes, rows: int) -> Iterator[Hashes]:
    """A key per unit, band by band, shape (units,); equal keys in a band mean equal structure and equal
    hashes in it."""
    for band in range(NUM_HASHES // rows):
        keys = np.empty(len(hashes), dtype=np.uint64)
        for start in range(0, len(hashes), CACHED):
            part = slice(start, start + CACHED)
            key = structure[part] ^ np.uint64(band)
            for column in range(band * rows, (band + 1) * rows):
                key = (key ^ hashes[part, column]) * _MULTIPLIER
                key ^= key >> _SHIFT
            keys[part] = key
        yield keys


class Similarity:
    """Decides about pairs of units: a filter on their signatures, then their word sets, each pair once.

    `members` are the units that the signatures stand for; pairs are given as positions among them.
    """

    def __init__(self, corpus: Corpus, units: Units, members: Ints, hashes: Signatures, threshold: float) -> None:
        self._corpus = corpus
        self._rows = units.row[members]
        self._hashes = hashes
        self._threshold = threshold
        # Four standard deviations of 64 trials: a pair at the threshold is not filtered away.
        slack = 4 * np.sqrt(max(threshold * (1 - threshold), 0.04) / NUM_HASHES)
        self._agreement = int(np.floor((threshold - slack) * NUM_HASHES))
        self._refused = np.empty(0, dtype=np.int64)

    def near(self, left: Ints, right: Ints) -> tuple[Ints, Ints]:
        """Those of the pairs that are near-duplicates."""
        likely = self._likely(left, right)
        left, right = left[likely], right[likely]
        pairs = left * len(self._rows) + right
        fresh = ~np.isin(pairs, self._refused)
        left, right, pairs = left[fresh], right[fresh], pairs[fresh]
        found = np.zeros(len(left), dtype=np.bool_)
        for part in batches(np.arange(len(left)), CACHED):
            found[part] = self._compare(left[part], right[part])
        self._refused = np.union1d(self._refused, pairs[~found])
        return left[found], right[found]

    def _likely(self, left: Ints, right: Ints) -> Mask:
        passed = np.empty(len(left), dtype=np.bool_)
        for part in batches(np.arange(len(left)), CACHED):
            agree = self._hashes[left[part]] == self._hashes[right[part]]
            passed[part] = np.count_nonzero(agree, axis=1) >= self._agreement
        return passed

    def _compare(self, left: Ints, right: Ints) -> list[bool]:
        members, place = np.unique(np.concatenate([left, right]), return_inverse=True)
        data, offsets = self._corpus.texts_at(self._rows[members])
        words = [frozenset(data[start:end].split(b" ")) for start, end in pairwise(offsets.tolist())]
        at = place.tolist()
        return [self._alike(words[a], words[b]) for a, b in zip(at[: len(left)], at[len(left) :], strict=True)]

    def _alike(self, first: frozenset[bytes], second: frozenset[bytes]) -> bool:
        shared = len(first & second)
        return shared >= self._threshold * (len(first) + len(second) - shared)


def components(corpus: Corpus, units: Units, threshold: float, seed: int) -> Ints:
    """Groups of units connected by near-duplicates, shape (units,); each is named by its smallest unit.

    Edges are drawn in each bucket from its first unit and its neighbour: linear in the bucket's size.
    Units that an earlier band has connected are not compared again.
    """
    long = np.flatnonzero(units.long)
    labels = np.arange(len(units))
    if not len(long):
        return labels
    hashes = signatures(corpus, long, units.row, seed)
    similarity = Similarity(corpus, units, long, hashes, threshold)
    joined = np.arange(len(long))
    for keys in band_keys(hashes, units.structure[long], band_rows(threshold, 0.99)):
        left, right = _star_edges(keys)
        apart = joined[left] != joined[right]
        joined = _join(joined, *similarity.near(left[apart], right[apart]))
    labels[long] = long[joined]
    return labels


def _join(labels: Ints, left: Ints, right: Ints) -> Ints:
    """The labels after joining the groups of each pair; a group is named by its smallest member."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(left):
        return labels
    names, place = np.unique(np.concatenate([labels[left], labels[right]]), return_inverse=True)
    links = (np.ones(len(left), dtype=np.int8), (place[: len(left)], place[len(left) :]))
    _, found = connected_components(coo_array(links, shape=(len(names), len(names))), directed=False)
    _, first = np.unique(found, return_index=True)
    renamed = np.arange(len(labels))
    renamed[names] = names[first[found]]
    return np.asarray(renamed[labels], dtype=np.int64)


def _star_edges(keys: Hashes) -> tuple[Ints, Ints]:
    """Pairs (smaller, larger) of positions with equal keys: to the bucket's first and to the neighbour."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    again = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
    starts = np.ones(len(order), dtype=np.bool_)
    starts[again] = False
    first = np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))[again]
    beside = first != again - 1
    left = np.concatenate([order[first], order[again - 1][beside]])
    right = np.concatenate([order[again], order[again][beside]])
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
    similarity = Similarity(corpus, units, both, hashes, threshold)
    done = np.zeros(len(both), dtype=np.bool_)
    for band, keys in enumerate(band_keys(hashes, units.structure[both], band_rows(threshold, 0.999))):
        buckets = _Buckets(keys, len(targets), np.flatnonzero(~done[len(targets) :]), band)
        for first, last in ROUNDS:
            _, near = similarity.near(*buckets.pairs(first, last, done))
            done[near] = True
    found[both[done]] = True
    return found


class _Buckets:
    """The buckets of one band that hold targets and searched positions; targets come first in `keys`."""

    def __init__(self, keys: Hashes, targets: int, searched: Ints, band: int) -> None:
        self._order = np.argsort(keys[:targets], kind="stable")
        ordered = keys[:targets][self._order]
        wanted = keys[targets:][searched]
        low = np.searchsorted(ordered, wanted, side="left")
        hit = np.flatnonzero(ordered[np.minimum(low, targets - 1)] == wanted)
        self._low = low[hit]
        self._count = np.searchsorted(ordered, wanted[hit], side="right") - self._low
        self._position = searched[hit] + targets
        # Which targets of a large bucket are taken changes with the band.
        self._start = searched[hit] * 31 + band * ROUNDS[-1][1]

    def pairs(self, first: int, last: int, done: Mask) -> tuple[Ints, Ints]:
        """Pairs (target, searched) for the `first` to `last` target of each searched one that is not done."""
        open_ones = np.flatnonzero((self._count > first) & ~done[self._position])
        count = self._count[open_ones]
        taken = np.minimum(count, last) - first
        nth = np.arange(int(taken.sum())) - np.repeat(np.cumsum(taken) - taken, taken) + first
        offset = (np.repeat(self._start[open_ones], taken) + nth) % np.repeat(count, taken)
        return self._order[np.repeat(self._low[open_ones], taken) + offset], np.repeat(self._position[open_ones], taken)
