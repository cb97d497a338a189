"""A contract's loose ends: bounded, said, learned from labels; unions resolved by what an earlier role implies."""

from __future__ import annotations

from typing import Any

import pytest

from slm_assets.domain.contracts import Validator, check_schema
from slm_assets.errors import BadInputError
from slm_assets.models.lm.bounding import Bounds, bounded
from slm_assets.models.lm.lark import grammar
from slm_assets.models.lm.nodes import Number, Text
from slm_assets.models.lm.observed import observe
from slm_assets.models.lm.writing import write


def test_what_runs_away_is_bounded_and_said() -> None:
    schema = {
        "type": "object",
        "properties": {"t": {"type": "string"}, "l": {"type": "array", "items": {"type": "boolean"}}},
        "required": ["t", "l"],
    }
    found = bounded(schema, Bounds(text=10, items=3))
    assert any("/t: a text without a near end gets at most 10 characters" in lint for lint in found.lints)
    assert any("/l: a list without a near end gets at most 3 items" in lint for lint in found.lints)
    assert grammar(found.node).longest == len('{"t":,"l":}') + 2 + 4 * 10 + len("[false,false,false]")
    seen = bounded(schema, Bounds(text=10, items=3), observe([{"t": "x" * 40, "l": [True] * 5}]))
    assert write(seen.node, {"t": "y" * 80, "l": [True] * 10}) is not None, "twice what labels show"
    assert write(seen.node, {"t": "y" * 81, "l": []}) is None


def test_recursion_is_cut() -> None:
    tree = {"type": "object", "properties": {"next": {"$ref": "#"}}, "additionalProperties": False}
    found = bounded(tree, Bounds(depth=2))
    assert any("recursion through # is cut" in lint for lint in found.lints)
    assert write(found.node, {"next": {"next": {}}}) == '{"next":{"next":{}}}'
    endless = {**tree, "required": ["next"]}
    with pytest.raises(BadInputError, match="no answer can meet the contract"):
        bounded(endless)


def test_open_objects_get_the_keys_that_labels_show() -> None:
    found = bounded({"type": "object"}, observed=observe([{"b": 1, "a": {"x": "y"}}, {"b": 2.5}]))
    assert write(found.node, {"b": 2, "a": {"x": "z"}}) == '{"a":{"x":"z"},"b":2}'
    assert write(found.node, {"c": 1}) is None
    assert write(bounded({"type": "object"}).node, {}) == "{}"


def test_keys_stand_as_the_contract_has_them() -> None:
    schema = {"type": "object", "properties": {"tool": {"enum": ["x"]}, "arguments": {"type": "integer"}}}
    value = {"arguments": 1, "tool": "x"}
    assert write(bounded(schema).node, value) == '{"tool":"x","arguments":1}'
    assert write(bounded(schema, Bounds(key_order="sorted")).node, value) == '{"arguments":1,"tool":"x"}'


def test_numbers_and_texts_end() -> None:
    number = bounded({"type": "number", "minimum": 0.5, "exclusiveMaximum": 2, "multipleOf": 0.01}).node
    assert number == Number(50, 199, 2)
    assert write(number, 1.99) == "1.99" and write(number, 2) is None and write(number, 0.555) is None
    assert bounded({"type": "string", "pattern": "^[A-Z]{3}$"}).node == Text(0, 3, ("^[A-Z]{3}$",))
    assert write(bounded({"type": "integer"}).node, 10**16) is None


def test_what_is_not_held_is_said() -> None:
    schema = {"type": "array", "items": {"type": "integer"}, "contains": {"const": 1}, "uniqueItems": True}
    lints = " ".join(bounded(schema).lints)
    assert "contains is not held" in lints and "uniqueItems" in lints
    loose = {"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 5}]}
    assert "not told apart" in " ".join(bounded(loose).lints)


UNION: dict[str, Any] = {
    "type": "object",
    "required": ["widget"],
    "properties": {
        "widget": {
            "oneOf": [
                {"$ref": "#/$defs/flights"},
                {"type": "object", "x-when": {"/extract/kind": ["hotels", "places"]}, "required": ["type"],
                 "properties": {"type": {"const": "hotel_list"}}},
                {"type": "object", "required": ["type"], "properties": {"type": {"const": "note"}}},
            ]
        }
    },
    "$defs": {
        "flights": {"type": "object", "x-when": {"/extract/kind": ["flights"]}, "required": ["type"],
                    "properties": {"type": {"const": "flight_list"}}},
    },
}  # fmt: skip


def types(given: Any) -> set[str]:
    node = bounded(UNION, given=given).node
    names = ("flight_list", "hotel_list", "note")
    return {name for name in names if write(node, {"widget": {"type": name}}) is not None}


def test_an_earlier_role_resolves_a_union() -> None:
    assert not check_schema(UNION)
    assert Validator(UNION).is_valid({"widget": {"type": "hotel_list"}}), "an annotation to a validator"
    assert types(None) == {"flight_list", "hotel_list", "note"}
    assert types({"extract": {"kind": "flights"}}) == {"flight_list", "note"}
    assert types({"extract": {"kind": "places"}}) == {"hotel_list", "note"}
    assert types({"extract": None}) == {"note"}


def test_each_implication_has_a_grammar_of_its_own() -> None:
    pytest.importorskip("llguidance", reason="constrained decoding needs slm-assets[lora]: make test-lora")
    from slm_assets.models.lm.decoding import Constraint
    from tests.lora.test_constrained import ENGINE

    constraint = Constraint(UNION, ENGINE, Bounds(), {})
    flights, hotels = ({"extract": {"kind": kind}, "turn": 1} for kind in ("flights", "hotels"))
    assert constraint.rule(flights) is constraint.rule({**flights, "turn": 2})
    assert constraint.write(flights, {"widget": {"type": "flight_list"}}) is not None
    assert constraint.write(hotels, {"widget": {"type": "flight_list"}}) is None
