"""A user's wish to be forgotten: nothing of the text is left in any byte, and everything else goes on."""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import pytest
from filelock import FileLock

from slm_assets.domain.budget import Budget
from slm_assets.engines import forget as forgetting
from slm_assets.engines.forget import forget
from slm_assets.errors import ArtifactError, BusyError
from slm_assets.registry import erasures, retrains, teaching
from slm_assets.registry.budget import Drawn
from slm_assets.registry.registry import CellRecord, Flip, Plan
from slm_assets.stages import erase
from slm_assets.stages.cadence import retraining
from slm_assets.stages.plans import open_version
from slm_assets.stages.traffic.records import Scope, pseudonym
from tests.traffic.conftest import Traffic, outcome, turn

WHO = pseudonym(Scope("local", "default", "tiny"), "user", "4711")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "SEAL_SECONDS", 0.0)


def bytes_of(root: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file())


def some(traffic: Traffic) -> None:
    """Two captured windows, of which both hold turns of the person."""
    traffic.write("a", [turn("t1", "PLANTED one", user=WHO), turn("t2", "of others")])
    traffic.capture()
    traffic.write("a", [turn("t3", "PLANTED two", user=WHO), outcome("t1", detail={"note": "PLANTED three"})])
    traffic.write("a", [turn("t4", "of others too"), outcome("t4", "retry")])
    traffic.capture()


def test_nothing_is_left_of_a_user_and_everything_of_the_others(traffic: Traffic, tmp_path: Path):
    some(traffic)
    traffic.write("a", [turn("t5", "PLANTED four", user=WHO)])
    traffic.write("b", [turn("t6", "PLANTED five", user=WHO)], seal=False)
    traffic.home.cache.mkdir()
    (traffic.home.cache / "vectors").write_text("what was computed from PLANTED one")
    assert b"PLANTED" in bytes_of(traffic.home.root)
    done, left = forget(traffic.domain, traffic.registry, "user", WHO, actor="officer")
    assert done["detail"]["state"] == "done" and done["detail"]["turns"] == 2
    segments = traffic.home.root / "capture"
    assert left == 1 and b"PLANTED five" in bytes_of(segments), "a service still writes this one"
    traffic.write("b", [turn("t7", "later")])
    _, made = traffic.capture()
    assert b"PLANTED" not in bytes_of(traffic.home.root)
    assert sorted(one["turn_id"] for one in traffic.turns(made, tmp_path)) == ["t2", "t4", "t7"]
    assert [e["action"] for e in traffic.registry.audit("tiny") if "erase" in e["action"]] == ["erase", "erased"]


def test_what_a_teacher_said_to_the_persons_turns_is_gone_too(traffic: Traffic):
    some(traffic)
    purse = teaching.Purse(traffic.registry, "tiny", "v1/label/teacher.big", Budget(), actor="a")
    for name, text in (("t1", "ANSWERED one"), ("t2", "of others"), ("t3", "ANSWERED two")):
        told = teaching.Told(name * 32, "triage", name, "m", text, "stop", teaching.Cost(1, 1, 0.0))
        purse.keep(told, Drawn({}))
    forget(traffic.domain, traffic.registry, "user", WHO, actor="officer")
    assert set(teaching.known(traffic.registry, "tiny", [name * 32 for name in ("t1", "t2", "t3")])) == {"t2" * 32}
    assert b"ANSWERED" not in bytes_of(traffic.home.root)


def test_a_tree_that_was_thinned_out_is_still_its_receipts_output(traffic: Traffic, tmp_path: Path):
    some(traffic)
    entry = traffic.registry.entry("traffic", "tiny", 2)
    assert entry is not None
    forget(traffic.domain, traffic.registry, "user", WHO, actor="officer")
    tree = traffic.registry.store.verify(entry["sha256"])
    assert tree.sha256 == entry["sha256"]
    folder = tmp_path / "second"
    traffic.registry.store.get(entry["sha256"], folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["turns"] == 2 and [part["turns"] for part in manifest["parts"].values()] == [1, 1]


def test_only_the_registry_can_say_what_stands_in_a_trees_place(traffic: Traffic):
    some(traffic)
    store, entry = traffic.registry.store, traffic.registry.entry("traffic", "tiny", 1)
    assert entry is not None
    store.retire_tree(entry["sha256"])
    with pytest.raises(ArtifactError, match="altered"):
        store.describe(entry["sha256"])


def test_datasets_labels_and_bundles_lose_the_turns_too(traffic: Traffic, tmp_path: Path):
    """Trees as the stages of a version leave them, with the turn's id as the row's."""
    some(traffic)
    registry, folder = traffic.registry, tmp_path / "dataset"
    folder.mkdir()
    rows = [{"id": "t1", "input": {"text": "PLANTED one"}}, {"id": "s1", "input": {"text": "seed"}}]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    examples = {"examples": [{"turn_id": "t1", "text": "PLANTED one"}, {"turn_id": "t9"}]}
    manifest = {"rows": {"train.jsonl": {"rows": 2, "sha256": "0"}}, "conflicts": examples}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    plan = open_version(traffic.domain, registry, actor="ada")
    tree = registry.store.put(folder)
    receipt = {"outputs": {"dataset": {"sha256": tree.sha256}}, "result": {"summary": {}}}
    registry.commit(
        CellRecord("tiny", plan.number, "dataset", "0" * 64, "succeeded", receipt, "r", "in_process", "ada")
    )
    done, _ = forget(traffic.domain, registry, "user", WHO, actor="officer")
    assert done["detail"]["versions"] == ["v1"]
    out = tmp_path / "again"
    registry.store.get(tree.sha256, out)
    assert [json.loads(line)["id"] for line in (out / "train.jsonl").read_text().splitlines()] == ["s1"]
    found = json.loads((out / "manifest.json").read_text())
    assert found["rows"]["train.jsonl"]["rows"] == 1 and found["conflicts"]["examples"] == [{"turn_id": "t9"}]
    assert b"PLANTED" not in bytes_of(traffic.home.root)


@pytest.mark.parametrize("when", ["retire_tree", "remove_file"])
def test_a_killed_erasure_goes_on_where_it_was(traffic: Traffic, monkeypatch: pytest.MonkeyPatch, when: str):
    some(traffic)

    def killed(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(traffic.registry.store, when, killed)
    with pytest.raises(KeyboardInterrupt):
        forget(traffic.domain, traffic.registry, "user", WHO, actor="officer")
    monkeypatch.undo()
    assert b"PLANTED" in bytes_of(traffic.home.root)
    (done,) = erase.thin_out(traffic.registry, "tiny")
    assert done["detail"]["state"] == "done" and b"PLANTED" not in bytes_of(traffic.home.root)
    assert erase.thin_out(traffic.registry, "tiny") == []


def test_two_people_one_after_the_other(traffic: Traffic, tmp_path: Path):
    other = pseudonym(Scope("local", "default", "tiny"), "conversation", "c-9")
    some(traffic)
    traffic.write("a", [turn("t8", "SECOND", conversation=other), turn("t9", "stays")])
    forget(traffic.domain, traffic.registry, "user", WHO, actor="officer")
    forget(traffic.domain, traffic.registry, "conversation", other, actor="officer")
    kept = bytes_of(traffic.home.root)
    assert b"SECOND" not in kept and b"PLANTED" not in kept
    _, made = traffic.capture()
    assert sorted(one["turn_id"] for one in traffic.turns(made, tmp_path)) == ["t2", "t4", "t9"]


def test_turns_that_come_after_the_wish_are_new(traffic: Traffic, tmp_path: Path):
    number = erasures.ask(traffic.registry, "tiny", "user", WHO, actor="officer")
    assert number == 1
    traffic.write("a", [turn("t1", user=WHO), turn("t2", user=WHO, days_ago=-1)])
    _, made = traffic.capture()
    assert [one["turn_id"] for one in traffic.turns(made, tmp_path)] == ["t2"]


def test_a_stage_at_work_is_waited_for(traffic: Traffic):
    some(traffic)
    path = traffic.home.locks / "local" / "default" / "tiny" / "v1.lock"
    with FileLock(path), pytest.raises(BusyError, match="v1 is being worked on"):
        forget(traffic.domain, traffic.registry, "user", WHO, actor="officer")
    done, _ = forget(traffic.domain, traffic.registry, "user", WHO, actor="officer")
    assert done["detail"]["state"] == "done"
    assert all(row["detail"]["state"] == "done" for row in erasures.erasures(traffic.registry, "tiny"))


def test_the_command_forgets_by_the_id_that_clients_sent(traffic: Traffic, workplace_of):
    some(traffic)
    place = workplace_of(traffic)
    assert place.slm("erase", "tiny", "--user", "4711", "--json").returncode == 2, "not without --yes"
    found = place.json("erase", "tiny", "--user", "4711", "--yes")
    assert found["turns"] == 2 and found["pseudonym"] == WHO and found["versions"] == []
    assert b"PLANTED" not in bytes_of(traffic.home.root)
    assert place.slm("erase", "tiny").returncode == 2


def trained(traffic: Traffic, tmp_path: Path) -> Plan:
    """A version that serves and has learned from the person's first turn."""
    registry, folder = traffic.registry, tmp_path / "rows"
    folder.mkdir()
    (folder / "train.jsonl").write_text(json.dumps({"id": "t1", "input": {"text": "PLANTED one"}}) + "\n")
    (folder / "manifest.json").write_text(json.dumps({"rows": {"train.jsonl": {"rows": 1, "sha256": "0"}}}))
    plan = open_version(traffic.domain, registry, actor="ada")
    tree = registry.store.put(folder).sha256
    result = {"summary": {"epoch": 1}, "measured": {}}
    receipt = {"outputs": {"dataset": {"sha256": tree, "bytes": 1}}, "seconds": 1.0, "result": result}
    registry.commit(CellRecord("tiny", plan.number, "dataset", "0" * 64, "succeeded", receipt, "r", "in_process", "a"))
    registry.flip("tiny", [Flip("triage", "release", plan.number, tree, 0)], action="promote", actor="a", reason="b")
    return plan


def decided(traffic: Traffic, now: datetime | None = None) -> list[str]:
    with ExitStack() as held:
        found = retraining.advance(traffic.registry, held, actor="sensor", now=now)
    return [launch.plan.version for launch in found]


def test_an_erasure_makes_the_next_version_due_once(traffic: Traffic, tmp_path: Path):
    some(traffic)
    trained(traffic, tmp_path)
    forget(traffic.domain, traffic.registry, "user", WHO, actor="officer")
    erase.thin_out(traffic.registry, "tiny")
    (row,) = retrains.of_domain(traffic.registry, "tiny")
    assert (row["cause"], row["triggers"], row["state"]) == ("erasure-1", ["erasure"], retrains.ASKED)
    assert row["reason"] == "erasure: v1 learned from turns that were erased" and row["actor"] == "officer"
    assert decided(traffic) == ["v2"]
    plan = traffic.registry.plan("tiny", 2)
    assert plan is not None and plan.reason == row["reason"]
    assert decided(traffic) == [], "once"


def test_cooldown_and_budget_hold_for_it_and_a_version_made_since_settles_it(traffic: Traffic, tmp_path: Path):
    some(traffic)
    trained(traffic, tmp_path)
    before = retrains.ask(traffic.registry, "tiny", "w9", triggers=["outcome"], reason="x", actor="a", window=9)
    retrains.move(traffic.registry, before, retrains.LAUNCHED, number=1)
    launched = retrains.of_domain(traffic.registry, "tiny")[0]
    forget(traffic.domain, traffic.registry, "user", WHO, actor="officer")

    def state() -> tuple[str, str]:
        row = retrains.of_domain(traffic.registry, "tiny")[-1]
        return row["state"], row["note"]

    assert decided(traffic) == [] and state() == (retrains.DEFERRED, "v1 is still being made")
    retrains.move(traffic.registry, launched, retrains.DONE, note="promoted")
    assert decided(traffic) == [] and state()[1].startswith("cooldown of 24 hours")
    flag = traffic.registry.flags("tiny")["triage"]
    plan = open_version(traffic.domain, traffic.registry, actor="ada")
    flip = Flip("triage", "release", plan.number, flag.release, flag.event)
    traffic.registry.commit(
        CellRecord("tiny", 2, "dataset", "0" * 64, "succeeded",
                   {"outputs": {}, "seconds": 1.0, "result": {"summary": {"epoch": 1}}}, "r", "in_process", "a")
    )  # fmt: skip
    traffic.registry.flip("tiny", [flip], action="promote", actor="a", reason="b")
    assert decided(traffic) == []
    assert state() == (retrains.REFUSED, "v2 was opened after the erasure and serves")


def test_an_erasure_that_no_serving_version_learned_from_asks_for_nothing(traffic: Traffic):
    some(traffic)
    forget(traffic.domain, traffic.registry, "user", WHO, actor="officer")
    assert retrains.of_domain(traffic.registry, "tiny") == []
