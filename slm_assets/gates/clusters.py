"""Rows that belong together: group codes, sums per group, and what clustering costs in rows.

Every statistic of the gates is a mean over rows whose rows come in content groups (a template, a
conversation). Rows of one group tend to be right or wrong together, so groups are what is counted.
Arrays named `sums` are (tests, groups): many score columns over the same rows are judged at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slm_assets.errors import BadInputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

GRID = 2.0**20
"""Scores are rounded to multiples of 1/GRID: then sums are exact, and equal in any order."""

TRUSTED = 5.0
"""Groups that must differ before an estimated design effect outweighs the worst case (by simulation)."""
NOTHING = 1e-9
DIGITS = 9
"""Decimals of reported numbers: beyond them machines differ."""


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Which content group each row is in. `codes` (rows,), `sizes` (groups,)."""

    codes: Ints
    sizes: Floats

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.codes)

    @property
    def count(self) -> int:
        """Number of groups."""
        return len(self.sizes)

    @property
    def largest_effect(self) -> float:
        """The design effect if all rows of a group always agreed: Kish's sum n_g^2 / n."""
        return float((self.sizes**2).sum() / max(self.rows, 1))

    def sums(self, scores: ArrayLike) -> Floats:
        """Sums per group: (rows,) or (tests, rows) to (tests, groups)."""
        table = np.atleast_2d(np.asarray(scores, dtype=np.float64))
        if table.shape[1] != self.rows:
            raise BadInputError(f"scores of {table.shape[1]} rows, but groups of {self.rows}")
        table = np.round(table * GRID) / GRID
        return np.stack([np.bincount(self.codes, row, minlength=self.count) for row in table])


def group_rows(keys: Groups | Sequence[str] | NDArray[np.int64] | None, rows: int) -> Groups:
    """Number the groups by sorted key. None: each row is its own group; a `Groups` passes through."""
    if isinstance(keys, Groups):
        groups = keys
    elif keys is None:
        groups = Groups(np.arange(rows, dtype=np.int64), np.ones(rows))
    else:
        _, codes, sizes = np.unique(np.asarray(keys), return_inverse=True, return_counts=True)
        groups = Groups(codes.astype(np.int64).reshape(-1), sizes.astype(np.float64))
    if groups.rows != rows:
        raise BadInputError(f"{rows} scores, but group keys for {groups.rows} rows")
    return groups


def select(groups: Groups, mask: NDArray[np.bool_]) -> Groups:
    """The groups of some rows, renumbered."""
    return group_rows(groups.codes[mask], int(mask.sum()))


@dataclass(frozen=True, slots=True, eq=False)
class Clustering:
    """What the groups say about the variance of a mean; arrays are (tests,).

    `estimate`: the design effect as estimated, at least 1; `worst`: if rows of a group always agreed;
    `informed`: number of groups in which anything varied; `freedom`: degrees of freedom of the estimate
    (infinite for independent rows).
    """

    estimate: Floats
    worst: float
    informed: Floats
    freedom: Floats

    def effect(self, scale: float = 1.0) -> Floats:
        """How many times more rows are needed than were they independent, at `scale` times the rows.

        An estimate that rests on few groups says little (and on none, 0/0), so it starts at the worst
        case and nears the estimate once more than `TRUSTED` groups have something to say.
        """
        doubt = 1.0 / (1.0 + (self.informed * scale / TRUSTED) ** 2)
        return self.estimate + doubt * np.maximum(self.worst - self.estimate, 0.0)

    def quantile(self, confidence: float, scale: float = 1.0) -> Floats:
        """Student's t quantile, at `scale` times the rows."""
        from scipy.special import stdtrit

        return np.asarray(stdtrit(np.maximum(self.freedom * scale, 2.0), confidence), dtype=np.float64)

    def effective(self, rows: int, confidence: float, scale: float = 1.0) -> Floats:
        """Independent rows that an exact bound may count on: by the estimated effect, shrunk by the squared
        ratio of the normal to the t quantile; or by the worst case, which is no estimate."""
        shrunk = (NormalDist().inv_cdf(confidence) / self.quantile(confidence, scale)) ** 2
        return np.maximum(rows / self.effect(scale) * shrunk, rows / max(self.worst, 1.0))


def clustering(sums: Floats, squares: Floats, groups: Groups, informed: Floats) -> Clustering:
    """The design effect of means over groups.

    `squares` (tests,) is the sum of squared scores. The estimate is the cluster-robust variance of the
    mean (linearised, times G/(G-1)) over its variance for independent rows. The degrees of freedom match
    the variance of that variance: 2G / (kurtosis - 1) of the group residuals, at most G - 1; one group
    that dominates leaves two.
    """
    rows, count, worst, tests = groups.rows, groups.count, groups.largest_effect, len(sums)
    if worst <= 1 or count < 2:
        freedom = np.inf if worst <= 1 else 2.0
        return Clustering(np.full(tests, max(worst, 1.0)), worst, informed, np.full(tests, freedom))
    mean = sums.sum(axis=1) / rows
    residuals = (sums - mean[:, None] * groups.sizes) ** 2
    clustered = residuals.sum(axis=1)
    independent = squares - rows * mean**2
    flat = (independent <= NOTHING) | (clustered <= NOTHING)
    ratio = clustered * count / (count - 1) / np.where(flat, 1.0, independent)
    kurtosis = count * (residuals**2).sum(axis=1) / np.where(flat, 1.0, clustered) ** 2
    freedom = 2 * count / np.maximum(np.where(flat, 0.0, kurtosis) - 1, NOTHING)
    estimate = np.where(independent <= NOTHING, worst, np.maximum(ratio, 1.0))
    return Clustering(estimate, worst, informed, np.clip(freedom, min(2.0, count - 1), count - 1))
