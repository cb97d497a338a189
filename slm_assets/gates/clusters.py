"""Rows that belong together: group codes, sums per group, and what clustering costs in rows.

Every statistic of the gates is a mean over rows whose rows come in content groups (a template, a
conversation). Rows of one group tend to be right or wrong together, so groups are what is counted.
Arrays named `sums` are (tests, groups): many score columns over the same rows are judged at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slm_assets.errors import BadInputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

GRID = 2.0**20
"""Scores are rounded to multiples of 1/GRID: then sums are exact, and equal in any order."""


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


def design_effect(sums: Floats, squares: Floats, groups: Groups, informed: Floats) -> Floats:
    """How many times more rows are needed than were they independent; (tests,), at least 1.

    The cluster-robust variance of a mean (linearised ratio, times G/(G-1)) over its variance for
    independent rows; `squares` (tests,) is the sum of squared scores. An estimate from few groups says
    nothing, and from none it is 0/0: with `informed` (tests,) the number of groups in which anything
    varied, it starts at the worst case (a group counts as one row) and approaches the estimate.
    """
    rows, count = groups.rows, groups.count
    if groups.largest_effect <= 1 or count < 2:
        return np.full(len(sums), max(groups.largest_effect, 1.0))
    mean = sums.sum(axis=1) / rows
    residuals = sums - mean[:, None] * groups.sizes
    clustered = (residuals**2).sum(axis=1) * count / (count - 1)
    independent = squares - rows * mean**2
    flat = independent <= 1e-12
    estimate = np.where(flat, groups.largest_effect, clustered / np.where(flat, 1.0, independent))
    estimate = np.clip(estimate, 1.0, None)
    doubt = 1.0 / (1.0 + informed)
    worst = np.maximum(groups.largest_effect, estimate)
    return estimate + doubt * (worst - estimate)


def t_quantile(confidence: float, freedom: float) -> float:
    """Student's t quantile."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, confidence))
