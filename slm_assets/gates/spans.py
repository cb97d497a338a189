"""Scores of pieces of text: which an answer says its values came from, against those of the label."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import sqrt
from statistics import NormalDist

import numpy as np

from slm_assets.gates.intervals import Interval

Piece = tuple[str, int, int]
"""Name, first character, and the one past the last."""


def span_counts(predicted: Collection[Piece], reference: Collection[Piece]) -> tuple[int, int, int]:
    """Pieces that are right in name and both ends, predicted pieces, reference pieces (as conlleval counts)."""
    found, wanted = set(predicted), set(reference)
    return len(found & wanted), len(found), len(wanted)


def span_f1(counts: Sequence[tuple[int, int, int]], groups: Sequence[str], confidence: float = 0.95) -> Interval:
    """F1 over all pieces of all rows, with its two-sided interval.

    F1 is the ratio of 2 · right to predicted + reference, each a sum over rows; the interval is that of a
    ratio of sums over groups, by linearisation (Cochran 1977, section 6.3). 1 where there is nothing to find
    and nothing was found.
    """
    sums: dict[str, list[int]] = {}
    for (right, found, wanted), group in zip(counts, groups, strict=True):
        own = sums.setdefault(group, [0, 0])
        own[0] += 2 * right
        own[1] += found + wanted
    table = np.asarray([sums[group] for group in sorted(sums)], np.float64).reshape(-1, 2)
    above, below = table.sum(axis=0) if len(table) else (0.0, 0.0)
    if below == 0:
        return Interval(1.0, 0.0, 1.0, len(counts), float(len(table)))
    value = float(above / below)
    size = len(table)
    left = table[:, 0] - value * table[:, 1]
    error = sqrt(float(left @ left) * size / max(size - 1, 1)) / float(below)
    half = NormalDist().inv_cdf((1 + confidence) / 2) * error
    return Interval(value, max(0.0, value - half), min(1.0, value + half), len(counts), float(size))
