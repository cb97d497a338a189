"""Scores of any combination of engines on the eval rows, each computed once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.config import DomainConfig
from slm_assets.gates.clusters import Groups, select
from slm_assets.models.chain import Assignment
from slm_assets.stages.evaluation.answers import AnswerBook, Answers, Place, Tell
from slm_assets.stages.evaluation.asking import Asking
from slm_assets.stages.evaluation.common import Common
from slm_assets.stages.evaluation.rows import EvalRows, Mask
from slm_assets.stages.plans import primary_metric

EXACT, VALIDITY, TURN = "exact", "output_validity", "turn_exact"
GOLDEN = "golden_replay"
"""The slice under which the golden-replay set is shown."""


@dataclass(frozen=True)
class Compared:
    """A metric that compares one place of a role's output with the label, but for what is `apart`."""

    id: str
    pointer: str
    absent: Json = None
    target: float | None = None
    margin: float | None = None
    apart: tuple[str, ...] = ()

    @property
    def place(self) -> Place:
        """Where it compares."""
        return self.pointer, canonical.text(self.absent), self.apart


def compared_metrics(config: DomainConfig, role: str) -> list[Compared]:
    """A role's metrics from the config; always the exact frame too."""
    first = config.roles[0].id
    own = [
        Compared(m.id, m.path, m.absent, m.target, m.margin)
        for m in config.eval.metrics
        if m.path is not None and m.kind == "match" and (m.role or first) == role
    ]
    exact = [m for m in config.eval.metrics if m.id == EXACT and (m.role or first) == role]
    target = exact[0].target if exact else None
    return [*own, Compared(EXACT, "", None, target)]


class Scoreboard:
    """The eval rows, the engines, and every score asked for. `scratch`: a folder for what they answer.

    `common`: (role, subject) → what the subject's contract shares with the one of now, where it is another.
    """

    def __init__(
        self,
        config: DomainConfig,
        rows: EvalRows,
        asking: Asking,
        scratch: Path,
        tell: Tell = lambda _note: None,
        common: Mapping[tuple[str, str], Common] = MappingProxyType({}),
    ) -> None:
        self.config = config
        self.common = common
        self.roles = list(config.roles)
        self.rows = rows
        self.engines = asking.engines
        places = {role.id: self._places(role.id) for role in self.roles}
        self.book = AnswerBook(self.roles, rows, asking, places, scratch, tell)
        self.groups = rows.groups
        self._groups: dict[bytes, Groups] = {}

    def all_of(self, subject: str) -> Assignment:
        """Every role answered by the same subject."""
        return {role.id: subject for role in self.roles}

    def answers(self, role: str, assignment: Assignment) -> Answers:
        """The role's answers on all rows, end to end."""
        return self.book.end_to_end(role, assignment)

    def labelled(self, role: str) -> Mask:
        """Held-out rows that have a label for the role."""
        return self.rows.labelled(role)

    def independent(self, role: str, metric: Compared) -> Mask:
        """Rows whose label, as far as the metric looks at it, is not the oracle's own."""
        return self.rows.independent(role, metric.pointer)

    def in_slice(self, name: str) -> Mask:
        """Rows of a slice."""
        return self.rows.in_slice(name)

    def groups_of(self, mask: Mask) -> Groups:
        """The content groups of some rows."""
        if mask.all():
            return self.groups
        key = hashlib.blake2b(np.packbits(mask).tobytes(), digest_size=16).digest()
        if key not in self._groups:
            self._groups[key] = select(self.groups, mask)
        return self._groups[key]

    def compared(self, role: str) -> list[Compared]:
        """The role's metrics from the config; always the exact frame too."""
        return compared_metrics(self.config, role)

    def primary(self, role: str) -> Compared:
        """The metric on which the challenger must not be worse."""
        wanted = primary_metric(self.config, role)
        return next(m for m in self.compared(role) if m.id == wanted)

    def shared(self, role: str, subject: str, metric: Compared) -> Compared | None:
        """The metric on what the subject's contract has too; None where that is nothing."""
        common = self.common.get((role, subject))
        apart = common.without(metric.pointer) if common else ()
        return None if apart is None else replace(metric, apart=apart)

    def yardstick(self, role: str, subject: str) -> Compared | None:
        """The metric on which a subject is compared where one decides: the primary one, else the first shared."""
        own = [self.primary(role), *self.compared(role)]
        return next((seen for metric in own if (seen := self.shared(role, subject, metric))), None)

    def fields(self, role: str) -> list[Compared]:
        """The top-level fields of the role's labels, as metrics."""
        names = (name.replace("~", "~0").replace("/", "~1") for name in self.rows.fields[role])
        return [Compared(f"field:/{name}", f"/{name}") for name in names]

    def correct(self, role: str, assignment: Assignment, metric: Compared) -> Mask:
        """Whether each row is right by the metric, under the assignment; rows without a label are False."""
        return self.answers(role, assignment).right[metric.place]

    def reference(self, role: str, subject: str, metric: Compared) -> Mask:
        """As `correct`, on reference input: the earlier roles' labels instead of their answers."""
        return self.book.on_reference(role, subject).right[metric.place]

    def valid(self, role: str, assignment: Assignment) -> Mask:
        """Whether each answer met the contract before any repair."""
        return self.answers(role, assignment).valid

    def whole_turn(self, assignment: Assignment) -> tuple[Mask, Mask]:
        """(rows with a label for every role, rows on which every role is exactly right)."""
        labelled = np.logical_and.reduce([self.labelled(role.id) for role in self.roles])
        exact = Compared(EXACT, "")
        seen = {r.id: self.shared(r.id, assignment[r.id], exact) or exact for r in self.roles}
        right = np.logical_and.reduce([self.correct(name, assignment, metric) for name, metric in seen.items()])
        return labelled, right & labelled

    def _places(self, role: str) -> list[Place]:
        own = self.compared(role)
        shared = [self.shared(role, subject, metric) for name, subject in self.common if name == role for metric in own]
        return sorted({metric.place for metric in [*own, *self.fields(role), *filter(None, shared)]})


def outputs_by_row(board: Scoreboard, subject: str) -> Iterator[Mapping[str, Json]]:
    """What the subject answered end to end: role → output, per row."""
    columns = {role.id: iter(board.answers(role.id, board.all_of(subject))) for role in board.roles}
    for _ in range(len(board.rows)):
        yield {role: next(outputs) for role, outputs in columns.items()}
