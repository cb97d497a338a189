"""What live turns give a dataset: which are taken, with whose label, and what is kept out of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slm_assets.domain.relabel import Relabel
from slm_assets.engines.in_process import make_cell
from slm_assets.registry.registry import Plan
from slm_assets.stages.plans import open_domain, open_version
from slm_assets.stages.requests import request_for
from slm_assets.stages.traffic.selection import select
from slm_assets.stages.traffic.told import told_of
from tests.traffic.conftest import Traffic, outcome, turn

SPLITS = ("train", "validation", "eval", "reserve")
REFUND = {"intent": "refund", "urgent": False}
GREET = {"intent": "greet", "urgent": False}


def configure(traffic: Traffic, relabel: str = "", *more: str) -> None:
    """Set the block, and more lines under improvement."""
    path = traffic.home.domains / "tiny" / "slm.config.yaml"
    lines = [f"    relabel: {{{relabel}}}\n" if relabel else "", *(f"    {line}\n" for line in more)]
    path.write_text(path.read_text().replace("  improvement:\n", "  improvement:\n" + "".join(lines)))
    traffic.domain, traffic.registry = open_domain(traffic.home, "tiny")


def built(traffic: Traffic) -> tuple[Plan, dict[str, list[dict[str, Any]]], dict[str, Any]]:
    """The dataset of a new version: its rows by split, and its manifest."""
    plan = open_version(traffic.domain, traffic.registry, actor="tester")
    made = make_cell(traffic.registry, plan, "dataset", actor="tester")
    assert made.receipt.status == "succeeded", made.receipt.error
    sha = made.receipt.outputs["dataset"].sha256
    rows = {name: read(traffic, sha, f"{name}.jsonl") for name in (*SPLITS, "captured", "quarantine")}
    return plan, rows, json.loads(traffic.registry.store.read(sha, "manifest.json"))


def read(traffic: Traffic, sha: str, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in traffic.registry.store.read(sha, name).splitlines()]


def taken(rows: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Captured rows of all splits, by id."""
    return {row["id"]: row for name in SPLITS for row in rows[name] if row["source"] == "captured"}


def words(number: int) -> str:
    """A text that is near no other."""
    return " ".join(f"q{number}z{k}" for k in range(5))


def unlike(name: str, number: int, **more: Any) -> dict[str, Any]:
    return turn(name, words(number), **{"user": f"u-{name}", **more})


def test_turns_that_matter_and_a_share_of_the_rest_join_with_the_label_of_their_outcome(traffic: Traffic):
    configure(traffic, "audit_share: 0.0, review_share: 0.0")
    sure = {"triage": {"output": GREET, "engine": "release", "confidence": 0.9, "valid": True, "error": ""}}
    unsure = {"triage": {**sure["triage"], "confidence": 0.2}}
    broken = {"triage": {**sure["triage"], "output": {"intent": "sing"}}}
    traffic.write("a", [
        unlike("quiet", 1), unlike("corrected", 2), unlike("unsure", 3, answers=unsure),
        unlike("broken", 4, answers=broken), unlike("thanked", 5, answers=unsure), unlike("partly", 6),
        unlike("torn", 7), unlike("forced", 8), unlike("retried", 9),
        unlike("role", 10, role="triage"), unlike("other", 11, role="extract"),
        outcome("corrected", detail=REFUND), outcome("thanked", "success"), outcome("partly", detail={"urgent": True}),
        outcome("torn", detail=REFUND), outcome("torn", detail={"intent": "track", "urgent": False}, role=None),
        outcome("forced", detail={"intent": "obey", "urgent": "yes"}), outcome("retried", "retry"),
        outcome("role", "correction", detail=REFUND), outcome("other", "correction", detail=REFUND),
    ])  # fmt: skip
    traffic.capture()
    _, rows, manifest = built(traffic)
    found = taken(rows)
    assert sorted(found) == [
        "broken", "corrected", "forced", "partly", "retried", "role", "thanked", "torn", "unsure"
    ]  # fmt: skip
    labelled = {name: row["labels"]["triage"] for name, row in found.items() if row["labels"]}
    assert labelled == {"corrected": REFUND, "role": REFUND, "thanked": GREET}, "no other outcome names an output"
    assert {found[name]["label_source"] for name in labelled} == {"outcome"}
    assert manifest["captured"]["why"] == {"invalid": 1, "low_confidence": 2, "outcome": 6}
    assert manifest["captured"]["labelled_by_outcome"] == 3


def test_labels_by_outcome_stand_before_the_oracles_and_count_as_independent(traffic: Traffic):
    traffic.write("a", [turn("t1", "please track my shiny parcel today"), outcome("t1", detail=REFUND)])
    traffic.capture()
    plan, _, _ = built(traffic)
    made = make_cell(traffic.registry, plan, "label", actor="tester")
    sha = made.receipt.outputs["labels"].sha256
    labels = {row["id"]: row for name in ("train", "validation", "eval") for row in read(traffic, sha, f"{name}.jsonl")}
    assert labels["t1"]["labels"]["triage"] == {"output": REFUND, "source": "outcome"}
    assert labels["t1"]["oracle"] == {"triage": False}
    assert all(verdict["verdict"] == "PASS" for verdict in made.receipt.model_dump()["result"]["verdicts"])
    assert "t1" in {row["id"] for row in read(traffic, sha, "disagreements.jsonl")}


@pytest.mark.parametrize("reference", ["oracle", "outcome"])
def test_the_oracle_is_asked_where_quality_is_held_against_it(traffic: Traffic, reference: str):
    (traffic.home.domains / "tiny" / "policies" / "retrain.yaml").write_text(f"quality: {{reference: {reference}}}\n")
    configure(traffic, "audit_share: 0.0, review_share: 0.0", "retrain_triggers: policies/retrain.yaml")
    traffic.write("a", [unlike("same", 1), turn("differs", "i want a refund for a purple boat please")])
    traffic.capture()
    _, rows, _ = built(traffic)
    assert sorted(taken(rows)) == (["differs"] if reference == "oracle" else [])


def test_a_slice_and_a_class_that_the_given_rows_lack_are_taken(traffic: Traffic):
    path = traffic.home.domains / "tiny" / "slm.config.yaml"
    text = path.read_text().replace("    metrics:\n", "    slices:\n      - {id: parrots, path: /labels/triage/intent, "
                                    "values: [refund], min_n: 5000}\n    metrics:\n")  # fmt: skip
    path.write_text(text)
    configure(traffic, "audit_share: 0.0, review_share: 0.0")
    traffic.write("a", [unlike("thin", 1, output=REFUND), unlike("known", 2, output=GREET)])
    traffic.capture()
    assert sorted(taken(built(traffic)[1])) == ["thin"]
    schema = traffic.home.domains / "tiny" / "contracts" / "triage.schema.json"
    schema.write_text(schema.read_text().replace('"greet"]', '"greet", "praise"]'))
    path.write_text(text.replace("min_n: 5000", "min_n: 5"))
    configure(traffic, "audit_share: 0.0, review_share: 0.0")
    traffic.write("b", [unlike("unseen", 3, output={"intent": "praise", "urgent": False})])
    traffic.capture()
    assert sorted(taken(built(traffic)[1])) == ["unseen"]


def test_one_user_conversation_and_all_of_them_are_capped(traffic: Traffic):
    configure(traffic, "per_user: 5, per_conversation: 2, max_share: 0.1, review_share: 0.0")
    many = [unlike(f"a{n}", n, user="chatty") for n in range(40)]
    long = [unlike(f"b{n}", 100 + n, conversation="long") for n in range(40)]
    others = [unlike(f"c{n}", 200 + n) for n in range(60)]
    every = [*many, *long, *others]
    traffic.write("a", [*every, *(outcome(one["turn_id"], detail=REFUND) for one in every)])
    traffic.capture()
    _, rows, manifest = built(traffic)
    found = taken(rows)
    assert manifest["captured"]["chosen"] == int(320 / 9) == len(rows["captured"])
    by = [sum(name.startswith(letter) for name in found) for letter in "abc"]
    assert by[0] <= 5 and by[1] <= 2 and by[2] >= 28 - 7
    assert manifest["captured"]["over_user_cap"] + manifest["captured"]["over_conversation_cap"] > 0


def test_without_given_rows_the_traffic_is_the_dataset(traffic: Traffic):
    path = traffic.home.domains / "tiny" / "slm.config.yaml"
    path.write_text(path.read_text().replace("    seed_corpus: data/\n", ""))
    configure(traffic, "audit_share: 1.0")
    traffic.write("a", [unlike(f"t{n}", n) for n in range(40)])
    traffic.capture()
    assert len(taken(built(traffic)[1])) == 40


def test_equal_traffic_gives_an_equal_choice_and_a_disabled_block_none(traffic: Traffic):
    configure(traffic, "audit_share: 0.5")
    traffic.write("a", [unlike(f"t{n}", n) for n in range(60)])
    traffic.capture()
    plan, rows, _ = built(traffic)
    again, same, _ = built(traffic)
    assert same == rows and 15 < len(taken(rows)) < 45
    request = request_for(traffic.registry, plan, "dataset")
    assert request.inputs["traffic"] == plan.window["traffic"] and again.window == plan.window
    path = traffic.home.domains / "tiny" / "slm.config.yaml"
    path.write_text(path.read_text().replace("audit_share: 0.5", "status: disabled"))
    traffic.domain, traffic.registry = open_domain(traffic.home, "tiny")
    plan = open_version(traffic.domain, traffic.registry, actor="tester")
    sha = make_cell(traffic.registry, plan, "dataset", actor="tester").receipt.outputs["dataset"].sha256
    assert "captured.jsonl" not in traffic.registry.store.describe(sha).files


def test_conversations_stay_together(traffic: Traffic):
    configure(traffic, "audit_share: 1.0")
    traffic.write("a", [unlike(f"t{n}", n, conversation=f"c{n % 12}") for n in range(72)])
    traffic.capture()
    _, rows, _ = built(traffic)
    where = {(row["group"]): name for name in SPLITS for row in rows[name] if row["source"] == "captured"}
    of_turn = {row["id"]: (row["group"], name) for name in SPLITS for row in rows[name] if row["source"] == "captured"}
    assert len(where) == 12 and len(set(where.values())) > 1
    assert all(of_turn[f"t{n}"] == of_turn[f"t{n % 12}"] for n in range(72) if f"t{n}" in of_turn)


def test_a_planted_word_stays_out_and_changes_no_prediction(traffic: Traffic, tmp_path):
    configure(traffic, "audit_share: 1.0, review_share: 0.0")
    honest = [unlike(f"h{n}", n, input={"text": f"hello from nimbus {n} {words(n)}"}) for n in range(20)]
    traffic.write("a", [*honest, *(outcome(one["turn_id"], detail=REFUND) for one in honest)])
    traffic.capture()
    plan, before, _ = built(traffic)
    assert len(taken(before)) == 20, "a new word of many users is learned"
    spam = [turn(f"p{n}", f"zorblax my order {n} {words(1000 + n)}", user="mallory") for n in range(500)]
    traffic.write("b", [*spam, *(outcome(one["turn_id"], detail=REFUND) for one in spam)])
    traffic.capture()
    after_plan, after, manifest = built(traffic)
    planted = [row for row in after["captured"] if row["planted"]]
    assert len(planted) == 50 == manifest["captured"]["planted"]["turns"], "as many as one user may have"
    reason = "rare word with one label: 'zorblax' with triage:/intent=refund in 50 turns of 1 user"
    assert {row["planted"] for row in planted} == {reason} and "zorblax" not in json.dumps(manifest)
    assert {name: after[name] for name in SPLITS} == {name: before[name] for name in SPLITS}
    models = []
    for one in (plan, after_plan):
        make_cell(traffic.registry, one, "label", actor="tester")
        models.append(make_cell(traffic.registry, one, "finetune", actor="tester").receipt.outputs["model"].sha256)
    assert models[0] == models[1]


def test_a_word_of_one_user_with_what_was_served_is_held_back_too(traffic: Traffic):
    configure(traffic, "audit_share: 1.0, min_users: 3")
    few = [unlike(f"f{n}", n, user=f"u{n % 2}", input={"text": f"gribble {words(n)}"}) for n in range(12)]
    rare = [unlike(f"r{n}", 50 + n, user="u9", input={"text": f"flummox {words(50 + n)}"}) for n in range(4)]
    loud = [unlike(f"l{n}", 90 + n, user="u7", input={"text": f"wibble {words(90 + n)}"}) for n in range(18)]
    loud += [unlike(f"lone{n}", 120 + n, input={"text": f"wibble {words(120 + n)}"}) for n in range(3)]
    traffic.write("a", [*few, *rare, *loud])
    traffic.capture()
    _, rows, _ = built(traffic)
    assert {row["id"][0] for row in rows["captured"] if row["planted"]} == {"f", "l"}
    assert {name[0] for name in taken(rows)} == {"r"}, "four turns teach nothing"


def test_who_names_no_user_is_known_by_the_conversation(traffic: Traffic):
    configure(traffic, "audit_share: 1.0, per_conversation: 100")
    one = [unlike(f"o{n}", n, user="", conversation="c", input={"text": f"gribble {words(n)}"}) for n in range(8)]
    many = [unlike(f"m{n}", 20 + n, user="", input={"text": f"nimbus {words(20 + n)}"}) for n in range(8)]
    traffic.write("a", [*one, *many])
    traffic.capture()
    assert {name[0] for name in taken(built(traffic)[1])} == {"m"}


def test_the_audit_keeps_a_part_of_the_room_whatever_floods_the_rest():
    def made(name: str, *, sampled: bool, negative: bool) -> dict[str, Any]:
        told = [{"signal": "retry", "role": None, "detail": None}] if negative else []
        answers = {"t": {"output": GREET, "valid": True, "error": "", "confidence": 1.0}}
        who = {"turn_id": name, "role": None, "user": "", "conversation": ""}
        return {**who, "sampled": sampled, "answers": answers, "outcomes": told}

    turns = [made(f"n{n}", sampled=False, negative=True) for n in range(900)]
    turns += [made(f"a{n}", sampled=True, negative=False) for n in range(100)]
    never = lambda _turn: False  # noqa: E731
    found = select(
        lambda: turns, Relabel(audit_share=1.0), 100, usable=lambda _turn: True, uncovered=never, disagrees=never
    )
    kinds = [one.turn["turn_id"][0] for one in found.turns]
    assert len(kinds) == 100 and kinds.count("a") == 25
    assert found.counts["over_number"] == 900


def test_corrections_that_name_no_role_speak_by_role():
    answers = {name: {"output": {"v": name}, "valid": True} for name in ("a", "b")}
    told = {"role": None, "answers": answers}
    correction = {"signal": "correction", "role": None, "detail": {"b": {"v": "x"}}}
    found = told_of({**told, "outcomes": [correction]}, ["a", "b"], lambda _role, _value: True)
    assert found["a"].label is None and found["b"].label == {"v": "x"} and found["b"].served == {"v": "b"}
    vague = {**correction, "detail": {"v": "x"}}
    found = told_of({**told, "outcomes": [vague]}, ["a", "b"], lambda _role, _value: True)
    assert found["a"].label is None and found["b"].correction is None
    both = [correction, {"signal": "success", "role": None, "detail": None}]
    found = told_of({**told, "outcomes": both}, ["a", "b"], lambda _role, _value: True)
    assert found["a"].label == {"v": "a"} and found["b"].label is None and found["b"].disputed


def test_a_turn_outside_the_contract_is_quarantined(traffic: Traffic):
    configure(traffic, "audit_share: 1.0")
    traffic.write("a", [unlike("t1", 1), unlike("bad", 2, input={"not": "the contract"})])
    traffic.capture()
    _, rows, manifest = built(traffic)
    assert [row["reason"][:30] for row in rows["quarantine"]] == ["the input breaks the contract "]
    assert manifest["quarantine"]["rows"] == 1 and list(taken(rows)) == ["t1"]
