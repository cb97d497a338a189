"""From a trigger that fired to one version, launched once: with everything that may come between."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
from loops import Loop, cell

from slm_assets.registry import budget, retrains
from slm_assets.registry.retrains import DEFERRED, DONE, LAUNCHED, REFUSED
from slm_assets.stages.cadence import retraining
from slm_assets.stages.cadence.settings import settings_of
from slm_assets.stages.table import STAGES

NOW = datetime.now(UTC)


def step(loop: Loop, now: datetime | None = None, domain: str = "one") -> list[str]:
    """One look of the sensor: the versions that were launched by it."""
    registry = loop.registry(domain)
    retraining.ask_for_fired(registry, actor="sensor")
    with ExitStack() as held:
        return [launch.plan.version for launch in retraining.advance(registry, held, actor="sensor", now=now)]


def states(loop: Loop, domain: str = "one") -> list[tuple[str, str]]:
    return [(row["cause"], row["state"]) for row in retrains.of_domain(loop.registry(domain), domain)]


def end(loop: Loop, *, domain: str = "one", serve: bool = True) -> None:
    """The newest version goes all the way."""
    registry = loop.registry(domain)
    plan = registry.plans(domain)[-1]
    for stage in STAGES:
        registry.commit(cell(domain, plan.number, stage.name, output=stage.kind, summary={"epoch": 1}, seconds=60.0))
    if serve:
        loop.serve(plan)
    for launch in retraining.under_way(registry, domain):
        assert retraining.finish(registry, launch, ended=True)


def test_a_trigger_opens_one_version_with_its_sentence_and_asks_once(loop):
    loop.promoted()
    loop.window("distribution", "outcome")
    assert step(loop) == ["v2"]
    assert step(loop) == [] and step(loop) == []
    plan = loop.registry().plans("one")[-1]
    assert plan.reason == "distribution: distribution is up in w1; outcome: outcome is up in w1"
    assert plan.window == {"number": 1, "traffic": loop.artifact("one")}
    (row,) = retrains.of_domain(loop.registry(), "one")
    assert (row["cause"], row["state"], row["number"]) == ("w1", LAUNCHED, 2)
    assert row["triggers"] == ["distribution", "outcome"]
    (launch,) = retraining.under_way(loop.registry())
    assert launch.run_key == "one-w1"
    actions = [event["action"] for event in loop.registry().audit("one")]
    assert actions.count("retrain.asked") == actions.count("retrain.launched") == 1


def test_what_does_not_fire_asks_for_nothing(loop):
    loop.promoted()
    loop.window()
    assert step(loop) == [] and states(loop) == []


@pytest.mark.parametrize("after", ["open_version", "reserve"])
def test_a_kill_between_two_steps_opens_no_second_version(loop, monkeypatch, after):
    loop.promoted()
    loop.budget("one", "cpu_minutes: {limit: 100}\n")
    loop.window("outcome")
    where = {"open_version": (budget, "reserve"), "reserve": (retrains, "move")}[after]

    def killed(*_arguments, **_more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(*where, killed)
        step(loop)
    assert len(loop.registry().plans("one")) == 2
    assert step(loop) == ["v2"]
    assert len(loop.registry().plans("one")) == 2
    assert len(budget.entries(loop.registry(), "one")) == len(STAGES), "and it is paid for once"


def test_while_one_is_made_another_waits_and_is_judged_anew(loop):
    loop.policy("one", "cooldown_hours: 0\n")
    loop.promoted()
    loop.window("outcome")
    assert step(loop) == ["v2"]
    loop.window("outcome", "distribution")
    assert step(loop) == []
    assert states(loop) == [("w1", LAUNCHED), ("w2", DEFERRED)]
    assert retrains.of_domain(loop.registry(), "one")[1]["note"] == "v2 is still being made"
    end(loop)
    assert step(loop) == [], "w2 was of v1: what serves now has not been judged"
    assert "window of what serves now" in retrains.of_domain(loop.registry(), "one")[1]["note"]
    loop.window()
    assert step(loop) == []
    assert states(loop) == [("w1", DONE), ("w2", REFUSED)]
    loop.window("outcome")
    assert step(loop) == ["v3"]


def test_a_held_version_is_followed_by_another_after_the_cooldown_if_it_still_fires(loop):
    loop.promoted()
    loop.window("outcome")
    assert step(loop) == ["v2"]
    end(loop, serve=False)
    loop.window("outcome")
    assert step(loop) == []
    loop.window("distribution")
    assert step(loop, NOW + timedelta(hours=23)) == []
    (_, waits) = retrains.of_domain(loop.registry(), "one")
    assert (waits["cause"], waits["window"], waits["triggers"]) == ("w2", 3, ["distribution"])
    assert waits["state"] == DEFERRED and "cooldown of 24 hours" in waits["note"]
    told = [event["detail"]["note"] for event in loop.registry().audit("one") if event["action"] == "retrain.deferred"]
    assert len(told) == 1, "a wait is told once"
    assert step(loop, NOW + timedelta(hours=25)) == ["v3"]


def test_no_more_than_so_many_in_a_week(loop):
    loop.policy("one", "cooldown_hours: 0\nmax_per_week: 2\n")
    loop.promoted()
    for version in ("v2", "v3"):
        loop.window("outcome")
        assert step(loop) == [version]
        end(loop)
    loop.window("outcome")
    assert step(loop) == []
    assert step(loop, NOW + timedelta(days=6.9)) == []
    assert step(loop, NOW + timedelta(days=7.1)) == ["v4"]


def test_over_budget_it_waits_for_the_next_window_and_starts_by_itself(loop):
    loop.policy("one", "cooldown_hours: 0\n")
    loop.budget("one", "cpu_minutes: {limit: 10, window: day}\nstorage_gb: {limit: 1}\n")
    loop.promoted()
    loop.window("outcome")
    monday = datetime(2036, 1, 7, 10, tzinfo=UTC)
    assert step(loop, monday) == ["v2"], "nothing is known of these stages: a minute each"
    end(loop)
    assert sum(row["spent"] for row in budget.entries(loop.registry(), "one") if row["spent"]) == 0, "none of them ran"
    assert budget.open_reservations(loop.registry()) == []
    what = {f"v9/{stage.name}": {"cpu_minutes": 1.0} for stage in STAGES}
    limits = settings_of(loop.home, "one").budget
    assert budget.reserve(loop.registry(), "one", what, limits, actor="a", at=monday) == []
    loop.window("outcome")
    assert step(loop, monday) == [] and len(loop.registry().plans("one")) == 2, "no version is opened for it"
    waits = retrains.of_domain(loop.registry(), "one")[1]
    assert waits["state"] == DEFERRED
    assert "over budget: cpu_minutes: 6.1 asked for, 3 of 10 left this day" in waits["note"]
    assert "2036-01-08T00:00" in waits["note"]
    assert step(loop, monday + timedelta(hours=13.9)) == []
    assert step(loop, monday + timedelta(hours=14)) == ["v3"]


def test_nothing_is_retrained_where_improvement_is_deferred_and_that_is_said_once(loop):
    loop.improve("one", "status: deferred")
    loop.promoted()
    for _ in range(3):
        loop.window("outcome")
        assert step(loop) == []
    assert states(loop) == [("w1", REFUSED)]


def test_a_broken_config_waits_until_it_is_mended(loop):
    loop.promoted()
    loop.window("outcome")
    loop.edit("one", lambda text: text.replace("input_schema:", "input_schem:"))
    assert step(loop) == []
    (row,) = retrains.of_domain(loop.registry(), "one")
    assert row["state"] == DEFERRED and "cannot be opened: domain one: 1 fault" in row["note"]
    loop.edit("one", lambda text: text.replace("input_schem:", "input_schema:"))
    assert step(loop) == ["v2"]


def test_a_schedule_needs_no_trigger_and_knows_no_cooldown(loop):
    loop.promoted()
    loop.window("outcome")
    assert step(loop) == ["v2"]
    registry = loop.registry()
    for _ in range(2):
        retrains.ask(registry, "one", "schedule-1", triggers=["schedule"], reason="schedule: 0 3 * * 0", actor="s")
    assert step(loop) == []
    assert states(loop)[1] == ("schedule-1", REFUSED), "one is being made already: that one counts"
    end(loop)
    retrains.ask(registry, "one", "schedule-2", triggers=["schedule"], reason="schedule: 0 3 * * 0", actor="s")
    assert step(loop) == ["v3"]
    assert loop.registry().plans("one")[-1].reason == "schedule: 0 3 * * 0"


def test_only_one_process_decides_on_a_domain(loop):
    loop.add("two")
    for domain in ("one", "two"):
        loop.promoted(domain)
        loop.window("outcome", domain=domain)
    with retraining.alone(loop.registry(), "one") as mine:
        assert mine
        assert step(loop) == ["v2"] and states(loop)[0][1] == "asked", "that of the other domain"
    assert step(loop) == ["v2"]


def test_a_run_that_ended_without_its_version_is_done_and_says_so(loop):
    loop.promoted()
    loop.window("outcome")
    step(loop)
    registry = loop.registry()
    (launch,) = retraining.under_way(registry)
    assert retraining.finish(registry, launch, ended=False) is None
    assert retraining.finish(registry, launch, ended=True) == "failed: its run ended before the version did"
    assert retraining.under_way(registry) == [] and states(loop) == [("w1", DONE)]
