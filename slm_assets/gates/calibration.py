"""Whether a confidence means what it says: the expected calibration error, and accuracy at coverage."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor

import numpy as np
from numpy.typing import ArrayLike

from slm_assets.canonical import Json
from slm_assets.errors import BadInputError
from slm_assets.gates.clusters import DIGITS, Floats, group_rows
from slm_assets.gates.intervals import Interval, Keys, wilson
from slm_assets.gates.paired import pool, resamples

BINS = 15
COVERAGES = (0.5, 0.7, 0.8, 0.9, 1.0)


def calibration(confidences: ArrayLike, correct: ArrayLike, bins: int = BINS) -> Json:
    """Reliability in bins of equal mass, and the expected calibration error over them (Nguyen and O'Connor 2015).

    `{"ece": float or None, "n": int, "bins": [{low, high, n, confidence, accuracy}]}`. Equal confidences share
    a bin, so that there are fewer bins where many are equal; `low` and `high` are the least and the greatest
    confidence in one.
    """
    sure, right = _checked(confidences, correct)
    if not len(sure):
        return {"ece": None, "n": 0, "bins": []}
    place = _places(sure, bins)
    counts = np.bincount(place)
    said, was = (np.bincount(place, weights) for weights in (sure, right))
    rows = [
        {
            "low": round(float(sure[place == i].min()), DIGITS),
            "high": round(float(sure[place == i].max()), DIGITS),
            "n": int(counts[i]),
            "confidence": round(float(said[i] / counts[i]), DIGITS),
            "accuracy": round(float(was[i] / counts[i]), DIGITS),
        }
        for i in range(len(counts))
    ]
    return {"ece": round(float(np.abs(said - was).sum() / len(sure)), DIGITS), "n": len(sure), "bins": rows}


def ece_interval(
    confidences: ArrayLike, correct: ArrayLike, groups: Keys = None, confidence: float = 0.95, bins: int = BINS
) -> Interval:
    """The expected calibration error with a two-sided interval: percentiles of a bootstrap over content groups, the
    bins as they are. Of a handful of rows the error is overstated, and so is its interval; (0, 1) without rows."""
    sure, right = _checked(confidences, correct)
    known = group_rows(groups, len(sure))
    if not len(sure):
        return Interval(0.0, 0.0, 1.0, 0, 0.0)
    place = _places(sure, bins)
    gaps = known.sums(np.where(place == np.arange(place.max() + 1)[:, None], sure - right, 0.0))
    value = float(np.abs(np.bincount(place, sure - right)).sum() / len(sure))
    if known.count < 2:
        return Interval(round(value, DIGITS), 0.0, 1.0, len(sure), 1.0)
    pooled, sizes = pool(gaps, known.sizes)
    weights = resamples(len(sizes), 0)
    drawn: Floats = np.sort(np.abs(weights @ pooled.T).sum(axis=1) / (weights @ sizes))
    tail = floor((1 - confidence) / 2 * len(drawn))
    low, high = min(float(drawn[tail]), value), max(float(drawn[-1 - tail]), value)
    return Interval(round(value, DIGITS), round(low, DIGITS), round(high, DIGITS), len(sure), known.count)


def accuracy_at_coverage(
    confidences: ArrayLike, correct: ArrayLike, coverages: Sequence[float] = COVERAGES
) -> list[Json]:
    """Accuracy over the most confident rows: `[{asked, coverage, threshold, n, accuracy, low, high}]`.

    Rows as confident as the last one asked for are taken too: that is what a threshold does when served.
    """
    sure, right = _checked(confidences, correct)
    if not len(sure):
        return []
    order = np.argsort(-sure, kind="stable")
    ranked, hits = sure[order], np.cumsum(right[order])
    rows = []
    for asked in coverages:
        threshold = ranked[max(int(np.ceil(asked * len(sure) - 1e-9)), 1) - 1]
        n = int(np.searchsorted(-ranked, -threshold, side="right"))
        low, high = wilson(float(hits[n - 1]), n)
        rows.append(
            {
                "asked": asked,
                "coverage": round(n / len(sure), DIGITS),
                "threshold": round(float(threshold), DIGITS),
                "n": n,
                "accuracy": round(float(hits[n - 1]) / n, DIGITS),
                "low": round(low, DIGITS),
                "high": round(high, DIGITS),
            }
        )
    return rows


def _places(sure: Floats, bins: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The bin of each row: as many rows in each as ties allow, numbered without gaps."""
    ordered = np.sort(sure)
    cuts = ordered[np.arange(1, bins) * len(sure) // bins]
    return np.searchsorted(np.unique(cuts[cuts > ordered[0]]), sure, side="right").astype(np.int64)


def _checked(confidences: ArrayLike, correct: ArrayLike) -> tuple[Floats, Floats]:
    sure, right = (np.asarray(x, dtype=np.float64) for x in (confidences, correct))
    if sure.shape != right.shape:
        raise BadInputError(f"{sure.size} confidences, but {right.size} scores")
    if sure.size and not bool(np.all((sure >= 0) & (sure <= 1))):
        raise BadInputError("a confidence lies outside [0, 1]")
    return sure, right
