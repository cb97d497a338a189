"""One rung trained and saved, and how long that took."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slm_assets.models import ladder


@dataclass(frozen=True)
class Trained:
    """`seconds` of training alone, and its report."""

    seconds: float
    report: dict[str, Any]


def train_rung(recipe: str, training: ladder.Training, out: Path) -> Trained:
    """Train one role by a rung into `out`."""
    module = ladder.rung(recipe)
    started = time.perf_counter()
    with one_thread():
        model = module.train(training)
    seconds = round(time.perf_counter() - started, 3)
    out.mkdir(parents=True, exist_ok=True)
    module.save(model, out)
    return Trained(seconds, model.report)


def one_thread() -> AbstractContextManager[Any]:
    """One thread for every linear algebra library, whoever trains: how a sum is split over threads is in its last
    bits, and a checkpoint must not depend on the machine's cores. Only libraries that are loaded can be told so."""
    import sklearn.linear_model  # noqa: F401
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(1)
    return limits
