"""One parameter that makes the confidence of whole answers a probability, whatever the rung.

An answer's confidence is a product of probabilities (of its fields, of its tokens), which is too low where these go
together and too high where the model is overconfident. The temperature T divides its logarithm: p becomes p^(1/T).
It is fitted by the log loss of "the whole answer is right" on rows that were not trained on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEAST = 1e-6
"""Confidences below it are taken for it: their logarithm must be finite."""


def fit_power(confidences: ArrayLike, right: ArrayLike) -> float:
    """1/T of a fixed grid, ten to a tenth, with the least log loss; 1 where there is no row."""
    logp = np.log(np.maximum(np.asarray(confidences, dtype=np.float64), LEAST))
    truth = np.asarray(right, dtype=np.bool_)
    best, at = np.inf, 1.0
    for power in np.geomspace(0.1, 10.0, 41) if len(truth) else ():
        p = np.clip(np.exp(power * logp), 1e-4, 1 - 1e-4)
        loss = float(-np.where(truth, np.log(p), np.log1p(-p)).mean())
        if loss < best - 1e-12:
            best, at = loss, float(power)
    return round(at, 4)


def calibrated(confidences: ArrayLike, power: float) -> NDArray[np.float64]:
    """The confidences at 1/T = `power`."""
    return np.asarray(np.asarray(confidences, dtype=np.float64) ** power)
