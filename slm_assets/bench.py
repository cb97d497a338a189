"""Benchmarks are domains: the same stages on given data, cross-validated on train, or once on test.

A benchmark is a folder of `benchmarks/` with an slm.config.yaml whose rows are `data/train.jsonl` and the
test file, and `published.json`: metric → {"value", "source"}. The data itself stays outside of the
project: a folder from --data or $SLM_BENCH_DATA/<name>.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

from slm_assets import canonical
from slm_assets.domain.loading import CONFIG_NAME, Domain, load_domain
from slm_assets.engines.in_process import make_cell
from slm_assets.errors import BadInputError, SlmError
from slm_assets.gates.metrics import values_at
from slm_assets.gates.spans import span_counts, span_f1
from slm_assets.models.base import Prediction, forget
from slm_assets.models.chain import answer_turn
from slm_assets.models.ladder import RUNGS
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Plan, Registry
from slm_assets.stages.clean_process import load_engines
from slm_assets.stages.plans import open_version, output_of, registry_for
from slm_assets.stages.rows.fields import RowShape

FOLDS = 5
LOOKS = "looks.jsonl"
CHAIN = ("dataset", "label", "finetune", "evaluate")


def run_benchmark(
    name: str,
    *,
    final: bool = False,
    data: Path | None = None,
    predictions: Path | None = None,
    permute_labels: bool = False,
    recipe: str | None = None,
    root: Path | None = None,
) -> dict[str, Any]:
    """Measure one benchmark; returns what `slm bench --json` prints.

    Without `final`: grouped cross-validation of the train file, mean over folds with spread. With it the
    test file is scored and the look is appended to benchmarks/looks.jsonl. `recipe` in place of the
    config's, as `_set_recipe` takes it. BadInputError where the benchmark or its data is missing.
    """
    folder, source = places(name, data, root)
    if predictions is not None and not final:
        raise BadInputError("--predictions needs --final: cross-validation scores no test row")
    published: dict[str, Any] = canonical.read_json(folder / "published.json")
    with laid_out(folder, source, recipe) as laid:
        if permute_labels:
            _permute(laid)
        if final:
            result = _final(laid, published, predictions) | {"recipe": named(laid, recipe)}
            _count_look(folder.parent / LOOKS, result, permuted=permute_labels)
        else:
            result = _cross_validated(laid, published) | {"recipe": named(laid, recipe)}
    return {**result, "permuted_labels": permute_labels}


def named(laid: Path, recipe: str | None) -> str:
    """The recipe as a result names it: as it was asked for, else the config's."""
    return recipe or load_domain(laid).config.model.recipe


def places(name: str, data: Path | None, root: Path | None) -> tuple[Path, Path]:
    """The folder of a benchmark, and that of its data. BadInputError where one is missing."""
    folder = (root or Path(os.environ.get("SLM_BENCHMARKS", "benchmarks"))) / name
    if not (folder / "slm.config.yaml").is_file():
        raise BadInputError(f"no benchmark {name!r} in {folder.parent}", cure="see the folders of benchmarks/")
    source = data or Path(os.environ.get("SLM_BENCH_DATA", "")) / name
    if not (source / "train.jsonl").is_file():
        raise BadInputError(
            f"the data of benchmark {name} is not here: no train.jsonl in {source}",
            cure="set SLM_BENCH_DATA to the folder of benchmark data, or give --data DIR",
        )
    return folder, source


# One run of the stages ------------------------------------------------------------------------------


def run_stages(
    laid: Path, train_fraction: float = 1.0
) -> tuple[Domain, Registry, Plan, dict[str, Any], dict[str, float]]:
    """Run the chain on a laid-out domain in a home of its own; returns the report and what was measured."""
    home = replace(Home.from_env(laid.parent / f"home-{laid.name}"), domains=laid.parent)
    home = replace(home, registry_url=f"sqlite:///{home.root / 'registry.db'}", artifacts_url=str(home.root / "store"))
    domain = load_domain(laid)
    registry = registry_for(home, domain.config)
    params = {"train_fraction": train_fraction}
    plan = open_version(domain, registry, params=params, actor="bench", reason="benchmark")
    measured: dict[str, float] = {}
    for stage in CHAIN:
        outcome = make_cell(registry, plan, stage, actor="bench")
        if outcome.receipt.status != "succeeded":
            raise SlmError(f"benchmark {domain.name}, {stage}: {outcome.receipt.error}")
        measured |= outcome.receipt.result.measured
    with tempfile.TemporaryDirectory() as scratch:
        registry.store.get(output_of(registry, plan, "evaluate"), Path(scratch) / "eval")
        report = canonical.read_json(Path(scratch) / "eval" / "report.json")
    return domain, registry, plan, report, measured


def metrics_of(domain: Domain, report: dict[str, Any], published: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The configured metrics end to end, each role's validity and exact frame, and the whole turn."""
    targets = {m.id: m.target for m in domain.config.eval.metrics if m.target is not None}
    by_bound = {v["metric"]: v["verdict"] for v in report["details"] if v["gate"] == "target"}
    baseline = {
        (m["role"], m["metric"]): m["value"] for m in report["metrics"] if m["subject"] == "majority" and not m["slice"]
    }
    configured = {m.id for m in domain.config.eval.metrics if m.path is not None and m.kind == "match"}
    found = {}
    for m in report["metrics"]:
        if m["subject"] != "challenger" or m["slice"] or m["mode"] != "end_to_end":
            continue
        name = m["metric"]
        if name in ("exact", "output_validity"):
            name = f"{m['role']}_{'schema_validity' if name == 'output_validity' else name}"
        elif name not in configured and name != "turn_exact":
            continue
        known = published.get(name, {})
        found[name] = {
            "value": m["value"],
            "low": m["low"],
            "high": m["high"],
            "n": m["n"],
            "published": known.get("value"),
            "majority": baseline.get((m["role"], m["metric"])),
            "target": targets.get(m["metric"]),
            "by_point": _by_point(m["value"], targets.get(m["metric"])),
            "by_bound": by_bound.get(m["metric"]),
        }
    return found


def _by_point(value: float | None, target: float | None) -> str | None:
    if target is None or value is None:
        return None
    return "PASS" if value >= target else "FAIL"


def _final(laid: Path, published: dict[str, Any], predictions: Path | None) -> dict[str, Any]:
    domain, registry, plan, report, measured = run_stages(laid)
    rows, latencies = predict_eval(domain, registry, plan)
    if predictions is not None:
        canonical.write_jsonl(
            predictions,
            (
                {"id": row["id"], "output": {r: a.output for r, a in answers.items()}, "latency_ms": round(ms, 4)}
                for (row, answers), ms in zip(rows, latencies, strict=True)
            ),
        )
    return {
        "benchmark": domain.name,
        "protocol": "final: trained on train, scored on test",
        "n_train": train_rows(registry, plan),
        "n_test": report["n"],
        "metrics": metrics_of(domain, report, published) | span_metrics_of(domain, laid, rows, published),
        "train_seconds": measured["train_seconds"],
        "latency_ms": {"p50": quantile(latencies, 0.5), "p95": quantile(latencies, 0.95)},
        "checkpoint_bytes": int(measured["checkpoint_bytes"]),
    }


Answered = list[tuple[dict[str, Any], dict[str, Prediction]]]
"""Rows of the dataset, each with its answers."""


def predict_eval(domain: Domain, registry: Registry, plan: Plan) -> tuple[Answered, list[float]]:
    """Every test turn through the trained model, one by one and warm: (row, answers before repair), ms."""
    with tempfile.TemporaryDirectory() as scratch:
        registry.store.get(output_of(registry, plan, "finetune"), Path(scratch) / "model")
        registry.store.get(output_of(registry, plan, "dataset"), Path(scratch) / "dataset")
        engines = load_engines(domain, Path(scratch) / "model")
        rows = list(canonical.read_jsonl(Path(scratch) / "dataset" / "eval.jsonl"))
    for row in rows[:20]:
        answer_turn(domain.config.roles, engines, row["input"])
    answered, latencies = [], []
    for row in rows:
        forget(engines.values())
        started = time.perf_counter()
        answers = answer_turn(domain.config.roles, engines, row["input"])
        latencies.append((time.perf_counter() - started) * 1e3)
        answered.append((row, answers))
    return answered, latencies


def span_metrics_of(
    domain: Domain, laid: Path, answered: Answered, published: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """The metrics of kind span_f1: where the values were read from, against the test file's `fields.spans`."""
    config = domain.config
    wanted = [m for m in config.eval.metrics if m.kind == "span_f1" and m.path is not None]
    if not wanted:
        return {}
    shape = RowShape(config.data.fields, [])
    given = {canonical.dumps(shape.take(row).input): row for row in canonical.read_jsonl(laid / test_file(domain))}
    found = {}
    for m in wanted:
        role = m.role or config.roles[0].id
        place = config.data.fields.spans.get(role)
        if place is None:
            raise BadInputError(
                f"metric {m.id}: no reference spans for role {role}",
                cure=f"name their place as data.fields.spans.{role}",
            )
        counts = []
        for row, answers in answered:
            reference = values_at(given[canonical.dumps(row["input"])], place, [])
            counts.append(
                span_counts(_pieces(answers[role], str(m.path)), [(name, i, j) for name, i, j in reference or []])
            )
        score = span_f1(counts, [row["group"] for row, _ in answered])
        found[m.id] = {
            "value": round(score.value, 6),
            "low": round(score.low, 6),
            "high": round(score.high, 6),
            "n": score.n,
            "published": published.get(m.id, {}).get("value"),
            "majority": None,
            "target": m.target,
            "by_point": _by_point(score.value, m.target),
            "by_bound": None,
        }
    return found


def _pieces(answer: Prediction, path: str) -> list[tuple[str, int, int]]:
    """The pieces that the values under a place were read from, named by their way from there (indices aside)."""
    out = []
    for span in answer.spans:
        if span.output_path.startswith(f"{path}/"):
            steps = span.output_path[len(path) + 1 :].split("/")
            out.append(("/".join(step for step in steps if not step.isdecimal()), span.start, span.end))
    return out


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 4)


def train_rows(registry: Registry, plan: Plan) -> int:
    cell = registry.cell(plan.domain, plan.number, "finetune")
    assert cell is not None
    return int(cell["receipt"]["result"]["rows"]["model"])


# Cross-validation -----------------------------------------------------------------------------------


def _cross_validated(laid: Path, published: dict[str, Any]) -> dict[str, Any]:
    domain = load_domain(laid)
    rows = list(canonical.read_jsonl(laid / "data" / "train.jsonl"))
    test = test_file(domain)
    folds = [fold_of(domain, row, index) for index, row in enumerate(rows)]
    runs = []
    for fold in range(FOLDS):
        part = laid.parent / f"fold{fold}" / laid.name
        shutil.copytree(laid, part)
        canonical.write_jsonl(part / "data" / "train.jsonl", (r for r, f in zip(rows, folds, strict=True) if f != fold))
        canonical.write_jsonl(part / test, (r for r, f in zip(rows, folds, strict=True) if f == fold))
        domain, registry, plan, report, measured = run_stages(part)
        answered, latencies = predict_eval(domain, registry, plan)
        scores = metrics_of(domain, report, published) | span_metrics_of(domain, part, answered, published)
        runs.append((scores, measured, train_rows(registry, plan), report["n"], latencies))
    latencies = [ms for run in runs for ms in run[4]]
    return {
        "benchmark": domain.name,
        "protocol": f"{FOLDS}-fold cross-validation of train, grouped; low and high are mean ± one standard deviation",
        "n_train": round(mean(run[2] for run in runs)),
        "n_test": sum(run[3] for run in runs),
        "metrics": {name: _over_folds([run[0][name] for run in runs]) for name in runs[0][0]},
        "train_seconds": round(mean(run[1]["train_seconds"] for run in runs), 3),
        "latency_ms": {"p50": quantile(latencies, 0.5), "p95": quantile(latencies, 0.95)},
        "checkpoint_bytes": round(mean(run[1]["checkpoint_bytes"] for run in runs)),
    }


def _over_folds(values: list[dict[str, Any]]) -> dict[str, Any]:
    scores = [v["value"] for v in values]
    middle, spread = mean(scores), stdev(scores)
    baselines = [v["majority"] for v in values if v["majority"] is not None]
    return {
        **values[0],
        "value": round(middle, 6),
        "low": round(middle - spread, 6),
        "high": round(middle + spread, 6),
        "n": sum(v["n"] for v in values),
        "majority": round(mean(baselines), 6) if baselines else None,
        "by_point": _by_point(middle, values[0]["target"]),
        "by_bound": None,
        "folds": scores,
    }


def fold_of(domain: Domain, row: Any, index: int) -> int:
    """A row's fold: by its group keys where it has any, so that a phrasing is never on both sides."""
    keys = [values_at(row, pointer) for pointer in domain.config.data.split.group_by]
    key = canonical.text(keys) if any(k is not None for k in keys) else f"row {index}"
    return int(canonical.digest_bytes(key.encode())[:8], 16) % FOLDS


# Laying out -----------------------------------------------------------------------------------------


@contextmanager
def laid_out(folder: Path, source: Path, recipe: str | None = None) -> Iterator[Path]:
    """The benchmark as a domain folder with its data inside, in a temporary place; of another recipe where asked."""
    with tempfile.TemporaryDirectory(prefix="slm-bench-") as scratch:
        laid = Path(scratch) / folder.name
        shutil.copytree(folder, laid)
        shutil.copytree(source, laid / "data")
        if recipe is not None:
            _set_recipe(laid / CONFIG_NAME, recipe)
        yield laid


def _set_recipe(path: Path, written: str) -> None:
    """Change a config to `recipe`, or `recipe:key=value,…` with hyperparameters that replace or join its own."""
    recipe, _, changes = written.partition(":")
    if recipe not in RUNGS:
        raise BadInputError(f"no rung {recipe!r} to measure", cure=f"choose one of: {', '.join(RUNGS)}")
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    model = document["slm_domain"].setdefault("model", {})
    given = model.get("hyperparams") or {}
    pairs = [change.partition("=") for change in changes.split(",") if change]
    if (pairs and not isinstance(given, dict)) or any(not key or not sign for key, sign, _ in pairs):
        raise BadInputError(
            f"--recipe {written!r}: the hyperparameters cannot be set so",
            cure="write recipe:key=value,key=value, on a benchmark that has its hyperparameters in its config",
        )
    model["recipe"] = recipe
    if pairs:
        model["hyperparams"] = given | {key: yaml.safe_load(value) for key, _, value in pairs}
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def test_file(domain: Domain) -> str:
    holdout = domain.config.eval.eval_sets.holdout
    if not isinstance(holdout, str):
        raise BadInputError(f"benchmark {domain.name}: eval.eval_sets.holdout must name the one test file")
    return holdout


def _permute(laid: Path) -> None:
    """Shuffle the labels among the train rows (seeded): what is learned then is nothing."""
    pointers = sorted(set(_pointers(load_domain(laid).config.data.fields.labels)))
    rows = list(canonical.read_jsonl(laid / "data" / "train.jsonl"))
    order = list(range(len(rows)))
    random.Random(0).shuffle(order)  # noqa: S311 - a permutation, not a secret
    taken = [[values_at(rows[i], pointer) for pointer in pointers] for i in order]
    for row, values in zip(rows, taken, strict=True):
        for pointer, value in zip(pointers, values, strict=True):
            *parents, last = pointer.split("/")[1:]
            place = row
            for step in parents:
                place = place[step]
            place[last] = value
    canonical.write_jsonl(laid / "data" / "train.jsonl", rows)


def _pointers(spec: Any) -> Iterator[str]:
    if isinstance(spec, str) and spec.startswith("/"):
        yield spec
    elif isinstance(spec, dict):
        for value in spec.values():
            yield from _pointers(value)


def _count_look(looks: Path, result: dict[str, Any], *, permuted: bool) -> None:
    """Append the look at the test file: date, commit and numbers."""
    line = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": _commit(looks.parent),
        "permuted_labels": permuted,
        **{key: result[key] for key in ("benchmark", "recipe", "n_train", "n_test", "train_seconds", "latency_ms")},
        "metrics": {name: m["value"] for name, m in result["metrics"].items()},
    }
    before = looks.read_bytes() if looks.is_file() else b""
    canonical.write_bytes(looks, before + canonical.dumps(line) + b"\n")


def _commit(folder: Path) -> str:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed command
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = git("rev-parse", "--short=12", "HEAD")
    return f"{commit}-dirty" if commit and git("status", "--porcelain", "--", ":!*/looks.jsonl") else commit or "none"
