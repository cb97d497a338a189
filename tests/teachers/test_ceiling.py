"""The whole chain with a teacher: its labels, the ceiling, the base model, the report, and no secret anywhere."""

from __future__ import annotations

import json

import pytest
from fake_openai import random_faults
from schooling import SECRET

from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry
from tests.conftest import FIXTURES

GOLD = {
    row["input"]["text"]: row["labels"]["triage"]
    for row in map(json.loads, (FIXTURES / "domains/tiny/data/messages.jsonl").read_text().splitlines())
}


def knows(value, body):
    """The larger model errs on one text in ten, the base model knows one intent."""
    gold = GOLD[value["text"]]
    if body["model"] == "m-base":
        return json.dumps({"intent": "refund", "urgent": False})
    wrong = len(value["text"]) % 10 == 0
    return "I would say: a refund." if wrong else json.dumps(gold)


@pytest.fixture
def ran(school):
    """`slm run` of a domain whose teacher marks the ceiling, labels, and fails on a fifth of the requests."""
    school.server.say, school.server.fault = knows, random_faults(0.2, 3, (500, 429))
    school.write(
        others=[{"id": "base", "model": "m-base", "pricing": {}}],
        labels={"teacher": "big", "order": ["agreed", "teacher", "oracle"], "asked": "all", "max_rows": 30},
        eval={"ceiling": "teacher.big", "baseline": "teacher.base", "ceiling_rows": 60},
    )
    return school, school.place.slm("run", "tiny")


def test_the_ceiling_is_measured_on_the_sample_and_shown_beside_the_challenger(ran):
    school, done = ran
    assert done.returncode == 0, done.stdout + done.stderr
    registry = Registry(Home.from_env(school.place.home))
    receipt = registry.cell("tiny", 1, "evaluate")["receipt"]
    report = json.loads(registry.store.read(receipt["outputs"]["eval"]["sha256"], "report.json"))
    asked = {one["subject"]: (one["teacher"], one["rows"], one["of"]) for one in report["above_asked"]}
    assert asked == {"ceiling": ("big", 60, report["n"]), "baseline": ("base", 60, report["n"])} and report["n"] > 60
    lines = {(one["subject"], one["metric"]): one for one in report["above"]}
    top, base = lines["ceiling", "exact"], lines["baseline", "exact"]
    users = {
        json.loads(body["messages"][1]["content"])["text"] for body in school.server.bodies if body["model"] == "m-base"
    }
    assert len(users) == 60
    assert top["value"] == round(sum(len(text) % 10 != 0 for text in users) / 60, 6)
    assert base["value"] == round(sum(GOLD[t] == {"intent": "refund", "urgent": False} for t in users) / 60, 6)
    assert top["n"] == base["n"] == 60 and base["challenger"] == top["challenger"] > base["value"]
    assert top["closed"] == round((top["challenger"] - top["floor"]) / (top["value"] - top["floor"]), 6)
    valid = [m for m in report["metrics"] if (m["subject"], m["metric"]) == ("ceiling", "output_validity")]
    assert valid[0]["value"] == pytest.approx(top["value"]) and valid[0]["n"] == 60
    assert valid[0]["low"] < valid[0]["value"] < valid[0]["high"]
    page = registry.store.read(receipt["outputs"]["eval"]["sha256"], "report.md").decode()
    assert "## Ceiling" in page and "| ceiling | triage | exact |" in page
    assert "ceiling" in done.stdout and "way up" in done.stdout
    kept = [m for m in registry.metrics("tiny", 1) if m["subject"] == "ceiling"]
    assert {m["metric"] for m in kept} == {"intent", "urgent", "exact", "output_validity"}
    measured = receipt["result"]["measured"]
    assert measured["answers:m-base"] == 60 and measured["usd:m-base"] == 0 and measured["usd"] > 0


def test_a_planted_secret_is_in_no_file(ran):
    """Not under the home (registry, artifacts, logs, run folders), not on the screen, not in a playbook."""
    school, done = ran
    emitted = school.place.slm("playbooks", "emit", "--out", str(school.place.home / "books"))
    assert emitted.returncode == 0, emitted.stderr
    assert {headers["authorization"] for headers in school.server.headers} == {f"Bearer {SECRET}"}
    everything = [path for path in school.place.home.parent.rglob("*") if path.is_file()]
    assert len(everything) > 30 and any(path.suffix == ".db" for path in everything)
    assert [path for path in everything if SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in done.stdout + done.stderr
