"""Which roles may be promoted together, judged end to end on hand-made engines."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from slm_assets.domain.config import DomainConfig
from slm_assets.domain.policies import PromotionGates
from slm_assets.models.base import Prediction
from slm_assets.stages.evaluation.asking import Asking
from slm_assets.stages.evaluation.judge import judge
from slm_assets.stages.evaluation.latency import Timing
from slm_assets.stages.evaluation.rows import EvalRows
from slm_assets.stages.evaluation.scoring import Scoreboard
from slm_assets.stages.rows_io import LabelledRow

N = 600
ROLES = ("first", "second")


class Engine:
    """Right on turns up to a share; the second role is right only where it was handed the right word."""

    def __init__(self, right: float, *, reads: bool = False, needs: str | None = None, valid: bool = True) -> None:
        self.right, self.reads, self.needs, self.valid = right, reads, needs, valid

    def predict(self, value):
        turn = value["turn"] if self.reads else value
        good = turn["n"] % 100 < 100 * self.right
        if self.reads and self.needs and value["first"].get("by") != self.needs:
            good = False
        return Prediction({"answer": turn["n"] if good else -1, "by": self.needs}, valid=self.valid)

    def predict_many(self, values):
        return [self.predict(value) for value in values]


class First(Engine):
    def __init__(self, right: float, by: str) -> None:
        super().__init__(right, needs=by)


def domain(**evaluation):
    return DomainConfig.model_validate(
        {
            "name": "d",
            "roles": [
                {"id": "first", "output_schema": "a.json", "deterministic_oracle": {"kind": "rules", "path": "r.yaml"}},
                {"id": "second", "reads": ["first"], "output_schema": "b.json"},
            ],
            "eval": {
                "metrics": [
                    {"id": "a_match", "role": "first", "path": "/answer"},
                    {"id": "b_match", "role": "second", "path": "/answer"},
                ]
            }
            | evaluation,
        }
    )


def judged(
    first: dict,
    second: dict,
    *,
    config=None,
    source="gold",
    promoted_before=True,
    policy=None,
    common=None,
    completed=None,
):
    config = config or domain()
    rows = [
        LabelledRow(
            id=str(n), turn={"n": n}, group=str(n), source="seed", slices=(),
            labels={role: {"answer": n} for role in ROLES}, sources=dict.fromkeys(ROLES, source),
            completed=completed or {},
        )
        for n in range(N)
    ]  # fmt: skip
    engines = {"first": first, "second": second}
    for own in engines.values():
        own.setdefault("floor", own["incumbent"])
        own.setdefault("majority", own["incumbent"])
    context = SimpleNamespace(
        domain=SimpleNamespace(gates=policy or PromotionGates(latency="budget", latency_p95_ms=5), config=config),
        request=SimpleNamespace(params={"look": 1, "first": [] if promoted_before else list(ROLES)}),
    )
    times = {role: np.full(50, 1.0) for role in ROLES}
    with tempfile.TemporaryDirectory() as scratch:
        known = EvalRows(ROLES, lambda: iter(rows))
        board = Scoreboard(config, known, Asking(engines), Path(scratch), common=common or {})
        return judge(board, context, Timing(times, times, np.full(50, 2.0)))


def test_two_good_roles_are_promoted_together():
    result = judged(
        {"challenger": First(0.95, "new"), "incumbent": First(0.9, "old")},
        {"challenger": Engine(0.95, reads=True), "incumbent": Engine(0.9, reads=True)},
    )
    assert result.together == ["first", "second"]
    assert result.outcomes == {"first": "pass", "second": "pass"}
    assert {(g.gate, g.role) for g in result.gates} >= {("floor", "first"), ("latency", "second")}
    assert len(result.gates) == 2 * 6, "one decisive verdict per gate and role"


def test_a_bad_second_role_does_not_hold_back_a_good_first():
    result = judged(
        {"challenger": First(0.95, "new"), "incumbent": First(0.9, "old")},
        {"challenger": Engine(0.6, reads=True), "incumbent": Engine(0.9, reads=True)},
    )
    assert result.together == ["first"]
    assert result.outcomes == {"first": "pass", "second": "fail"}


def test_a_role_that_failed_is_not_tried_again_beside_others():
    class Old(Engine):
        asked: ClassVar[set[str]] = set()

        def predict_many(self, values):
            self.asked |= {value["first"]["by"] for value in values}
            return super().predict_many(values)

    result = judged(
        {"challenger": First(0.3, "new"), "incumbent": First(0.9, "old")},
        {"challenger": Engine(0.3, reads=True), "incumbent": Old(0.9, reads=True)},
    )
    assert result.outcomes == {"first": "fail", "second": "fail"} and result.together == []
    assert Old.asked == {"old"}, "what the serving second role makes of a failed first one decides nothing"


def test_a_first_role_that_breaks_its_reader_as_it_serves_is_held_unless_both_go():
    both = judged(
        {"challenger": First(0.95, "new"), "incumbent": First(0.9, "old")},
        {
            "challenger": Engine(0.95, reads=True, needs="new"),
            "incumbent": Engine(0.9, reads=True, needs="old"),
            "floor": Engine(0.9, reads=True),
        },
    )
    assert both.together == ["first", "second"]
    alone = judged(
        {"challenger": First(0.95, "new"), "incumbent": First(0.9, "old")},
        {"challenger": Engine(0.5, reads=True), "incumbent": Engine(0.9, reads=True, needs="old")},
    )
    assert alone.together == [] and alone.outcomes == {"first": "fail", "second": "fail"}
    (verdict,) = [v for v in alone.gates if (v.gate, v.role) == ("incumbent", "first")]
    assert verdict.verdict == "FAIL" and "second.b_match" in {v.metric for v in alone.details} | {verdict.metric}


def test_an_oracle_cannot_judge_by_its_own_labels():
    result = judged(
        {"challenger": First(0.95, "new"), "incumbent": First(0.9, "old")},
        {"challenger": Engine(0.95, reads=True), "incumbent": Engine(0.9, reads=True)},
        source="oracle",
        promoted_before=False,
    )
    floor = {g.role: g for g in result.gates if g.gate == "floor"}
    assert floor["first"].verdict == "NOT_INDEPENDENT"
    assert floor["second"].verdict == "PASS", "the second role's floor is the majority, which labels nothing"
    assert result.outcomes["first"] == "insufficient", "no target is set that could decide instead"


def test_a_metric_that_nothing_can_measure_fails_its_role():
    config = domain(metrics=[{"id": "made_up", "role": "first", "target": 0.5}])
    result = judged(
        {"challenger": First(0.95, "new"), "incumbent": First(0.9, "old")},
        {"challenger": Engine(0.95, reads=True), "incumbent": Engine(0.9, reads=True)},
        config=config,
    )
    (target,) = [g for g in result.gates if (g.gate, g.role) == ("target", "first")]
    assert (target.verdict, target.metric) == ("FAIL", "made_up")
    assert result.outcomes["first"] == "fail"


def test_one_invalid_answer_fails_validity():
    result = judged(
        {"challenger": First(0.95, "new"), "incumbent": First(0.9, "old")},
        {"challenger": Engine(0.95, reads=True, valid=False), "incumbent": Engine(0.9, reads=True)},
    )
    (validity,) = [g for g in result.gates if (g.gate, g.role) == ("validity", "second")]
    assert validity.verdict == "FAIL" and result.outcomes["second"] == "fail"


def test_a_gate_that_the_policy_leaves_out_is_listed_and_decides_nothing():
    policy = PromotionGates(gates=["validity", "incumbent"])
    result = judged(
        {"challenger": First(0.95, "new"), "incumbent": First(0.9, "old")},
        {"challenger": Engine(0.95, reads=True), "incumbent": Engine(0.9, reads=True)},
        policy=policy,
    )
    left_out = {g.gate for g in result.gates if g.verdict == "NOT_APPLICABLE"}
    assert left_out == {"floor", "target", "slices", "latency"} and result.together == ["first", "second"]


@pytest.mark.parametrize("look", [1, 3])
def test_later_looks_ask_for_more(look):
    from slm_assets.gates.verdicts import confidence_at_look

    assert confidence_at_look(0.95, look) == pytest.approx(1 - 0.05 / (look * (look + 1)))


@pytest.mark.parametrize("engine_names", [("new", "old"), ("old", "new")])
def test_rows_read_again_and_again_are_judged_as_rows_in_memory(monkeypatch, engine_names):
    """Past some rows nothing but columns stays in memory; neither batches nor forgetting change a verdict."""

    def once():
        return judged(
            {"challenger": First(0.95, engine_names[0]), "incumbent": First(0.93, "old")},
            {"challenger": Engine(0.95, reads=True, needs="new"), "incumbent": Engine(0.94, reads=True)},
        )

    in_memory = once()
    monkeypatch.setattr("slm_assets.stages.evaluation.rows.KEPT", 10)
    monkeypatch.setattr("slm_assets.stages.evaluation.rows.BATCH", 7)
    monkeypatch.setattr("slm_assets.stages.evaluation.answers.REMEMBERED", 5)
    assert once() == in_memory


def test_equal_inputs_are_answered_once_by_one_engine():
    asked = []

    class Counting(First):
        def predict(self, value):
            asked.append(value["n"])
            return super().predict(value)

    engine = Counting(0.9, "old")
    judged(
        {"challenger": First(0.95, "new"), "incumbent": engine, "floor": engine, "majority": engine},
        {"challenger": Engine(0.95, reads=True), "incumbent": Engine(0.9, reads=True)},
    )
    assert sorted(asked) == list(range(N))


def test_eval_rows_know_groups_masks_and_a_sample():
    rows = [
        LabelledRow(str(n), {"n": n}, f"g{n % 7}", "seed", ("late",) if n > 900 else (),
                    {"first": {"a": 1, "b~/": 2}} if n % 2 else {}, {"first": "gold" if n % 4 == 1 else "oracle"})
        for n in range(1000)
    ]  # fmt: skip
    found = EvalRows(ROLES, lambda: iter(rows))
    assert (len(found), found.groups.count, found.fields) == (1000, 7, {"first": ["a", "b~/"], "second": []})
    assert found.groups.codes.tolist() == [n % 7 for n in range(1000)]
    assert found.labelled("first").tolist() == [n % 2 == 1 for n in range(1000)]
    assert found.independent("first").sum() == 250
    assert found.in_slice("late").sum() == 99
    assert not found.in_slice("never").any()
    assert [row.turn["n"] for row in found.sample] == list(range(0, 1000, 2))
    assert [row for batch in found.batches() for row in batch] == rows
