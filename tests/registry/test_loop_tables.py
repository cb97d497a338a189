"""The tables of the loop on each database: windows and what they said, reviews, erasures, and what people decide."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import writers

from slm_assets.registry import decisions, erasures, retrains, reviews, windows
from slm_assets.registry.erasures import Thinned, forgotten
from slm_assets.registry.home import Home
from slm_assets.registry.registry import CellRecord, Registry
from slm_assets.registry.reviews import DecidedError

ODD = "a\u0000b \U0001f600 'q' \\u0000 \u202e"
"""What a user may write: a NUL, a character outside the plane, quotes, an escape that is none."""
DIGEST = "ab" * 32


@pytest.fixture
def registry(home: Home) -> Registry:
    return Registry(home)


def others(home: Home) -> list[Registry]:
    """Whose rows must never be seen."""
    return [Registry(home, "acme", "default"), Registry(home, "local", "other")]


# Windows --------------------------------------------------------------------------------------------


def columns(number: int) -> dict[str, Any]:
    return {
        "config": "c" * 64, "previous": None if number == 1 else "p" * 64, "incoming": None,
        "taken": [{"source": "drop", "name": ODD, "stamp": "1"}],
        "serving": {"triage": {"number": 3, "release": DIGEST}}, "as_of": f"2026-11-2{number}", "reason": "because",
    }  # fmt: skip


def opened(registry: Registry, _number: int) -> int:
    return windows.open_window(registry, "d", actor="ada", make=columns).number


def test_windows_are_numbered_without_a_gap_however_many_open_them(home, registry):
    assert sorted(writers.in_threads(8, home, opened, range(16))) == list(range(1, 17))
    assert all(windows.latest(other, "d") is None and opened(other, 0) == 1 for other in others(home))
    assert [e["action"] for e in registry.audit("d")] == ["window"] * 16


def test_a_window_reads_back_as_it_was_written_and_stays(home, registry):
    for _ in range(3):
        opened(registry, 0)
    found = windows.window(registry, "d", 2)
    assert found == replace(found, **columns(2)) and (found.version, found.opener) == ("w2", "ada")
    assert windows.latest(registry, "d") == windows.window(registry, "d", 3)
    assert windows.window(registry, "e", 2) is None and windows.window(registry, "d", 9) is None


def judged(registry: Registry, number: int, stage: str, verdict: str = "QUIET") -> None:
    output = {"traffic": {"sha256": f"{number}" * 64, "bytes": 1}} if stage == "capture" else {}
    numbers = {"value": 0.5, "bound": None, "threshold": 0.1, "n": 9, "sentence": ODD}
    live = [{"role": "", "metric": f"psi:/{ODD}", "value": None, "low": None, "high": 0.5, "n": 0}]
    drift = stage == "drift"
    registry.commit(
        CellRecord(
            domain="d", number=number, stage=stage, request="r" * 64, status="succeeded",
            receipt={"outputs": output, "seconds": 1.0, "result": {"measured": {}, "summary": {}}}, run_id="r",
            engine="e", actor="a", triggers=[{"trigger": "volume", "verdict": verdict, **numbers}] if drift else [],
            live=live if drift else [],
        )
    )  # fmt: skip


def test_what_was_captured_and_what_the_triggers_said(home, registry):
    for number in (1, 2, 3):
        opened(registry, 0)
        if number < 3:
            judged(registry, number, "capture")
            judged(registry, number, "drift", "FIRED" if number == 2 else "QUIET")
    assert windows.newest_traffic(registry, "d") == {"number": 2, "traffic": "2" * 64}
    latest = windows.latest(registry, "d")
    assert latest is not None and windows.traffic_of(registry, latest) is None
    judged(registry, 2, "drift", "QUIET")
    rows = windows.triggers(registry, "d", since=2)
    assert [(row["number"], row["verdict"], row["bound"]) for row in rows] == [(2, "QUIET", None)], "said anew"
    (number,) = windows.live_metrics(registry, "d", since=2)
    assert (
        number["value"] is None and number["high"] == 0.5 and number["metric"] == f"psi:/{ODD}".replace("\0", "\ufffd")
    )
    for other in others(home):
        assert windows.triggers(other, "d") == [] and windows.newest_traffic(other, "d") is None


# Reviews --------------------------------------------------------------------------------------------


def an_item(text: str, **more: Any) -> dict[str, Any]:
    return {
        "role": "triage", "turn": "t-" + text[:20].encode().hex(), "why": "audit", "input": {"text": text},
        "candidates": {"served": {"intent": ODD}}, "user": "u1", "conversation": "c1", **more,
    }  # fmt: skip


def offered(registry: Registry, number: int) -> int:
    return reviews.offer(registry, "d", [an_item(f"same {n}") for n in range(5)], actor=f"r{number}")


def test_an_item_is_opened_once_however_many_offer_it(home, registry):
    assert sum(writers.in_threads(8, home, offered, range(8))) == 5
    assert reviews.counts(registry, "d") == {"open": 5, "decided": 0, "skipped": 0, "withdrawn": 0}
    many = [an_item(f"other {n}") for n in range(900)]
    assert reviews.offer(registry, "d", many, actor="a", most=850) == 850
    assert reviews.offer(registry, "d", many, actor="a") == 50, "more than one statement can name"
    assert all(reviews.items(other, "d") == [] for other in others(home))


def decide(registry: Registry, number: int) -> bool:
    (row,) = reviews.items(registry, "d")
    try:
        reviews.change(registry, "d", row["item"], "decided", revision=0, actor=f"r{number}", label={"n": number})
    except DecidedError:
        return False
    return True


def test_of_many_reviewers_at_once_one_wins_and_the_history_has_every_word(home, registry):
    reviews.offer(registry, "d", [an_item(ODD)], actor="a")
    assert sum(writers.in_threads(8, home, decide, range(8))) == 1
    (row,) = reviews.items(registry, "d", state="decided", role="triage")
    assert row["input"] == {"text": ODD} and row["candidates"] == {"served": {"intent": ODD}}
    assert row["label"] == row["history"][0]["label"] and row["author"] == row["history"][0]["author"]
    assert reviews.item(registry, "d", row["item"][:6])["item"] == row["item"], "by its beginning"
    again = reviews.change(registry, "d", row["item"], "decided", revision=1, actor="z", label={"text": ODD})
    assert [one["revision"] for one in again["history"]] == [1, 2]
    gone = reviews.change(registry, "d", row["item"], "withdrawn", revision=2, actor="z")
    assert gone["label"] is None and reviews.items(registry, "d")[0]["label"] is None
    with pytest.raises(DecidedError, match="cannot become skipped"):
        reviews.change(registry, "d", row["item"], "skipped", revision=3, actor="z")
    assert reviews.decided_rows(registry, "d") == ([], [])


def test_decided_rows_are_by_how_they_were_drawn(registry):
    reviews.offer(registry, "d", [an_item("a"), an_item("b", why="complaint"), an_item("c")], actor="a")
    for row in reviews.items(registry, "d"):
        if row["input"] != {"text": "c"}:
            reviews.change(registry, "d", row["item"], "decided", revision=0, actor="z", label={"intent": "x"})
    at_random, picked = reviews.decided_rows(registry, "d")
    assert [row["input"]["text"] for row in at_random] == ["a"]
    assert [row["input"]["text"] for row in picked] == ["b"] and picked[0]["labels"] == {"triage": {"intent": "x"}}


# Erasures -------------------------------------------------------------------------------------------


def wish(registry: Registry, kind: Any = "user", who: str = "u1") -> dict[str, Any]:
    number = erasures.ask(registry, "d", kind, who, actor="officer")
    return next(row for row in erasures.erasures(registry, "d") if row["id"] == number)


def test_an_erasure_takes_review_items_and_names_trees_in_one_step(home, registry):
    stays = an_item("theirs", user="u2", conversation="c2")
    reviews.offer(registry, "d", [an_item("a"), stays, an_item("b", user="u3")], actor="a")
    for other in others(home):
        reviews.offer(other, "d", [an_item("a")], actor="a")
    row = wish(registry)
    found = Thinned({DIGEST: "n" * 64}, ["old"], 3, ["v1"])
    for _ in range(2):  # a kill between them repeats it
        erasures.begin(registry, row, found)
    assert registry._tombstone(DIGEST) == "n" * 64 and others(home)[0]._tombstone(DIGEST) is None
    assert sorted(one["user"] for one in reviews.items(registry, "d")) == ["u2", "u3"]
    assert all(len(reviews.items(other, "d")) == 1 for other in others(home))
    (begun,) = erasures.erasures(registry, "d")
    assert begun["detail"]["state"] == "begun" and begun["detail"]["trees"] == [DIGEST]
    assert all(erasures.erasures(other, "d") == [] and erasures.last(other) == 0 for other in others(home))
    wish(registry, "conversation", "c2")
    assert erasures.last(registry) == 2
    assert forgotten([row], {"user": "u1", "at": row["at"]}) and not forgotten([row], {"user": "u1", "at": "9"})


def finished(registry: Registry, _number: int) -> None:
    (row,) = erasures.erasures(registry, "d")
    erasures.finish(registry, row, "erasure: v1 learned from turns that were erased")


def test_the_retrain_that_an_erasure_asks_for_is_asked_for_once(home, registry):
    erasures.begin(registry, wish(registry), Thinned({}, [], 1, ["v1"]))
    writers.in_threads(4, home, finished, range(4))
    (row,) = retrains.of_domain(registry, "d")
    assert (row["cause"], row["triggers"], row["actor"]) == ("erasure-1", ["erasure"], "officer")
    assert row["window"] is None and retrains.by_trigger(registry) == []
    assert [e["action"] for e in registry.audit("d")].count("retrain.asked") == 1
    assert all(retrains.of_domain(other, "d") == [] for other in others(home))
    (done,) = erasures.erasures(registry, "d")
    assert done["detail"] == {"state": "done", "turns": 1, "files": 0, "versions": ["v1"]}


# What people decide -----------------------------------------------------------------------------------


def test_holds_overrides_and_live_shadows_are_those_said_last(home, registry):
    for held in (True, False, True):
        decisions.hold(registry, "d", 1, held=held, actor="ada", reason=f"because {held}")
    decisions.hold(registry, "d", 2, held=True, actor="ada", reason="x")
    decisions.hold(registry, "d", 2, held=False, actor="ada", reason="y")
    assert set(decisions.all_held(registry, "d")) == {1} and decisions.held_by(registry, "d", 2) is None
    verdict = {"role": "r", "gate": "floor", "verdict": "FAIL", "evidence": DIGEST, "n": 3}
    decisions.override(registry, "d", 1, [verdict], actor="ada", reason="a long enough reason")
    assert [row["gate"] for row in decisions.all_overrides(registry, "d")[1]] == ["floor"]
    for number in (4, None, 5):
        release = DIGEST if number else None
        decisions.shadow_flag(registry, "d", number=number, release=release, sample=0.25, actor="a", reason="r")
    beside = decisions.shadow_of(registry, "d")
    assert beside is not None and (beside["number"], beside["sample"]) == (5, 0.25)
    for other in others(home):
        assert decisions.all_held(other, "d") == {} and decisions.shadow_of(other, "d") is None
        assert decisions.overrides(other, "d", 1) == [] and decisions.last_shadow(other) == 0
