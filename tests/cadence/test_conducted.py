"""A playbook that retrains is bound by the decision of the sensors, and no sensor starts what it has taken."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import dagster as dg
import orjson
import pytest
from loops import Loop
from typer.testing import CliRunner

from slm_assets.automation.retraining import retrain_on_drift
from slm_assets.cli.commands import app
from slm_assets.definitions import build
from slm_assets.engines.conduct import _passed
from slm_assets.registry import retrains
from slm_assets.stages.cadence import conducted, retraining
from tests.cadence.test_retraining import end


def opened(loop: Loop, *arguments: str) -> tuple[str, str]:
    """(gate, version) of `slm open --retrain`."""
    done = CliRunner().invoke(app, ["open", "one", "--retrain", *arguments, "--by", "noetl", "--json"])
    assert done.exit_code == 0, done.output
    found = orjson.loads(done.stdout)
    assert set(found) >= {"gate", "version", "run_dir"} and "outcome is up" not in done.stdout
    return found["gate"], found["version"]


def row(loop: Loop) -> retrains.Row:
    return retrains.of_domain(loop.registry(), "one")[-1]


def requested(loop: Loop) -> list[str]:
    definitions = build(loop.home)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance, repository_def=definitions.get_repository_def())
        found = retrain_on_drift(context)
    return [] if isinstance(found, dg.SkipReason) else [one.run_key for one in found.run_requests]


def test_what_fires_is_opened_once_and_taken_up_again_by_a_later_execution(loop):
    loop.promoted()
    loop.window("outcome")
    assert opened(loop) == ("go", "v2") == opened(loop)
    assert row(loop)["note"] == conducted.NOTE and row(loop)["state"] == retrains.LAUNCHED
    assert loop.registry().plans("one")[-1].reason == "outcome: outcome is up in w1"
    assert requested(loop) == [], "it is the playbook's"


def test_a_playbook_that_is_gone_for_a_day_leaves_its_version_to_the_sensor(loop, monkeypatch):
    loop.promoted()
    loop.window("outcome")
    opened(loop)
    monkeypatch.setattr(conducted, "ALONE", timedelta(0))
    assert requested(loop) == ["one-w1"]


def test_the_cooldown_the_week_and_the_budget_hold_for_it(loop):
    loop.policy("one", "cooldown_hours: 24\n")
    loop.promoted()
    loop.window("outcome")
    assert opened(loop) == ("go", "v2")
    end(loop)
    loop.window("outcome")
    assert opened(loop) == ("deferred", "") and row(loop)["note"].startswith("cooldown of 24 hours")
    loop.policy("one", "cooldown_hours: 0\nmax_per_week: 1\n")
    assert opened(loop) == ("deferred", "") and "in seven days are the most" in row(loop)["note"]
    loop.policy("one", "cooldown_hours: 0\n")
    loop.budget("one", "cpu_minutes: {limit: 0.1}\n")
    assert opened(loop) == ("deferred", "") and row(loop)["note"].startswith("over budget")
    assert len(loop.registry().plans("one")) == 2, "nothing was opened for it"
    loop.budget("one", "cpu_minutes: {limit: 100}\n")
    assert opened(loop) == ("go", "v3")


def test_what_is_not_due_opens_nothing_and_a_named_version_is_opened_all_the_same(loop):
    loop.promoted()
    window = loop.window()
    assert opened(loop) == ("held", "") and not _passed(loop.registry(), window, "drift")
    assert opened(loop, "--version", "v7") == ("go", "v7")
    both = CliRunner().invoke(app, ["open", "one", "--retrain", "--new"])
    assert "leave --new and --window out" in str(both.exception)


@pytest.mark.parametrize("triggers", [["erasure"], ["schedule"]])
def test_what_waits_is_gone_on_with_though_no_trigger_fires(loop, triggers):
    loop.promoted()
    window = loop.window()
    retrains.ask(loop.registry(), "one", "other-1", triggers=triggers, reason="because", actor="ada")
    assert _passed(loop.registry(), window, "drift"), "so the orchestrator comes to the decision"
    assert opened(loop) == ("go", "v2")


def test_one_that_a_sensor_started_is_waited_for(loop):
    loop.promoted()
    loop.window("outcome")
    registry = loop.registry()
    retraining.ask_for_fired(registry, actor="sensor")
    with ExitStack() as held:
        assert retraining.advance(registry, held, actor="sensor")
    assert opened(loop) == ("deferred", "")
    assert not conducted.is_playbooks(row(loop), datetime.now(UTC))
