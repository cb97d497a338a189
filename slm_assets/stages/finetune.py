"""Train a challenger for every role from the labels, and prove that it loads on its own."""

from __future__ import annotations

import shutil
from typing import Any

from slm_assets import canonical
from slm_assets.models import ladder
from slm_assets.models.chain import answer_turn
from slm_assets.stages.clean_process import answers_in_clean_process, load_engines
from slm_assets.stages.contract import StageResult, Verdict
from slm_assets.stages.rows_io import labelled_rows
from slm_assets.stages.runtime import StageContext
from slm_assets.stages.train_role import REPORT, Job, train_roles

PROBES = 20
STATE = "training"
"""Beside the stage's scratch, which a run that was killed loses: where a language model goes on from."""
INCUMBENT = "incumbent_"


def run(ctx: StageContext) -> StageResult:
    """Output `model`: the checkpoint of all roles and training.json, the report per role."""
    recipe, out = ctx.domain.config.model.recipe, ctx.out["model"]
    config = ctx.scratch / "config"
    ctx.registry.store.get(ctx.request.config, config)
    dataset, labels = ctx.inputs["dataset"], ctx.inputs["labels"]
    serving = {name.removeprefix(INCUMBENT): path for name, path in ctx.inputs.items() if name.startswith(INCUMBENT)}
    state = ctx.scratch.parent / STATE
    job = Job(config, dataset, labels, out, int(ctx.request.params["seed"]), state, serving)
    trained = train_roles(ctx.domain, job, ctx.progress)
    shutil.rmtree(state, ignore_errors=True)
    rungs = {role: own["rung"] for role, own in trained.items()}
    ladder.seal(out, rungs)
    reports = {role: own["report"] for role, own in trained.items()}
    canonical.write_json(out / REPORT, reports)
    loads, measured = _loads(ctx, config)
    seconds = {f"train_seconds_{role}": own["train_seconds"] for role, own in trained.items()}
    more = {f"{role}.{name}": value for role, own in trained.items() for name, value in own["measured"].items()}
    rows = max(report["n"] for report in reports.values())
    return StageResult(
        rows={"model": rows},
        verdicts=[loads],
        summary={"recipe": recipe, "rung": rungs, "train_rows": rows, "training": reports},
        measured={
            **seconds,
            **measured,
            **more,
            "train_seconds": round(sum(seconds.values()), 3),
            "checkpoint_bytes": float(sum(p.stat().st_size for p in out.rglob("*") if p.is_file())),
        },
    )


def _loads(ctx: StageContext, config: Any) -> tuple[Verdict, dict[str, float]]:
    """The checkpoint answers the probes in a clean process as it does here."""
    rows = labelled_rows(ctx.inputs["dataset"], ctx.inputs["labels"], "train")
    turns = [row.turn for row, _ in zip(rows, range(PROBES), strict=False)]
    probes = ctx.scratch / "probes.jsonl"
    canonical.write_jsonl(probes, turns)
    clean = answers_in_clean_process(config, ctx.out["model"], probes, ctx.scratch / "clean")
    engines = load_engines(ctx.domain, ctx.out["model"])
    here = [{r: p.output for r, p in answer_turn(ctx.domain.config.roles, engines, t).items()} for t in turns]
    differing = sum(canonical.dumps(a) != canonical.dumps(b) for a, b in zip(here, clean.outputs, strict=True))
    imported = [] if ladder.has_language_model(ctx.out["model"]) else clean.imported
    passed = differing == 0 and not imported
    without = " without any training library" if not clean.imported else ""
    reason = f"loads in a clean process{without} and answers {len(turns)} probes alike"
    if not passed:
        reason = f"{differing} of {len(turns)} probes answered otherwise; imported {imported}"
    verdict = Verdict(
        gate="loads", role="", verdict="PASS" if passed else "FAIL", value=float(differing), threshold=0.0,
        n=len(turns), reason=reason,
    )  # fmt: skip
    return verdict, {"load_seconds": clean.load_seconds}
