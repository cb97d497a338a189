"""Budgets on each database: nothing is overspent, however many ask at once, and nothing is spent twice."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import writers

from slm_assets.domain.budget import Budget, Limit, next_window, window_start
from slm_assets.registry import budget
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry

TEN = Budget(usd=Limit(limit=10, window="week"))
BOTH = Budget(usd=Limit(limit=10, window="week"), tokens=Limit(limit=100, window="day"))
MONDAY = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.fixture
def registry(home: Home) -> Registry:
    return Registry(home)


def one(registry: Registry, number: int) -> bool:
    """Reserve 1 of 10, and settle what was got at a little less than that."""
    what = f"v{number}/label"
    if budget.reserve(registry, "d", {what: {"usd": 1.0}}, TEN, actor="a", begin=True):
        return False
    budget.settle(registry, "d", what, {"usd": 1.0})
    return True


def test_two_hundred_at_once_never_spend_more_than_the_ten_there_are(home):
    numbers = list(range(200))
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(writers.in_threads, 8, home, one, numbers[i::4]) for i in range(4)]
        got = [done for job in jobs for done in job.result(timeout=240)]
    assert len(got) == 200 and sum(got) == 10
    registry = Registry(home)
    (now,) = budget.standing(registry, "d", TEN)
    assert (now["spent"], now["reserved"], now["left"]) == (10.0, 0.0, 0.0)
    assert len(budget.entries(registry, "d", limit=500)) == 10, "a refused one leaves no row"


def test_all_or_nothing_over_resources_and_things(registry):
    needs = {"v1/label": {"usd": 4.0, "tokens": 60}, "v1/finetune": {"usd": 4.0, "tokens": 60}}
    (no,) = budget.reserve(registry, "d", needs, BOTH, actor="a", at=MONDAY)
    assert (no.resource, no.asked, no.left, no.opens[:10]) == ("tokens", 120, 100, "2026-11-24")
    assert "120 asked for, 100 of 100 left this day" in str(no)
    assert budget.open_reservations(registry) == []
    assert budget.over(registry, "d", needs, TEN, at=MONDAY) == []
    assert budget.reserve(registry, "d", needs, TEN, actor="a", at=MONDAY) == []
    assert [row["what"] for row in budget.open_reservations(registry, "d")] == list(needs)


def test_asking_again_for_what_is_set_aside_costs_nothing_and_a_second_try_does(registry):
    needs = {"v1/label": {"usd": 6.0}}
    for begin in (False, True, True):
        assert budget.reserve(registry, "d", needs, TEN, actor="a", begin=begin) == []
    (row,) = budget.open_reservations(registry, "d")
    assert (row["state"], row["reserved"]) == (budget.RUNNING, 6.0)
    assert budget.release(registry, "d", "v1/label") == 0, "what runs is not given back"
    assert [budget.settle(registry, "d", "v1/label", {"usd": 3.0}) for _ in range(2)] == [1, 0]
    assert budget.reserve(registry, "d", needs, TEN, actor="a") == [], "another try: 6 more"
    (now,) = budget.standing(registry, "d", TEN)
    assert (now["spent"], now["reserved"], now["left"]) == (3.0, 6.0, 1.0)
    assert budget.release(registry, "d", "v1/label") == 1
    assert budget.standing(registry, "d", TEN)[0]["left"] == 7.0


def test_a_new_window_begins_at_nothing(registry):
    asked = {"v1/label": {"usd": 10.0}}
    assert budget.reserve(registry, "d", asked, TEN, actor="a", at=MONDAY - timedelta(seconds=1)) == []
    budget.settle(registry, "d", "v1/label", None)
    late = {"v2/label": {"usd": 0.5}}
    assert budget.reserve(registry, "d", late, TEN, actor="a", at=MONDAY - timedelta(microseconds=1))
    assert budget.reserve(registry, "d", late, TEN, actor="a", at=MONDAY) == []


def test_nothing_left_refuses_also_what_seems_to_cost_nothing(registry):
    none = Budget(usd=Limit(limit=0))
    assert budget.reserve(registry, "d", {"v1/label": {}}, none, actor="a")
    assert budget.reserve(registry, "d", {"v1/label": {}}, Budget(), actor="a") == []


def test_domains_and_tenants_have_their_own(home, registry):
    assert budget.reserve(registry, "d", {"v1/x": {"usd": 10}}, TEN, actor="a") == []
    assert budget.reserve(registry, "e", {"v1/x": {"usd": 10}}, TEN, actor="a") == []
    assert budget.reserve(Registry(home, "rival"), "d", {"v1/x": {"usd": 10}}, TEN, actor="a") == []
    assert budget.reserve(registry, "d", {"v2/x": {"usd": 1}}, TEN, actor="a")


def killed(home: Home) -> None:
    budget.reserve(Registry(home), "d", {"v1/label": {"usd": 7.0}}, TEN, actor="a", begin=True)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_kill_between_reserve_and_settle_leaves_a_row_to_recover(home):
    child = multiprocessing.get_context("spawn").Process(target=killed, args=(home,))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    registry = Registry(home)
    (row,) = budget.open_reservations(registry)
    assert (row["what"], row["state"]) == ("v1/label", budget.RUNNING)
    assert budget.reserve(registry, "d", {"v2/label": {"usd": 7.0}}, TEN, actor="a"), "it still counts"
    assert budget.settle(registry, "d", "v1/label", None) == 1
    assert budget.standing(registry, "d", TEN)[0]["spent"] == 7.0


@pytest.mark.parametrize(
    ("period", "at", "start", "following"),
    [
        ("day", "2026-11-23T23:59:59", "2026-11-23", "2026-11-24"),
        ("week", "2026-11-29T10:00:00", "2026-11-23", "2026-11-30"),
        ("month", "2026-01-31T00:00:00", "2026-01-01", "2026-02-01"),
        ("month", "2026-12-31T12:00:00", "2026-12-01", "2027-01-01"),
    ],
)
def test_windows_are_those_of_the_calendar(period, at, start, following):
    moment = datetime.fromisoformat(at).replace(tzinfo=UTC)
    assert window_start(period, moment).isoformat()[:19] == f"{start}T00:00:00"
    assert next_window(period, moment).isoformat()[:19] == f"{following}T00:00:00"
