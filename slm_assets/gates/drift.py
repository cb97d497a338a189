"""The statistics behind the retrain triggers: bounds on a drop, on a ratio and on a share, and distances.

Turns of one conversation go right or wrong together, so every bound on a live mean is Korn and Graubard's over
conversations (`intervals.mean_bounds`). Two means are compared by the method of variance estimates recovery (MOVER;
Zou and Donner, Statistics in Medicine 27, 2008, 1693-1702), which asks of each its own bounds and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from slm_assets.gates.clusters import DIGITS, Groups
from slm_assets.gates.intervals import Interval, certified, wilson

Strata = Mapping[str, Sequence[float]]
"""Class → (rows, rows that were right)."""


class Bounded(NamedTuple):
    """A number as measured and the confidence bound that a trigger is read off."""

    value: float
    bound: float


@dataclass(frozen=True)
class Score:
    """A promoted score, taken again with the weights of the live classes: `low` and `high` its one-sided bounds."""

    value: float
    low: float
    n: int
    high: float = 1.0


def mean_of(scores: ArrayLike, conversations: Groups, confidence: float) -> Interval:
    """A mean with one-sided bounds at this confidence over conversations."""
    return certified(scores, conversations, confidence)


def reweighted(strata: Strata, live: Mapping[str, float], effect: float, confidence: float) -> Score | None:
    """The promoted score as it would be with the classes in the shares in which they are answered live
    (post-stratification). None where nothing was scored.

    Its bound is Wilson's on Kish's effective number of rows, 1 / sum(w^2 / n) over classes of weight w with n rows,
    over `effect`, the design effect of the eval set. A class that the eval rows lack counts as all of them together.
    """
    rows, hits = (sum(own[place] for own in strata.values()) for place in (0, 1))
    if rows <= 0:
        return None
    weights = live if sum(live.values()) > 0 else {name: own[0] for name, own in strata.items()}
    mass, value, spread = sum(weights.values()), 0.0, 0.0
    for name, weight in sorted(weights.items()):
        n, right = strata.get(name, (rows, hits))
        value += weight / mass * right / n
        spread += (weight / mass) ** 2 / n
    effective = 1 / spread / effect
    # Wilson's interval is two-sided: its bound at 2c - 1 is the one-sided one at c.
    low, high = wilson(value * effective, effective, 2 * confidence - 1)
    return Score(round(value, DIGITS), round(low, DIGITS), int(rows), round(high, DIGITS))


def drop(promoted: Score, live: Interval) -> Bounded:
    """How far live answers fall short of the promoted score, and what it is at least."""
    value = promoted.value - live.value
    distance = sqrt((promoted.value - promoted.low) ** 2 + (live.high - live.value) ** 2)
    return Bounded(round(value, DIGITS), round(value - distance, DIGITS))


def ratio(now: Interval, before: Interval) -> Bounded:
    """How many times higher a rate is than it was, and how many times at least: the largest k for which the lower
    bound of `now - k before` is not under zero. Without any before, the value is against its upper bound."""

    def low(times: float) -> float:
        distance = sqrt((now.value - now.low) ** 2 + (times * (before.high - before.value)) ** 2)
        return now.value - times * before.value - distance

    value = now.value / (before.value or before.high or 1.0)
    least, most = 0.0, 1.0
    if now.low <= 0:
        return Bounded(round(value, DIGITS), 0.0)
    while low(most) >= 0 and most < 1e6:
        least, most = most, most * 2
    for _ in range(60):
        middle = (least + most) / 2
        least, most = (middle, most) if low(middle) >= 0 else (least, middle)
    return Bounded(round(value, DIGITS), round(least, DIGITS))


def drop_told(promoted: Score, then: Score, now: Interval, before: Interval) -> Bounded:
    """How much match was lost, and at least, by how much more often answers are complained of than `before`; `then` is
    the promoted score for the classes of that time.

    Most wrong answers are never told of, so a rate of complaints is no rate of errors. But while people complain as
    they used to, each further complaint is at least one further error, and stands for as many as there were errors
    for each complaint before: (now - before) max(1, (1 - then) / before), where a harder mix of classes has raised
    `before` by (1 - promoted) / (1 - then). Complaints of right answers make that an underestimate. Margins of
    independent numbers add as squares, as in MOVER.
    """
    mix = (1 - promoted.value) / (1 - then.value) if then.value < 1 else 1.0
    risen = now.value - mix * before.value
    sure = risen - sqrt((now.value - now.low) ** 2 + (mix * (before.high - before.value)) ** 2)
    errors = max(1.0, (1 - then.value) / (before.value or before.high or 1.0))
    least = max(1.0, (1 - then.high) / (before.high or 1.0))
    margin = sqrt((errors * (risen - sure)) ** 2 + (max(risen, 0.0) * (errors - least)) ** 2)
    return Bounded(round(errors * risen, DIGITS), round(errors * risen - margin, DIGITS))


def conformal_cut(scores: ArrayLike, share: float) -> float | None:
    """The score above which a new row counts as unlike these: at most `share` of rows that are like them are above
    it, whatever their distribution (inductive conformal anomaly detection; Laxhammar and Falkman, 2010). None where
    there are too few rows to say so."""
    ordered = np.sort(np.asarray(scores, dtype=np.float64))[::-1]
    allowed = floor(share * (len(ordered) + 1) + 1e-9)
    return float(ordered[allowed - 1]) if allowed >= 1 else None


def psi(reference: ArrayLike, live: ArrayLike) -> float | None:
    """The population stability index of two histograms over the same bins: sum of (q - p) ln(q / p), with half a row
    added to each bin. Above 0.25 is commonly called a shift. None where one is empty."""
    p, q = (np.asarray(x, dtype=np.float64) for x in (reference, live))
    if not p.sum() or not q.sum():
        return None
    p, q = ((x + 0.5) / (x.sum() + 0.5 * len(x)) for x in (p, q))
    return round(float(((q - p) * np.log(q / p)).sum()), 6)


def psi_by_chance(bins: int, reference: int, live: int) -> float:
    """What the index comes to by sampling alone, on average: (bins - 1)(1/n + 1/m) (Yurdakul, 2018)."""
    return round((bins - 1) * (1 / max(reference, 1) + 1 / max(live, 1)), 6)


def unseen_mass(counts: Sequence[int]) -> float:
    """Good and Turing's estimate of the share of rows to come whose value is not among those seen."""
    total = sum(counts)
    return sum(count == 1 for count in counts) / total if total else 1.0
