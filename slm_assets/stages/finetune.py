"""Train a challenger for every role from the labels, and prove that it loads on its own."""

from __future__ import annotations

import time
from typing import Any

from slm_assets import canonical
from slm_assets.domain.config import Role
from slm_assets.domain.turns import role_input
from slm_assets.errors import BadInputError
from slm_assets.models import ladder
from slm_assets.models.chain import answer_turn
from slm_assets.stages.clean_process import answers_in_clean_process
from slm_assets.stages.contract import StageResult, Verdict
from slm_assets.stages.rows_io import LabelledRow, labelled_rows
from slm_assets.stages.runtime import StageContext

PROBES = 20


def run(ctx: StageContext) -> StageResult:
    """Output `model`: the checkpoint of all roles and training.json, the report per role."""
    config = ctx.domain.config
    train = list(labelled_rows(ctx.inputs["dataset"], ctx.inputs["labels"], "train"))
    validation = list(labelled_rows(ctx.inputs["dataset"], ctx.inputs["labels"], "validation"))
    models: dict[str, ladder.TrainedModel] = {}
    seconds: dict[str, float] = {}
    for index, role in enumerate(config.roles):
        share, width = index / len(config.roles), 1 / len(config.roles)
        started = time.perf_counter()
        own = [row for row in train if role.id in row.labels]
        if not own:
            raise BadInputError(
                f"domain {ctx.domain.name}: no train row has a label for role {role.id}",
                cure="give rows a gold label for it, or the role an oracle that answers them",
            )
        models[role.id] = ladder.train(
            config.model.recipe,
            _pairs(role, own),
            ctx.domain.output_schema(role.id),
            validation=_pairs(role, [row for row in validation if role.id in row.labels]),
            groups=[row.group for row in own],
            hyperparams=ctx.domain.hyperparams(),
            seed=int(ctx.request.params["seed"]),
            progress=lambda done, note, at=share, width=width, name=role.id: ctx.progress(  # type: ignore[misc]
                at + width * done, f"{name}: {note}"
            ),
        )
        seconds[f"train_seconds_{role.id}"] = round(time.perf_counter() - started, 3)
    out = ctx.out["model"]
    ladder.save(out, config.model.recipe, models)
    reports = {role: model.report for role, model in models.items()}
    canonical.write_json(out / "training.json", reports)
    loads, measured = _loads(ctx, models, [row.turn for row in (validation or train)[:PROBES]])
    return StageResult(
        rows={"model": len(train)},
        verdicts=[loads],
        summary={"recipe": config.model.recipe, "train_rows": len(train), "training": reports},
        measured={
            **seconds,
            **measured,
            "train_seconds": round(sum(seconds.values()), 3),
            "checkpoint_bytes": float(sum(p.stat().st_size for p in out.rglob("*") if p.is_file())),
        },
    )


def _pairs(role: Role, rows: list[LabelledRow]) -> list[tuple[Any, Any]]:
    return [(role_input(role, row.turn, row.labels), row.labels[role.id]) for row in rows]


def _loads(
    ctx: StageContext, models: dict[str, ladder.TrainedModel], turns: list[Any]
) -> tuple[Verdict, dict[str, float]]:
    """The checkpoint answers the probes in a clean process as it does here."""
    probes = ctx.scratch / "probes.jsonl"
    canonical.write_jsonl(probes, turns)
    config = ctx.scratch / "config"
    ctx.registry.store.get(ctx.request.config, config)
    clean = answers_in_clean_process(config, ctx.out["model"], probes, ctx.scratch / "clean")
    roles = ctx.domain.config.roles
    here = [{r: p.output for r, p in answer_turn(roles, models, turn).items()} for turn in turns]
    differing = sum(canonical.dumps(a) != canonical.dumps(b) for a, b in zip(here, clean.outputs, strict=True))
    passed = differing == 0 and not clean.imported
    reason = f"answers {len(turns)} probes in a clean process as in training"
    if not passed:
        reason = f"{differing} of {len(turns)} probes answered otherwise; imported {clean.imported}"
    verdict = Verdict(
        gate="loads", role="", verdict="PASS" if passed else "FAIL", value=float(differing), threshold=0.0,
        n=len(turns), reason=reason,
    )  # fmt: skip
    return verdict, {"load_seconds": clean.load_seconds}
