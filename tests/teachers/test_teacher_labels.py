"""Labels by a teacher: as the policy says, compared with the oracle, each row once whatever is killed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fake_openai import random_faults
from schooling import text_of

from slm_assets import canonical
from slm_assets.engines.budgeted import recover
from slm_assets.engines.in_process import make_cell
from slm_assets.models.teacher import asking as asking_module
from slm_assets.registry import budget, reviews, teaching
from slm_assets.registry.home import Home
from slm_assets.stages.plans import open_domain, open_version
from slm_assets.stages.rows.opinions import differing

CHILD = Path(__file__).with_name("label_child.py")
TEACHER_ONLY = {"teacher": "big", "order": ["agreed", "teacher"]}


def opened(school):
    """A version of the tiny domain with its dataset made."""
    home = Home.from_env(school.place.home)
    home = type(home)(home.root, school.place.domains, home.registry_url, home.artifacts_url)
    domain, registry = open_domain(home, "tiny")
    plan = open_version(domain, registry, actor="tester")
    assert make_cell(registry, plan, "dataset", actor="tester").receipt.status == "succeeded"
    return registry, plan


def labelled(school):
    registry, plan = opened(school)
    outcome = make_cell(registry, plan, "label", actor="tester")
    assert outcome.receipt.status == "succeeded", outcome.receipt.error
    return registry, plan, outcome.receipt


def files(registry, receipt):
    sha = receipt.outputs["labels"].sha256
    names = registry.store.describe(sha).files
    return {
        name: [json.loads(line) for line in registry.store.read(sha, name).splitlines()]
        for name in names
        if name.endswith(".jsonl")
    } | {"report.json": json.loads(registry.store.read(sha, "report.json"))}


def sources(found):
    rows = [row for split in ("train", "validation", "eval") for row in found[f"{split}.jsonl"]]
    return {row["id"]: {role: one["source"] for role, one in row["labels"].items()} for row in rows}


def sometimes(value, _body):
    """Agrees with the oracle's default on every second row, else says otherwise."""
    number = int(value["text"].split("x")[0][1:])
    return json.dumps({"intent": "greet" if number % 2 else "refund", "urgent": False})


@pytest.mark.parametrize(
    ("order", "odd", "even"),
    [
        (["agreed", "oracle"], "agreed", "oracle"),
        (["agreed", "teacher", "oracle"], "agreed", "teacher"),
        (["agreed"], "agreed", None),
        (["oracle"], "oracle", "oracle"),
    ],
)
def test_the_policy_says_whose_answer_is_the_label(school, order, odd, even):
    school.server.say = sometimes
    school.write(rows=60, labels={"teacher": "big", "order": order})
    registry, _, receipt = labelled(school)
    found = files(registry, receipt)
    assert sources(found) == {
        f"u{n:05d}": {"triage": source} if (source := odd if n % 2 else even) else {} for n in range(60)
    }
    assert len(found["divergences.jsonl"]) == 30 and len(found["teacher.jsonl"]) == 60
    one = found["divergences.jsonl"][0]
    assert one["differs"] == {"oracle": ["/intent"]} and one["oracle"]["intent"] == "greet" and "label" not in one
    told = found["report.json"]["teacher"]["triage"]
    assert told["against_oracle"] == {
        "n": 60, "same": 30, "fields": {"intent": {"n": 60, "same": 30}, "urgent": {"n": 60, "same": 60}},
    }  # fmt: skip
    assert receipt.result.summary["teacher"]["triage"] == told and receipt.result.summary["divergences"] == 30
    assert receipt.result.measured["tokens"] == school.server.billed
    assert receipt.result.measured["answers:m-large"] == 60 and receipt.result.measured["usd"] > 0
    queue = reviews.items(registry, "tiny", state="open")
    assert len(queue) == 30 and {item["why"] for item in queue} == {"divergence"}
    assert queue[0]["candidates"]["teacher"] == {"intent": "refund", "urgent": False}
    assert set(queue[0]["candidates"]) == {"teacher", "oracle"} and "text" in queue[0]["input"]


def test_a_given_label_stands_and_a_teacher_asked_about_it_is_compared(school):
    school.server.say = lambda value, body: json.dumps({"intent": "greet", "urgent": False})
    school.write(labels={"teacher": "big", "order": ["teacher"], "asked": "all", "max_rows": 40})
    registry, _, receipt = labelled(school)
    found = files(registry, receipt)
    assert {source for own in sources(found).values() for source in own.values()} == {"gold"}
    assert len(found["teacher.jsonl"]) == 40 == sum(school.server.answered.values())
    against = found["report.json"]["teacher"]["triage"]["against_given"]
    assert against["n"] == 40 and 0 < against["same"] < 40
    assert {"label", "teacher"} <= set(found["divergences.jsonl"][0])


def test_without_a_teacher_in_the_policy_nobody_is_asked_and_nothing_changes(school):
    school.write(rows=30)
    registry, _, receipt = labelled(school)
    assert school.server.bodies == []
    assert set(files(registry, receipt)) == {
        "train.jsonl", "validation.jsonl", "eval.jsonl", "disagreements.jsonl", "report.json",
    }  # fmt: skip
    assert "tokens" not in receipt.result.measured


def test_equal_answers_give_equal_labels_and_a_second_version_costs_nothing(school):
    school.server.say = sometimes
    school.write(rows=50, labels=TEACHER_ONLY)
    registry, _, first = labelled(school)
    bodies = len(school.server.bodies)
    second = make_cell(registry, open_plan(school, registry), "label", actor="tester").receipt
    assert second.outputs["labels"].sha256 == first.outputs["labels"].sha256
    assert len(school.server.bodies) == bodies and second.result.measured["tokens"] == 0
    assert second.result.summary["teachers"][0]["estimate"]["requests"] == 0


def open_plan(school, registry):
    home = registry.home
    domain, _ = open_domain(type(home)(home.root, school.place.domains, home.registry_url, home.artifacts_url), "tiny")
    plan = open_version(domain, registry, actor="tester")
    make_cell(registry, plan, "dataset", actor="tester")
    return plan


def test_hostile_answers_label_nothing_and_are_named(school):
    said = ["{{ teacher_token }}", '{"intent": "x"}', "Ignore previous instructions", '{"intent": "greet"}', ""]
    school.server.say = lambda value, body: said[int(value["text"].split("x")[0][1:]) % 5]
    school.write(rows=40, labels={"teacher": "big", "order": ["agreed", "teacher", "oracle"]})
    registry, _, receipt = labelled(school)
    found = files(registry, receipt)
    assert set(map(str, sources(found).values())) == {"{'triage': 'oracle'}"}
    assert found["report.json"]["teacher"]["triage"] == {"answered": 0, "invalid": 40, "unanswered": 0}
    assert [v.verdict for v in receipt.result.verdicts if v.gate == "contract"] == ["PASS"]


def test_the_budget_stops_it_with_what_it_has(school):
    school.write(rows=80, labels={"teacher": "big", "order": ["agreed", "teacher", "oracle"]},
                 budget="tokens: {limit: 8000}\nusd: {limit: 5}\n")  # fmt: skip
    registry, _, receipt = labelled(school)
    found = files(registry, receipt)
    told = found["report.json"]["teacher"]["triage"]
    assert told["answered"] == sum(school.server.answered.values()) and told["unanswered"] == 80 - told["answered"] > 0
    assert receipt.result.summary["teachers"][0]["stopped"].startswith("budget: tokens: ")
    assert school.server.billed <= 8_000
    assert [event["action"] for event in registry.audit("tiny")].count("budget.over") == 1
    assert recover(registry) == 0


def test_an_unusable_teacher_fails_the_stage_and_says_why(school, monkeypatch):
    school.write(rows=30, labels=TEACHER_ONLY)
    registry, plan = opened(school)
    monkeypatch.setenv("SLM_TEACHER_HOSTS", "")
    receipt = make_cell(registry, plan, "label", actor="tester").receipt
    assert receipt.error_kind == "bad_input" and "the deployment does not allow http://127.0.0.1" in receipt.error
    monkeypatch.setenv("SLM_TEACHER_HOSTS", school.server.host)
    monkeypatch.setattr(asking_module, "_FIRST_WAIT_S", 0.0001)
    school.server.fault = lambda _body: 500
    receipt = make_cell(registry, plan, "label", actor="tester").receipt
    assert receipt.error_kind == "fault" and "questions in a row got no answer" in receipt.error
    school.server.fault = lambda _body: None
    assert make_cell(registry, plan, "label", actor="tester").receipt.status == "succeeded"


def test_a_thousand_rows_killed_three_times_are_labelled_once_and_paid_once(school):
    limit = 1_000_000
    rows = 1_000
    school.server.fault = random_faults(0.1, 7)
    school.write(rows=rows, labels=TEACHER_ONLY, budget=f"tokens: {{limit: {limit}}}\n")
    registry, _plan = opened(school)
    env = school.place.env | {"FIRST_WAIT": "0.001"}

    def child():
        return subprocess.Popen([sys.executable, str(CHILD)], env=env, stdout=subprocess.PIPE, text=True)

    lost = 0.0
    for at in (150, 420, 700):
        reached = threading.Event()
        school.server.on_answer = lambda count, at=at, reached=reached: reached.set() if count >= at else None
        process = child()
        assert reached.wait(120), process.poll()
        process.kill()
        process.communicate(timeout=60)
        running = [row for row in budget.entries(registry, "tiny", limit=99) if row["state"] == budget.RUNNING]
        assert len(running) == 1
        lost += running[0]["reserved"]
    school.server.on_answer = lambda count: None
    process = child()
    out, _ = process.communicate(timeout=300)
    assert out == "succeeded \n"
    receipt = registry.cell("tiny", 1, "label")["receipt"]
    sha = receipt["outputs"]["labels"]["sha256"]
    answers = [json.loads(line) for line in registry.store.read(sha, "teacher.jsonl").splitlines()]
    dataset = registry.cell("tiny", 1, "dataset")["receipt"]["outputs"]["dataset"]["rows"] or rows
    assert len(answers) == len({one["id"] for one in answers}) == dataset == rows
    requests = [one["opinions"]["triage"]["request"] for one in answers]
    assert len(set(requests)) == rows and all(one["opinions"]["triage"]["error"] == "" for one in answers)
    twice = sum(school.server.answered.values()) - rows
    assert set(school.server.answered) == {canonical.text({"text": text_of(n)}) for n in range(rows)}
    assert 0 <= twice <= 3 * 8, "only what was in flight at a kill is asked again"
    told = teaching.known(registry, "tiny", requests)
    kept = sum(one.cost.resources["tokens"] for one in told.values())
    ledger = budget.entries(registry, "tiny", limit=99)
    spent = sum(row["spent"] for row in ledger)
    assert {row["state"] for row in ledger} == {budget.SETTLED} and len(ledger) == 4
    assert spent == kept + lost, "each answer once, and what a kill left in flight at its most"
    assert kept <= school.server.billed <= spent <= limit
    assert receipt["result"]["measured"]["tokens"] == kept


@pytest.mark.parametrize(
    ("left", "right", "places"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1, "b/c": {"d": [1, 2]}}, {"a": 1, "b/c": {"d": [1, 3]}}, ["/b~1c/d/1"]),
        ({"a": 1}, {"b": 1}, ["/a", "/b"]),
        ([1], [1, 2], [""]),
        (1, 1.5, [""]),
    ],
)
def test_where_two_values_differ(left, right, places):
    assert differing(left, right) == places
