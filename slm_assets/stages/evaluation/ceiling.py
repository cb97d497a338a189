"""Teachers on the eval rows: the ceiling above the floor, and the base model as it is without fine-tuning.

They answer end to end, as everybody else. They cost money, so they are asked a bounded sample of the rows, drawn by
hash; challenger and floor are then compared with them on those very rows.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from slm_assets.canonical import Json
from slm_assets.domain.config import Role
from slm_assets.domain.turns import role_input
from slm_assets.gates import metrics as scoring
from slm_assets.gates.types import MetricValue
from slm_assets.models.teacher.asking import Asking, Question
from slm_assets.stages.evaluation.numbers import value_of
from slm_assets.stages.evaluation.rows import Mask
from slm_assets.stages.evaluation.scoring import VALIDITY, Scoreboard
from slm_assets.stages.rows.fields import hash64
from slm_assets.stages.rows_io import LabelledRow
from slm_assets.stages.runtime import StageContext
from slm_assets.stages.teaching import measured_of, open_teacher, teacher_of, told_of

CEILING, BASELINE = "ceiling", "baseline"
BATCH = 250


@dataclass
class Above:
    """`gap`: a line per subject, role and metric for the report. What it cost is for the receipt alone."""

    metrics: list[MetricValue] = field(default_factory=list)
    gap: list[dict[str, Any]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    measured: dict[str, float] = field(default_factory=dict)
    told: list[Json] = field(default_factory=list)


def measure_above(ctx: StageContext, board: Scoreboard) -> Above | None:
    """What the config names as ceiling and baseline, measured; None where it names neither.

    SlmError where a teacher is away; one that the budget stops is measured on the rows that it answered.
    """
    config = ctx.domain.config.eval
    named = {CEILING: config.ceiling, BASELINE: config.baseline}
    teachers = {subject: teacher_of(ctx.domain, name) for subject, name in named.items() if name}
    found = Above()
    for subject, teacher in teachers.items():
        if teacher is None:
            continue
        sample = _sample(board, config.ceiling_rows)
        with open_teacher(ctx, teacher) as asking:
            seen = _Seen(board, sample, asking)
            for done, rows in enumerate(_batches(board, sample)):
                ctx.progress(0.6, f"{subject}: {min(done * BATCH, len(sample)):,} of {len(sample):,} turns")
                seen.ask(rows)
            found.told.append({"subject": subject, **told_of(asking, seen.fresh, seen.likely)})
            found.measured = _added(found.measured, measured_of({teacher.id: asking}), again=_is(found, teacher.id))
        found.asked.append({"subject": subject, "teacher": teacher.id, "rows": len(sample), "of": len(board.rows)})
        for role in board.roles:
            found.metrics += seen.metrics(role, subject)
            found.gap += seen.gap(role, subject)
    return found if found.asked else None


class _Seen:
    """What one teacher answered on the sampled rows: masks over all eval rows."""

    def __init__(self, board: Scoreboard, sample: set[int], asking: Asking) -> None:
        size = len(board.rows)
        self._board, self._sample, self._asking = board, sample, asking
        self._told = {role.id: np.zeros(size, dtype=np.bool_) for role in board.roles}
        self._valid = {role.id: np.zeros(size, dtype=np.bool_) for role in board.roles}
        self._right: dict[tuple[str, str], Mask] = {
            (role.id, metric.id): np.zeros(size, dtype=np.bool_)
            for role in board.roles
            for metric in board.compared(role.id)
        }
        first = board.roles[0]
        questions = [_question(first, row, {}) for batch in _batches(board, sample) for _, row in batch]
        self.fresh, self.likely = asking.estimate(questions)
        """Of the first role alone: what the others are asked depends on its answers."""

    def ask(self, rows: Sequence[tuple[int, LabelledRow]]) -> None:
        """Ask every role about these rows, each with what the teacher said for the earlier ones."""
        outputs: list[dict[str, Json]] = [{} for _ in rows]
        for role in self._board.roles:
            there = [i for i in range(len(rows)) if all(name in outputs[i] for name in role.reads)]
            questions = [_question(role, rows[i][1], outputs[i]) for i in there]
            for i, opinion in zip(there, self._asking.ask(questions), strict=True):
                if not opinion.told:
                    continue  # nobody knows what it would have said: the row does not count
                number, row = rows[i]
                outputs[i][role.id] = opinion.output
                self._told[role.id][number] = True
                self._valid[role.id][number] = not opinion.error
                if role.id in row.labels:
                    for metric in self._board.compared(role.id):
                        right = scoring.score([opinion.output], [row.labels[role.id]], metric.pointer, metric.absent)
                        self._right[role.id, metric.id][number] = right[0]

    def metrics(self, role: Role, subject: str) -> list[MetricValue]:
        """The role's metrics and its validity before any repair."""
        mask = self._told[role.id] & self._board.labelled(role.id)
        own: dict[str, Any] = {"role": role.id, "subject": subject, "mode": "end_to_end"}
        found = [
            value_of(self._board, self._right[role.id, metric.id], mask, metric=metric.id, **own)
            for metric in self._board.compared(role.id)
        ]
        return [*found, value_of(self._board, self._valid[role.id], self._told[role.id], metric=VALIDITY, **own)]

    def gap(self, role: Role, subject: str) -> list[dict[str, Any]]:
        """Floor, challenger and this subject on the same rows; `closed`: how much of the way up the challenger is."""
        board, lines = self._board, []
        mask = self._told[role.id] & board.labelled(role.id)
        for metric in board.compared(role.id):
            top = _mean(self._right[role.id, metric.id], mask)
            floor, ours = (
                _mean(board.correct(role.id, board.all_of(name), metric), mask) for name in ("floor", "challenger")
            )
            way = None if top is None or floor is None or top <= floor else (ours or 0.0) - floor
            lines.append(
                {
                    "subject": subject, "role": role.id, "metric": metric.id, "n": int(mask.sum()), "floor": floor,
                    "challenger": ours, "value": top,
                    "closed": None if way is None or top is None or floor is None else round(way / (top - floor), 6),
                }
            )  # fmt: skip
        return lines


def gap_table(above: Sequence[Mapping[str, Any]]) -> list[str]:
    """The gap as Markdown lines; none where nothing was measured."""
    if not above:
        return []
    head = ["subject", "role", "metric", "floor", "challenger", "value", "way up", "n"]
    lines = ["", "## Ceiling", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for line in above:
        numbers = ("" if line[key] is None else f"{line[key]:.4f}" for key in ("floor", "challenger", "value"))
        closed = "" if line["closed"] is None else f"{line['closed']:.0%}"
        cells = [line["subject"], line["role"], line["metric"], *numbers, closed, str(line["n"])]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _is(found: Above, teacher: str) -> bool:
    return any(one["teacher"] == teacher for one in found.asked)


def _question(role: Role, row: LabelledRow, outputs: Mapping[str, Json]) -> Question:
    return Question(role.id, role_input(role, row.turn, outputs), row.id)


def _sample(board: Scoreboard, most: int) -> set[int]:
    """The numbers of the held-out rows with a label that are asked about."""
    labelled = np.logical_or.reduce([board.labelled(role.id) for role in board.roles])
    names = [(hash64(row.id.encode()), number) for number, row in enumerate(board.rows) if labelled[number]]
    return {number for _, number in heapq.nsmallest(most, names)}


def _batches(board: Scoreboard, sample: set[int]) -> Iterator[list[tuple[int, LabelledRow]]]:
    rows = ((number, row) for number, row in enumerate(board.rows) if number in sample)
    while batch := list(islice(rows, BATCH)):
        yield batch


def _mean(right: Mask, mask: Mask) -> float | None:
    return round(float(right[mask].mean()), 6) if mask.any() else None


def _added(before: dict[str, float], more: dict[str, float], *, again: bool) -> dict[str, float]:
    """Two teachers' costs together; one that is both counts once, with all that it was paid."""
    if again:
        return before | more
    return {name: before.get(name, 0.0) + more.get(name, 0.0) for name in {**before, **more}}
