"""A fresh promotion that goes wrong live is taken back by itself, a good one is not, and each step is on record."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import numpy as np
import pytest

from slm_assets.automation.promotions import approve_version, continue_shadows, rollback_roles, watch_promotions
from slm_assets.engines.in_process import make_cell
from slm_assets.engines.rolling_back import roll_back
from slm_assets.engines.watching import watch_domain
from slm_assets.errors import BadInputError
from slm_assets.gates.watch import Errors, watch
from slm_assets.registry import tables as t
from slm_assets.registry.registry import CellRecord, Registry
from slm_assets.stages.approvals import hold
from slm_assets.stages.plans import open_domain, open_version
from slm_assets.stages.reports import explain
from slm_assets.stages.table import STAGES
from tests.traffic.conftest import Traffic, turn
from tests.traffic.conftest import outcome as feedback

LIMITS = {"min_turns": 50, "worse_by": 0.02, "most": 0.2}
FLIP = "2026-03-01T12:00:00.000000+00:00"


def errors(share: float, n: int, seed: int) -> Errors:
    rng = random.Random(seed)
    return Errors([rng.random() < share for _ in range(n)], [f"c{n}" for n in range(n)])


def test_an_equal_version_is_left_alone_though_looked_at_after_every_window():
    runs = [(errors(0.05, 600, 2 * seed), errors(0.05, 600, 2 * seed + 1)) for seed in range(100)]
    looks = [
        any(
            watch("r", "v2", Errors(since.wrong[:n], since.conversations[:n]), before, **LIMITS).verdict == "WORSE"
            for n in range(60, 601, 60)
        )
        for since, before in runs
    ]
    assert sum(looks) <= 3


@pytest.mark.parametrize(("before", "since", "turns"), [(0.02, 0.15, 200), (0.0, 0.1, 200), (0.05, 0.5, 60)])
def test_a_worse_one_is_seen_soon(before: float, since: float, turns: int):
    seen = [
        watch("r", "v2", errors(since, turns, seed), errors(before, 1_000, seed + 50), **LIMITS).verdict
        for seed in range(20)
    ]
    assert seen.count("WORSE") >= 18


def test_what_is_too_little_or_unheard_of_before():
    few = watch("r", "v2", errors(1.0, 20, 1), errors(0.0, 100, 2), **LIMITS)
    assert few.verdict == "INSUFFICIENT" and "only 20 turns of at least 50" in few.sentence
    nothing_before = watch("r", "v2", errors(0.1, 500, 1), Errors([], []), **LIMITS)
    assert nothing_before.verdict == "OK" and nothing_before.before is None
    assert watch("r", "v2", errors(0.6, 500, 1), Errors([], []), **LIMITS).verdict == "WORSE"
    one_talk = Errors([True] * 400, ["c"] * 400)
    assert watch("r", "v2", one_talk, errors(0.0, 500, 2), **LIMITS).verdict == "OK", "it is one conversation"


@pytest.fixture
def promoted(traffic: Traffic) -> Traffic:
    """tiny v1 serves since an hour."""
    plan = open_version(traffic.domain, traffic.registry, actor="tester")
    for stage in STAGES:
        assert make_cell(traffic.registry, plan, stage.name, actor="tester").receipt.status == "succeeded"
    return traffic


def served(traffic: Traffic, name: str, count: int, wrong: float, hours: float, **more: Any) -> list[dict[str, Any]]:
    """Turns `hours` after the promotion, before it where negative."""
    began = datetime.fromisoformat(traffic.registry.flags("tiny")["triage"].since)
    rng = np.random.default_rng(count)
    found = []
    for number in range(count):
        at = (began + timedelta(hours=hours, seconds=number)).isoformat(timespec="milliseconds")
        one = turn(f"{name}{number}", f"hello number {number}", **more) | {"at": at.replace("+00:00", "Z")}
        found.append(one)
        if rng.random() < wrong:
            found.append(feedback(f"{name}{number}") | {"at": one["at"]})
    return found


def test_a_promotion_that_goes_wrong_is_rolled_back_once_with_its_reason(promoted: Traffic):
    registry, domain = promoted.registry, promoted.domain
    assert watch_domain(domain, registry, actor="watch") == [], "no traffic was captured"
    promoted.write("a", [*served(promoted, "b", 300, 0.02, -5), *served(promoted, "s", 200, 0.3, 1)])
    promoted.capture()
    looked = watch_domain(domain, registry, actor="watch", act=False)
    assert [one.verdict for one in looked] == ["WORSE"] and registry.flags("tiny")["triage"].number == 1
    (found,) = watch_domain(domain, registry, actor="watch")
    assert found.rolled_back and found.n == 200 and found.value > 0.2 > found.before
    assert registry.flags("tiny")["triage"].engine == "oracle"
    event = registry.flag_events("tiny", "triage")[-1]
    assert event["action"] == "rollback" and event["actor"] == "watch"
    assert event["reason"].startswith("automatic: triage:") and "went wrong with v1" in event["reason"]
    assert watch_domain(domain, registry, actor="watch") == [], "there is nothing fresh any more"
    told = explain(registry, "tiny")["events"]
    assert [(e["action"], e["by"]) for e in told][-1] == ("rollback", "watch")


def test_a_good_promotion_an_old_one_and_a_disabled_watch_are_left_alone(promoted: Traffic):
    promoted.write("a", [*served(promoted, "b", 300, 0.05, -5), *served(promoted, "s", 300, 0.05, 1)])
    promoted.capture()
    (found,) = watch_domain(promoted.domain, promoted.registry, actor="watch")
    assert found.verdict == "OK" and not found.rolled_back
    promoted.write("b", served(promoted, "w", 300, 0.9, 2))
    promoted.capture()
    later = datetime.now(UTC) + timedelta(hours=25)
    assert watch_domain(promoted.domain, promoted.registry, actor="watch", now=later) == []
    policy = promoted.home.domains / "tiny" / "policies" / "promotion_gates.yaml"
    policy.write_text(policy.read_text() + "watch: {status: disabled}\n")
    domain, registry = open_domain(promoted.home, "tiny")
    assert watch_domain(domain, registry, actor="watch") == []
    assert registry.flags("tiny")["triage"].number == 1


def test_the_fallback_of_a_broken_release_and_an_answer_outside_its_contract_count(promoted: Traffic):
    broken = served(promoted, "s", 80, 0.0, 1)
    for number, one in enumerate(broken):
        answer = one["answers"]["triage"]
        if number % 2:
            one["answers"]["triage"] = {
                **answer, "engine": "oracle", "version": None, "fallback": {"reason": "error", "confidence": None}
            }  # fmt: skip
        else:
            one["answers"]["triage"] = {**answer, "output": {"intent": "sing", "urgent": 3}}
    promoted.write("a", broken)
    promoted.capture()
    (found,) = watch_domain(promoted.domain, promoted.registry, actor="watch")
    assert found.value == 1.0 and found.rolled_back


def test_the_sensor_looks_once_at_each_window_and_takes_back(promoted: Traffic, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SLM_HOME", str(promoted.home.root))
    monkeypatch.setenv("SLM_DOMAINS", str(promoted.home.domains))
    with dg.DagsterInstance.ephemeral() as instance:
        with dg.build_sensor_context(instance) as context:
            assert "no fresh promotion" in str(watch_promotions(context))
        promoted.write("a", [*served(promoted, "b", 300, 0.0, -5), *served(promoted, "s", 200, 0.5, 1)])
        promoted.capture()
        with dg.build_sensor_context(instance) as context:
            result = watch_promotions(context)
        assert "rolled back" in str(result.skip_reason) and json.loads(result.cursor) == {"tiny": 1}
        with dg.build_sensor_context(instance, cursor=result.cursor) as context:
            assert isinstance(watch_promotions(context), dg.SkipReason)
    assert promoted.registry.flags("tiny")["triage"].engine == "oracle"


def test_a_version_that_waits_for_live_turns_goes_on_once_for_each_window(
    traffic: Traffic, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SLM_HOME", str(traffic.home.root))
    monkeypatch.setenv("SLM_DOMAINS", str(traffic.home.domains))
    registry = traffic.registry
    open_version(traffic.domain, registry, actor="tester")

    def waits(window: int | None, kind: str = "deferred") -> None:
        receipt = {"request": {"params": {"window": window}}, "error_kind": kind, "error": "few", "result": {}}
        registry.commit(
            CellRecord("tiny", 1, "shadow", "r" * 64, "deferred", receipt, run_id="x", engine="in_process", actor="a")
        )

    def keys() -> list[str]:
        with dg.DagsterInstance.ephemeral() as instance, dg.build_sensor_context(instance) as context:
            found = continue_shadows(context)
        return [] if isinstance(found, dg.SkipReason) else [one.run_key for one in found.run_requests]

    waits(None)
    assert keys() == [], "nothing was captured yet"
    traffic.write("a", [turn("t1")])
    traffic.capture()
    assert keys() == ["local/default tiny v1 w1"]
    waits(1)
    assert keys() == [], "it was asked with that window"
    traffic.write("a", [turn("t2")])
    traffic.capture()
    assert keys() == ["local/default tiny v1 w2"]
    waits(1, "submitted")
    assert keys() == [], "it runs elsewhere"
    waits(1)
    open_version(traffic.domain, registry, actor="tester")
    assert keys() == [], "a newer version takes its place"


def test_jobs_of_the_launchpad_approve_and_roll_back(promoted: Traffic, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SLM_HOME", str(promoted.home.root))
    monkeypatch.setenv("SLM_DOMAINS", str(promoted.home.domains))
    config = {"domain": "tiny", "version": "v1", "by": "Ada", "reason": "read it"}
    assert approve_version.execute_in_process(run_config={"ops": {"approve_a_version": {"config": config}}}).success
    assert promoted.registry.approvals("tiny", 1)[-1]["actor"] == "Ada"
    config = {"domain": "tiny", "by": "Ada", "reason": "to see"}
    done = rollback_roles.execute_in_process(run_config={"ops": {"roll_roles_back": {"config": config}}})
    assert done.success and promoted.registry.flags("tiny")["triage"].engine == "oracle"
    again = {"ops": {"roll_roles_back": {"config": config}}}
    assert not rollback_roles.execute_in_process(run_config=again, raise_on_error=False).success
    with pytest.raises(BadInputError):
        roll_back(promoted.registry, "tiny", roles=None, to=None, reason="", actor="x")


def test_a_held_version_waits_until_it_is_let_go_and_why_says_so(promoted: Traffic):
    registry = promoted.registry
    plan = open_version(promoted.domain, registry, params={"train_fraction": 0.9}, actor="tester")
    for stage in STAGES[:-1]:
        make_cell(registry, plan, stage.name, actor="tester")
    with pytest.raises(BadInputError, match="too late to hold"):
        hold(registry, "tiny", "v1", held=True, actor="Ada", reason="no")
    with pytest.raises(BadInputError, match="not held back"):
        hold(registry, "tiny", "v2", held=False, actor="Ada", reason="no")
    hold(registry, "tiny", "v2", held=True, actor="Ada", reason="until Monday")
    waits = make_cell(registry, plan, "deploy", actor="tester").receipt
    assert waits.status == "deferred" and "held back by Ada" in waits.error and "--off" in waits.error
    (told,) = explain(registry, "tiny")["waiting"]
    assert (told["version"], told["outcome"]) == ("v2", "deferred")
    assert told["held_by"]["by"] == "Ada" and told["held_by"]["reason"] == "until Monday"
    hold(registry, "tiny", "v2", held=False, actor="Bob", reason="it is Monday")
    assert make_cell(registry, plan, "deploy", actor="tester").receipt.status == "succeeded"
    actions = [e["action"] for e in explain(registry, "tiny")["events"]]
    assert actions == ["open", "promote", "open", "hold", "release", "promote"]


def test_decisions_of_another_tenant_are_not_seen(promoted: Traffic):
    other = Registry(promoted.home, "acme", "default")
    hold(promoted.registry, "tiny", _opened(promoted), held=True, actor="Ada", reason="mine")
    assert other._all(t.holds.select().where(*other._is(t.holds))) == []


def _opened(traffic: Traffic) -> str:
    return open_version(traffic.domain, traffic.registry, actor="tester").version
