"""The rungs in the eval report: those that a climb tried, what the challenger became, who answers in a cascade.

Only what is equal on every machine: seconds, milliseconds and money are in the receipts and in the registry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from slm_assets import canonical
from slm_assets.gates.intervals import proportion
from slm_assets.gates.types import MetricValue, Verdict
from slm_assets.models import ladder
from slm_assets.stages.climbing.tried import tried_lines
from slm_assets.stages.evaluation.scoring import EXACT, Compared, Scoreboard
from slm_assets.stages.train_role import REPORT

SHARE, RIGHT = "share:", "exact:"
"""Metrics of a rung of a cascade: the share of all rows that it answers, and how many of these are exactly right."""

Line = dict[str, Any]


def rung_lines(
    board: Scoreboard, model: Path, found: Sequence[MetricValue], outcomes: Mapping[str, str], gates: Sequence[Verdict]
) -> list[Line]:
    """A line per role and rung: those tried, on the validation part, then the floor and what is judged, on the eval
    rows. Latency decides too, but its number is not in the artifact."""
    reports = canonical.read_json(model / REPORT)
    recipes = canonical.read_json(model / ladder.CHECKPOINT)["roles"]
    lines: list[Line] = []
    for role in board.roles:
        climb = reports[role.id].get("climb")
        lines += tried_lines(role.id, climb)
        kept = climb["chosen"] if climb else recipes[role.id]
        metrics = {metric.id for metric in board.compared(role.id)}
        for subject, name in (("floor", "floor"), ("challenger", kept)):
            own = [m for m in found if _is_of(m, role.id, subject) and m.metric in metrics]
            shown = [{"metric": m.metric, "value": m.value, "low": m.low, "high": m.high} for m in own]
            line = {"role": role.id, "rung": name, "on": "eval", "n": max((m.n for m in own), default=0)}
            lines.append(
                {**line, "metrics": shown, "recipe": "", "bytes": None, "kept": False, "verdict": "", "why": ""}
            )
        lines[-1] |= {
            "recipe": recipes[role.id],
            "bytes": sum(p.stat().st_size for p in (model / role.id).rglob("*") if p.is_file()),
            "kept": True,
            "verdict": outcomes[role.id],
            "why": next((f"{g.gate}: {g.reason}" for g in gates if g.role == role.id and _says_no(g)), ""),
        }
    return lines


def shares(board: Scoreboard, model: Path) -> Iterator[MetricValue]:
    """For each rung of each cascade, its share of the labelled rows and how often it is exactly right."""
    reports = canonical.read_json(model / REPORT)
    for role in board.roles:
        answers = board.answers(role.id, board.all_of("challenger"))
        mask = board.labelled(role.id)
        right = board.correct(role.id, board.all_of("challenger"), Compared(EXACT, ""))
        names = [line["rung"] for line in reports[role.id].get("cascade", ())]
        for rung in dict.fromkeys([*names, *sorted(answers.by)]) if answers.by else ():
            own = mask & answers.by[rung] if rung in answers.by else mask & False
            for metric, scores, rows in ((SHARE, own, mask), (RIGHT, right, own)):
                shown = proportion(scores[rows], board.groups_of(rows))
                yield MetricValue(
                    role=role.id, metric=f"{metric}{rung}", mode="end_to_end", n=shown.n,
                    value=shown.value if shown.n else None, low=shown.low if shown.n else None,
                    high=shown.high if shown.n else None,
                )  # fmt: skip


def _is_of(metric: MetricValue, role: str, subject: str) -> bool:
    return (metric.role, metric.subject, metric.slice, metric.mode) == (role, subject, "", "end_to_end")


def _says_no(gate: Verdict) -> bool:
    return gate.blocking and gate.gate != "latency" and gate.verdict in ("FAIL", "INSUFFICIENT")
