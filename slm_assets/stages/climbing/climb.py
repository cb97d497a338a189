"""From rung to rung: train, judge on the validation part, stop at the first that is good enough; keep one.

What is kept depends on what was measured in points and counts, never on a clock. The rungs that were tried stand in
the report with their numbers; seconds go beside it.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from slm_assets.domain.ladder import Auto, auto_of, of_step
from slm_assets.domain.loading import Domain
from slm_assets.errors import BadInputError
from slm_assets.models import ladder
from slm_assets.models.base import Predictor
from slm_assets.stages.climbing.alone import Judged, Validation
from slm_assets.stages.climbing.train import one_thread, train_rung

WARM = 20


@dataclass(frozen=True)
class Climbed:
    """The rung that is kept, the report of its training with all that were tried, and what was measured in time:
    rung → name → number."""

    rung: str
    seconds: float
    report: dict[str, Any]
    measured: dict[str, dict[str, float]] = field(default_factory=dict)


def climb(domain: Domain, role_id: str, inputs: dict[str, Path], training: ladder.Training, out: Path) -> Climbed:
    """Climb for one role; the rung that is kept lies in `out` afterwards.

    BadInputError without validation rows, and for rungs that cannot be trained.
    """
    settings = auto_of(training.hyperparams)
    steps = ladder.steps("auto", settings.rungs)
    if not training.validation:
        raise BadInputError(
            f"domain {domain.name}: recipe auto chooses on validation rows, and role {role_id} has none",
            cure="raise data.split.validation_ratio",
        )
    tell = training.progress or (lambda _share, _note: None)
    tried: list[dict[str, Any]] = []
    measured: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="slm-climb-") as scratch:
        validation = Validation(domain, role_id, inputs, Path(scratch))
        for number, step in enumerate(steps):

            def told(share: float, note: str, number: int = number, title: str = step.title) -> None:
                tell((number + share) / len(steps), f"{title}: {note}")

            folder = Path(scratch) / f"rung{number}"
            own = of_step(training.hyperparams, step, first=number == 0)
            part = replace(training, recipe=step.recipe, hyperparams=own, progress=told)
            trained = train_rung(step.recipe, part, folder)
            engine = ladder.load_rung(step.recipe, folder, training.schema, training.oracle)
            timed = _latency(engine, validation.sample)  # before it is asked these rows for anything else
            measured[step.title] = {"train_seconds": trained.seconds, **timed}
            judged = validation.judge(engine, f"answers{number}")
            tried.append(_line(step.title, step.recipe, judged, folder) | {"report": trained.report})
            if _good_enough(settings, judged):
                break
        chosen, why = choose(tried, validation.margin)
        shutil.copytree(Path(scratch) / f"rung{chosen}", out)
    report = tried[chosen].pop("report")
    for line in tried:
        line.pop("report", None)
    climbed = {"chosen": tried[chosen]["rung"], "why": why, "not_tried": [s.title for s in steps[len(tried) :]]}
    seconds = round(sum(own["train_seconds"] for own in measured.values()), 3)
    return Climbed(tried[chosen]["recipe"], seconds, {**report, "climb": {**climbed, "tried": tried}}, measured)


def choose(tried: Sequence[Mapping[str, Any]], margin: float) -> tuple[int, str]:
    """Which of the rungs, cheapest first, is kept, and why: the first that passes every gate; else, of those that no
    number speaks against, the first that is within the margin of the best; else the best by its primary metric."""
    for index, line in enumerate(tried):
        if line["verdict"] == "pass":
            return index, "the cheapest that passes every gate on the validation part"
    likely = [index for index, line in enumerate(tried) if line["by_point"]]
    if likely:
        best = max(tried[index]["primary"] for index in likely)
        index = next(index for index in likely if tried[index]["primary"] >= best - margin - 1e-9)
        return index, (
            "none is certain on the validation part; the cheapest whose numbers all lie on the right side, "
            f"{100 * margin:g} points at most under the best of these"
        )
    index = max(range(len(tried)), key=lambda index: (tried[index]["primary"], -index))
    return index, "none passes on the validation part; the best by its primary metric"


def _good_enough(settings: Auto, judged: Judged) -> bool:
    if settings.stop == "never":
        return False
    return judged.outcome == "pass" or (settings.stop == "point" and judged.points)


def _line(name: str, recipe: str, judged: Judged, folder: Path) -> dict[str, Any]:
    found = asdict(judged)
    return {
        "rung": name,
        "recipe": recipe,
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "verdict": found.pop("outcome"),
        "by_point": found.pop("points"),
        **found,
    }


def _latency(engine: Predictor, inputs: Sequence[Any]) -> dict[str, float]:
    """Milliseconds of one answer, one by one, in a process that has answered others."""
    with one_thread():
        engine.predict_many(inputs[:WARM])
        times = []
        for value in inputs[WARM:] or inputs:
            started = time.perf_counter()
            engine.predict(value)
            times.append((time.perf_counter() - started) * 1e3)
    p50, p95 = (round(float(np.quantile(times, q)), 4) for q in (0.5, 0.95))
    return {"latency_p50_ms": p50, "latency_p95_ms": p95, "latency_mean_ms": round(float(np.mean(times)), 4)}
