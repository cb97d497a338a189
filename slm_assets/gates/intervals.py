"""Intervals for one proportion, or one mean of scores in [0, 1], over rows that come in groups.

Two kinds. What is reported beside a number is Wilson's interval (1927). What a gate is read off is the
interval of Korn and Graubard (Survey Methodology 24, 1998, 193-201): Clopper and Pearson's exact bound
on the effective number of rows; Wilson's one-sided bound falls short near 1, which is where targets
lie. For scores between 0 and 1 both are conservative, as no such score varies more than a 0/1 one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log, sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slm_assets.gates.clusters import DIGITS, Floats, Groups, design_effect, group_rows, t_quantile

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


def effective_rows(sums: Floats, squares: Floats, groups: Groups) -> Floats:
    """Rows over design effect, (tests,), from sums per group and sums of squared scores."""
    missed = (sums < groups.sizes - 1e-9).sum(axis=1)
    scored = (sums > 1e-9).sum(axis=1)
    informed = np.minimum(missed, scored).astype(float)
    return groups.rows / design_effect(sums, squares, groups, informed)


def mean_bounds(sums: Floats, squares: Floats, groups: Groups, confidence: tuple[float, float]) -> Floats:
    """One-sided lower and upper bounds of many means over the same groups: (2, tests).

    Korn and Graubard's: effective rows, shrunk by the squared ratio of the t to the normal quantile.
    """
    effective = effective_rows(sums, squares, groups)
    mean = sums.sum(axis=1) / groups.rows
    bounds = []
    for level, p in zip(confidence, (mean, 1 - mean), strict=True):
        n = effective
        if groups.largest_effect > 1 and groups.count > 1:
            n = n * (NormalDist().inv_cdf(level) / t_quantile(level, groups.count - 1)) ** 2
        bounds.append(exact_low(p * n, n, level))
    return np.stack([np.minimum(bounds[0], mean), np.maximum(1 - bounds[1], mean)])


def _table(scores: ArrayLike, keys: Keys) -> tuple[Floats, Floats, Groups]:
    values = np.asarray(scores, dtype=np.float64)
    groups = group_rows(keys, len(values))
    return groups.sums(values), np.array([(values**2).sum()]), groups


def certified(
    scores: ArrayLike, keys: Keys = None, confidence: float = 0.95, upper_confidence: float | None = None
) -> Interval:
    """Mean of scores in [0, 1] with the one-sided bounds that gates are read off; (0, 1) without rows."""
    sums, squares, groups = _table(scores, keys)
    if groups.rows == 0:
        return Interval(0.0, 0.0, 1.0, 0, 0.0)
    low, high = mean_bounds(sums, squares, groups, (confidence, upper_confidence or confidence))
    mean = float(sums.sum()) / groups.rows
    n = float(effective_rows(sums, squares, groups)[0])
    return Interval(*(round(x, DIGITS) for x in (mean, float(low[0]), float(high[0]))), groups.rows, n)


def proportion(scores: ArrayLike, keys: Keys = None, confidence: float = 0.95) -> Interval:
    """Mean of scores in [0, 1] with Wilson's two-sided interval on the effective rows."""
    sums, squares, groups = _table(scores, keys)
    if groups.rows == 0:
        return Interval(0.0, 0.0, 1.0, 0, 0.0)
    n = float(effective_rows(sums, squares, groups)[0])
    mean = float(sums.sum()) / groups.rows
    low, high = wilson(mean * n, n, confidence)
    return Interval(round(mean, DIGITS), round(low, DIGITS), round(high, DIGITS), groups.rows, n)
