"""The linear classifier under every choice, and the temperature that makes its margins probabilities."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def fit_svm(
    x: Any,
    y: NDArray[Any],
    *,
    c: float = 1.0,
    seed: int = 0,
    weight: Floats | None = None,
    tolerance: float = 1e-2,
    max_iter: int = 20_000,
) -> tuple[NDArray[Any], Floats, Floats]:
    """One-against-rest linear SVM: classes (sorted), weights [features, classes], intercepts [classes].

    One class gives zero weights, no features the classes' shares; two classes give the two halves of the one margin.
    """
    classes = np.unique(y)
    if len(classes) == 1:
        return classes, np.zeros((x.shape[1], 1)), np.zeros(1)
    if x.shape[1] == 0:
        shares = np.asarray([(y == name).mean() for name in classes])
        return classes, np.zeros((0, len(classes))), np.log(shares)
    from sklearn.svm import LinearSVC
    from threadpoolctl import threadpool_limits

    dual = True if x.shape[1] > 1_000 else "auto"
    model = LinearSVC(C=c, dual=dual, tol=tolerance, max_iter=max_iter, random_state=seed % 2**32)
    with warnings.catch_warnings(), threadpool_limits(1):  # its BLAS would spin on every core
        warnings.filterwarnings("ignore", message="The number of unique classes")  # free values: they are many
        model.fit(x, y, sample_weight=weight)
    w, b = np.asarray(model.coef_, np.float64).T, np.asarray(model.intercept_, np.float64)
    if len(classes) == 2:
        return classes, np.hstack([-w / 2, w / 2]), np.concatenate([-b / 2, b / 2])
    return classes, w, b


def folds(groups: Sequence[str], count: int) -> NDArray[np.int64]:
    """A fold for each row: rows of one group share it, groups are dealt out by size, then name."""
    sizes: dict[str, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    filled = [0] * count
    of: dict[str, int] = {}
    for group in sorted(sizes, key=lambda g: (-sizes[g], g)):
        fold = filled.index(min(filled))
        of[group] = fold
        filled[fold] += sizes[group]
    return np.asarray([of[group] for group in groups], np.int64)


def softmax(scores: Floats) -> Floats:
    """Row-wise, in a form that does not overflow."""
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    out: Floats = shifted / shifted.sum(axis=-1, keepdims=True)
    return out


def fit_temperature(scores: Floats, truth: NDArray[np.int64]) -> float:
    """The t of a fixed grid for which softmax(scores / t) has the least log loss; truth −1 is a class never seen."""
    best, at = np.inf, 0.5
    rows = np.arange(len(truth))
    for t in np.geomspace(0.02, 4.0, 48):
        p = np.where(truth >= 0, softmax(scores / t)[rows, truth], 0.0)
        loss = float(-np.log(np.maximum(p, 1e-6)).mean())
        if loss < best - 1e-12:
            best, at = loss, float(t)
    return round(at, 4)
