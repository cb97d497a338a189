"""The review queue: what gets into it, each item in one state, decided once, and what a decision is good for."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import termios
import threading
import time
from typing import Any

import pytest

from slm_assets.engines import forget as forgetting
from slm_assets.engines.in_process import make_cell
from slm_assets.errors import BadInputError
from slm_assets.registry import reviews
from slm_assets.registry.registry import CellRecord, Registry
from slm_assets.stages import reviews as asking
from slm_assets.stages.plans import open_version
from tests.conftest import ROOT
from tests.traffic.conftest import Traffic, outcome, turn
from tests.traffic.test_relabel import GREET, REFUND, built, configure, read, unlike, words

TRACK = {"intent": "track", "urgent": False}


def found(traffic: Traffic, **keys: Any) -> dict[str, str]:
    """Turn → why, of the items."""
    return {row["turn"]: row["why"] for row in reviews.items(traffic.registry, "tiny", **keys)}


def offered(registry: Registry, *texts: str, why: str = "conflict") -> list[str]:
    """Open an item for each text; returns their ids."""
    items = [
        {"role": "triage", "turn": f"t-{text[:40]}", "why": why, "input": {"text": text},
         "candidates": {"served": GREET, "correction": REFUND}, "user": "", "conversation": ""}
        for text in texts
    ]  # fmt: skip
    reviews.offer(registry, "tiny", items, actor="tester")
    return [reviews.item_id("tiny", "triage", {"text": text}) for text in texts]


def test_a_dataset_queues_conflicts_complaints_disagreements_samples_and_suspicions_once(traffic: Traffic):
    configure(traffic, "audit_share: 1.0, review_share: 0.0")
    spam = [unlike(f"p{n}", n, user="mallory", input={"text": f"zorblax {words(n)}"}) for n in range(20)]
    traffic.write("a", [
        turn("fine", f"hello {words(50)}"), turn("agreed", f"money back {words(51)}"), turn("refused", words(52)),
        turn("retried", words(53)), turn("differs", f"where is {words(54)}"), turn("torn", words(55)),
        turn("partly", words(56)), *spam,
        outcome("agreed", detail=REFUND), outcome("refused", detail=REFUND), outcome("retried", "retry"),
        outcome("torn", detail=REFUND), outcome("torn", "success"), outcome("partly", detail={"urgent": True}),
        *(outcome(one["turn_id"], detail=REFUND) for one in spam),
    ])  # fmt: skip
    traffic.capture()
    plan, _, _ = built(traffic)
    why = found(traffic)
    planted = [name for name, reason in why.items() if reason == "planted"]
    assert len(planted) == asking.MAX_PLANTED and all(name.startswith("p") for name in planted)
    assert {name: reason for name, reason in why.items() if name not in planted} == {
        "refused": "conflict", "torn": "conflict", "partly": "conflict", "retried": "complaint",
        "differs": "disagreement",
    }  # fmt: skip
    row = next(row for row in reviews.items(traffic.registry, "tiny") if row["turn"] == "partly")
    assert row["candidates"] == {"oracle": GREET, "served": GREET, "correction": {"intent": "greet", "urgent": True}}
    assert asking.refresh(traffic.registry, plan, actor="again") == 0, "each once"
    built(traffic)
    assert found(traffic) == why


def test_the_sample_for_review_is_drawn_by_its_share_and_new_items_are_limited(traffic: Traffic):
    configure(traffic, "audit_share: 0.0, review_share: 1.0, review_items: 7")
    traffic.write("a", [unlike(f"t{n}", n) for n in range(30)])
    traffic.capture()
    plan, _, _ = built(traffic)
    assert list(found(traffic).values()) == ["audit"] * 7
    assert asking.refresh(traffic.registry, plan, actor="a") == 7, "the next ones, not the same again"
    assert reviews.counts(traffic.registry, "tiny")["open"] == 14


def test_two_reviewers_at_once_one_wins_and_the_other_is_told(traffic: Traffic):
    names = offered(traffic.registry, *(f"text {n}" for n in range(8)))
    told: list[str] = []

    def work(who: str, label: dict[str, Any]) -> None:
        registry = Registry(traffic.home)
        for name in names:
            try:
                asking.decide(registry, traffic.domain, name, label, revision=0, actor=who)
                told.append(who)
            except reviews.DecidedError as error:
                told.append(error.message)

    threads = [threading.Thread(target=work, args=pair) for pair in (("ada", REFUND), ("bob", GREET))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = reviews.items(traffic.registry, "tiny", state="decided")
    assert len(rows) == 8 and len(told) == 16
    assert sum(one in ("ada", "bob") for one in told) == 8
    assert all(row["label"] == {"ada": REFUND, "bob": GREET}[row["author"]] and row["revision"] == 1 for row in rows)
    assert all("was decided by" in one for one in told if one not in ("ada", "bob"))


def test_every_change_is_on_record_and_only_some_lead_on(traffic: Traffic):
    registry = traffic.registry
    (name,) = offered(registry, "hello")
    asking.decide(registry, traffic.domain, name[:8], GREET, revision=0, actor="ada")
    asking.decide(registry, traffic.domain, name, REFUND, revision=1, actor="bob")
    with pytest.raises(reviews.DecidedError, match="is decided and cannot become skipped"):
        reviews.change(registry, "tiny", name, "skipped", revision=2, actor="eve")
    reviews.change(registry, "tiny", name, "withdrawn", revision=2, actor="ada")
    reviews.change(registry, "tiny", name, "open", revision=3, actor="ada")
    assert [(one["author"], one["state"], one["label"]) for one in reviews.item(registry, "tiny", name)["history"]] == [
        ("ada", "decided", GREET), ("bob", "decided", REFUND), ("ada", "withdrawn", None), ("ada", "open", None),
    ]  # fmt: skip
    assert reviews.counts(registry, "tiny") == {"open": 1, "decided": 0, "skipped": 0, "withdrawn": 0}
    for bad in ("", "zz", "0", "%", "abcd", name + "0"):
        with pytest.raises(BadInputError, match="no review item"):
            reviews.item(registry, "tiny", bad)
    assert reviews.items(Registry(traffic.home, "other"), "tiny") == []


@pytest.mark.parametrize("label", [{"intent": "sing", "urgent": True}, {"intent": "greet"}, "greet", None, [], 7])
def test_a_label_that_breaks_the_contract_is_refused(traffic: Traffic, label: Any):
    (name,) = offered(traffic.registry, "hello")
    with pytest.raises(BadInputError, match="breaks the contract of triage"):
        asking.decide(traffic.registry, traffic.domain, name, label, revision=0, actor="ada")
    assert reviews.counts(traffic.registry, "tiny")["open"] == 1


def test_decided_turns_are_frozen_eval_rows_for_ever_and_leave_train(traffic: Traffic):
    registry = traffic.registry
    configure(traffic, "audit_share: 1.0, review_share: 0.0")
    text = "please do something about my quixotic lamp order right now"
    traffic.write("a", [turn("live", text)])
    traffic.capture()
    _, rows, _ = built(traffic)
    before = {row["id"] for row in rows["train"]} | {row["id"] for row in rows["eval"]}
    assert "live" in before
    picked, drawn = offered(registry, text)[0], offered(registry, "what about this odd one", why="audit")[0]
    asking.decide(registry, traffic.domain, picked, TRACK, revision=0, actor="ada")
    asking.decide(registry, traffic.domain, drawn, GREET, revision=0, actor="ada")
    plan, rows, _ = built(traffic)
    decided = {row["id"]: row for row in rows["eval"] if row["source"] in ("reviewed", "audited")}
    assert {name: row["source"] for name, row in decided.items()} == {
        f"t-{text[:40]}": "reviewed", "t-what about this odd one": "audited"
    }  # fmt: skip
    assert decided[f"t-{text[:40]}"]["labels"] == {"triage": TRACK}
    assert "live" not in {row["id"] for row in rows["train"]}, "its copy is not learned"
    made = make_cell(registry, plan, "label", actor="a")
    labels = {row["id"]: row for row in read(traffic, made.receipt.outputs["labels"].sha256, "eval.jsonl")}
    assert labels[f"t-{text[:40]}"]["labels"]["triage"] == {"output": TRACK, "source": "reviewed"}
    assert sorted(registry.store.describe(plan.seed).files)[:2] == ["audited/decided.jsonl", "reviewed/decided.jsonl"]


def test_a_version_is_judged_on_the_golden_set_by_itself(traffic: Traffic):
    registry = traffic.registry
    things = [(c, t) for c in ("mauve", "teal", "beige", "ochre", "ivory", "coral") for t in ("kite", "drum", "sled")]
    texts = [f"i want a refund for the {c} {t} number {n}" for c, t in things for n in (7, 8)]
    for name in offered(registry, *texts):
        asking.decide(registry, traffic.domain, name, {"intent": "refund", "urgent": False}, revision=0, actor="ada")
    plan = open_version(traffic.domain, registry, actor="a")
    for stage in ("dataset", "label", "finetune", "evaluate"):
        receipt = make_cell(registry, plan, stage, actor="a").receipt
        assert receipt.status == "succeeded", receipt.error
    numbers = {
        (row["metric"], row["subject"]): row for row in registry.metrics("tiny", 1) if row["slice"] == "golden_replay"
    }
    assert numbers["intent", "challenger"]["n"] == 36 and ("intent", "floor") in numbers
    whole = next(
        row for row in registry.metrics("tiny", 1)
        if (row["metric"], row["subject"], row["slice"], row["mode"]) == ("intent", "challenger", "", "end_to_end")
    )  # fmt: skip
    eval_rows = read(
        traffic, registry.cell("tiny", 1, "dataset")["receipt"]["outputs"]["dataset"]["sha256"], "eval.jsonl"
    )
    assert whole["n"] == sum(row["source"] == "seed" for row in eval_rows), "cases do not count as held-out rows"
    report = json.loads(registry.store.read(receipt.outputs["eval"].sha256, "report.json"))
    golden = [v for v in report["details"] if v["slice"] == "golden_replay"]
    assert {v["gate"] for v in golden} == {"incumbent"} and all(v["n"] == 36 for v in golden)
    assert all(v["reason"].startswith("golden replay: ") for v in golden)


def test_need_queues_sampled_turns_for_what_is_undecided(traffic: Traffic):
    registry = traffic.registry
    traffic.write("a", [unlike(f"t{n}", n, sampled=n % 2 == 0) for n in range(40)])
    traffic.capture()
    plan = open_version(traffic.domain, registry, actor="a")
    assert asking.open_needed(registry, traffic.domain, actor="a") == {"needed": [], "opened": 0}
    verdict = {
        "gate": "target", "role": "triage", "verdict": "INSUFFICIENT", "metric": "intent", "slice": "", "value": 0.8,
        "low": 0.7, "high": 0.9, "threshold": 0.8, "n": 90, "n_needed": 102, "blocking": True, "reason": "",
        "evidence": "0" * 64,
    }  # fmt: skip
    registry.commit(CellRecord("tiny", plan.number, "evaluate", "0" * 64, "succeeded", {}, "r", "e", "a",
                               verdicts=[verdict]))  # fmt: skip
    result = asking.open_needed(registry, traffic.domain, actor="a")
    assert result["opened"] == 12 == result["needed"][0]["missing"]
    why = found(traffic)
    assert set(why.values()) == {"need"} and all(int(name[1:]) % 2 == 0 for name in why)
    assert asking.open_needed(registry, traffic.domain, actor="a")["opened"] == 0, "the same are not asked twice"


def environment(traffic: Traffic) -> dict[str, str]:
    own = {"SLM_HOME": str(traffic.home.root), "SLM_DOMAINS": str(traffic.home.domains), "TERM": "dumb"}
    return {**os.environ, **own, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


def slm(traffic: Traffic, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "slm_assets.cli", "review", "tiny", *arguments]
    return subprocess.run(command, env=environment(traffic), input=text, capture_output=True, text=True, timeout=120)


def test_scripts_list_decide_skip_and_ask_who(traffic: Traffic):
    one, two = offered(traffic.registry, "hello", "bye")
    listed = json.loads(slm(traffic, "--list", "--json").stdout)
    assert listed["counts"]["open"] == 2 and {row["item"] for row in listed["items"]} == {one, two}
    done = slm(traffic, "--decide", one, "--label", "-", "--by", "ada", "--json", text=json.dumps(REFUND))
    assert json.loads(done.stdout)["label"] == REFUND, done.stderr
    bad = slm(traffic, "--decide", two, "--label", "-", text='{"intent": "sing"}')
    assert bad.returncode == 2 and "breaks the contract" in bad.stderr
    assert slm(traffic, "--skip", two, "--by", "bob").returncode == 0
    assert slm(traffic).returncode == 2, "keys need a terminal"
    (change,) = json.loads(slm(traffic, "--history", one[:8], "--json").stdout)["history"]
    assert (change["author"], change["state"], change["label"]) == ("ada", "decided", REFUND)


def test_a_person_decides_with_one_key_each(traffic: Traffic, tmp_path):
    """In a real terminal; what users wrote cannot steer it."""
    hostile = "\x1b[2J\x1b]0;owned\x07 \u202egnp.exe [bold]hi[/bold]"
    names = offered(traffic.registry, "hello", hostile, "third", "fourth")
    editor = tmp_path / "editor"
    editor.write_text(f"#!/bin/sh\necho '{json.dumps(TRACK)}' > \"$1\"\n")
    editor.chmod(0o755)
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "slm_assets.cli", "review", "tiny", "--by", "ada"]
    env = {**environment(traffic), "EDITOR": str(editor), "VISUAL": str(editor)}
    shown = bytearray()

    def waits_for_a_key() -> bool:
        return not termios.tcgetattr(leader)[3] & termios.ICANON

    def read_until(count: int) -> None:
        until = time.monotonic() + 30
        while not (shown.count(b"next (skip), quit") == count and waits_for_a_key()) and time.monotonic() < until:
            if select.select([leader], [], [], 0.02)[0]:
                try:
                    shown.extend(os.read(leader, 65536))
                except OSError:
                    return  # the terminal is gone with the program

    with subprocess.Popen(command, env=env, stdin=follower, stdout=follower, stderr=follower) as process:
        os.close(follower)
        for number, key in enumerate("scen", 1):
            read_until(number)
            os.write(leader, key.encode())
        read_until(99)
        assert process.wait(30) == 0, shown
    os.close(leader)
    rows = {row["item"]: (row["state"], row["label"]) for row in reviews.items(traffic.registry, "tiny")}
    assert sorted(rows) == sorted(names)
    assert list(rows.values()) == [("decided", GREET), ("decided", REFUND), ("decided", TRACK), ("skipped", None)]
    text = shown.decode()
    assert "\x1b]0;" not in text and "\u202e" not in text and "\\u001b" in text and "[bold]hi[/bold]" in text


def test_a_review_of_the_same_input_is_one_row_for_all_its_roles(traffic: Traffic):
    made = ((1, "a", "x", "audit"), (1, "b", "y", "conflict"), (2, "a", "x", "need"))
    for n, name, role, why in made:
        item = {"role": role, "turn": name, "why": why, "input": {"n": n}, "candidates": {}}
        reviews.offer(traffic.registry, "tiny", [{**item, "user": "", "conversation": ""}], actor="a")
        key = reviews.item_id("tiny", role, {"n": n})
        reviews.change(traffic.registry, "tiny", key, "decided", revision=0, actor="a", label={"r": role})
    at_random, picked = reviews.decided_rows(traffic.registry, "tiny")
    assert [row["labels"] for row in picked] == [{"x": {"r": "x"}, "y": {"r": "y"}}]
    assert [(row["id"], row["input"]) for row in at_random] == [("a", {"n": 2})]


def test_the_domain_is_read_as_it_was_frozen(traffic: Traffic):
    """Somebody edits the config while a version is made: its review items come all the same."""
    configure(traffic, "audit_share: 1.0, review_share: 1.0")
    traffic.write("a", [unlike("t1", 1)])
    traffic.capture()
    plan = open_version(traffic.domain, traffic.registry, actor="a")
    path = traffic.home.domains / "tiny" / "slm.config.yaml"
    good = path.read_text()
    path.write_text("slm_domain: [")
    make_cell(traffic.registry, plan, "dataset", actor="a")
    path.write_text(good)
    assert found(traffic) == {"t1": "audit"}


def test_an_erased_user_leaves_the_queue_the_decisions_and_the_datasets(traffic: Traffic, monkeypatch):
    monkeypatch.setattr(forgetting, "SEAL_SECONDS", 0.0)
    registry, who = traffic.registry, "0" * 32
    configure(traffic, "audit_share: 1.0, review_share: 1.0")
    text = {"text": "PLANTED please"}
    traffic.write("a", [turn("mine", user=who, input=text), turn("theirs", words(1))])
    traffic.capture()
    built(traffic)
    name = reviews.item_id("tiny", "triage", text)
    asking.decide(registry, traffic.domain, name, GREET, revision=0, actor="ada")
    plan, rows, _ = built(traffic)
    assert "mine" in {row["id"] for row in rows["reserve"] + rows["eval"] if row["source"] == "audited"}
    assert rows["quarantine"] == []
    make_cell(registry, plan, "label", actor="a")
    assert any(b"PLANTED" in path.read_bytes() for path in traffic.home.root.rglob("*") if path.is_file())
    forgetting.forget(traffic.domain, registry, "user", who, actor="officer")
    assert [row["turn"] for row in reviews.items(registry, "tiny")] == ["theirs"]
    files = [path for path in traffic.home.root.rglob("*") if path.is_file()]
    assert not [path for path in files if b"PLANTED" in path.read_bytes()]
    _, rows, _ = built(traffic)
    assert not [row for name in rows for row in rows[name] if "PLANTED" in json.dumps(row)]
