"""The difference of two models on the same rows, with bounds that a gate can be read off.

Two methods, and the more conservative bound of both: a bootstrap over content groups (percentile,
expanded for few groups: Hesterberg 2015, "What Teachers Should Know About the Bootstrap", 5.3), and
Tango's score interval for paired proportions (Statistics in Medicine 17, 1998, 891-908) on the
effective number of rows, with a skewness correction (as Laud 2017 gives it for score intervals,
Pharmaceutical Statistics 16, 334-348) and a continuity correction. The bootstrap sees any kind of
clustering but is blind where no row differs; the score interval is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import floor, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slm_assets.gates.clusters import DIGITS, Clustering, Floats, Groups, clustering, group_rows
from slm_assets.gates.intervals import smallest

REPLICATES = 2_000
BISECTIONS = 44
POOLED = 1_000
"""More groups than this are pooled at random into this many: the variance estimate stays unbiased."""


@dataclass(frozen=True, slots=True)
class PairedResult:
    """Mean of challenger minus incumbent, and its two one-sided bounds.

    `wins` and `losses` are score gained and lost, as shares of the rows; `effect` is the design effect;
    `n_groups` the number of content groups.
    """

    diff: float
    low: float
    high: float
    n: int
    n_groups: int
    wins: float
    losses: float
    effect: float
    clustering: Clustering | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """Bounds of many tests over the same groups; all (tests,)."""

    diff: Floats
    low: Floats
    high: Floats
    wins: Floats
    losses: Floats
    clustering: Clustering


@lru_cache(maxsize=2)
def resamples(groups: int, seed: int) -> Floats:
    """How often each replicate drew each group: (replicates, groups). Integers only: the same anywhere."""
    rng = np.random.default_rng([seed, groups])
    draws = rng.integers(0, groups, size=(REPLICATES, groups), dtype=np.int32)
    flat = draws + np.arange(REPLICATES, dtype=np.int32)[:, None] * groups
    return np.bincount(flat.ravel(), minlength=REPLICATES * groups).reshape(REPLICATES, groups).astype(float)


def pool(sums: Floats, sizes: Floats) -> tuple[Floats, Floats]:
    """Pool groups at random, so that the bootstrap's cost is bounded."""
    count = len(sizes)
    if count <= POOLED:
        return sums, sizes
    bins = np.empty(count, dtype=np.int64)
    bins[np.random.default_rng(count).permutation(count)] = np.arange(count) % POOLED
    pooled = np.stack([np.bincount(bins, row, minlength=POOLED) for row in sums]).astype(np.float64)
    return pooled, np.bincount(bins, sizes, minlength=POOLED).astype(np.float64)


def bootstrap_bounds(sums: Floats, sizes: Floats, confidence: tuple[float, float], seed: int = 0) -> Floats:
    """Lower and upper one-sided bounds of the mean, by resampling groups: (2, tests)."""
    from scipy.special import stdtrit

    sums, sizes = pool(sums, sizes)
    count = len(sizes)
    if count < 2:
        return np.stack([np.full(len(sums), -1.0), np.full(len(sums), 1.0)])
    weights = resamples(count, seed)
    means = (weights @ sums.T) / (weights @ sizes)[:, None]
    ranks = []
    for level in confidence:
        stretched = sqrt(count / (count - 1)) * float(stdtrit(count - 1, level))
        ranks.append(max(floor(NormalDist().cdf(-stretched) * (REPLICATES + 1)) - 1, 0))
    low, high = ranks[0], REPLICATES - 1 - ranks[1]
    ordered = np.partition(means, (low, high), axis=0)
    return np.stack([ordered[low], ordered[high]])


def tango_low(wins: ArrayLike, losses: ArrayLike, rows: ArrayLike, z: ArrayLike, *, corrected: bool) -> Floats:
    """Tango's lower bound for (wins - losses) / rows, by bisection; arrays broadcast.

    `corrected` adds the skewness and continuity corrections, which make it hold one-sidedly where few
    rows differ: 0 of n then gives close to -3.1/n at 95 %, as the exact bound does.
    """
    parts = (np.atleast_1d(np.asarray(x, dtype=np.float64)) for x in (wins, losses, rows, z))
    b, c, n, quantile = np.broadcast_arrays(*parts)
    low, high = np.full(b.shape, -1.0), (b - c) / n
    for _ in range(BISECTIONS):
        delta = (low + high) / 2
        excluded = _excess(b, c, n, delta, quantile, corrected) > 0
        low, high = np.where(excluded, delta, low), np.where(excluded, high, delta)
    return low


def _excess(b: Floats, c: Floats, n: Floats, delta: Floats, z: Floats, corrected: bool) -> Floats:
    """By how much b - c lies above what a true difference of `delta` makes likely."""
    variance, skew = _null_moments(b, c, n, delta)
    excess = b - c - n * delta - z * np.sqrt(n * variance)
    return excess - 0.5 - (z**2 - 1) / 6 * skew if corrected else excess


def _null_moments(b: Floats, c: Floats, n: Floats, delta: Floats) -> tuple[Floats, Floats]:
    """Variance of one row's difference, and third moment over variance, at the restricted estimate."""
    linear = (2 * n - b + c) * delta - b - c
    constant = -c * delta * (1 - delta)
    root = np.sqrt(np.maximum(linear**2 - 8 * n * constant, 0.0))
    lost = np.clip((root - linear) / (4 * n), np.maximum(-delta, 0.0), (1 - delta) / 2)
    variance = np.maximum(2 * lost + delta * (1 - delta), 1e-15)
    third = delta - 3 * delta * (2 * lost + delta) + 2 * delta**3
    return variance, third / variance


def tango_interval(wins: float, losses: float, rows: float, confidence: float = 0.95) -> tuple[float, float]:
    """Tango's two-sided score interval for independent pairs, as published (no corrections)."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    low = tango_low(wins, losses, rows, z, corrected=False)
    high = -tango_low(losses, wins, rows, z, corrected=False)
    return float(low[0]), float(high[0])


def _score_low(wins: Floats, losses: Floats, rows: int, known: Clustering, confidence: float) -> Floats:
    """Tango's bound on the effective rows: by the estimated design effect and its t quantile, or by the
    worst case, which is no estimate and needs no t; where few groups differ, that says more."""
    best = np.full(len(wins), -1.0)
    for effect, z in (
        (known.effect(), known.quantile(confidence)),
        (max(known.worst, 1.0), NormalDist().inv_cdf(confidence)),
    ):
        best = np.maximum(best, tango_low(wins / effect, losses / effect, rows / effect, z, corrected=True))
    return best


def paired_bounds(
    gains: Floats,
    drops: Floats,
    squares: Floats,
    groups: Groups,
    confidence: tuple[float, float],
    seed: int = 0,
) -> Bounds:
    """Bounds of many paired differences at once, from sums per group.

    `gains` and `drops`, (tests, groups), are the sums of positive and of negative differences (both
    >= 0); `squares` (tests,) the sums of squared differences; `confidence` that of the lower and of the
    upper bound, each one-sided.
    """
    rows = groups.rows
    sums = gains - drops
    informed = ((gains + drops) > 0).sum(axis=1).astype(np.float64)
    known = clustering(sums, squares, groups, informed)
    wins, losses = gains.sum(axis=1), drops.sum(axis=1)
    resampled = bootstrap_bounds(sums, groups.sizes, confidence, seed)
    low = _score_low(wins, losses, rows, known, confidence[0])
    high = -_score_low(losses, wins, rows, known, confidence[1])
    diff = (wins - losses) / rows
    low = np.minimum(np.minimum(low, resampled[0]), diff)
    high = np.maximum(np.maximum(high, resampled[1]), diff)
    return Bounds(diff, low, high, wins / rows, losses / rows, known)


def paired(
    challenger: ArrayLike,
    incumbent: ArrayLike,
    groups: Groups | Sequence[str] | NDArray[np.int64] | None = None,
    confidence: float = 0.95,
    *,
    upper_confidence: float | None = None,
    seed: int = 0,
) -> PairedResult:
    """Challenger minus incumbent on the same rows; scores in [0, 1], one per row.

    The bounds are one-sided, the lower at `confidence`, the upper at `upper_confidence` (default: the
    same). With no rows, or one group only, nothing is known: the bounds are -1 and 1.
    """
    ours, theirs = (np.asarray(x, dtype=np.float64) for x in (challenger, incumbent))
    difference = ours - theirs
    rows = len(difference)
    if rows == 0:
        return PairedResult(0.0, -1.0, 1.0, 0, 0, 0.0, 0.0, 1.0)
    known = group_rows(groups, rows)
    levels = (confidence, upper_confidence or confidence)
    result = paired_bounds(
        known.sums(np.maximum(difference, 0)),
        known.sums(np.maximum(-difference, 0)),
        np.array([(difference**2).sum()]),
        known,
        levels,
        seed,
    )
    parts = [result.diff, result.low, result.high, result.wins, result.losses, result.clustering.effect()]
    diff, low, high, wins, losses, effect = (round(float(part[0]), DIGITS) for part in parts)
    return PairedResult(diff, low, high, rows, known.count, wins, losses, effect, result.clustering)


def turns_needed(
    discordance: float,
    margin: float,
    *,
    confidence: float = 0.95,
    power: float = 0.8,
    known: Clustering | None = None,
    rows: int = 1,
) -> int:
    """Rows at which an EQUAL challenger passes the margin test with this power.

    `discordance`: share of rows on which the two differ; `known`: what clustering was seen in `rows` rows
    (None: independent rows). The smallest n at which the corrected score bound, taken at a difference
    that is unlucky by the power's quantile, still lies above -margin.
    """
    unlucky = max(NormalDist().inv_cdf(power), 0.0)
    plain = np.array([NormalDist().inv_cdf(confidence)])

    def clears(n: Floats, z: Floats) -> bool:
        even, spread = discordance * n / 2, unlucky * np.sqrt(discordance * n)
        b, c = np.maximum(even - spread / 2, 0.0), even + spread / 2
        return bool(_excess(b, c, n, np.array([-margin]), z, corrected=True)[0] > 0)

    def passes(total: int) -> bool:
        if known is None:
            return clears(np.array([float(total)]), plain)
        scale = total / rows
        estimated = clears(total / known.effect(scale), known.quantile(confidence, scale))
        return estimated or clears(np.array([total / max(known.worst, 1.0)]), plain)

    return smallest(passes)
