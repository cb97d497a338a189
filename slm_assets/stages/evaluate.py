"""Judge a challenger: the same frozen rows for everybody, numbers with intervals, and the gates' verdicts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from slm_assets import canonical
from slm_assets.errors import BadInputError
from slm_assets.gates import metrics as scoring
from slm_assets.gates.types import MetricValue
from slm_assets.stages.contract import StageResult
from slm_assets.stages.evaluation.asking import Asking, open_asking, workers_for
from slm_assets.stages.evaluation.ceiling import gap_table, measure_above
from slm_assets.stages.evaluation.common import in_common
from slm_assets.stages.evaluation.judge import Judgement, judge
from slm_assets.stages.evaluation.latency import Timing, measure
from slm_assets.stages.evaluation.numbers import Columns, calibration, class_columns, numbers
from slm_assets.stages.evaluation.rows import EvalRows
from slm_assets.stages.evaluation.rungs import rung_lines, shares
from slm_assets.stages.evaluation.scoring import EXACT, Compared, Scoreboard, outputs_by_row
from slm_assets.stages.evaluation.subjects import Engines, has_oracle
from slm_assets.stages.model_card import gate_table, metric_table, rung_table
from slm_assets.stages.rows_io import labelled_rows
from slm_assets.stages.runtime import StageContext
from slm_assets.stages.watching.profile import make_profile
from slm_assets.stages.watching.reference import PROFILE, SAMPLE


def run(ctx: StageContext) -> StageResult:
    """Output `eval`: report.json, report.md, predictions.jsonl (the challenger, end to end), errors.jsonl,
    and profile.json and sample.jsonl, by which live traffic is judged.

    Latency is measured, so its numbers and verdict are in the receipt and the registry, not in the
    artifact. BadInputError where there is no eval row with a label.
    """
    dataset, labels = ctx.inputs["dataset"], ctx.inputs["labels"]
    roles = [role.id for role in ctx.domain.config.roles]
    # A label that oracle and teacher share says nothing of the oracle, unless the teacher would have won in any case.
    own = {"oracle"} if ctx.domain.config.labels.by_teacher else {"oracle", "agreed", "teacher"}
    rows = EvalRows(roles, lambda: labelled_rows(dataset, labels, "eval"), own)
    if not any(rows.labelled(role).any() for role in roles):
        raise BadInputError(
            f"domain {ctx.domain.name}: no eval row has a label",
            cure="give eval rows gold labels or an oracle",
        )
    ctx.progress(0.05, "loading engines")
    with open_asking(ctx.domain, ctx.inputs, ctx.scratch, workers_for(len(rows))) as asking:
        return _judged(ctx, rows, asking)


def _judged(ctx: StageContext, rows: EvalRows, asking: Asking) -> StageResult:
    config, engines = ctx.domain.config, asking.engines
    common = in_common(ctx.domain, ctx.inputs)
    ctx.progress(0.07, "latency")
    timing = measure(config.roles, rows.sample, engines)  # before they are asked these rows for anything else
    board = Scoreboard(config, rows, asking, ctx.scratch, lambda note: ctx.progress(0.1, note), common)
    classes = {role.id: class_columns(board, role.id, ctx.domain.output_schema(role.id)) for role in config.roles}
    found = [*numbers(board, classes), *shares(board, ctx.inputs["model"])]
    above = measure_above(ctx, board)
    if above:
        found = [*found, *above.metrics]
    ctx.progress(0.7, "gates")
    judgement = judge(board, ctx, timing)
    report = _report(ctx, board, classes, found, judgement)
    if above:
        report |= {"above": above.gap, "above_asked": above.asked}
    _write(ctx, board, report)
    profile, sample = make_profile(ctx.domain, ctx.inputs["dataset"], ctx.inputs["labels"], board, classes)
    canonical.write_json(ctx.out["eval"] / PROFILE, profile)
    canonical.write_jsonl(ctx.out["eval"] / SAMPLE, sample)
    timed = _timing_metrics(board, timing)
    return StageResult(
        rows={"eval": len(rows)},
        metrics=[*found, *timed],
        verdicts=judgement.gates,
        roles=judgement.outcomes,
        summary=_summary(report, engines) | ({"above": above.gap, "teachers": above.told} if above else {}),
        measured=_measured(timing) | (above.measured if above else {}),
    )


def _report(
    ctx: StageContext,
    board: Scoreboard,
    classes: dict[str, Columns],
    found: list[MetricValue],
    judgement: Judgement,
) -> dict[str, Any]:
    training = canonical.read_json(ctx.inputs["model"] / "training.json")
    return {
        "domain": ctx.request.domain,
        "version": ctx.request.version,
        "recipe": ctx.domain.config.model.recipe,
        "epoch": ctx.request.params["epoch"],
        "look": ctx.request.params["look"],
        "n": len(board.rows),
        "groups": board.groups.count,
        "roles": judgement.outcomes,
        "promoted_together": judgement.together,
        "floor": {role.id: "oracle" if has_oracle(ctx.domain, role) else "majority" for role in board.roles},
        "compared_without": {f"{role}: {subject}": list(one.apart) for (role, subject), one in board.common.items()},
        "metrics": [metric.model_dump() for metric in found],
        "gates": [v.model_dump() for v in judgement.gates if v.gate != "latency"],
        "details": [v.model_dump() for v in judgement.details if v.gate != "latency"],
        "confusion": {
            role: {place: scoring.confusion(*pair) for place, pair in own.items()} for role, own in classes.items()
        },
        "calibration": {role.id: calibration(board, role.id) for role in board.roles},
        "rungs": rung_lines(board, ctx.inputs["model"], found, judgement.outcomes, judgement.gates),
        "uncovered": {role: report.get("uncovered", []) for role, report in training.items()},
    }


def _write(ctx: StageContext, board: Scoreboard, report: dict[str, Any]) -> None:
    out = ctx.out["eval"]
    answers = outputs_by_row(board, "challenger")
    canonical.write_jsonl(
        out / "predictions.jsonl",
        ({"id": row.id, "outputs": got} for row, got in zip(board.rows, answers, strict=True)),
    )
    canonical.write_jsonl(out / "errors.jsonl", _errors(board))
    canonical.write_json(out / "report.json", report)
    lines = [
        f"# {report['domain']} {report['version']}: evaluation",
        "",
        f"{report['n']} frozen eval turns in {report['groups']} groups, epoch {report['epoch']}, "
        f"look {report['look']}.",
        "",
        *metric_table(report["metrics"]),
        "",
        *(
            f"{who} is of another contract and compared without {', '.join(places)}.\n"
            for who, places in report["compared_without"].items()
        ),
        *gate_table(report["gates"]),
        *gap_table(report.get("above", [])),
        "",
        *rung_table(report["rungs"]),
    ]
    canonical.write_bytes(out / "report.md", ("\n".join(lines) + "\n").encode())


def _errors(board: Scoreboard) -> Iterator[dict[str, Any]]:
    """Every row and role that the challenger got wrong, with the label and what the floor said."""
    exact = Compared(EXACT, "")
    for role in board.roles:
        answers = board.answers(role.id, board.all_of("challenger"))
        floor = board.answers(role.id, board.all_of("floor"))
        wrong = ~answers.right[exact.place] & board.labelled(role.id)
        columns = (wrong.tolist(), answers.confidence.tolist(), answers, floor)
        for row, is_wrong, confidence, ours, theirs in zip(board.rows, *columns, strict=True):
            if is_wrong:
                yield {
                    "id": row.id,
                    "role": role.id,
                    "turn": row.turn,
                    "label": row.labels[role.id],
                    "challenger": ours,
                    "floor": theirs,
                    "confidence": round(confidence, 6),
                }


def _summary(report: dict[str, Any], engines: Engines) -> dict[str, Any]:
    keys = ("n", "groups", "epoch", "look", "recipe", "roles", "promoted_together", "floor", "calibration", "rungs")
    return {key: report[key] for key in keys} | {"subjects": {r: sorted(own) for r, own in engines.items()}}


def _timing_metrics(board: Scoreboard, timing: Timing) -> list[MetricValue]:
    found = []
    for subject, own in (("challenger", timing.challenger), ("incumbent", timing.incumbent)):
        for role in board.roles:
            for name, share in (("latency_p50_ms", 0.5), ("latency_p95_ms", 0.95)):
                found.append(_quantile(own[role.id], share, role=role.id, subject=subject, metric=name))
    for name, share in (("latency_p50_ms", 0.5), ("latency_p95_ms", 0.95)):
        found.append(_quantile(timing.turn, share, subject="challenger", metric=name))
    return found


def _quantile(times: Any, share: float, **names: Any) -> MetricValue:
    """A quantile with its distribution-free interval from order statistics (binomial, normal form)."""
    ordered, n = np.sort(times), len(times)
    half = 1.96 * math.sqrt(n * share * (1 - share))
    low, high = max(0, math.floor(n * share - half)), min(n - 1, math.ceil(n * share + half))
    value, bottom, top = (round(float(x), 4) for x in (np.quantile(ordered, share), ordered[low], ordered[high]))
    return MetricValue(value=value, low=bottom, high=top, n=n, **names)


def _measured(timing: Timing) -> dict[str, float]:
    p50, p95 = (round(float(np.quantile(timing.turn, q)), 4) for q in (0.5, 0.95))
    return {
        "latency_p50_ms": p50,
        "latency_p95_ms": p95,
        **{f"{role}.eval.latency_mean_ms": round(float(own.mean()), 4) for role, own in timing.challenger.items()},
    }
