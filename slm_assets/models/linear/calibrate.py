"""Making margins probabilities: a temperature per factor, and one power for the whole answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slm_assets.canonical import Json
from slm_assets.models.calibration import fit_power
from slm_assets.models.linear.learner import fit_temperature
from slm_assets.models.linear.model import LinearModel
from slm_assets.models.linear.paths import pointer, text_of
from slm_assets.models.linear.shapes import Layout, unit_keys
from slm_assets.models.linear.structure import Factor

Problem = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows in which a factor is decided, and its class in each. `x` is one matrix per stage."""

Svm = Callable[[int, NDArray[np.int64], NDArray[np.int64]], tuple[NDArray[Any], Any, Any]]


def _about(model: LinearModel, factor: Factor, problem: Problem, x: Sequence[Any]) -> dict[str, Json]:
    rows, truth = problem
    places = sorted({pointer(model.structure.units[u].path) or "/" for u in factor.units})
    info: dict[str, Json] = {"places": places, "classes": len(factor.classes), "n": len(rows)}
    if factor.scored:
        info["training_accuracy"] = _accuracy(_scores(model, factor, x[factor.stage][rows]), truth)
    return info


def _scores(model: LinearModel, factor: Factor, x: Any) -> NDArray[np.float64]:
    columns = slice(factor.start, factor.start + len(factor.classes))
    return np.asarray(x @ model.weights[:, columns].astype(np.float64) + model.bias[columns])


def _accuracy(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    return round(float((scores.argmax(axis=1) == truth).mean()), 4)


def out_of_fold(
    model: LinearModel, problems: Sequence[Problem], x: Sequence[Any], fold: NDArray[np.int64], svm: Svm
) -> list[dict[str, Json]]:
    """Set each factor's temperature on scores of classifiers that have not seen the row's fold.

    Returns per factor: places, classes, n, training and out-of-fold accuracy, temperature.
    """
    out = []
    for factor, problem in zip(model.structure.factors, problems, strict=True):
        info = _about(model, factor, problem, x)
        rows, truth = problem
        scores: list[NDArray[np.float64]] = []
        held: list[NDArray[np.int64]] = []
        for k in sorted(set(fold.tolist())) if factor.scored else []:
            inside, outside = np.flatnonzero(fold[rows] != k), np.flatnonzero(fold[rows] == k)
            if not len(inside) or not len(outside):
                continue
            classes, w, b = svm(factor.stage, rows[inside], truth[inside])
            margin = np.full((len(outside), len(factor.classes)), -3.0)
            margin[:, classes] = x[factor.stage][rows[outside]] @ w + b
            scores.append(margin)
            held.append(truth[outside])
        if scores:
            joined, true = np.concatenate(scores), np.concatenate(held)
            info["out_of_fold_accuracy"] = _accuracy(joined, true)
            factor.temperature = fit_temperature(joined, true)
        info["temperature"] = factor.temperature
        out.append(info)
    return out


def on_validation(
    model: LinearModel,
    layout: Layout,
    holes: set[str],
    problems: Sequence[Problem],
    x: Sequence[Any],
    seen: Sequence[Any],
    validation: Sequence[tuple[Json, Json]],
) -> list[dict[str, Json]]:
    """Set each factor's temperature, and the power of the whole, on rows that were not trained on.

    Returns per factor: places, classes, n, training and validation accuracy, temperature.
    """
    outputs = [target for _, target in validation]
    shapes = model.shape_index
    out = []
    for factor, problem in zip(model.structure.factors, problems, strict=True):
        info = _about(model, factor, problem, x)
        keys = [unit_keys(layout.units[u], outputs, holes, layout) for u in factor.units]
        rows = [row for row in sorted(keys[0]) if all(row in k for k in keys)]
        if factor.scored and rows:
            at = {tuple(name): k for k, name in enumerate(factor.classes)}
            truth = np.asarray([at.get(tuple(shapes.get(k[row], -1) for k in keys), -1) for row in rows])
            scores = _scores(model, factor, seen[factor.stage][rows])
            info["validation_accuracy"] = _accuracy(scores, truth)
            factor.temperature = fit_temperature(scores, truth)
        info["temperature"] = factor.temperature
        out.append(info)
    model.structure.calibration = _power(model, validation)
    return out


def _power(model: LinearModel, validation: Sequence[tuple[Json, Json]]) -> float:
    """The power of the product of the factors' probabilities."""
    answers = model.predict_many([value for value, _ in validation])
    right = [text_of(a.output) == text_of(target) for a, (_, target) in zip(answers, validation, strict=True)]
    return fit_power([a.confidence for a in answers], right)
