"""Intervals for one proportion, or one mean of scores in [0, 1], over rows that come in groups.

Two kinds. What is reported beside a number is Wilson's interval (1927). What a gate is read off is the
interval of Korn and Graubard (Survey Methodology 24, 1998, 193-201): Clopper and Pearson's exact bound
on the effective number of rows; Wilson's one-sided bound falls short near 1, which is where targets
lie. For scores between 0 and 1 both are conservative, as no such score varies more than a 0/1 one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, log, sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slm_assets.gates.clusters import DIGITS, NOTHING, Clustering, Floats, Groups, clustering, group_rows

Keys = Groups | Sequence[str] | NDArray[np.int64] | None


class Interval(NamedTuple):
    """A mean with its bounds; `n` rows, `effective` of which count (rows over design effect)."""

    value: float
    low: float
    high: float
    n: int
    effective: float


def _two_sided(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)


def wilson(hits: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's two-sided score interval for `hits` of `n`; (0, 1) when n is 0."""
    if n <= 0:
        return 0.0, 1.0
    z2 = _two_sided(confidence) ** 2
    p = hits / n
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return max(0.0, min(centre - half, p)), min(1.0, max(centre + half, p))


def exact_low(hits: ArrayLike, n: ArrayLike, confidence: float) -> Floats:
    """Clopper and Pearson's one-sided lower bound; counts may be fractional (effective rows)."""
    from scipy.special import betaincinv

    k, total = (np.asarray(x, dtype=np.float64) for x in (hits, n))
    safe = np.where(k > 0, k, 1.0)
    bound = betaincinv(safe, np.maximum(total - safe, 0.0) + 1, 1 - confidence)
    return np.asarray(np.where((k > 0) & (total > 0), bound, 0.0))


def lower_bound(hits: float, n: float, confidence: float = 0.95) -> float:
    """One-sided lower bound for a proportion, exact for independent rows."""
    return float(exact_low(hits, n, confidence))


def upper_bound(hits: float, n: float, confidence: float = 0.95) -> float:
    """One-sided upper bound for a proportion, exact for independent rows; `upper_bound(0, n)` is the
    exact form of the rule of three."""
    return 1.0 - lower_bound(n - hits, n, confidence)


def n_to_certify(target: float, confidence: float = 0.95) -> int | None:
    """Rows without any miss that put the lower bound at `target`; None for a target of 1 or more."""
    if target >= 1:
        return None
    return max(1, ceil(log(1 - confidence) / log(target) - 1e-9)) if target > 0 else 1


def mean_clustering(sums: Floats, squares: Floats, groups: Groups) -> Clustering:
    """Clustering of means of scores in [0, 1]. A group informs where the rarer of hits and misses shows."""
    missed = (sums < groups.sizes - NOTHING).sum(axis=1)
    scored = (sums > NOTHING).sum(axis=1)
    return clustering(sums, squares, groups, np.minimum(missed, scored).astype(np.float64))


def mean_bounds(sums: Floats, squares: Floats, groups: Groups, confidence: tuple[float, float]) -> Floats:
    """One-sided lower and upper bounds of many means over the same groups: (2, tests).

    Korn and Graubard's: effective rows, shrunk by the squared ratio of the normal to the t quantile. The
    worst case, where rows of a group always agree, is no estimate and needs no t: where few groups missed,
    it says more.
    """
    known = mean_clustering(sums, squares, groups)
    mean = sums.sum(axis=1) / groups.rows
    bounds = []
    for level, p in zip(confidence, (mean, 1 - mean), strict=True):
        n = known.effective(groups.rows, level)
        bounds.append(exact_low(p * n, n, level))
    return np.stack([np.minimum(bounds[0], mean), np.maximum(1 - bounds[1], mean)])


def turns_to_certify(
    observed: float,
    target: float,
    *,
    confidence: float = 0.95,
    power: float = 0.8,
    known: Clustering | None = None,
    rows: int = 1,
) -> int | None:
    """Rows at which a model that is truly as good as `observed` shows its bound above the target, with
    this power; None when it is not above the target. `known`: what clustering was seen in `rows` rows."""
    if observed <= target:
        return None
    unlucky = max(NormalDist().inv_cdf(power), 0.0)

    def passes(total: int) -> bool:
        n = total / float(known.effect(total / rows)[0]) if known else float(total)
        misses = n * (1 - observed) + unlucky * sqrt(n * observed * (1 - observed))
        misses += 0.5 if observed < 1 else 0.0
        n_bound = float(known.effective(total, confidence, total / rows)[0]) if known else n
        share = max(1 - misses / n, 0.0)
        return lower_bound(share * n_bound, n_bound, confidence) >= target

    return smallest(passes)


def smallest(passes: Callable[[int], bool]) -> int:
    """The smallest number of rows that passes, for a test that larger numbers pass too."""
    high = 8
    while not passes(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


def _table(scores: ArrayLike, keys: Keys) -> tuple[Floats, Floats, Groups]:
    values = np.asarray(scores, dtype=np.float64)
    groups = group_rows(keys, len(values))
    return groups.sums(values), np.array([(values**2).sum()]), groups


def clustering_of(scores: ArrayLike, keys: Keys = None) -> Clustering:
    """What the groups say about the variance of the mean of these scores."""
    return mean_clustering(*_table(scores, keys))


def certified(
    scores: ArrayLike, keys: Keys = None, confidence: float = 0.95, upper_confidence: float | None = None
) -> Interval:
    """Mean of scores in [0, 1] with the one-sided bounds that gates are read off; (0, 1) without rows."""
    sums, squares, groups = _table(scores, keys)
    if groups.rows == 0:
        return Interval(0.0, 0.0, 1.0, 0, 0.0)
    low, high = mean_bounds(sums, squares, groups, (confidence, upper_confidence or confidence))
    mean = float(sums.sum()) / groups.rows
    n = groups.rows / float(mean_clustering(sums, squares, groups).effect()[0])
    bounds = round(float(low[0]), DIGITS), round(float(high[0]), DIGITS)
    return Interval(round(mean, DIGITS), *bounds, groups.rows, n)


def proportion(scores: ArrayLike, keys: Keys = None, confidence: float = 0.95) -> Interval:
    """Mean of scores in [0, 1] with Wilson's two-sided interval on the effective rows."""
    sums, squares, groups = _table(scores, keys)
    if groups.rows == 0:
        return Interval(0.0, 0.0, 1.0, 0, 0.0)
    n = groups.rows / float(mean_clustering(sums, squares, groups).effect()[0])
    mean = float(sums.sum()) / groups.rows
    low, high = wilson(mean * n, n, confidence)
    return Interval(round(mean, DIGITS), round(low, DIGITS), round(high, DIGITS), groups.rows, n)
