"""Fifty writers at once, as threads and as processes: none lost, none doubled, none stuck."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import writers

from slm_assets.registry import schema
from slm_assets.registry.database import open_database
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry

FIFTY = list(range(1, 51))
Crowd = Callable[[Home, writers.Work, list[int]], list[Any]]


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture(params=["threads", "processes"])
def crowd(request: pytest.FixtureRequest) -> Crowd:
    """Runs a piece of work for each number: in 16 threads, or in 4 processes of 4 threads each."""
    if request.param == "threads":
        return partial(writers.in_threads, 16)
    pool: ProcessPoolExecutor = request.getfixturevalue("processes")

    def spread(home: Home, work: writers.Work, numbers: list[int]) -> list[Any]:
        jobs = [pool.submit(writers.in_threads, 4, home, work, numbers[i::4]) for i in range(4)]
        parts = [job.result(timeout=120) for job in jobs]
        return [parts[i % 4][i // 4] for i in range(len(numbers))]

    return spread


def test_fifty_openings_mint_fifty_versions_in_a_row(home, crowd):
    assert sorted(crowd(home, writers.opening, FIFTY)) == FIFTY
    registry = Registry(home)
    assert [plan.number for plan in registry.plans("d")] == FIFTY
    assert [row["number"] for row in registry.audit("d")] == FIFTY, "opened in the order of their numbers"
    times = [plan.opened_at for plan in registry.plans("d")]
    assert times == sorted(times)


def test_fifty_looks_are_fifty_looks_and_a_repeat_is_none(home, crowd):
    looks = crowd(home, writers.look, [*FIFTY, *FIFTY])
    assert sorted(looks[:50]) == FIFTY and looks[:50] == looks[50:]
    assert Registry(home).look("d", 2, 1) == 1


def test_fifty_flips_are_one_history_without_a_gap(home, crowd):
    events = crowd(home, writers.flip, FIFTY)
    registry = Registry(home)
    rows = registry.flag_events("d")
    assert sorted(events) == [row["id"] for row in rows] and sorted(row["number"] for row in rows) == FIFTY
    before = [row["previous"]["event"] if row["previous"] else None for row in rows]
    assert before == [None, *[row["id"] for row in rows[:-1]]], "each flip replaced the one before it"
    assert registry.flags("d")["r"].event == rows[-1]["id"]
    assert len(registry.audit("d")) == 50


def test_of_fifty_first_flips_exactly_one_wins(home, crowd):
    won = crowd(home, writers.first, FIFTY)
    registry = Registry(home)
    assert sum(won) == 1 and len(registry.flag_events("d")) == 1
    assert registry.flags("d")["r"].number == won.index(True) + 1


def test_fifty_approvals_are_fifty_rows(home, crowd):
    crowd(home, writers.approve, FIFTY)
    registry = Registry(home)
    assert sorted(row["number"] for row in registry.audit("d")) == FIFTY
    assert all(len(registry.approvals("d", number)) == 1 for number in FIFTY)


def test_fifty_runs_over_twenty_domains_lose_and_double_nothing(home, crowd):
    made = crowd(home, writers.a_run, FIFTY)
    assert len(set(made)) == 50, "no version was minted twice"
    registry = Registry(home)
    for domain in {domain for domain, _ in made}:
        numbers = sorted(version for one, version in made if one == domain)
        assert numbers == [plan.number for plan in registry.plans(domain)] == list(range(1, len(numbers) + 1))
        assert {(cell["number"], cell["stage"]) for cell in registry.cells(domain)} == {
            (number, stage) for number in numbers for stage in writers.STAGES
        }
        events = registry.flag_events(domain)
        assert sorted(event["number"] for event in events) == numbers, "no flip was lost"
        assert [event["previous"] and event["previous"]["event"] for event in events] == [
            None, *[event["id"] for event in events[:-1]],
        ]  # fmt: skip
        assert registry.flags(domain)["r"].event == events[-1]["id"]
        assert sorted(registry.look(domain, 1, number) for number in numbers) == numbers
    assert len(registry.edges()) == 50 * len(writers.STAGES)


def test_on_a_server_namespaces_do_not_wait_for_each_other(postgres_url, tmp_path):
    home = replace(Home.from_env(tmp_path), registry_url=postgres_url)
    schema.upgrade(open_database(postgres_url))
    other = Registry(home, "rival", "default")
    with open_database(postgres_url).write("local/default"):
        assert writers.opening(other, 1) == 1


def test_a_transaction_that_fails_leaves_nothing_and_the_next_one_runs(home):
    registry = Registry(home)

    def broken(_number: int) -> dict[str, Any]:
        raise RuntimeError("no plan")

    with pytest.raises(RuntimeError, match="no plan"):
        registry.open_plan("d", number=None, actor="a", make=broken)
    assert registry.plans("d") == [] and registry.audit("d") == []
    assert registry.open_plan("d", number=None, actor="a", make=writers.plan_columns).number == 1
