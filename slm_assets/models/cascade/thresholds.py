"""From which confidence on a rung of a cascade answers: chosen on validation rows, which nothing was trained on.

From above: what follows a rung is fixed first, and its threshold is held against that. Thresholds are tried in an
order that no label decides, from "answers almost nothing" downwards, and the last before the first that fails stands
(fixed sequence testing; Angelopoulos et al. 2021, "Learn then Test"): however many were tried, the chance that the
whole loses more than `max_loss` is at most 1 − confidence. Each of several thresholds gets an equal part of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slm_assets.domain.ladder import Cascade
from slm_assets.gates.clusters import DIGITS, Floats, Groups, group_rows
from slm_assets.gates.intervals import Keys
from slm_assets.gates.paired import paired_bounds, turns_needed
from slm_assets.models.cascade.model import NEVER

Mask = NDArray[np.bool_]
STEPS = 100
"""Shares of the rows that are tried, at equal distances."""
FEW = 50
"""Fewer rows than this say nothing of a temperature or of an oracle."""


@dataclass(frozen=True)
class Threshold:
    """`share` of the validation rows that the rung would answer were it the first, with the `loss` of accuracy
    against what follows it and the bound `at_most` of that loss; `why` in words."""

    below: float
    share: float
    loss: float
    at_most: float
    n: int
    why: str


@dataclass(frozen=True)
class Tried:
    """One rung on the validation rows: its confidence, and whether it was right; answers that break the contract have
    confidence 0 and are never taken while a rung follows."""

    confidence: Floats
    right: Mask


def choose(tried: Sequence[Tried], tail: Mask, groups: Keys, settings: Cascade) -> list[Threshold]:
    """The threshold of every rung but the last. `tail`: whether each row is right by the last rung, or by the oracle
    where that takes over."""
    steps = len(tried)
    allowed = settings.max_loss / steps
    confidence = 1 - (1 - settings.confidence) / steps
    known = group_rows(groups, len(tail))
    found = []
    for own in reversed(tried):
        threshold = _threshold(own, tail, known, allowed, confidence, by_bound=settings.by == "bound")
        tail = np.where(own.confidence >= threshold.below, own.right, tail)
        found.append(threshold)
    return found[::-1]


def _threshold(
    own: Tried, tail: Mask, groups: Groups, allowed: float, confidence: float, *, by_bound: bool
) -> Threshold:
    candidates = _candidates(own.confidence)
    taken = own.confidence >= candidates[:, None]
    gains = groups.sums(taken & own.right & ~tail)
    drops = groups.sums(taken & ~own.right & tail)
    squares = (gains + drops).sum(axis=1)
    bounds = paired_bounds(gains, drops, squares, groups, (confidence, confidence))
    within = bounds.low >= -allowed if by_bound else bounds.diff >= -allowed
    n = groups.rows
    if by_bound:
        last = int(np.argmin(within)) - 1 if not within.all() else len(within) - 1
    else:
        last = int(np.flatnonzero(within)[-1]) if within.any() else -1
    if last < 0:
        needed = turns_needed(0.0, allowed, confidence=confidence)
        why = f"no threshold is {'proven' if by_bound else ''} within a loss of {allowed:g} on {n} validation rows"
        more = f"; even without any loss that takes {needed}" if by_bound and n < needed else ""
        return Threshold(NEVER, 0.0, 0.0, 0.0, n, f"{why}{more}: it answers nothing")
    numbers = (taken[last].mean(), max(-bounds.diff[last], 0.0), max(-bounds.low[last], 0.0))
    share, loss, at_most = (round(float(x), DIGITS) for x in numbers)
    said = f"at most {at_most:.4f} at {confidence:.3g}" if by_bound else f"{loss:.4f} as measured"
    why = f"the largest share with a loss of {said}, {allowed:g} allowed"
    return Threshold(float(candidates[last]), share, loss, at_most, n, why)


def _candidates(confidence: Floats) -> Floats:
    """Thresholds from above, each between two confidences that occur, by the shares of rows that they take; that no
    threshold is needed at all is among them, unless some row has confidence 0."""
    ordered = np.sort(confidence)[::-1]
    at = np.unique(np.ceil(np.arange(1, STEPS + 1) * len(ordered) / STEPS).astype(np.int64)) - 1
    values = np.unique(ordered[at])[::-1]
    distinct = np.unique(confidence)
    below = np.maximum(np.searchsorted(distinct, values) - 1, 0)
    middles = np.where(values > distinct[0], (values + distinct[below]) / 2, min(values[-1], 1e-9))
    return np.asarray(middles[values > 0], dtype=np.float64)
