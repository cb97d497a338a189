"""Contracts that differ: what is compared, what is left out, and what the oracle's own words may not judge."""

from __future__ import annotations

import pytest
from test_judge import Engine, First, domain, judged

from slm_assets.domain.places import covers
from slm_assets.models.base import Prediction
from slm_assets.stages.evaluation.common import Common, leave_out


def closed(required: bool = False, **properties):
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**schema, "required": sorted(properties)} if required else schema


TEXT, NUMBER = {"type": "string"}, {"type": "number"}
PAIRS = {
    "equal": (closed(a=TEXT), closed(a=TEXT), (), {"": (), "/a": ()}),
    "a new field": (closed(a=TEXT, b=TEXT), closed(a=TEXT), ("/b",), {"": ("/b",), "/a": (), "/b": None}),
    "a field that is gone": (closed(a=TEXT), closed(a=TEXT, b=TEXT), ("/b",), {"": ("/b",), "/a": ()}),
    "a rename of all": (closed(b=TEXT), closed(a=TEXT), ("/a", "/b"), {"": None, "/b": None}),
    "inside": (
        closed(o=closed(a=TEXT, b=TEXT), c=TEXT), closed(o=closed(a=TEXT), c=TEXT), ("/o/b",),
        {"": ("/o/b",), "/o": ("/o/b",), "/o/a": (), "/o/b": None, "/c": ()},
    ),
    "an object is named once": (
        closed(a=TEXT, o=closed(x=TEXT, y=TEXT)), closed(a=TEXT), ("/o",), {"": ("/o",), "/o/x": None},
    ),
    "of each item": (
        closed(l={"type": "array", "items": closed(a=TEXT, b=TEXT)}),
        closed(l={"type": "array", "items": closed(a=TEXT)}),
        ("/l/*/b",), {"": ("/l/*/b",), "/l/0/b": None, "/l/0/a": (), "/l/0": ("/l/*/b",)},
    ),
    "open contracts name it or not": (
        {"properties": {"a": TEXT, "b": TEXT}}, {"properties": {"a": TEXT}}, ("/b",), {"/b": None, "/z": ()},
    ),
    "another type is the same place": (closed(a=TEXT), closed(a=NUMBER), (), {"/a": ()}),
    "a branch of a union": (
        {"oneOf": [closed(a=TEXT), closed(a=TEXT, b=TEXT)]}, {"oneOf": [closed(a=TEXT)]}, ("/b",),
        {"": ("/b",), "/a": ()},
    ),
}  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS)
def test_what_two_contracts_share(pair):
    now, earlier, apart, seen = PAIRS[pair]
    common = Common.of(now, earlier)
    assert common.apart == apart
    assert {pointer: common.without(pointer) for pointer in seen} == seen


@pytest.mark.parametrize(
    ("value", "pointers", "left"),
    [
        ({"a": 1, "b": 2}, ["/b"], {"a": 1}),
        ({"o": {"a": 1, "b/c": 2}}, ["/o/b~1c"], {"o": {"a": 1}}),
        ({"l": [{"a": 1, "b": 2}, {"b": 3}, 4]}, ["/l/*/b"], {"l": [{"a": 1}, {}, 4]}),
        ({"m": {"x": {"b": 1}, "y": {"c": 2}}}, ["/m/*/b"], {"m": {"x": {}, "y": {"c": 2}}}),
        ({"a": 1}, ["/b", "/a/c"], {"a": 1}),
        (None, ["/b"], None),
        ("text", [], "text"),
    ],
)
def test_leaving_out_touches_nothing_else(value, pointers, left):
    before = repr(value)
    assert leave_out(value, pointers) == left
    assert repr(value) == before


@pytest.mark.parametrize(
    ("upper", "lower", "expected"),
    [
        ("", "/a", True), ("/a", "/a", True), ("/a", "/a/b", True), ("/a/b", "/a", False), ("/a", "/ab", False),
        ("/l/*/a", "/l/0/a", True), ("/l/0", "/l/*/a", True), ("/l/0/b", "/l/*/a", False),
    ],
)  # fmt: skip
def test_a_pointer_covers_what_is_under_it(upper, lower, expected):
    assert covers(upper, lower) is expected


class Old(Engine):
    """Answers as it did before `by` was in the contract."""

    def predict(self, value):
        said = super().predict(value)
        return Prediction({"answer": said.output["answer"]})


def config(*, exact: bool = False, **evaluation):
    metrics = [
        {"id": "a_match", "role": "first", "path": "/answer"},
        {"id": "a_by", "role": "first", "path": "/by", "target": 0.5, "absent": "new"},
        {"id": "b_match", "role": "second", "path": "/answer"},
    ]
    return domain(
        metrics=[*metrics, *([{"id": "exact", "role": "first", "target": 0.5}] if exact else [])], **evaluation
    )


BY = {("first", "incumbent"): Common.of(closed(answer=NUMBER, by=TEXT), closed(answer=NUMBER))}
SECOND = {"challenger": Engine(0.95, reads=True), "incumbent": Engine(0.9, reads=True)}


def verdicts(result, gate, role="first"):
    return {v.metric: v for v in reversed(result.details) if (v.gate, v.role) == (gate, role)}


def test_a_new_field_is_not_held_against_the_incumbent_nor_for_the_challenger():
    def run(share: float, common):
        first = {"challenger": First(share, "new"), "incumbent": Old(0.9)}
        return judged(first, SECOND, config=config(exact=True), common=common)

    fair = verdicts(run(0.95, BY), "incumbent")
    assert fair["a_by"].verdict == "NOT_APPLICABLE" and not fair["a_by"].blocking
    assert "does not name this" in fair["a_by"].reason
    assert fair["a_match"].verdict == "PASS" and fair["a_match"].value == pytest.approx(0.05)
    assert fair["exact"].reason.startswith("but for /by: ")
    assert verdicts(run(0.8, BY), "incumbent")["a_match"].verdict == "FAIL", "what both name still counts"


def test_a_contract_with_nothing_in_common_leaves_target_and_floor():
    nothing = {("first", "incumbent"): Common.of(closed(answer=NUMBER, by=TEXT), closed(said=TEXT))}
    first = {"challenger": First(0.95, "new"), "incumbent": Old(0.0)}
    result = judged(first | {"floor": First(0.9, "new")}, SECOND, config=config(slices=SLICES), common=nothing)
    assert result.outcomes["first"] == "pass"
    own = {name: v.verdict for name, v in verdicts(result, "incumbent").items() if "." not in name}
    assert own == {"a_match": "NOT_APPLICABLE", "a_by": "NOT_APPLICABLE"}
    assert verdicts(result, "slices")[""].verdict == "NOT_APPLICABLE"
    worse = judged(
        first | {"challenger": First(0.6, "new"), "floor": First(0.9, "new")}, SECOND, config=config(), common=nothing
    )
    assert worse.outcomes["first"] == "fail", "the floor holds it"


SLICES = [{"id": "all", "path": "/input/n", "critical": True}]


def test_a_role_that_reads_a_new_one_is_compared_on_what_its_contract_has():
    """The second role stays as it serves; its own new field must not count against the new first role."""
    both = {
        **BY, ("second", "incumbent"): Common.of(closed(answer=NUMBER, by=TEXT), closed(by=TEXT)),
    }  # fmt: skip
    result = judged(
        {"challenger": First(0.95, "new"), "incumbent": Old(0.9)},
        {"challenger": Engine(0.2, reads=True), "incumbent": Engine(0.9, reads=True), "floor": Engine(0.9, reads=True)},
        config=config(),
        common=both,
    )
    assert result.outcomes == {"first": "pass", "second": "fail"}
    assert verdicts(result, "incumbent")["second.b_match"].verdict == "NOT_APPLICABLE"


@pytest.mark.parametrize(
    ("completed", "judged_by"),
    [
        ([], {"a_match": "PASS", "a_by": "PASS", "exact": "PASS"}),
        (["/by"], {"a_match": "PASS", "a_by": "NOT_INDEPENDENT", "exact": "NOT_INDEPENDENT"}),
        (["/answer/inner"], {"a_match": "NOT_INDEPENDENT", "a_by": "PASS", "exact": "NOT_INDEPENDENT"}),
    ],
)
def test_what_the_oracle_added_to_a_label_does_not_judge_it(completed, judged_by):
    result = judged(
        {"challenger": First(0.95, "new"), "incumbent": First(0.9, "new"), "floor": First(0.9, "new")},
        SECOND,
        config=config(exact=True, floor="deterministic_oracle"),
        source="gold+oracle",
        completed={"first": completed},
    )
    found = verdicts(result, "floor")
    assert {name: found[name].verdict for name in judged_by} == judged_by
