"""What more labels would buy: scores with intervals over the amount of labels, for each rung that is asked for."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from slm_assets import canonical
from slm_assets.bench import (
    fold_of,
    laid_out,
    metrics_of,
    named,
    places,
    predict_eval,
    run_stages,
    span_metrics_of,
    test_file,
    train_rows,
)
from slm_assets.domain.loading import load_domain

SHARES: Final = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
_SHOWN: Final = ("value", "low", "high", "n")


def learning_curve(
    name: str,
    *,
    recipes: Sequence[str] = (),
    data: Path | None = None,
    root: Path | None = None,
    tell: Callable[[dict[str, Any]], None] = lambda point: None,
) -> dict[str, Any]:
    """Train each recipe (default: the config's) on growing shares of four fifths of the train rows, and score the
    fifth that is left; returns what `slm bench --curve --json` prints.

    A share holds every smaller one. The test file is not read. `tell` hears of each point. BadInputError where the
    benchmark or its data is missing, or a recipe is none.
    """
    folder, source = places(name, data, root)
    points = []
    chosen: Sequence[str | None] = recipes or [None]
    for recipe in chosen:
        with laid_out(folder, source, recipe) as laid:
            _hold_out(laid)
            for share in SHARES:
                part = laid.parent / f"share{share}" / laid.name
                shutil.copytree(laid, part)
                points.append({"recipe": named(laid, recipe), "share": share, **_point(part, share)})
                tell(points[-1])
    return {
        "benchmark": name,
        "protocol": "nested shares of four fifths of train, scored on the fifth; grouped; intervals are 95 %",
        "points": points,
    }


def _hold_out(laid: Path) -> None:
    """Score one fold of the train rows in place of the test file, and train on the rest."""
    domain = load_domain(laid)
    rows = list(canonical.read_jsonl(laid / "data" / "train.jsonl"))
    held = [fold_of(domain, row, index) == 0 for index, row in enumerate(rows)]
    canonical.write_jsonl(laid / test_file(domain), (row for row, out in zip(rows, held, strict=True) if out))
    canonical.write_jsonl(laid / "data" / "train.jsonl", (row for row, out in zip(rows, held, strict=True) if not out))


def _point(part: Path, share: float) -> dict[str, Any]:
    domain, registry, plan, report, measured = run_stages(part, share)
    metrics = metrics_of(domain, report, {})
    if any(m.kind == "span_f1" for m in domain.config.eval.metrics):
        answered, _ = predict_eval(domain, registry, plan)
        metrics |= span_metrics_of(domain, part, answered, {})
    return {
        "n_train": train_rows(registry, plan),
        "train_seconds": round(measured["train_seconds"], 3),
        "metrics": {name: {key: m[key] for key in _SHOWN} for name, m in metrics.items()},
    }
