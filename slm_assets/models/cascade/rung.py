"""The cascade as the ladder has it: a rung that is made of others.

`cascade.json` {"format", "rungs": [{"name", "recipe", "below", "power"}], "last"} and a folder `rung<k>` for each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from slm_assets import canonical
from slm_assets.domain.ladder import Cascade, cascade_of, of_step
from slm_assets.errors import ArtifactError, BadInputError
from slm_assets.models import ladder
from slm_assets.models.calibration import fit_power
from slm_assets.models.cascade.model import NEVER, CascadeModel, Last, Level
from slm_assets.models.cascade.thresholds import FEW, Mask, Threshold, Tried, choose
from slm_assets.models.ladder import Training

FORMAT: Final = "slm-cascade-1"
HEAD: Final = "cascade.json"


def train(training: Training) -> CascadeModel:
    """Train each rung on the same rows, and choose the thresholds on the validation rows."""
    from slm_assets.gates.metrics import score

    settings = cascade_of(training.hyperparams)
    steps = ladder.steps("cascade", settings.rungs)
    if not training.validation:
        raise BadInputError(
            "a cascade needs validation rows to choose its thresholds on, and there is none",
            cure="raise data.split.validation_ratio",
        )
    models = []
    for number, step in enumerate(steps):
        hyperparams = of_step(training.hyperparams, step, first=number == 0)
        tell = _part(training.progress, number, len(steps), step.title)
        part = replace(training, recipe=step.recipe, hyperparams=hyperparams, progress=tell)
        models.append(ladder.rung(step.recipe).train(part))
    inputs = [value for value, _ in training.validation]
    labels = [label for _, label in training.validation]
    tried = []
    for model in models:
        answers = model.predict_many(inputs)
        sure = np.array([one.confidence if one.valid else 0.0 for one in answers])
        tried.append(Tried(sure, score([one.output for one in answers], labels)))
    last, tail = _oracle(training, settings, tried[-1])
    thresholds = choose(tried[:-1], tail, training.validation_groups, settings)
    below = [threshold.below for threshold in thresholds]
    levels, lines = [], []
    came = np.ones(len(labels), dtype=np.bool_)
    for number, (step, model) in enumerate(zip(steps, models, strict=True)):
        own = tried[number]
        power = fit_power(own.confidence[came], own.right[came]) if number and came.sum() >= FEW else 1.0
        at = below[number] if number < len(below) else 0.0
        levels.append(Level(step.title, step.recipe, model, at, power))
        lines.append(_line(step.title, step.recipe, came, own, at, [*thresholds, None][number]))
        came = came & (own.confidence < at)
    report = {
        "n": max(model.report["n"] for model in models),
        "uncovered": models[-1].report.get("uncovered", []),
        "cascade": lines,
        "then": None if last is None else asdict(last),
        "rungs": {step.title: model.report for step, model in zip(steps, models, strict=True)},
    }
    return CascadeModel(levels, last, training.oracle() if last and training.oracle else None, report)


def save(model: CascadeModel, folder: Path) -> None:
    """Write the head, and each rung into a folder of its own."""
    for number, level in enumerate(model.levels):
        own = folder / f"rung{number}"
        own.mkdir(parents=True, exist_ok=True)
        ladder.rung(level.recipe).save(level.predictor, own)
    rungs = [{key: getattr(level, key) for key in ("name", "recipe", "below", "power")} for level in model.levels]
    last = None if model.last is None else asdict(model.last)
    canonical.write_json(folder / HEAD, {"format": FORMAT, "rungs": rungs, "last": last})


def load(folder: Path, schema: dict[str, Any], oracle: ladder.Oracle | None = None) -> CascadeModel:
    """What was saved, with the role's oracle at the end where it was trained so. ArtifactError for another format."""
    try:
        head = canonical.read_json(folder / HEAD)
        if head["format"] != FORMAT:
            raise ArtifactError(
                f"{folder}: format {head['format']!r}, expected {FORMAT!r}", cure="train again with this release"
            )
        last = Last(**head["last"]) if head["last"] else None
        found = [(one["name"], one["recipe"], float(one["below"]), float(one["power"])) for one in head["rungs"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{folder}: no readable checkpoint of recipe cascade ({type(error).__name__}: {error})",
            cure="restore the folder from the registry or train again",
        ) from error
    levels = [
        Level(name, recipe, ladder.load_rung(recipe, folder / f"rung{number}", schema), below, power)
        for number, (name, recipe, below, power) in enumerate(found)
    ]
    return CascadeModel(levels, last, oracle() if last and oracle else None)


def _oracle(training: Training, settings: Cascade, own: Tried) -> tuple[Last | None, Mask]:
    """The threshold under which the oracle takes over from the last rung, and which rows are right then: the most
    accurate one on rows whose label is not the oracle's own. None where it is not asked for, or nothing says that it
    would help."""
    from slm_assets.gates.metrics import score

    if settings.then == "none":
        return None, own.right
    engine = training.oracle() if training.oracle else None
    if engine is None:
        raise BadInputError(
            "model.hyperparams.cascade.then: oracle, but the role has none that can run here",
            cure="give the role a deterministic_oracle of kind rules or python, or say then: none",
        )
    rows = np.flatnonzero(np.asarray(training.independent, dtype=np.bool_))
    if len(rows) < FEW:
        return None, own.right
    answers = engine.predict_many([training.validation[i][0] for i in rows.tolist()])
    usable = np.array([one.valid for one in answers])
    theirs = score([one.output for one in answers], [training.validation[i][1] for i in rows.tolist()])
    sure, ours = own.confidence[rows], own.right[rows]
    best, at = int(ours.sum()), 0.0
    for threshold in np.unique(sure):
        hits = int(np.where((sure <= threshold) & usable, theirs, ours).sum())
        if hits > best:
            best, at = hits, float(np.nextafter(threshold, 1.0))
    handed = (sure < at) & usable
    tail = own.right.copy()
    tail[rows[handed]] = theirs[handed]
    told = round(float((theirs[handed].sum() + 1) / (handed.sum() + 2)), 6)
    return (Last(at, told) if at else None), tail


def _line(name: str, recipe: str, came: Mask, own: Tried, below: float, threshold: Threshold | None) -> dict[str, Any]:
    """What a rung answers on the validation rows: of those that come as far as it, its share of all and how right."""
    answered = came & (own.confidence >= below) if below < NEVER else np.zeros_like(came)
    n = int(answered.sum())
    chosen = {} if threshold is None else asdict(threshold)
    return {
        "rung": name,
        "recipe": recipe,
        "answers": n,
        "share": round(n / len(came), 6),
        "accuracy": round(float(own.right[answered].mean()), 6) if n else None,
        "alone": round(float(own.right.mean()), 6),
        "threshold": chosen or None,
    }


def _part(
    tell: Callable[[float, str], None] | None, number: int, count: int, name: str
) -> Callable[[float, str], None] | None:
    if tell is None:
        return None
    return lambda share, what: tell((number + share) / count, f"{name}: {what}")
