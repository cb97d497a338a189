"""What is kept of the traffic: which turns, how sure, redacted, once, and what a kill or a full disk costs."""

from __future__ import annotations

import errno
import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from slm_assets.canonical import read_jsonl
from slm_assets.models.base import Prediction
from slm_assets.registry import erasures
from slm_assets.serving.capture.recorder import Limits, Recorder
from slm_assets.serving.capture.waiting import WaitingRoom
from slm_assets.stages.traffic import segments
from slm_assets.stages.traffic.reader import captured_turns
from slm_assets.stages.traffic.records import Scope, pseudonym, sampled
from slm_assets.stages.traffic.segments import SegmentWriter, decode, encode, read_segment, recover
from tests.serving.conftest import Clock

SURE = {"text": "where is my secret parcel"}


def rate(home, value):
    config = home.domains / "tiny" / "slm.config.yaml"
    config.write_text(config.read_text().replace("sample_rate: 1.0", f"sample_rate: {value}"))


def folder(home):
    return home.root / "capture" / "local" / "default" / "tiny"


def turns(home, damage=None):
    return list(captured_turns(folder(home), damage))


def test_a_sampled_turn_is_kept_with_its_answer_and_redacted_everywhere(home, serve):
    service = serve(home)
    headers = {"x-conversation-id": "ada@example.org", "x-user-id": "Ada Lovelace"}
    answer = service.post("/v1/tiny/triage", SURE, headers=headers).json()
    detail = {"should": "be secret", "secret": 1}
    told = service.post(
        f"/v1/feedback/{answer['turn_id']}", {"signal": "correction", "role": "triage", "detail": detail}
    )
    assert told.status_code == 202 and told.json()["recorded"] is True
    service.recorder.close()
    (turn,) = turns(home)
    assert turn["turn_id"] == answer["turn_id"] and turn["input"] == {"text": "where is my <X> parcel"}
    assert turn["answers"]["triage"]["release"] == answer["release"]
    assert turn["answers"]["triage"]["output"] == answer["output"]
    assert (turn["sampled"], turn["rate"], turn["why"], turn["probability"]) == (True, 1.0, ["sampled", "outcome"], 1.0)
    assert [(o["signal"], o["role"], o["detail"]) for o in turn["outcomes"]] == [
        ("correction", "triage", {"should": "be <X>", "<X>": 1})
    ]
    stored = b"".join(path.read_bytes() for path in folder(home).iterdir())
    for word in (b"secret", b"ada@", b"Lovelace"):
        assert word not in stored
    assert len(turn["conversation"]) == len(turn["user"]) == 32


def test_whole_conversations_are_sampled_at_the_rate(home, serve):
    rate(home, 0.3)
    service = serve(home)
    for number in range(60):
        for _ in range(2):
            service.post("/v1/tiny/triage", SURE, headers={"x-conversation-id": f"c{number}"})
    service.recorder.close()
    found = turns(home)
    per = {turn["conversation"]: 0 for turn in found}
    for turn in found:
        per[turn["conversation"]] += 1
        assert (turn["why"], turn["probability"]) == (["sampled"], 0.3)
    assert set(per.values()) == {2} and 8 <= len(per) <= 30
    assert service.recorder.kept["sampled"] == len(found)


def test_the_sample_is_uniform_and_the_same_for_ever():
    scope = Scope("t", "p", "d")
    names = [f"c{n}" for n in range(20_000)]
    for share in (0.0, 0.01, 0.1, 0.5, 1.0):
        assert abs(sum(sampled(scope, name, share) for name in names) / 20_000 - share) < 0.01
    small = {name for name in names if sampled(scope, name, 0.1)}
    assert small < {name for name in names if sampled(scope, name, 0.2)}, "a higher rate keeps what a lower one kept"
    assert [n for n in range(60) if sampled(scope, f"c{n}", 0.1)] == [22, 33, 35]


def test_an_unsampled_turn_is_kept_when_a_bad_outcome_comes_in_time(home, serve):
    rate(home, 0.0)
    service = serve(home)
    ids = [service.post("/v1/tiny/triage", SURE).json()["turn_id"] for _ in range(3)]
    service.recorder.pump()
    service.post(f"/v1/feedback/{ids[0]}", {"signal": "success"})
    service.post(f"/v1/feedback/{ids[1]}", {"signal": "retry"})
    service.recorder.pump()
    service.clock.now += 1799
    service.recorder.pump()
    service.post(f"/v1/feedback/{ids[0]}", {"signal": "tool_error"})
    service.recorder.pump()
    service.clock.now += 1
    service.recorder.pump()
    service.post(f"/v1/feedback/{ids[2]}", {"signal": "abandonment"})
    service.recorder.close()
    found = turns(home)
    assert [turn["turn_id"] for turn in found] == [ids[1], ids[0]]
    assert {(tuple(turn["why"]), turn["probability"], turn["sampled"]) for turn in found} == {
        (("outcome",), 1.0, False)
    }
    assert service.recorder.dropped["expired"] == 1 and service.recorder.gauges()["waiting_bytes"] == 0


def test_a_turn_whose_model_failed_is_always_kept(home, serve):
    class Broken:
        def predict(self, value):
            raise ValueError(f"about {value['text']}")

    rate(home, 0.0)
    service = serve(home)
    (snapshot,) = service.engines.snapshots()
    snapshot.engines["triage"] = replace(snapshot.engines["triage"], predictor=Broken())
    service.post("/v1/tiny/triage", SURE)
    service.recorder.close()
    (turn,) = turns(home)
    assert turn["why"] == ["error"] and turn["answers"]["triage"]["fallback"]["reason"] == "error"
    assert turn["answers"]["triage"]["error"] == "ValueError: about where is my <X> parcel"


@pytest.mark.parametrize("behind", [True, False])
def test_a_turn_whose_model_broke_the_contract_is_always_kept(home, serve, behind):
    class Odd:
        def predict(self, value):
            return Prediction({"intent": "none"}, 0.9, valid=False)

    rate(home, 0.0)
    service = serve(home)
    (snapshot,) = service.engines.snapshots()
    serving = snapshot.engines["triage"]
    snapshot.engines["triage"] = replace(serving, predictor=Odd(), oracle=serving.oracle if behind else None)
    answer = service.post("/v1/tiny/triage", SURE).json()
    assert (answer["valid"], answer["engine"]) == ((True, "oracle") if behind else (False, "release"))
    service.recorder.close()
    (turn,) = turns(home)
    assert turn["why"] == ["invalid"] and turn["probability"] == 1.0


def test_the_user_of_an_openai_question_is_the_user(home, serve):
    service = serve(home)
    question = {"model": "tiny/triage", "messages": [{"role": "user", "content": "hi"}], "user": "ada"}
    service.post("/v1/chat/completions", question)
    service.post("/v1/tiny/triage", SURE, headers={"x-user-id": "ada"})
    service.recorder.close()
    first, second = turns(home)
    assert first["user"] == second["user"] != ""


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ([], "$"),
        ({}, "$.signal"),
        ({"signal": "sad"}, "$.signal"),
        ({"signal": 5}, "$.signal"),
        ({"signal": "retry", "role": "none"}, "$.role"),
        ({"signal": "retry", "role": {}}, "$.role"),
        ({"signal": "retry", "more": 1}, "$"),
    ],
)
def test_feedback_that_means_nothing_is_told_where(promoted, serve, value, path):
    refused = serve(promoted, keep=False).post("/v1/feedback/tiny-00000000000-000000-000000000000", value)
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, path)


def test_a_domain_s_own_signals_are_taken(home, serve):
    config = home.domains / "tiny" / "slm.config.yaml"
    config.write_text(config.read_text().replace("sample_rate: 1.0", "sample_rate: 0.0, outcome_signals: [escalated]"))
    service = serve(home)
    turn = service.post("/v1/tiny/triage", SURE).json()["turn_id"]
    assert service.post(f"/v1/feedback/{turn}", {"signal": "escalated"}).status_code == 202
    service.recorder.close()
    assert [outcome["signal"] for outcome in turns(home)[0]["outcomes"]] == ["escalated"]


def test_without_a_redactor_or_a_wish_nothing_is_kept_and_the_answer_says_so(home, serve):
    service = serve(home, keep=False)
    turn = service.post("/v1/tiny/triage", SURE).json()["turn_id"]
    assert service.post(f"/v1/feedback/{turn}", {"signal": "retry"}).json()["recorded"] is False
    config = home.domains / "tiny" / "slm.config.yaml"
    config.write_text(config.read_text().replace("    capture: {sample_rate: 1.0}\n", ""))
    service = serve(home)
    turn = service.post("/v1/tiny/triage", SURE).json()["turn_id"]
    assert service.post(f"/v1/feedback/{turn}", {"signal": "retry"}).json()["recorded"] is False
    service.recorder.close()
    assert not (home.root / "capture").exists()


def test_what_cannot_be_redacted_is_not_kept(home, serve, monkeypatch, caplog):
    service = serve(home)

    def fails(_domain, value):
        raise RuntimeError(f"cannot read {value}")

    monkeypatch.setattr(service.recorder, "_redact", fails)
    assert service.post("/v1/tiny/triage", SURE).status_code == 200
    monkeypatch.setattr(service.recorder, "_redact", lambda _domain, value: {1: 2}[value])
    assert service.post("/v1/tiny/triage", SURE).status_code == 200
    service.recorder.close()
    assert turns(home) == [] and service.recorder.dropped["redaction"] == 2
    assert "secret" not in caplog.text


def test_a_full_queue_drops_counts_and_answers_all_the_same(home, serve):
    service = serve(home, limits=Limits(queue_records=3))
    answers = [service.post("/v1/tiny/triage", SURE) for _ in range(5)]
    assert {answer.status_code for answer in answers} == {200}
    late = service.post(f"/v1/feedback/{answers[0].json()['turn_id']}", {"signal": "retry"})
    assert late.status_code == 503 and late.headers["retry-after"] == "1"
    service.recorder.close()
    assert len(turns(home)) == 3 and service.recorder.dropped["queue_full"] == 3
    small = serve(home, limits=Limits(queue_bytes=60))
    for _ in range(3):
        small.post("/v1/tiny/triage", SURE)
    assert small.recorder.gauges()["queued_records"] == 1 and small.recorder.dropped["queue_full"] == 2


def test_a_full_disk_costs_the_turn_and_not_the_log(home, serve, monkeypatch):
    service = serve(home)
    service.post("/v1/tiny/triage", SURE)
    service.recorder.pump()
    (writer,) = service.recorder._writers.values()
    file = writer._file

    class Full:
        def __init__(self, room):
            self.room = room

        def write(self, data):
            if not self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            count = file.write(data[: self.room])
            self.room -= count
            return count

        def __getattr__(self, name):
            return getattr(file, name)

    writer._file = Full(100)
    assert service.post("/v1/tiny/triage", SURE).status_code == 200
    service.recorder.pump()
    writer._file = file
    service.post("/v1/tiny/triage", SURE)
    service.recorder.close()
    damage = []
    assert len(turns(home, damage)) == 2 and damage == [] and service.recorder.dropped["disk"] == 1


def test_the_same_feedback_twice_counts_once(home, serve):
    service = serve(home)
    turn = service.post("/v1/tiny/triage", SURE).json()["turn_id"]
    for _ in range(3):
        service.post(f"/v1/feedback/{turn}", {"signal": "retry"})
    service.recorder.close()
    assert len(turns(home)[0]["outcomes"]) == 1


# Waiting room ------------------------------------------------------------------------------------


def test_the_waiting_room_is_bounded_and_the_oldest_leave_first():
    room = WaitingRoom(seconds=10, max_bytes=100)
    assert [room.put(f"t{n}", b"x" * 30, now=n) for n in range(5)] == [0, 0, 0, 1, 1]
    assert len(room) == 3 and room.bytes == 90 and not room.has("t1") and room.has("t2")
    assert room.take("t3") == b"x" * 30 and room.take("t3") is None and room.bytes == 60
    assert room.expire(now=11.9) == 0 and room.expire(now=12) == 1 and room.expire(now=14) == 1
    assert len(room) == room.bytes == 0


# Segments ----------------------------------------------------------------------------------------


def lines(path, damage=None):
    return [orjson.loads(line) for line in read_segment(path, [] if damage is None else damage)]


def write(folder, count=5, name="w"):
    writer = SegmentWriter(folder, name)
    for number in range(count):
        writer.append(orjson.dumps({"n": number}), now=0.0)
    return writer


def test_a_sealed_segment_is_json_lines_with_checksums(tmp_path):
    write(tmp_path).seal()
    (path,) = tmp_path.iterdir()
    rows = list(read_jsonl(path))
    assert path.suffix == ".jsonl" and [row["data"]["n"] for row in rows[:-1]] == list(range(5))
    assert rows[-1]["seal"]["rows"] == 5
    damage: list[str] = []
    assert len(lines(path, damage)) == 5 and damage == []


def test_every_flipped_byte_is_noticed_and_nothing_false_is_read(tmp_path):
    write(tmp_path, 3).seal()
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for position in range(len(whole)):
        altered = bytearray(whole)
        altered[position] ^= 1
        path.write_bytes(altered)
        damage: list[str] = []
        found = lines(path, damage)
        assert damage, position
        assert all(row in ({"n": 0}, {"n": 1}, {"n": 2}) for row in found)


def test_a_line_too_many_or_too_few_is_noticed(tmp_path):
    write(tmp_path, 3).seal()
    (path,) = tmp_path.iterdir()
    rows = path.read_bytes().splitlines(keepends=True)
    for altered in (
        rows[1:],
        rows[:-1],
        [rows[0], *rows],
        [*rows[:-1], encode(b'{"n":9}'), rows[-1]],
        [*rows, rows[0]],
    ):
        path.write_bytes(b"".join(altered))
        damage: list[str] = []
        lines(path, damage)
        assert damage


@pytest.mark.parametrize("seed", range(20))
def test_a_torn_tail_is_cut_off_wherever_it_is_torn(tmp_path, seed):
    writer = write(tmp_path, 4)
    (path,) = tmp_path.iterdir()
    writer._file.close()
    whole = path.read_bytes()
    ends = [position + 1 for position, byte in enumerate(whole) if byte == 10]
    cut = random.Random(seed).randrange(len(whole) + 1)
    path.write_bytes(whole[:cut])
    kept = sum(end <= cut for end in ends)
    assert recover(tmp_path) == cut - ([0, *ends][kept])
    found = list(tmp_path.iterdir())
    assert len(found) == (1 if kept else 0)
    damage: list[str] = []
    assert [lines(path, damage) for path in found] == [[{"n": n} for n in range(kept)]][: len(found)] and damage == []


def test_a_kill_between_sealing_and_renaming_is_recovered(tmp_path, monkeypatch):
    writer = write(tmp_path, 3)
    monkeypatch.setattr(segments, "_finish", lambda path, file: None)
    writer.seal()
    monkeypatch.undo()
    assert [path.suffix for path in tmp_path.iterdir()] == [".open"]
    assert recover(tmp_path) == 0
    damage: list[str] = []
    (path,) = tmp_path.iterdir()
    assert len(lines(path, damage)) == 3 and damage == [] and path.read_bytes().count(b"seal") == 1


def test_a_segment_that_somebody_writes_is_left_alone_and_read_as_far_as_it_goes(tmp_path):
    writer = write(tmp_path, 2)
    assert recover(tmp_path) == 0
    (path,) = tmp_path.iterdir()
    with path.open("ab") as file:
        file.write(encode(b'{"n":2}')[:-4])
    damage: list[str] = []
    assert path.suffix == ".open" and lines(path, damage) == [{"n": 0}, {"n": 1}] and damage == []
    writer._file.close()


def test_segments_rotate_by_size_and_by_age(tmp_path):
    writer = SegmentWriter(tmp_path, "w", max_bytes=200, max_seconds=60)
    for number in range(20):
        writer.append(orjson.dumps({"n": number}), now=0.0)
    sealed = sorted(path.name for path in tmp_path.glob("*.jsonl"))
    assert len(sealed) >= 2
    writer.append(orjson.dumps({"n": 20}), now=61.0)
    writer.seal()
    found = [row["n"] for path in sorted(tmp_path.iterdir()) for row in lines(path)]
    assert found == list(range(21)) and len(list(tmp_path.iterdir())) > len(sealed) + 1


def test_only_a_whole_line_decodes():
    line = encode(b'{"a":1}')
    assert decode(line) == b'{"a":1}' and json.loads(line)["data"] == {"a": 1}
    assert all(decode(line[:n]) is None for n in range(len(line)))


WRITER = """
import sys, time
from pathlib import Path
from slm_assets.serving.capture.recorder import Limits, Recorder
from slm_assets.serving.capture.records import TurnRecord
from slm_assets.stages.traffic.records import Scope
from slm_assets.serving.turns import Turn
from slm_assets.stages.answering import Answer
from slm_assets.stages.traffic.records import Scope

recorder = Recorder(Path(sys.argv[1]), lambda _domain, value: value, "w", limits=Limits(pump_seconds=0.001))
recorder.start()
number = 0
while True:
    turn = Turn(f"t{number}", 0.0, "d", "r", {"n": number}, {"r": Answer({}, 1.0, True, "oracle")}, 0.0)
    recorder.offer(TurnRecord(Scope("t", "p", "d"), turn, "", "", 1.0, 10))
    number += 1
    if number % 200 == 0:
        print(recorder.kept["sampled"], flush=True)
        time.sleep(0.001)
"""


def test_a_kill_under_load_loses_nothing_that_was_written_and_doubles_nothing(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        told = 0
        while told < 2000:
            told = int(child.stdout.readline())
        child.kill()
        rest = child.stdout.read().splitlines()
    told = max([told, *(int(line) for line in rest if line.isdigit())])
    recorder = Recorder(tmp_path, lambda _domain, value: value, "next", clock=Clock())
    recorder.start()
    recorder.close()
    damage: list[str] = []
    found = [turn["input"]["n"] for turn in captured_turns(tmp_path, damage)]
    assert len(found) >= told >= 2000 and found == list(range(len(found))) and damage == []
    assert [path.suffix for path in Path(tmp_path, "t", "p", "d").iterdir()] == [".jsonl"]


def test_who_is_to_be_forgotten_no_longer_waits_and_what_is_written_is_sealed(home, registry, serve):
    service = serve(home)
    for user in ("4711", "42"):
        body = {"text": f"PLANTED {user}"}
        assert service.post("/v1/tiny", body, headers={"x-user-id": user, "x-conversation-id": user}).status_code == 200
    service.recorder.pump()
    folder = home.root / "capture"
    assert list(folder.rglob("*.open"))
    service.engines.refresh()
    who = pseudonym(Scope("local", "default", "tiny"), "user", "4711")
    erasures.ask(registry, "tiny", "user", who, actor="officer")
    service.engines.on_erasure = service.recorder.forget
    service.engines.refresh()
    service.recorder.pump()
    assert not list(folder.rglob("*.open")) and list(folder.rglob("*.jsonl"))
    room = WaitingRoom()
    room.put("t1", f'{{"user":"{who}"}}'.encode(), 0.0)
    room.put("t2", b'{"user":""}', 0.0)
    assert room.forget(f'"{who}"'.encode()) == 1 and room.has("t2") and room.bytes == len(b'{"user":""}')


def test_segments_that_nobody_reads_stop_at_the_limit(home, serve):
    service = serve(home, limits=replace(Limits(), disk_bytes=1_500, fsync_seconds=0.0))
    for _ in range(5):
        assert service.post("/v1/tiny/triage", SURE).status_code == 200
        service.recorder.pump()
    kept = service.recorder.kept["sampled"]
    assert 0 < kept < 5 and service.recorder.dropped["disk_limit"] == 5 - kept
    for path in folder(home).iterdir():
        path.unlink()
    service.post("/v1/tiny/triage", SURE)
    service.clock.now += 1
    service.recorder.pump()
    service.post("/v1/tiny/triage", SURE)
    service.recorder.pump()
    assert service.recorder.kept["sampled"] > kept, "once something has read them there is room again"
