"""A role by itself on the validation part: its reference input, judged by the gates that validation can ask.

The earlier roles' labels stand where their answers would, so that roles can be judged before any is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slm_assets.domain.config import DomainConfig, Role
from slm_assets.domain.loading import Domain
from slm_assets.domain.turns import role_input
from slm_assets.gates.decisive import SEVERITY, decisive
from slm_assets.gates.intervals import proportion
from slm_assets.gates.types import Verdict
from slm_assets.models.base import Predictor
from slm_assets.stages.evaluation.asking import Asking
from slm_assets.stages.evaluation.common import in_common
from slm_assets.stages.evaluation.judge import Judge
from slm_assets.stages.evaluation.rows import EvalRows
from slm_assets.stages.evaluation.scoring import Scoreboard
from slm_assets.stages.evaluation.subjects import baselines
from slm_assets.stages.plans import primary_metric
from slm_assets.stages.rows_io import LabelledRow, labelled_rows
from slm_assets.stages.table import BY_NAME

NOT_ASKED = ("latency", "shadow")
"""Gates that validation cannot ask: a choice by the clock would not be the same twice, and no turn is live."""


@dataclass(frozen=True)
class Judged:
    """A rung on the validation part. `outcome`: pass, insufficient or fail by the bounds; `points`: whether every
    number at least lies on the right side; `why` of the verdict that decides."""

    n: int
    primary: float
    metrics: list[dict[str, Any]]
    outcome: str
    points: bool
    why: str
    gates: list[dict[str, Any]]


class Validation:
    """The validation rows of a role and everybody but the rung that is judged on them."""

    def __init__(self, domain: Domain, role_id: str, inputs: dict[str, Path], scratch: Path) -> None:
        role = domain.role(role_id)
        self.role_id = role_id
        self._domain = domain
        self._scratch = scratch
        self._config = alone(domain.config, role_id)
        self._rows = EvalRows([role_id], lambda: _rows(role, inputs["dataset"], inputs["labels"]))
        self._baselines = baselines(domain, inputs, [role])[role_id]
        self._common = {at: one for at, one in in_common(domain, inputs).items() if at[0] == role_id}
        self._first = {role_id} - {name.removeprefix("incumbent_") for name in inputs}

    @property
    def margin(self) -> float:
        """By how much a rung may be under another on the primary metric: the gates' own margin."""
        primary = primary_metric(self._config, self.role_id)
        own = self._domain.gates.per_role.get(self.role_id)
        general = own.margin if own and own.margin is not None else self._domain.gates.margin
        told = [m.margin for m in self._config.eval.metrics if m.id == primary and m.margin is not None]
        return told[0] if told else general

    @property
    def sample(self) -> list[Any]:
        """Inputs to time an answer on."""
        return [row.turn for row in self._rows.sample]

    def judge(self, engine: Predictor, name: str) -> Judged:
        """The numbers of a rung and what the gates say of them."""
        own = {self.role_id: {**self._baselines, "challenger": engine}}
        scratch = self._scratch / name
        scratch.mkdir()
        board = Scoreboard(self._config, self._rows, Asking(own), scratch, common=self._common)
        judge = Judge(board, self._domain, 1, self._first, without=NOT_ASKED)
        found = judge.verdicts_of([self.role_id])
        mask = board.labelled(self.role_id)
        everyone = board.all_of("challenger")
        metrics, primary = [], 0.0
        for metric in board.compared(self.role_id):
            shown = proportion(board.correct(self.role_id, everyone, metric)[mask], board.groups_of(mask))
            value = {"value": shown.value, "low": shown.low, "high": shown.high}
            metrics.append({"metric": metric.id, **value})
            primary = shown.value if metric.id == board.primary(self.role_id).id else primary
        asked = [gate for gate in BY_NAME["evaluate"].gates if gate not in NOT_ASKED]
        gates = [decisive(found, gate, self.role_id) for gate in asked]
        worst = max(gates, key=lambda gate: SEVERITY.index(gate.verdict))
        outcome = judge.outcome(found, self.role_id)
        why = "" if outcome == "pass" else f"{worst.gate} {worst.metric}: {worst.reason}"
        told = [gate.model_dump() for gate in gates]
        return Judged(int(mask.sum()), primary, metrics, outcome, all(map(_on_its_side, found)), why, told)


def alone(config: DomainConfig, role_id: str) -> DomainConfig:
    """The config as if this role were the only one, and read nothing but its input."""
    first = config.roles[0].id
    role = next(role for role in config.roles if role.id == role_id).model_copy(update={"reads": []})
    metrics = [m.model_copy(update={"role": role_id}) for m in config.eval.metrics if (m.role or first) == role_id]
    judged = config.eval.model_copy(update={"metrics": metrics})
    return config.model_copy(update={"roles": [role], "eval": judged})


def _rows(role: Role, dataset: Path, labels: Path) -> Iterator[LabelledRow]:
    for row in labelled_rows(dataset, labels, "validation"):
        if role.id in row.labels:
            yield row._replace(turn=role_input(role, row.turn, row.labels))


def _on_its_side(verdict: Verdict) -> bool:
    """Whether the number itself, whatever its interval, does not speak against the rung."""
    if not verdict.blocking or verdict.verdict not in ("FAIL", "INSUFFICIENT"):
        return True
    if verdict.verdict == "FAIL":
        return False
    return verdict.value is None or verdict.threshold is None or verdict.value >= verdict.threshold - 1e-9
