"""Stage label: whose label a row gets, what the oracle may do, and that processes change nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from row_stages import INTENTS, OUTPUT, Build, contents, make_domain, phrases, row, verdicts

from slm_assets import canonical
from slm_assets.errors import BadInputError, SlmError
from slm_assets.models.rules import Answer
from slm_assets.stages import label
from slm_assets.stages.rows import fanout

RULES = {"kind": "rules", "path": "oracle.yaml"}


def build_with(tmp_path: Path, rows: list[dict[str, Any]], **domain: Any) -> Build:
    build = Build(tmp_path, make_domain(tmp_path / "domain", **{"oracle": RULES, **domain}))
    build.seed("a.jsonl", rows)
    build.dataset()
    return build


def with_oracle(monkeypatch: pytest.MonkeyPatch, answer: Callable[[Any], Answer]) -> None:
    class Oracle:
        def answer(self, value: Any) -> Answer:
            return answer(value)

        def close(self) -> None:
            pass

    monkeypatch.setattr(label, "oracles_of", lambda domain: {"route": Oracle()})


def labels_of(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        one["id"]: one
        for split in ("train", "validation", "eval")
        for one in canonical.read_jsonl(folder / f"{split}.jsonl")
    }


def report(folder: Path) -> dict[str, Any]:
    return dict(canonical.read_json(folder / "report.json"))


def test_given_labels_stand_before_the_oracle(tmp_path: Path) -> None:
    rows = phrases(60)
    for one in rows[:20]:
        del one["labels"]
    rows[30]["label_source"] = "reviewed"
    build = build_with(tmp_path, rows)
    folder, result = build.label()
    found = labels_of(folder)
    for n, one in enumerate(rows):
        written = found[one["id"]]
        if n < 20:
            assert written["labels"] == {"route": {"output": {"intent": "other"}, "source": "oracle"}}
            assert written["oracle"] == {"route": None}
        else:
            source = "reviewed" if n == 30 else "gold"
            assert written["labels"] == {"route": {"output": one["labels"]["route"], "source": source}}
            assert written["oracle"] == {"route": INTENTS[n % 3] == "other"}
    wrong = list(canonical.read_jsonl(folder / "disagreements.jsonl"))
    assert {one["id"] for one in wrong} == {f"r{n:04d}" for n in range(20, 60) if INTENTS[n % 3] != "other"}
    assert all(one["oracle"] == {"intent": "other"} != one["label"] for one in wrong)
    on_given = report(folder)["oracle_on_given_labels"]
    assert sum(part["route"]["n"] for part in on_given.values()) == 40
    assert sum(part["route"]["right"] for part in on_given.values()) == 40 - len(wrong)
    assert verdicts(result, "contract") == [("PASS", True)]


def test_order_and_digests_follow_the_dataset(tmp_path: Path) -> None:
    build = build_with(tmp_path, phrases(120))
    folder, _ = build.label()
    for split in ("train", "validation", "eval"):
        file = folder / f"{split}.jsonl"
        names = [one["id"] for one in canonical.read_jsonl(file)]
        assert names == [one["id"] for one in canonical.read_jsonl(tmp_path / "dataset" / f"{split}.jsonl")]
        assert report(folder)["rows"][file.name] == {"rows": len(names), "sha256": canonical.digest_file(file)}
        assert file.read_bytes().splitlines() == [
            canonical.dumps(json.loads(line)) for line in file.read_bytes().splitlines()
        ]


def test_a_later_role_reads_the_chosen_labels(tmp_path: Path) -> None:
    rules = "paths: {intent: {path: /route/intent, default: none}}\nrules: []\ndefault: {intent: '=intent'}\n"
    roles = [
        {"id": "route", "output_schema": "out.json"},
        {
            "id": "echo",
            "reads": ["route"],
            "output_schema": "out.json",
            "deterministic_oracle": {"kind": "rules", "path": "echo.yaml"},
        },
    ]
    rows = phrases(60)
    build = build_with(tmp_path, rows, oracle=None, files={"echo.yaml": rules}, roles=roles)
    found = labels_of(build.label()[0])
    for one in rows:
        intent = one["labels"]["route"]["intent"]
        assert found[one["id"]]["labels"]["echo"] == {"output": {"intent": intent}, "source": "oracle"}


def test_oracle_failures_cost_only_unlabelled_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*phrases(200), row(800, "throws without a label here", None), row(801, "outside without label here", None)]
    rows[7]["input"]["text"] = "throws with a label here"
    build = build_with(tmp_path, rows)

    def answer(value: Any) -> Answer:
        text = value["text"]
        if text.startswith("throws"):
            return Answer(None, "oracle x threw KeyError: 'nights'")
        if text.startswith("outside"):
            return Answer({"intent": "?"}, "the oracle answered outside its contract: ?")
        return Answer({"intent": "order"})

    with_oracle(monkeypatch, answer)
    folder, result = build.label()
    found = labels_of(folder)
    assert found["r0007"]["labels"]["route"]["source"] == "gold"
    assert found["r0007"]["oracle"] == {"route": None}
    assert found["r0800"]["labels"] == found["r0801"]["labels"] == {}
    lost = {one["id"]: one["reason"] for one in report(folder)["lost"]}
    assert lost == {
        "r0800": "oracle x threw KeyError: 'nights'",
        "r0801": "the oracle answered outside its contract: ?",
    }
    assert report(folder)["validity"]["before"]["route"] == {"asked": 202, "answered": 199, "silent": 0, "failed": 3}
    assert verdicts(result, "contract") == [("PASS", True)]


def test_an_oracle_that_often_fails_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = build_with(tmp_path, phrases(60))
    with_oracle(monkeypatch, lambda value: Answer(None, "oracle x threw ZeroDivisionError"))
    with pytest.raises(
        BadInputError, match=r"oracle of route failed on 60 of 60 rows(.|\n)*ZeroDivisionError(.|\n)*cure"
    ):
        build.label()


def test_a_silent_oracle_is_no_failure(tmp_path: Path) -> None:
    never = "rules: [{id: never, when: '1 > 2', then: {intent: other}}]\n"
    build = build_with(tmp_path, phrases(60), files={"oracle.yaml": never})
    folder, result = build.label()
    assert report(folder)["validity"]["before"]["route"]["silent"] == 60
    assert {one["oracle"]["route"] for one in labels_of(folder).values()} == {None}
    assert verdicts(result, "contract") == [("PASS", True)]


def test_values_that_nobody_emits_are_named(tmp_path: Path) -> None:
    rows = phrases(60)
    for one in rows:
        one["labels"]["route"]["intent"] = "order"
    build = build_with(tmp_path, rows)
    folder, result = build.label()
    assert report(folder)["unreachable"]["route"]["/intent"] == {"values": 3, "nowhere": ["refund"], "unlabelled": 2}
    assert verdicts(result, "vocabulary") == [("INSUFFICIENT", False)]
    assert "/intent: refund" in next(one.reason for one in result.verdicts if one.gate == "vocabulary")


def test_rows_without_any_label_are_refused(tmp_path: Path) -> None:
    rows = phrases(60)
    for one in rows:
        del one["labels"]
    build = build_with(tmp_path, rows, oracle=None)
    with pytest.raises(BadInputError, match="no train row of desk has a label"):
        build.label()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Build:
    rows = phrases(5200)
    for one in rows[::3]:
        del one["labels"]
    return build_with(tmp_path_factory.mktemp("many"), rows)


def test_the_number_of_processes_changes_nothing(many: Build) -> None:
    alone, _ = many.label("alone")
    pool, _ = many.label("pool", workers=3)
    assert contents(alone) == contents(pool)
    assert sum(1 for _ in (alone / "train.jsonl").open()) > 3000


WORKER = """
import os, sys, time
from slm_assets.stages.rows import label_worker, labelling
from slm_assets.models.rules import Answer

class Oracle:
    def answer(self, value):
        if value["text"].startswith("KEYWORD"):
            ACTION
        return Answer({"intent": "other"})
    def close(self):
        pass

label_worker.oracles_of = lambda domain: {"route": Oracle()}
label_worker.main()
"""


@pytest.mark.parametrize(
    ("action", "reason"),
    [("os._exit(7)", r"ended its process \(status 7\)"), ("time.sleep(600)", "did not answer in time")],
)
def test_a_row_that_takes_its_worker_along_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str, reason: str
) -> None:
    rows = [row(n, f"a text number {n} alone", None) for n in range(12)]
    rows[7]["input"]["text"] = "deadly words stand here"
    build = build_with(tmp_path, rows)
    script = tmp_path / "worker.py"
    script.write_text(WORKER.replace("KEYWORD", "deadly").replace("ACTION", action))
    monkeypatch.setattr(fanout, "WORKER", [str(script)])
    monkeypatch.setattr(label, "PART_ROWS", 4)
    monkeypatch.setattr(label, "ALONE_ROWS", 4)
    monkeypatch.setattr(label, "START_SECONDS", 1.0)
    folder, _ = build.label(workers=2)
    found = labels_of(folder)
    assert [name for name, one in found.items() if not one["labels"]] == ["r0007"]
    (lost,) = report(folder)["lost"]
    assert lost["id"] == "r0007"
    assert re.search(reason, lost["reason"])


def test_workers_that_cannot_start_are_an_error(many: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "worker.py"
    script.write_text("raise SystemExit(3)\n")
    monkeypatch.setattr(fanout, "WORKER", [str(script)])
    with pytest.raises(SlmError, match=r"a worker process ended while starting \(status 3\)"):
        many.label("never", workers=2)


def test_labels_meet_the_contract_when_read_again(many: Build) -> None:
    import jsonschema

    folder, result = many.label("read-again")
    validator = jsonschema.Draft202012Validator(OUTPUT)
    rows = list(labels_of(folder).values())
    assert all(validator.is_valid(one["labels"]["route"]["output"]) for one in rows[:1000])
    assert report(folder)["validity"]["after"] == {"route": {"labels": len(rows), "invalid": 0}}
    assert result.rows == {"labels": len(rows)}
