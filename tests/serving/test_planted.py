"""Values that Faker invents, wherever people, models and tools write: none of them is in a stored byte."""

from __future__ import annotations

import importlib.util
import random
import sys
from collections import Counter
from pathlib import Path

import orjson
import pytest

from slm_assets.domain.redaction import RedactionPolicy, Redactor
from slm_assets.serving.capture.recorder import Recorder
from slm_assets.serving.capture.records import OutcomeRecord, Scope, TurnRecord
from slm_assets.serving.turns import Turn
from slm_assets.stages.answering import Answer
from tests.serving.conftest import Clock

SCOPE = Scope("acme", "desk", "mail")
SEED = 20261123


def _planted():
    path = Path(__file__).parents[2] / "benchmarks" / "planted.py"
    spec = importlib.util.spec_from_file_location("planted", path)
    module = sys.modules["planted"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


planted = _planted()
REDACTOR = Redactor(RedactionPolicy(fields=["/traveller/called"]))


def _records(one, number, rng):
    """What the service would queue for a planted value; half the turns only wait for their outcome."""
    where = planted.record(rng, one)
    answers = {
        "triage": Answer(where.get("output", {"topic": "other"}), 0.9, True, "model", error=where.get("error", "")),
    }
    value = where.get("input", {"text": "hello"})
    turn = Turn(f"mail-{number:04d}", 1_800_000_000.0, "mail", "triage", value, answers, 0.001)
    yield TurnRecord(SCOPE, turn, f"c{number}", "u", 1.0 if number % 2 else 0.0, 100)
    detail = where.get("feedback", {}).get("detail", {"note": "wrong"})
    yield OutcomeRecord(SCOPE, turn.id, "correction", None, detail, 1_800_000_001.0, 100)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """500 planted values through the recorder: each with the lines that were stored of it, and all bytes on disk."""
    folder = tmp_path_factory.mktemp("capture")
    values = planted.planted(10, SEED)
    recorder = Recorder(folder, lambda _domain, value: REDACTOR.redact(value)[0], "test", clock=Clock())
    rng = random.Random(SEED)
    for number, one in enumerate(values):
        for record in _records(one, number, rng):
            assert recorder.offer(record)
    recorder.close()
    assert not +recorder.dropped
    files = sorted(folder.rglob("*.jsonl"))
    lines = [orjson.loads(line) for file in files for line in file.read_bytes().splitlines()]
    kept = [line["data"] for line in lines if "data" in line]
    return values, kept, b"".join(file.read_bytes() for file in files)


def test_five_hundred_values_of_five_locales_and_ten_kinds_are_stored(stored):
    values, kept, _ = stored
    assert len(values) == 500 and set(Counter((one.kind, one.locale) for one in values).values()) == {10}
    assert Counter(line["kind"] for line in kept) == {"turn": 500, "outcome": 500}


def test_no_value_and_no_piece_of_one_is_in_a_stored_byte(stored):
    values, kept, everything = stored
    written = {}
    for line in kept:
        answers = [(answer["output"], answer["error"]) for answer in line.get("answers", {}).values()]
        own = (line.get("input"), answers, line.get("detail"))
        written.setdefault(line["turn_id"], []).append(orjson.dumps(own).decode())
    left = []
    for number, one in enumerate(values):
        text = " ".join(written[f"mail-{number:04d}"])
        left += [(one.kind, one.text, piece) for piece in one.left(text.replace("\\n", "\n"))]
        assert one.value.encode() not in everything and orjson.dumps(one.value)[1:-1] not in everything
    assert not left


def test_the_check_finds_what_is_left(stored):
    values, _, _ = stored
    assert all(one.left(one.text) for one in values)
    half = [one.value[: len(one.value) // 2 + 1] for one in values]
    assert sum(bool(one.left(one.text.replace(one.value, part))) for one, part in zip(values, half, strict=True)) > 450
