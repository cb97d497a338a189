"""A contract changes between two datasets: which labels stand, which are completed, which wait for a person."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from row_stages import INPUT, INTENTS, OUTPUT, Build, contents, ids, make_domain, manifest, phrases

from slm_assets import canonical
from slm_assets.domain.contracts import Validator
from slm_assets.errors import BadInputError
from slm_assets.stages.rows.completing import complete

ORACLE = {"kind": "rules", "path": "oracle.yaml"}


def output(**changes: Any) -> str:
    """The role's output contract with other keys."""
    return json.dumps({**OUTPUT, **changes})


def with_urgency(*, required: bool = True) -> str:
    properties = {**OUTPUT["properties"], "urgency": {"enum": ["high", "low"]}}
    return output(properties=properties, required=["intent", *(["urgency"] if required else [])])


def without_refund() -> str:
    return output(properties={**OUTPUT["properties"], "intent": {"enum": ["order", "other"]}})


def change(build: Build, schema: str, *, default: str | None = "{intent: other}", **more: Any) -> None:
    """The domain gets another output contract, and an oracle that answers the same to everything, or none."""
    files = {"out.json": schema, "oracle.yaml": f"rules: []\ndefault: {default}\n", **more.pop("files", {})}
    folder = build.base / f"domain-{len(list(build.base.iterdir()))}"
    build.domain = make_domain(folder, data=more, oracle=ORACLE if default else None, files=files)


def read(folder: Path, name: str) -> list[dict[str, Any]]:
    return list(canonical.read_jsonl(folder / name))


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """300 gold rows and the dataset v1 made of them."""
    built = Build(tmp_path, make_domain(tmp_path / "domain"))
    built.seed("a.jsonl", phrases(300))
    built.dataset("v1")
    return built


def test_a_change_without_a_new_row_opens_an_epoch(build: Build) -> None:
    before = ids(build.base / "v1", "eval")
    change(build, with_urgency(required=False))
    folder, result = build.dataset("v2", parent="v1")
    assert result.summary["epoch"] == 2 and result.summary["new_contract"]
    assert ids(folder, "eval") == before, "labels that the new contract takes stand as they are"
    assert all(
        row["labels"]["route"] == {"intent": INTENTS[int(row["id"][1:]) % 3]} for row in read(folder, "eval.jsonl")
    )
    assert manifest(folder)["previous"] == {
        "dataset": canonical.digest("v1"), "contract": manifest(build.base / "v1")["contract"], "epoch": 1,
    }  # fmt: skip
    again, result = build.dataset("v3", parent="v2", epoch=2)
    assert (result.summary["epoch"], manifest(again)["previous"]) == (2, None)
    assert contents(again)["eval.jsonl"] == contents(folder)["eval.jsonl"]


def test_given_splits_open_an_epoch_too(tmp_path: Path) -> None:
    def given(name: str, schema: str) -> Any:
        held = {"floor": "majority", "eval_sets": {"holdout": "holdout.jsonl"}}
        files = {"holdout.jsonl": "", "out.json": schema}
        return make_domain(tmp_path / name, data={"split": "fixed"}, files=files, eval=held)

    build = Build(tmp_path, given("domain", json.dumps(OUTPUT)))
    build.seed("a.jsonl", phrases(30))
    build.seed("b.jsonl", phrases(10, 100), source="holdout")
    assert build.dataset("v1")[1].summary["epoch"] == 1
    assert build.dataset("v2", parent="v1")[1].summary["epoch"] == 1
    build.domain = given("changed", with_urgency(required=False))
    assert build.dataset("v3", parent="v1")[1].summary["epoch"] == 2


def test_a_new_required_field_comes_from_the_oracle_and_the_rest_stays_gold(build: Build) -> None:
    change(build, with_urgency(), default="{intent: other, urgency: low}", incomplete_labels="complete")
    folder, _ = build.dataset("v2", parent="v1")
    assert ids(folder, "eval") == ids(build.base / "v1", "eval")
    for row in read(folder, "eval.jsonl"):
        gold = {"intent": INTENTS[int(row["id"][1:]) % 3]}
        assert row["labels"] == {} and row["label_source"] == "gold"
        assert row["previous"] == {"dataset": canonical.digest("v1"), "labels": {"route": gold}}
    train = read(folder, "train.jsonl")
    assert train and all(set(row["previous"]) == {"labels"} for row in train), "only frozen rows stand in v1"
    assert read(folder, "invalid_under_contract.jsonl") == []
    assert manifest(folder)["frozen"]["with_earlier_label"] == {"route": len(ids(folder, "eval"))}
    labels, result = build.label(source="v2")
    for row in read(labels, "eval.jsonl"):
        assert row["labels"]["route"] == {
            "completed": ["/urgency"],
            "output": {"intent": INTENTS[int(row["id"][1:]) % 3], "urgency": "low"},
            "source": "gold+oracle",
        }
    assert result.summary["earlier_labels"] == {"route": {"completed": 300, "left": 0}}
    wrong = {row["id"] for row in read(labels, "disagreements.jsonl")}
    assert len(wrong) == 200, "the oracle is measured on what it did not add"


def test_labels_stay_completed_in_the_versions_after(build: Build) -> None:
    change(build, with_urgency(), default="{intent: other, urgency: low}", incomplete_labels="complete")
    second, _ = build.dataset("v2", parent="v1")
    build.seed("a.jsonl", [one for one in phrases(300) if one["id"] not in ids(second, "eval")], version="next")
    third, result = build.dataset("v3", seed="next", parent="v2", epoch=2)
    assert result.summary["epoch"] == 2
    assert ids(third, "eval") == ids(second, "eval")
    assert {row["previous"]["dataset"] for row in read(third, "eval.jsonl")} == {canonical.digest("v2")}
    labels, _ = build.label("labels3", source="v3")
    assert {row["labels"]["route"]["source"] for row in read(labels, "eval.jsonl")} == {"gold+oracle"}


def test_what_the_oracle_cannot_add_has_no_label_and_waits(build: Build) -> None:
    change(build, with_urgency(), default=None, max_quarantine_share=1)
    rows = [{**one, "labels": {"route": {**one["labels"]["route"], "urgency": "high"}}} for one in phrases(60, 900)]
    build.seed("b.jsonl", rows, version="rewritten")
    folder, _ = build.dataset("v2", seed="rewritten", parent="v1")
    old = set(ids(build.base / "v1", "eval"))
    labels, result = build.label(source="v2")
    assert {row["id"] for row in read(labels, "eval.jsonl") if not row["labels"]} == old
    waiting = [row for row in read(labels, "disagreements.jsonl") if row["id"] in old]
    assert {row["id"] for row in waiting} == old
    assert all(set(row["label"]) == {"intent"} for row in waiting)
    assert result.summary["earlier_labels"] == {"route": {"completed": 0, "left": len(old)}}
    assert set(ids(folder, "eval")) > old


def test_a_narrowing_is_listed_and_leaves_eval(build: Build) -> None:
    change(build, without_refund(), max_quarantine_share=0.5)
    folder, result = build.dataset("v2", parent="v1")
    frozen = read(folder, "eval.jsonl")
    gone = [row["id"] for row in frozen if int(row["id"][1:]) % 3 == 1]
    listed = read(folder, "invalid_under_contract.jsonl")
    assert gone and [row["id"] for row in listed] == gone
    assert {(row["role"], row["path"], canonical.text(row["label"])) for row in listed} == {
        ("route", "$.intent", '{"intent":"refund"}')
    }
    assert all("refund" in row["message"] for row in listed)
    assert result.summary["outside_contract"] == manifest(folder)["frozen"]["to_review"] == len(gone)
    labels, _ = build.label(source="v2")
    unlabelled = [row["id"] for row in read(labels, "eval.jsonl") if not row["labels"]]
    assert unlabelled == gone, "the oracle's answer to them is no truth"
    assert not {row["id"] for row in read(labels, "disagreements.jsonl")} & set(gone), "one list is enough"


def test_a_value_that_comes_back_is_gold_again(build: Build) -> None:
    change(build, without_refund(), max_quarantine_share=0.5)
    build.dataset("v2", parent="v1")
    change(build, json.dumps(OUTPUT))
    folder, result = build.dataset("v3", parent="v2", epoch=2)
    assert result.summary["epoch"] == 3
    now, first = (
        {row["id"]: row["labels"] for row in read(where, "eval.jsonl")} for where in (folder, build.base / "v1")
    )
    assert now.items() >= first.items()
    assert read(folder, "invalid_under_contract.jsonl") == []


@pytest.mark.parametrize("named", [True, False])
def test_rewritten_rows_take_the_place_of_the_old_and_point_at_them(tmp_path: Path, *, named: bool) -> None:
    def rows(field: str) -> list[dict[str, Any]]:
        found = [{**one, "labels": {"route": {field: one["labels"]["route"]["intent"]}}} for one in phrases(300)]
        return found if named else [{key: value for key, value in one.items() if key != "id"} for one in found]

    build = Build(tmp_path, make_domain(tmp_path / "domain"))
    build.seed("a.jsonl", rows("intent"))
    first, _ = build.dataset("v1")
    schema = output(properties={"topic": {"enum": INTENTS}}, required=["topic"])
    change(build, schema, default="{topic: other}")
    build.seed("a.jsonl", rows("topic"), version="next")
    folder, result = build.dataset("v2", seed="next", parent="v1")
    texts = [{row["input"]["text"] for row in read(where, "eval.jsonl")} for where in (first, folder)]
    assert texts[0] == texts[1], "the same turns are judged"
    assert all(set(row["labels"]["route"]) == {"topic"} for row in read(folder, "eval.jsonl"))
    assert read(folder, "invalid_under_contract.jsonl") == [] and result.summary["outside_contract"] == 0
    if named:
        assert ids(folder, "eval") == ids(first, "eval")
        assert {canonical.text(row["previous"]) for row in read(folder, "eval.jsonl")} == {
            canonical.text({"dataset": canonical.digest("v1")})
        }


def test_rows_nobody_rewrote_stop_the_build_with_a_way_on(build: Build) -> None:
    change(build, with_urgency(), default="{intent: other, urgency: low}")
    with pytest.raises(
        BadInputError, match=r"a contract changed since the version that serves, and 300 of them"
    ) as stop:
        build.dataset("v2", parent="v1")
    assert "data.incomplete_labels: complete" in str(stop.value.cure)
    with pytest.raises(BadInputError) as first:
        build.dataset("v1b")
    assert "contract changed" not in str(first.value)


NOBODY = "route without an oracle that answers while labelling"


@pytest.mark.parametrize(("oracle", "said"), [(None, [NOBODY]), (ORACLE, [])])
def test_completing_without_anybody_who_can_is_a_warning(tmp_path: Path, oracle: Any, said: list[str]) -> None:
    domain = make_domain(tmp_path / "d", data={"incomplete_labels": "complete"}, oracle=oracle)
    assert [fault.found for fault in domain.warnings if fault.path == "$.slm_domain.data.incomplete_labels"] == said


def test_completing_takes_no_label_that_is_wrong(build: Build) -> None:
    change(build, with_urgency(), default="{intent: other, urgency: low}", incomplete_labels="complete")
    bad = [{**one, "labels": {"route": {"intent": "nonsense"}}} for one in phrases(100)]
    build.seed("a.jsonl", bad, version="bad")
    with pytest.raises(BadInputError, match="100 of 100 rows cannot be used"):
        build.dataset("v2", seed="bad")


def test_frozen_turns_that_a_new_input_contract_refuses_are_listed(build: Build) -> None:
    short = json.dumps({**INPUT, "properties": {"text": {"type": "string", "maxLength": 20}}})
    change(build, json.dumps(OUTPUT), files={"in.json": short}, max_quarantine_share=1)
    build.seed("a.jsonl", [{"id": f"s{n}", "input": {"text": f"short {n}"}} for n in range(100)], version="next")
    folder, _ = build.dataset("v2", seed="next", parent="v1")
    listed = read(folder, "invalid_under_contract.jsonl")
    assert [row["id"] for row in listed] == ids(build.base / "v1", "eval")
    assert listed[0]["path"] == "$.text" and "label" not in listed[0]
    assert not set(ids(folder, "eval")) & {row["id"] for row in listed}


ITEM = {"type": "object", "required": ["name", "size"]}
SHAPES = {
    "required": ({"type": "object", "required": ["a", "b"]}, {"a": 1}, {"a": 9, "b": 2}, ({"a": 1, "b": 2}, ["/b"])),
    "inner": (
        {"properties": {"x": {"type": "object", "required": ["y/z"]}}}, {"x": {"k": 1}}, {"x": {"y/z": 0}},
        ({"x": {"k": 1, "y/z": 0}}, ["/x/y~1z"]),
    ),
    "optional stays out": ({"required": ["b"]}, {"a": 1}, {"b": 2, "note": "n"}, ({"a": 1, "b": 2}, ["/b"])),
    "the oracle is silent there": ({"required": ["b"]}, {"a": 1}, {"a": 1}, None),
    "the oracle breaks it": (
        {"required": ["b"], "properties": {"b": {"type": "string"}}}, {"a": 1}, {"b": 2}, None,
    ),
    "something else is wrong": ({"required": ["b"], "properties": {"a": {"type": "string"}}}, {"a": 1}, {"b": 2}, None),
    "a branch of a union": (
        {"oneOf": [
            {"properties": {"k": {"const": "a"}}, "required": ["k", "x"]},
            {"properties": {"k": {"const": "b"}}, "required": ["k", "y"]},
        ]},
        {"k": "b"}, {"k": "b", "y": 1, "x": 5}, ({"k": "b", "y": 1}, ["/y"]),
    ),
    "what is added asks for more": (
        {"required": ["b"], "if": {"required": ["b"]}, "then": {"required": ["c"]}}, {}, {"b": 1, "c": 2},
        ({"b": 1, "c": 2}, ["/b", "/c"]),
    ),
    "items that agree": (
        {"items": ITEM}, [{"name": "a"}, {"name": "b", "size": 2}], [{"name": "a", "size": 1}, {"name": "x"}],
        ([{"name": "a", "size": 1}, {"name": "b", "size": 2}], ["/*/size"]),
    ),
    "items that differ": ({"items": ITEM}, [{"name": "a"}], [{"name": "b", "size": 1}], None),
    "more items": ({"items": ITEM}, [{"name": "a"}], [{"name": "a", "size": 1}, {"name": "b", "size": 1}], None),
    "true is not one": ({"items": ITEM}, [{"name": 1}], [{"name": True, "size": 1}], None),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_completing_adds_what_is_required_and_nothing_else(shape: str) -> None:
    schema, label, answer, expected = SHAPES[shape]
    kept = canonical.text(label)
    assert complete(Validator(schema), label, answer) == expected
    assert canonical.text(label) == kept, "the old label is not touched"
