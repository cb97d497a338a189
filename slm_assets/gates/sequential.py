"""A paired comparison that may be looked at after every conversation and stopped as soon as it is decided.

Differences arrive one by one, each in [-1, 1]. A bettor against the claim "the challenger is worse by the margin"
stakes a fixed share of its wealth on each; were the claim true its wealth would be a supermartingale, so that it
ever reaches 1/alpha with probability alpha at most (Ville 1939). That holds for every n, whatever the distribution
and however often somebody looks: no correction for looks is needed. The wealth is a mixture over a few fixed stakes
("diversified Kelly" in Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting, JRSS B 86,
2024), and it grows with every difference: a difference that nobody can judge is therefore counted at its worst, and
what is decided so stays true whatever it turns out to be later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slm_assets.gates.clusters import DIGITS
from slm_assets.gates.verdicts import DEFAULT, Level, Outcome

Floats = NDArray[np.float64]
STAKES = np.array([0.95, 0.5, 0.25, 0.12, 0.06, 0.03])
"""Shares of the largest stake that cannot ruin the bettor: the large ones win where two models nearly always agree,
the small ones where they often differ."""
PRIOR = np.array([0.4, 0.2, 0.1, 0.1, 0.1, 0.1])
BISECTIONS = 24
MOST = 10_000_000


@dataclass(frozen=True)
class Sequential:
    """`outcome` after `n` of the conversations, the first n at which it was decided (all, where it is not).
    `value`: the mean difference of all; `low`, `high`: the bounds of a confidence sequence at all of them."""

    outcome: Outcome
    n: int
    value: float
    low: float
    high: float


def sequential(worst: ArrayLike, best: ArrayLike, *, margin: float, level: Level = DEFAULT) -> Sequential:
    """Whether the mean difference lies above -margin (PASS) or below (FAIL), decided as early as may be.

    `worst` and `best`: each conversation's difference, challenger less incumbent, in the order of the traffic, with
    what nobody can judge at -1 and at +1. No data is INSUFFICIENT.
    """
    low_d, high_d = (np.asarray(x, dtype=np.float64) for x in (worst, best))
    if not len(low_d):
        return Sequential("INSUFFICIENT", 0, 0.0, -1.0, 1.0)
    outcome, at = decision(low_d, high_d, margin=margin, level=level)
    value = float((low_d.mean() + high_d.mean()) / 2)
    low = _bound(low_d, log(1 / (1 - level.confidence)))
    high = -_bound(-high_d, log(1 / (1 - level.fail_confidence)))
    return Sequential(outcome, at, round(value, DIGITS), round(low, DIGITS), round(high, DIGITS))


def decision(worst: Floats, best: Floats, *, margin: float, level: Level = DEFAULT) -> tuple[Outcome, int]:
    """As `sequential`, without the bounds: the outcome, and after how many conversations."""
    if not len(worst):
        return "INSUFFICIENT", 0
    passed = _first(_wealth(worst, -margin), log(1 / (1 - level.confidence)))
    failed = _first(_wealth(-best, margin), log(1 / (1 - level.fail_confidence)))
    if passed is not None and (failed is None or passed <= failed):
        return "PASS", passed
    if failed is not None:
        return "FAIL", failed
    return "INSUFFICIENT", len(worst)


def conversations_needed(differs: float, unjudged: float, *, margin: float, level: Level = DEFAULT) -> int | None:
    """How many conversations decide for an equal challenger, with the level's power.

    `differs`: share of conversations on which the two differ and somebody can tell who is right; `unjudged`: share on
    which nobody can. None where the unjudged alone reach the margin: more of the same never decide.
    """
    if unjudged >= margin:
        return None
    values = np.array([1.0, -1.0, 0.0])
    half = max(differs, 0.0) / 2
    shares = np.array([half, half + unjudged, max(1 - 2 * half - unjudged, 0.0)])
    gains = np.log1p(_stakes(-margin)[:, None] * (values + margin)[None, :])
    mean = gains @ shares
    spread = np.sqrt(np.maximum((gains**2) @ shares - mean**2, 0.0))
    z, goal = NormalDist().inv_cdf(level.gate_power), log(1 / (1 - level.confidence))

    def decides(n: int) -> bool:
        return float(np.logaddexp.reduce(np.log(PRIOR) + n * mean - z * sqrt(n) * spread)) >= goal

    high = 1
    while not decides(high):
        high *= 2
        if high > MOST:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high


def per_conversation(keys: Sequence[str], differences: ArrayLike) -> Floats:
    """The mean difference of each conversation, in the order in which they began: its turns are right or wrong
    together, so a conversation is what is counted."""
    values = np.asarray(differences, dtype=np.float64)
    codes: dict[str, int] = {}
    place = np.array([codes.setdefault(key, len(codes)) for key in keys], dtype=np.int64)
    return np.asarray(np.bincount(place, weights=values) / np.bincount(place)) if len(values) else values


def turns_of(conversations: int, seen_conversations: int, seen_turns: int) -> int:
    """So many conversations as turns, at as many turns each as were seen."""
    return ceil(conversations * (seen_turns / seen_conversations if seen_conversations else 1))


def share_at_least(values: ArrayLike, confidence: float) -> float:
    """A lower bound for the mean of values in [0, 1] that arrive one by one, valid at every n at once."""
    return _bound(np.asarray(values, dtype=np.float64), log(1 / (1 - confidence)), lowest=0.0)


def _stakes(mean: float, lowest: float = -1.0) -> Floats:
    """The stakes against "the mean is at most `mean`": below what the lowest value would ruin."""
    return np.asarray(STAKES / (mean - lowest))


def _wealth(values: Floats, mean: float, lowest: float = -1.0) -> Floats:
    """The logarithm of the bettor's wealth after each value, shape (n,)."""
    gains = np.log1p(_stakes(mean, lowest)[:, None] * (values - mean)[None, :])
    return np.asarray(np.logaddexp.reduce(np.log(PRIOR)[:, None] + np.cumsum(gains, axis=1), axis=0))


def _first(wealth: Floats, goal: float) -> int | None:
    reached = np.flatnonzero(wealth >= goal)
    return int(reached[0]) + 1 if len(reached) else None


def _bound(values: Floats, goal: float, lowest: float = -1.0) -> float:
    """The largest mean that the wealth ever reached refutes: a lower bound that holds at every n at once."""
    low, high = lowest, 1.0
    for _ in range(BISECTIONS if len(values) else 0):
        middle = (low + high) / 2
        refuted = float(_wealth(values, middle, lowest).max()) >= goal
        low, high = (middle, high) if refuted else (low, middle)
    return low
