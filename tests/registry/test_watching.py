"""What sensors ask of all domains at once, and the rows of retrains, on each database."""

from __future__ import annotations

from typing import Any

import pytest
import writers

from slm_assets.registry import captures, notices, retrains, watching, windows
from slm_assets.registry.home import Home
from slm_assets.registry.registry import CellRecord, Flip, Registry

DOMAINS = ("d", "e")


@pytest.fixture
def registry(home: Home) -> Registry:
    return Registry(home)


def windowed(registry: Registry, domain: str, fired: str | None = None) -> int:
    """A window, judged where `fired` says what fires ("" for nothing)."""
    columns: dict[str, Any] = {
        "config": "c" * 64, "previous": None, "incoming": None,
        "taken": [{"source": "drop", "name": "a", "stamp": "1"}],
        "serving": {"r": {"number": 1, "release": "x"}}, "as_of": "2026-11-23", "reason": "t",
    }  # fmt: skip
    number = windows.open_window(registry, domain, actor="a", make=lambda _number: columns).number
    if fired is not None:
        numbers = {"value": 0.5, "bound": 0.4, "threshold": 0.1, "n": 9}
        rows = [
            {"trigger": name, "verdict": "FIRED" if name == fired else "QUIET", "sentence": f"{name} up", **numbers}
            for name in ("outcome", "volume")
        ]
        for stage in ("capture", "drift"):
            registry.commit(cell(domain, number, stage, rows if stage == "drift" else []))
    return number


def cell(domain: str, number: int, stage: str, triggers: Any = (), seconds: float = 2.5) -> CellRecord:
    receipt = {"seconds": seconds, "outputs": {"o": {"bytes": 7}}, "result": {"measured": {"usd": 0.5}}}
    return CellRecord(
        domain=domain, number=number, stage=stage, request="r" * 64, status="succeeded", receipt=receipt, run_id="r",
        engine="e", actor="a", triggers=list(triggers),
    )  # fmt: skip


def test_the_newest_window_of_every_domain_with_how_far_it_came(home, registry):
    windowed(registry, "d", "")
    windowed(registry, "d")
    windowed(registry, "e", "")
    windowed(Registry(home, "rival"), "d", "outcome")
    found = watching.newest_windows(registry)
    assert {domain: (row["number"], row["capture"], row["drift"]) for domain, row in found.items()} == {
        "d": (2, None, None),
        "e": (1, "succeeded", "succeeded"),
    }
    assert found["d"]["taken"] == [{"source": "drop", "name": "a", "stamp": "1"}]
    assert found["d"]["serving"] == {"r": {"number": 1, "release": "x"}} and found["d"]["config"] == "c" * 64


def test_what_fires_is_that_of_the_newest_window_that_was_judged(home, registry):
    windowed(registry, "d", "outcome")
    windowed(registry, "d", "volume")
    windowed(registry, "d")
    windowed(registry, "e", "")
    windowed(Registry(home, "rival"), "f", "outcome")
    found = watching.judged(registry)
    assert {domain: (row["number"], row["fired"]) for domain, row in found.items()} == {
        "d": (2, {"volume": "volume up"}),
        "e": (1, {}),
    }
    assert found["d"]["serving"] == {"r": {"number": 1, "release": "x"}}


def test_what_serves_and_under_which_config(registry):
    for domain in DOMAINS:
        for _ in range(2):
            registry.open_plan(domain, number=None, actor="a", make=writers.plan_columns)
    registry.flip("d", [Flip("r", "release", 2, "y" * 64, 0)], action="promote", actor="a", reason="")
    registry.flip("d", [Flip("s", "release", 1, "x" * 64, 0)], action="promote", actor="a", reason="")
    registry.flip("e", [Flip("r", "oracle", None, None, 0)], action="rollback", actor="a", reason="")
    assert watching.serving(registry) == {
        "d": {"r": {"number": 2, "release": "y" * 64}, "s": {"number": 1, "release": "x" * 64}}
    }
    assert watching.serving_configs(registry) == {"d": "c" * 64}


def test_what_stages_cost_lately(registry):
    for number in range(1, 5):
        registry.open_plan("d", number=None, actor="a", make=writers.plan_columns)
        registry.commit(cell("d", number, "label", seconds=number))
    found = watching.measured(registry, "d", last=2)
    assert sorted(row["seconds"] for row in found) == [3.0, 4.0]
    assert found[0]["outputs"] == {"o": {"bytes": 7}} and found[0]["measured"] == {"usd": 0.5}
    assert watching.measured(registry, "e", last=2) == []


def test_when_an_event_log_was_read(registry):
    assert watching.replayed(registry) == {}
    captures.advance(registry, "d", captures.Mark(turns=1), actor="a")
    assert list(watching.replayed(registry)) == ["d"]


def asked(registry: Registry, cause: str = "w1", window: int | None = 1) -> retrains.Row:
    return retrains.ask(registry, "d", cause, triggers=["outcome"], reason="up", actor="a", window=window)


def test_a_cause_asks_once_however_many_ask(home, registry):
    rows = writers.in_threads(8, home, lambda own, _number: asked(own)["id"], range(16))
    assert len(set(rows)) == 1 and len(retrains.of_domain(registry, "d")) == 1
    assert [event["action"] for event in registry.audit("d")] == ["retrain.asked"]


def test_of_two_who_move_a_retrain_one_does(home, registry):
    row = asked(registry)
    moved = writers.in_threads(
        8, home, lambda own, number: retrains.move(own, row, retrains.LAUNCHED, number=number), range(1, 17)
    )
    assert sum(moved) == 1
    (now,) = retrains.in_states(registry, [retrains.LAUNCHED])
    assert now["number"] == moved.index(True) + 1 and now["launched_at"]
    assert retrains.one(registry, "d", now["number"])["id"] == row["id"]
    retrains.renew(registry, now, 9, ["volume"], "more")
    assert retrains.of_domain(registry, "d")[0]["window"] == 1, "what is launched is not asked for anew"


def test_of_those_that_windows_asked_for_the_newest_and_those_that_wait(home, registry):
    for cause, window in (("w1", 1), ("w2", 2), ("schedule-x", None), ("w5", 5)):
        row = asked(registry, cause, window)
        if cause != "w2":
            retrains.move(registry, row, retrains.REFUSED, note="no")
    asked(Registry(home, "rival"))
    assert [row["cause"] for row in retrains.by_trigger(registry)] == ["w2", "w5"]
    retrains.renew(registry, retrains.of_domain(registry, "d")[1], 6, ["volume"], "more")
    assert retrains.of_domain(registry, "d")[1]["window"] == 6


def test_news_are_read_from_a_place_on_and_of_one_namespace(home, registry):
    other = Registry(home, "rival")
    for own in (registry, other, registry):
        notices.note(own, "run.fault", "d", 3, {"error": "x"}, "a")
    notices.note(registry, "else", "d", None, {}, "a")
    first, second = notices.news(registry, ["run.fault"], after=0, limit=9)
    assert [row["id"] for row in notices.news(registry, ["run.fault"], after=first["id"], limit=9)] == [second["id"]]
    assert len(notices.news(registry, ["run.fault", "else"], after=0, limit=2)) == 2
    assert notices.place_before(registry, "2999") > second["id"] and notices.place_before(registry, "2000") == 0
