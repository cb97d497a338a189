"""Scores of any combination of engines on the eval rows, each computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slm_assets.canonical import Json
from slm_assets.domain.config import DomainConfig, Role
from slm_assets.gates import metrics as scoring
from slm_assets.gates.clusters import Groups, group_rows, select
from slm_assets.models.base import Prediction
from slm_assets.models.chain import Assignment, Chain
from slm_assets.stages.evaluation.subjects import Engines
from slm_assets.stages.plans import primary_metric
from slm_assets.stages.rows_io import LabelledRow

Mask = NDArray[np.bool_]
EXACT, VALIDITY, TURN = "exact", "output_validity", "turn_exact"


@dataclass(frozen=True)
class Compared:
    """A metric that compares one place of a role's output with the label."""

    id: str
    pointer: str
    absent: Json = None
    target: float | None = None
    margin: float | None = None


class Scoreboard:
    """The eval rows, the engines, and every score asked for."""

    def __init__(self, config: DomainConfig, rows: Sequence[LabelledRow], engines: Engines) -> None:
        self.config = config
        self.roles = list(config.roles)
        self.rows = rows
        self.engines = engines
        self.chain = Chain(self.roles, [row.turn for row in rows], engines)
        self.groups = group_rows([row.group for row in rows], len(rows))
        self._scores: dict[tuple[object, ...], Mask] = {}

    def all_of(self, subject: str) -> Assignment:
        """Every role answered by the same subject."""
        return {role.id: subject for role in self.roles}

    def answers(self, role: str, assignment: Assignment) -> list[Prediction]:
        """The role's predictions on all rows, end to end."""
        return self.chain.answers(role, assignment)

    def labelled(self, role: str) -> Mask:
        """Rows that have a label for the role."""
        return np.array([role in row.labels for row in self.rows], dtype=np.bool_)

    def independent(self, role: str) -> Mask:
        """Rows whose label is not the oracle's own."""
        return np.array([row.sources.get(role, "oracle") != "oracle" for row in self.rows], dtype=np.bool_)

    def in_slice(self, name: str) -> Mask:
        """Rows of a slice."""
        return np.array([name in row.slices for row in self.rows], dtype=np.bool_)

    def groups_of(self, mask: Mask) -> Groups:
        """The content groups of some rows."""
        return select(self.groups, mask)

    def compared(self, role: str) -> list[Compared]:
        """The role's metrics from the config; always the exact frame too."""
        first = self.roles[0].id
        own = [
            Compared(m.id, m.path, m.absent, m.target, m.margin)
            for m in self.config.eval.metrics
            if m.path is not None and (m.role or first) == role
        ]
        exact = [m for m in self.config.eval.metrics if m.id == EXACT and (m.role or first) == role]
        target = exact[0].target if exact else None
        return [*own, Compared(EXACT, "", None, target)]

    def primary(self, role: str) -> Compared:
        """The metric on which the challenger must not be worse."""
        wanted = primary_metric(self.config, role)
        return next(m for m in self.compared(role) if m.id == wanted)

    def correct(self, role: str, assignment: Assignment, metric: Compared) -> Mask:
        """Whether each row is right by the metric, under the assignment; rows without a label are False."""
        key = (role, metric.id, metric.pointer, *((n, assignment[n]) for n in self.chain.ancestors(role)))
        if key not in self._scores:
            predictions = self.answers(role, assignment)
            self._scores[key] = self._score(role, [p.output for p in predictions], metric)
        return self._scores[key]

    def reference(self, role: Role, subject: str, metric: Compared) -> Mask:
        """As `correct`, on reference input: the earlier roles' labels instead of their answers."""
        answers = self.chain.reference_answers(role.id, subject, [row.labels for row in self.rows])
        return self._score(role.id, [answer.output for answer in answers], metric)

    def valid(self, role: str, assignment: Assignment) -> Mask:
        """Whether each answer met the contract before any repair."""
        return np.array([p.valid for p in self.answers(role, assignment)], dtype=np.bool_)

    def whole_turn(self, assignment: Assignment) -> tuple[Mask, Mask]:
        """(rows with a label for every role, rows on which every role is exactly right)."""
        labelled = np.logical_and.reduce([self.labelled(role.id) for role in self.roles])
        exact = Compared(EXACT, "")
        right = np.logical_and.reduce([self.correct(r.id, assignment, exact) for r in self.roles])
        return labelled, right & labelled

    def _score(self, role: str, outputs: Sequence[Json], metric: Compared) -> Mask:
        labels = [row.labels.get(role) for row in self.rows]
        return scoring.score(outputs, labels, metric.pointer, metric.absent) & self.labelled(role)


def outputs_by_row(board: Scoreboard, subject: str) -> list[Mapping[str, Json]]:
    """What the subject answered end to end: role → output, per row."""
    columns = {role.id: board.answers(role.id, board.all_of(subject)) for role in board.roles}
    return [{role: own[i].output for role, own in columns.items()} for i in range(len(board.rows))]
