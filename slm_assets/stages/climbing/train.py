"""Rungs trained and saved, and how long that took."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from slm_assets.models import ladder


@dataclass(frozen=True)
class Trained:
    """`seconds` of training alone, its report, and what else was measured: name → number."""

    seconds: float
    report: dict[str, Any]
    measured: Mapping[str, float] = field(default_factory=dict)


def train_rung(recipe: str, training: ladder.Training, out: Path) -> Trained:
    """Train one role by a rung into `out`."""
    module = ladder.rung(recipe)
    started = time.perf_counter()
    with one_thread() if recipe not in ladder.LANGUAGE_MODELS else nullcontext():
        model = module.train(training)
    return _saved(module, model, time.perf_counter() - started, out)


def train_together(recipe: str, trainings: Mapping[str, ladder.Training], out: Path) -> dict[str, Trained]:
    """Train roles by one language model into `out`/<role>; its seconds are shared out."""
    module = ladder.rung(recipe)
    started = time.perf_counter()
    models = cast(ladder.TogetherRung, module).train_together(trainings)
    seconds = (time.perf_counter() - started) / len(models)
    return {role: _saved(module, model, seconds, out / role) for role, model in models.items()}


def _saved(module: ladder.Rung, model: ladder.TrainedModel, seconds: float, out: Path) -> Trained:
    out.mkdir(parents=True, exist_ok=True)
    module.save(model, out)
    return Trained(round(seconds, 3), model.report, getattr(model, "measured", None) or {})


def one_thread() -> AbstractContextManager[Any]:
    """One thread for every linear algebra library, whoever trains: how a sum is split over threads is in its last
    bits, and a checkpoint must not depend on the machine's cores. Only libraries that are loaded can be told so."""
    import sklearn.linear_model  # noqa: F401
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(1)
    return limits
