"""Captured traffic: every source, each turn once, whatever happens between two readings."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slm_assets.engines.in_process import make_cell
from slm_assets.errors import BadInputError, BusyError
from slm_assets.registry import windows
from slm_assets.registry.captures import Mark, advance
from slm_assets.registry.home import Home
from slm_assets.stages import windows as opening
from slm_assets.stages.contract import Envelope
from slm_assets.stages.plans import open_domain
from slm_assets.stages.requests import request_for
from slm_assets.stages.runner import execute
from slm_assets.stages.traffic import intake
from tests.conftest import FIXTURES
from tests.traffic.conftest import Traffic, at, outcome, turn


def ids(found: list[dict]) -> list[str]:
    return sorted(one["turn_id"] for one in found)


def test_sealed_open_and_late_records_are_taken_in_once(traffic: Traffic, tmp_path: Path):
    traffic.write("a", [turn("t1"), turn("t2")])
    traffic.write("b", [turn("t3"), outcome("t1", detail={"intent": "refund"})], seal=False)
    first, made = traffic.capture()
    assert first.version == "w1" and ids(traffic.turns(made, tmp_path)) == ["t1", "t2", "t3"]
    left = intake.capture_folder(traffic.home, traffic.registry, "tiny")
    assert [path.suffix for path in left.iterdir()] == [".open"], "what was sealed is done with"

    again, made = traffic.capture()
    assert again == first and made.cached, "nothing new, no new window"

    traffic.write("b", [turn("t4"), outcome("t2", "retry"), outcome("t2", "retry")])
    second, made = traffic.capture()
    found = {one["turn_id"]: one for one in traffic.turns(made, tmp_path)}
    assert second.version == "w2" and sorted(found) == ["t1", "t2", "t3", "t4"]
    assert [o["signal"] for o in found["t2"]["outcomes"]] == ["retry"], "of an earlier part, told twice"
    assert found["t1"]["outcomes"][0]["detail"] == {"intent": "refund"}
    assert found["t2"]["why"] == ["sampled", "outcome"] and found["t2"]["probability"] == 1.0
    assert found["t4"]["why"] == ["sampled"] and found["t4"]["probability"] == 0.5
    assert made.receipt.result.summary["new turns"] == 1 and made.receipt.result.summary["doubled"] == 3
    assert not list(left.iterdir())
    entry = traffic.registry.entry("traffic", "tiny", 2)
    assert entry is not None and entry["rows"] == 4
    assert (traffic.registry.urn("traffic", "tiny", 1), traffic.registry.urn("traffic", "tiny", 2)) in (
        traffic.registry.edges()
    )


def test_a_window_that_was_not_captured_comes_first(traffic: Traffic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    traffic.write("a", [turn("t1")])
    monkeypatch.setattr(intake, "consume", lambda _found: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        opening.next_window(traffic.domain, traffic.registry, actor="killed")
    monkeypatch.undo()
    traffic.write("a", [turn("t2")])
    window, made = traffic.capture()
    assert window.opener == "killed" and ids(traffic.turns(made, tmp_path)) == ["t1"]
    window, made = traffic.capture()
    assert window.number == 2 and ids(traffic.turns(made, tmp_path)) == ["t1", "t2"]
    assert made.receipt.result.summary["doubled"] == 0, "the file that was left is known"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(0, 12), max_size=6), min_size=1, max_size=5), st.data())
def test_however_often_it_runs_each_turn_is_there_once(tmp_path_factory, batches: list[list[int]], data: st.DataObject):
    root = tmp_path_factory.mktemp("again")
    shutil.copytree(FIXTURES / "domains", root / "domains")
    home = Home(root, root / "domains", f"sqlite:///{root}/registry.db", str(root / "artifacts"))
    traffic = Traffic(home, *open_domain(home, "tiny"))
    made = None
    for number, batch in enumerate(batches):
        traffic.write(f"s{data.draw(st.integers(0, 1))}", [turn(f"t{n}") for n in batch], seal=data.draw(st.booleans()))
        if batch and data.draw(st.booleans()):
            traffic.drop(f"{number}.jsonl", "".join(json.dumps(turn(f"t{n}")) + "\n" for n in batch))
        if data.draw(st.booleans()):
            _, made = traffic.capture()
    _, made = traffic.capture()
    assert ids(traffic.turns(made, root)) == sorted({f"t{n}" for batch in batches for n in batch})


def test_the_drop_folder_is_redacted_before_it_is_kept(traffic: Traffic, tmp_path: Path):
    mail, card = "joan.doe@example.org", "4111 1111 1111 1111"
    greeted = {"triage": {"intent": "greet", "urgent": False}}
    rows = [
        {"input": {"text": f"write to {mail}"}, "outputs": greeted, "at": at(1)},
        {"turn_id": "x", "input": {"text": "hi"}, "user": mail, "conversation": card,
         "answers": {"triage": {"output": {"intent": "sing", "urgent": card}, "error": mail, "engine": "other"}},
         "outcomes": ["tool_error", {"signal": "correction", "role": "triage", "detail": {"note": mail}}]},
    ]  # fmt: skip
    path = traffic.drop("live.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    _, made = traffic.capture()
    found = traffic.turns(made, tmp_path)
    assert len(found) == 2 and not path.exists()
    assert found[0]["input"]["text"] == "write to [email]" and found[0]["at"] == at(1) and found[0]["source"] == "drop"
    assert found[1]["answers"]["triage"]["valid"] is False, "judged by our contract, whatever was told"
    assert sorted(o["signal"] for o in found[1]["outcomes"]) == ["correction", "tool_error"]
    kept = b"".join(path.read_bytes() for path in traffic.home.root.rglob("*") if path.is_file())
    assert mail.encode() not in kept and card.encode() not in kept
    assert traffic.registry.verdicts("tiny", 1)[1]["verdict"] == "PASS"


def test_lines_that_are_no_turn_are_refused_with_their_place_and_the_file_stays(traffic: Traffic, tmp_path: Path):
    good = json.dumps(turn("t1"))
    path = traffic.drop("mixed.jsonl", f'{good}\n{{"text": 1}}\nnot json at all\n')
    _, made = traffic.capture()
    assert ids(traffic.turns(made, tmp_path)) == ["t1"]
    assert not path.exists() and path.with_name("mixed.jsonl.refused").exists()
    verdict = next(v for v in traffic.registry.verdicts("tiny", 1) if v["gate"] == "envelope")
    assert verdict["verdict"] == "FAIL" and "2 of 3 records" in verdict["reason"]
    path = traffic.drop("named.jsonl", json.dumps({**turn("t2"), "turn_id": "t\0two"}))
    _, made = traffic.capture()
    assert ids(traffic.turns(made, tmp_path)) == ["t1"] and path.with_name("named.jsonl.refused").exists()
    path = traffic.drop("torn.jsonl.gz", "this is no gzip")
    _, made = traffic.capture()
    assert ids(traffic.turns(made, tmp_path)) == ["t1"] and path.with_name("torn.jsonl.gz.refused").exists()


def test_a_refused_file_that_a_kill_left_behind_still_stays(traffic: Traffic, monkeypatch: pytest.MonkeyPatch):
    path = traffic.drop("mixed.jsonl", '{"input": {"text": "a"}, "outputs": {"triage": {}}}\nnothing\n')
    with monkeypatch.context() as killed:
        killed.setattr(intake, "consume", lambda found: None)
        window, _ = traffic.capture()
    assert path.exists()
    assert traffic.capture()[0] == window, "it was read already"
    assert not path.exists() and path.with_name("mixed.jsonl.refused").exists()


def test_an_altered_segment_is_told_and_the_rest_kept(traffic: Traffic, tmp_path: Path):
    traffic.write("a", [turn("t1"), turn("t2")])
    folder = intake.capture_folder(traffic.home, traffic.registry, "tiny")
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes().replace(b'"t1"', b'"tX"', 1))
    _, made = traffic.capture()
    assert ids(traffic.turns(made, tmp_path)) == ["t2"]
    verdict = next(v for v in traffic.registry.verdicts("tiny", 1) if v["gate"] == "envelope")
    assert verdict["verdict"] == "FAIL" and "torn or altered" in verdict["reason"]


def test_old_turns_are_forgotten_and_do_not_come_back(traffic: Traffic, tmp_path: Path):
    traffic.write("a", [turn("old", days_ago=200), turn("t1", days_ago=80), turn("t2")])
    _, made = traffic.capture()
    assert ids(traffic.turns(made, tmp_path)) == ["t1", "t2"] and made.receipt.result.summary["doubled"] == 0
    config = traffic.home.domains / "tiny" / "slm.config.yaml"
    config.write_text(
        config.read_text().replace("  improvement:\n", "  improvement:\n    capture: {retention_days: 30}\n")
    )
    traffic.domain, traffic.registry = open_domain(traffic.home, "tiny")
    _, made = traffic.capture()
    assert ids(traffic.turns(made, tmp_path)) == ["t2"]
    traffic.write("b", [turn("t1"), turn("t3")])
    _, made = traffic.capture()
    assert ids(traffic.turns(made, tmp_path)) == ["t2", "t3"], "a late copy of a forgotten turn is known"


def test_turns_of_the_event_log_join(traffic: Traffic, tmp_path: Path):
    folder = tmp_path / "captured"
    folder.mkdir()
    row = {
        "id": "noetl-1-2", "execution": "1", "at": at(), "input": {"text": "hi"}, "engine": "openai",
        "outputs": {"intent": "greet", "urgent": False}, "outcomes": ["tool_error"],
    }  # fmt: skip
    (folder / "event_log-000001.jsonl").write_text(json.dumps(row) + "\n")
    artifact = traffic.registry.store.put(folder).sha256
    advance(traffic.registry, "tiny", Mark("1", 1, artifact), actor="tester")
    first, made = traffic.capture()
    (found,) = traffic.turns(made, tmp_path)
    assert found["source"] == "event_log" and found["answers"]["triage"]["engine"] == "openai"
    assert found["outcomes"][0]["signal"] == "tool_error"
    assert traffic.capture()[0] == first


def test_what_redaction_missed_holds_the_traffic(traffic: Traffic):
    traffic.write("a", [turn("t1", "my address is joan.doe@example.org")])
    traffic.capture()
    verdict = next(v for v in traffic.registry.verdicts("tiny", 1) if v["gate"] == "pii")
    assert verdict["verdict"] == "FAIL" and "1 email" in verdict["reason"]


def test_equal_requests_give_equal_traffic(traffic: Traffic, tmp_path: Path):
    traffic.write("a", [turn(f"t{n}") for n in range(30)])
    traffic.drop("d.jsonl", json.dumps(turn("t99")) + "\n")
    window, made = traffic.capture()
    sha = made.receipt.outputs["traffic"].sha256
    again = execute(
        request_for(traffic.registry, window, "capture"), Envelope(run_id="x"), traffic.registry, tmp_path / "again"
    )
    assert again.outputs["traffic"].sha256 == sha


def test_two_readings_at_once_open_one_window(traffic: Traffic):
    traffic.write("a", [turn("t1")])
    with traffic.registry.alone("window tiny") as mine:
        assert mine
        pid = os.fork()
        if pid == 0:  # pragma: no cover
            try:
                opening.next_window(traffic.domain, traffic.registry, actor="second")
            except BusyError:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert windows.latest(traffic.registry, "tiny") is None


def test_drift_needs_captured_traffic(traffic: Traffic):
    traffic.write("a", [turn("t1")])
    window = opening.next_window(traffic.domain, traffic.registry, actor="tester")
    with pytest.raises(BadInputError, match="not captured yet"):
        make_cell(traffic.registry, window, "drift", actor="tester")
