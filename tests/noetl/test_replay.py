"""The event log of the consuming playbook: all of it once, redacted before it is kept, whatever the server does."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
import fake_server
from fake_server import FakeServer, random_faults
from test_protocol import SHAPED

from slm_assets import canonical
from slm_assets.domain.redaction import Redactor
from slm_assets.engines.in_process import make_cell
from slm_assets.errors import BadInputError, BusyError, ConfigError
from slm_assets.noetl import protocol, replay
from slm_assets.noetl.address import Address
from slm_assets.noetl.protocol import ProtocolError
from slm_assets.noetl.server import Server
from slm_assets.noetl.turns import turns_of
from slm_assets.noetl.wire import Clock
from slm_assets.registry.captures import mark
from slm_assets.registry.home import Home
from slm_assets.stages.plans import frozen_inputs, newest_match, open_domain, open_version
from tests.conftest import Workplace

BLOCK = """\
    event_log_replay:
      path: apps/helpdesk
      scope: tenant=acme/project=help
      extract_node: extract_turn
      redaction: pii
"""
SIGNALS = "    capture: {outcome_signals: [user_correction, tool_error]}\n"
WORKLOAD = {"tenant": "acme", "project": "help"}


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture
def server(fake: FakeServer) -> Iterator[Server]:
    with Server(Address(fake.url), clock=Clock(sleep=lambda _: None)) as found:
        yield found


@pytest.fixture
def asks(workplace: Workplace) -> Workplace:
    """The tiny domain, with an event log to read."""
    workplace.edit("tiny", lambda text: text.replace("    seed_corpus", BLOCK + "    seed_corpus"))
    workplace.edit("tiny", lambda text: text.replace("    auto_promote", SIGNALS + "    auto_promote"))
    return workplace


def opened(place: Workplace, more: str = "") -> tuple[Any, Any]:
    if more:
        place.edit("tiny", lambda text: text.replace("      redaction: pii\n", f"      redaction: pii\n{more}"))
    return open_domain(replace(Home.from_env(place.home), domains=place.domains), "tiny")


def conversation(
    fake: FakeServer, *texts: str, end: str | None = "COMPLETED", path: str = "apps/helpdesk", **more
) -> str:
    name = fake.started(path, WORKLOAD | more)
    for text in texts:
        said(fake, name, text)
    if end:
        fake.finish(name, end)
    return name


def said(fake: FakeServer, execution: str, text: str) -> None:
    turn = {"input": {"text": text}, "outputs": {"triage": {"intent": "greet", "urgent": False}}, "engine": "oracle"}
    fake.step(execution, "extract_turn", data=turn)


def texts(reading: replay.Reading) -> list[str]:
    return [row["input"]["text"] for row in reading.rows]


@pytest.mark.parametrize("seconds", [0, 3])
def test_a_reading_that_runs_out_of_time_comes_further_each_time_and_reads_nothing_twice(asks, fake, server, seconds):
    domain, registry = opened(asks)
    for number in range(7):
        conversation(fake, f"turn {number}")
    ticks = iter(range(10_000))
    server.clock = Clock(lambda: float(next(ticks)), lambda _: None)
    found, readings = [], 0
    while len(found) < 7:
        reading = replay.replay(domain, registry, server, actor="a", seconds=seconds)
        assert reading.rows and (reading.capped or len(found) + len(reading.rows) == 7)
        found += texts(reading)
        readings += 1
    assert found == [f"turn {number}" for number in range(7)]
    assert readings == (7 if seconds == 0 else 3)
    assert replay.replay(domain, registry, server, actor="a", seconds=0).rows == []
    assert mark(registry, "tiny").turns == 7


def test_turns_come_with_what_was_answered_and_how_it_went(asks, fake, server):
    domain, registry = opened(asks)
    name = fake.started("apps/helpdesk", WORKLOAD)
    said(fake, name, "hello")
    said(fake, name, "no, I meant a refund to ada@example.com")
    fake.event(name, "user_correction", None)
    fake.finish(name)
    reading = replay.replay(domain, registry, server, actor="a")
    first, second = reading.rows
    assert first["outputs"] == {"triage": {"intent": "greet", "urgent": False}} and first["engine"] == "oracle"
    assert (first["outcomes"], second["outcomes"]) == ([], ["user_correction"])
    assert second["input"]["text"] == "no, I meant a refund to [email]" and reading.redacted == {"email": 1}
    assert first["execution"] == name and first["id"] != second["id"] and first["at"] == "2026-01-01T00:00:00Z"
    kept = b"".join(path.read_bytes() for path in asks.home.rglob("*") if path.is_file())
    assert b"ada@example.com" not in kept and b"[email]" in kept


def test_all_pages_are_read_once_and_only_what_is_in_scope(asks, fake, server):
    domain, registry = opened(asks)
    for number in range(230):
        conversation(fake, f"turn {number}")
    conversation(fake, "another app", path="apps/other")
    conversation(fake, "another tenant", tenant="rival")
    conversation(fake, "no tenant", tenant=None)
    reading = replay.replay(domain, registry, server, actor="a")
    assert texts(reading) == [f"turn {number}" for number in range(230)]
    assert reading.dropped == {"outside data.event_log_replay.scope": 2}
    assert sum(n for call, n in fake.state.calls.items() if call == "GET executions") == 3
    fake.state.calls.clear()
    assert replay.replay(domain, registry, server, actor="a").rows == []
    assert sum(fake.state.calls.values()) == 1, "a page that holds nothing new ends the search"
    conversation(fake, "new")
    assert texts(replay.replay(domain, registry, server, actor="a")) == ["new"]
    assert mark(registry, "tiny").turns == 231


def test_what_still_runs_is_read_when_it_has_ended(asks, fake, server):
    domain, registry = opened(asks)
    slow = conversation(fake, "slow", end=None)
    conversation(fake, "quick")
    assert texts(replay.replay(domain, registry, server, actor="a")) == ["quick"]
    assert mark(registry, "tiny").pending == {slow: "0"}
    fake.finish(slow)
    assert texts(replay.replay(domain, registry, server, actor="a")) == ["slow"]
    assert mark(registry, "tiny").pending == {}


def test_a_long_execution_is_read_while_its_events_can_be_seen(asks, fake, server):
    domain, registry = opened(asks)
    name = fake.started("apps/helpdesk", WORKLOAD)
    found: list[str] = []
    for round_ in range(3):
        for number in range(1_200):
            said(fake, name, f"{round_}.{number}")
        found += texts(replay.replay(domain, registry, server, actor="a"))
    fake.finish(name)
    last = replay.replay(domain, registry, server, actor="a")
    assert found + texts(last) == [f"{r}.{n}" for r in range(3) for n in range(1_200)], "3,600 of at most 2,000 a page"
    late = fake.started("apps/helpdesk", WORKLOAD)
    for number in range(2_100):
        said(fake, late, str(number))
    fake.finish(late)
    reading = replay.replay(domain, registry, server, actor="a")
    assert reading.truncated == 1 and len(reading.rows) < 2_100


def test_the_cap_ends_a_reading_and_the_next_goes_on(asks, fake, server):
    domain, registry = opened(asks, "      cap_turns: 4\n")
    for number in range(5):
        conversation(fake, f"{number}a", f"{number}b", f"{number}c")
    found = []
    for _ in range(6):
        reading = replay.replay(domain, registry, server, actor="a")
        assert len(reading.rows) <= 4
        found += texts(reading)
    assert found == [f"{number}{letter}" for number in range(5) for letter in "abc"]


def test_a_connection_that_drops_in_mid_page_costs_nothing(asks, fake, server):
    domain, registry = opened(asks)
    for number in range(150):
        conversation(fake, f"turn {number}")
    cuts = iter([fake_server.CUT, fake_server.LOSE, None, fake_server.CUT])
    fake.faults = lambda _method, path: next(cuts, None) if path == "executions" else None
    assert len(replay.replay(domain, registry, server, actor="a").rows) == 150


def test_a_server_that_goes_away_leaves_what_it_had_answered(asks, fake, server):
    domain, registry = opened(asks)
    for number in range(40):
        conversation(fake, f"turn {number}")
    found: list[str] = []
    fake.faults = random_faults(0.7, seed=5, kinds=(fake_server.CUT, fake_server.DROP, fake_server.FAIL))
    away = 0
    for _ in range(200):
        reading = replay.replay(domain, registry, server, actor="a")
        found, away = found + texts(reading), away + bool(reading.away)
        if len(found) == 40:
            break
    assert found == [f"turn {number}" for number in range(40)] and away > 1


def test_hostile_answers_are_dropped_or_named(asks, fake, server):
    domain, registry = opened(asks)
    name = fake.started("apps/helpdesk", WORKLOAD)
    for data in ({"input": None, "outputs": {}}, "text", [1], {"output": 1}, {"input": {"text": "x" * 5_000_000}}):
        fake.step(name, "extract_turn", data=data)
    fake.step(name, "extract_turn", data={"input": {"text": "$(id) {{ 7*7 }} `x`"}})
    fake.step(name, "extract_turn", exit_code=1, data={"input": {"text": "of a step that failed"}})
    fake.step(name, "extract_turn", stdout='log line\n{"input": {"text": "of a shell step"}}\n')
    fake.finish(name)
    broken = conversation(fake, "unreadable")
    fake.raw[f"executions/{broken}"] = (200, b"<html>\xff{{ 7*7 }}", {})
    conversation(fake, "after it")
    reading = replay.replay(domain, registry, server, actor="a")
    assert texts(reading) == ["$(id) {{ 7*7 }} `x`", "of a shell step", "after it"]
    assert reading.dropped == {
        "no turn in what the step gave": 4, "longer than data.max_row_bytes": 1, "an answer that is no execution": 1
    }  # fmt: skip
    fake.raw["executions"] = (200, b"{{ 7*7 }}", {})
    with pytest.raises(ProtocolError, match="not JSON"):
        replay.replay(domain, registry, server, actor="a")


def test_a_turn_that_cannot_be_redacted_is_not_kept(asks, fake, server, monkeypatch):
    domain, registry = opened(asks)
    conversation(fake, "fine", "the planted one")
    honest = Redactor._spans

    def fragile(self: Redactor, text: str) -> Any:
        if "planted" in text:
            raise MemoryError
        return honest(self, text)

    monkeypatch.setattr(Redactor, "_spans", fragile)
    reading = replay.replay(domain, registry, server, actor="a")
    assert texts(reading) == ["fine"] and reading.dropped == {"could not be redacted": 1}


def test_without_a_step_the_workload_is_the_turn(asks, fake, server):
    asks.edit("tiny", lambda text: text.replace("      extract_node: extract_turn\n", ""))
    domain, registry = opened(asks)
    conversation(fake, "not looked at", input={"text": "from the workload"})
    assert texts(replay.replay(domain, registry, server, actor="a")) == ["from the workload"]


def test_one_reader_at_a_time_and_only_where_it_is_asked_for(asks, workplace, fake, server):
    domain, registry = opened(asks)
    with registry.alone("replay tiny"), pytest.raises(BusyError, match="another process"):
        replay.replay(domain, registry, server, actor="a")
    domain, registry = opened(asks, "      status: disabled\n")
    with pytest.raises(BadInputError, match="reads no event log"):
        replay.replay(domain, registry, server, actor="a")
    asks.edit("tiny", lambda text: text.replace("scope: tenant=acme/project=help", "scope: ../x"))
    with pytest.raises(ConfigError, match=r"event_log_replay\.scope"):
        opened(asks)


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(SHAPED, st.sampled_from(["end", "extract_turn", None]))
def test_no_shape_of_an_execution_breaks_the_reading(value, node):
    try:
        execution = protocol.execution_of(value)
    except ProtocolError:
        return
    for turn in turns_of(execution, node=node, signals=["x"]):
        assert turn is None or turn.row()["id"].startswith("noetl-")


def test_what_was_read_joins_the_next_version_and_is_frozen_with_it(asks, fake, monkeypatch):
    """The rows are in the dataset, unlabelled until the oracle labels them."""
    monkeypatch.setenv("NOETL_SERVER_URL", fake.url)
    for number in range(30):
        conversation(fake, f"where is the parcel number {number} for ada@example.com", f"i want money back {number}")
    bad = fake.started("apps/helpdesk", WORKLOAD)
    for _ in range(60):
        fake.step(bad, "extract_turn", data={"input": {"not": "the contract"}})
    fake.finish(bad)
    read = asks.json("replay", "tiny")
    assert (read["turns"], read["executions"], read["redacted"]) == (120, 31, {"email": 30})
    assert asks.json("replay", "tiny")["turns"] == 0
    monkeypatch.delenv("NOETL_SERVER_URL")
    assert "names no server" in asks.json("replay", "tiny", code=2)["error"]
    domain, registry = opened(asks)
    plan = open_version(domain, registry, actor="a")
    assert make_cell(registry, plan, "dataset", actor="a").receipt.status == "succeeded"
    assert "captured/event_log-000001.jsonl" in registry.store.describe(plan.seed).files
    dataset = registry.cell("tiny", 1, "dataset")["receipt"]["outputs"]["dataset"]["sha256"]
    rows = [
        json.loads(line)
        for part in ("train", "validation", "eval", "reserve")
        for line in registry.store.read(dataset, f"{part}.jsonl").splitlines()
    ]
    captured = [row for row in rows if row["source"] == "captured"]
    assert captured and all("ada@" not in canonical.text(row) and row["labels"] == {} for row in captured)
    manifest = json.loads(registry.store.read(dataset, "manifest.json"))
    assert manifest["quarantine"]["rows"] == 60, "turns outside the contract stop no build"
    again = newest_match(registry, "tiny", frozen_inputs(*opened(asks)), {})
    assert again == plan, "nothing new, nothing to make"
