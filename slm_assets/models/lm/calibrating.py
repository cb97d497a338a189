"""From the probability of a written answer to how often such answers are right: Platt's scaling, on validation rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

import numpy as np

_FLOOR = 1e-6
_RIDGE = 1e-3


@dataclass(frozen=True)
class Scale:
    """confidence = sigmoid(slope · log-odds of the answer's probability + shift)."""

    slope: float = 1.0
    shift: float = 0.0

    def confidence(self, log_probability: float) -> float:
        """In [0, 1]."""
        return 1 / (1 + exp(-(self.slope * _odds(log_probability) + self.shift)))


def fit(log_probabilities: Sequence[float], right: Sequence[bool]) -> Scale:
    """Newton's method with a little ridge towards the identity; targets smoothed as Platt has them (1999).

    Fewer than ten rows, or rows of one kind alone, leave the probability as it is.
    """
    positive, n = sum(right), len(right)
    if n < 10 or positive in {0, n}:
        return Scale()
    odds = np.array([_odds(value) for value in log_probabilities])
    high, low = (positive + 1) / (positive + 2), 1 / (n - positive + 2)
    wanted = np.where(np.array(right), high, low)
    design = np.stack([odds, np.ones(n)], axis=1)
    prior = np.array([1.0, 0.0])
    weights = prior.copy()
    for _ in range(50):
        found = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        gradient = design.T @ (found - wanted) + _RIDGE * n * (weights - prior)
        spread = (design * (found * (1 - found))[:, None]).T @ design + _RIDGE * n * np.eye(2)
        move = np.linalg.solve(spread, gradient)
        weights = weights - move * min(1.0, 4.0 / (float(np.abs(move).max()) + 1e-12))
        if float(np.abs(move).max()) < 1e-8:
            break
    return Scale(max(float(weights[0]), 0.0), float(weights[1]))


def _odds(log_probability: float) -> float:
    p = min(max(exp(min(log_probability, 0.0)), _FLOOR), 1 - _FLOOR)
    return log(p / (1 - p))
