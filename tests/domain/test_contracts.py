"""JSON Schema contracts: both drafts, references, bundling, and which values may stand where."""

from __future__ import annotations

import json
import string
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rfc_domain import write

from slm_assets.domain.contracts import Validator, check_schema, enum_paths, leaves, places
from slm_assets.domain.loading import CONFIG_NAME, load_domain
from slm_assets.domain.places import has_place
from slm_assets.errors import ConfigError, Fault

DRAFT_07 = "http://json-schema.org/draft-07/schema#"
DRAFT_2020 = "https://json-schema.org/draft/2020-12/schema"
CONFIG = """\
slm_domain:
  name: tiny
  roles: [{id: r, output_schema: contracts/out.json}]
  data: {seed_corpus: rows.jsonl}
  eval: {floor: majority, metrics: [{id: exact}]}
"""


def bundled(tmp_path: Path, files: dict[str, Any]) -> dict[str, Any]:
    folder = write(tmp_path / "tiny", {CONFIG_NAME: CONFIG, "rows.jsonl": "{}\n", **files})
    return load_domain(folder).output_schema("r")


def faults(tmp_path: Path, files: dict[str, Any]) -> list[Fault]:
    with pytest.raises(ConfigError) as caught:
        bundled(tmp_path, files)
    return caught.value.faults


def references(schema: Any) -> list[str]:
    if isinstance(schema, dict):
        own = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
        return own + [ref for child in schema.values() for ref in references(child)]
    return [ref for child in schema for ref in references(child)] if isinstance(schema, list) else []


# A schema by itself -------------------------------------------------------------------------------


@pytest.mark.parametrize("draft", [DRAFT_07, DRAFT_07.rstrip("#"), DRAFT_2020])
def test_sound_schemas_of_both_drafts(draft: str) -> None:
    schema = {"$schema": draft, "type": "object", "properties": {"a": {"type": ["string", "null"]}}}
    assert check_schema(schema) == []


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ([1, 2], "$"),
        ({"type": "objct"}, "$.type"),
        ({"properties": {"a": {"type": 5}, "b": {"minLength": -1}}}, "$.properties.a.type"),
        ({"$schema": "http://example.com/mine", "type": "object"}, '$["$schema"]'),
        ({"$schema": DRAFT_07, "type": "object", "required": "a"}, "$.required"),
        ({"pattern": "(?=a)b"}, "$.pattern"),
        ({"patternProperties": {"(a)\\1": {}}}, '$.patternProperties["(a)\\\\1"]'),
        ({"$dynamicRef": "#x"}, '$["$dynamicRef"]'),
        ({"tools": [{"name": "places.search"}]}, "$"),
    ],
)
def test_a_schema_that_is_not_one(schema: Any, path: str) -> None:
    found = check_schema(schema, "contracts/out.json")
    assert path in [fault.path for fault in found]
    assert {fault.file for fault in found} == {"contracts/out.json"}


def test_every_fault_of_a_schema_is_named() -> None:
    found = check_schema({"properties": {"a": {"type": 5}, "b": {"minLength": -1}}}, "x")
    assert [fault.path for fault in found] == ["$.properties.a.type", "$.properties.b.minLength"]


def test_instance_data_is_no_schema() -> None:
    data = {"$ref": "nowhere.json", "pattern": "(?=a)"}
    assert check_schema({"properties": {"a": {"const": data, "examples": [data], "default": data}}}) == []


# Validation ---------------------------------------------------------------------------------------


def test_errors_name_place_and_reason() -> None:
    schema = {"type": "object", "properties": {"a": {"items": {"enum": ["x"]}}}, "required": ["b"]}
    validator = Validator(schema)
    assert validator.is_valid({"a": ["x"], "b": 1})
    assert not validator.is_valid({"a": ["y"]})
    found = validator.errors({"a": ["x", "y"]})
    assert sorted(path for path, _ in found) == ["$", "$.a[1]"]
    assert len(validator.errors({"a": ["y"] * 50}, limit=3)) == 3


def test_formats_are_checked_and_odd_values_refused() -> None:
    validator = Validator({"type": "string", "format": "date"})
    assert validator.is_valid("2026-07-10")
    assert not validator.is_valid("tomorrow")
    assert not validator.is_valid({1: "a"})
    assert validator.errors({1: "a"})[0][0] == "$"


SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["a", "b", ""])
INSTANCES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=8,
)


def _schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.builds(lambda a, b: {"properties": {"a": a, "b": b}, "required": ["a"]}, inner, inner),
        st.builds(lambda a: {"items": a}, inner),
        st.builds(lambda a, b: {"oneOf": [a, b]}, inner, inner),
        st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner),
        st.builds(lambda a, b: {"allOf": [a, b]}, inner, inner),
        st.builds(lambda a: {"type": "object", "additionalProperties": a}, inner),
    )


SCHEMAS = st.recursive(
    st.one_of(
        st.sampled_from([True, {"type": "string"}, {"type": ["integer", "null"]}, {"type": "null"}]),
        st.lists(SCALARS, min_size=1, max_size=3, unique_by=repr).map(lambda values: {"enum": values}),
        SCALARS.map(lambda value: {"const": value}),
    ),
    _schemas,
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(SCHEMAS.filter(lambda schema: isinstance(schema, dict)), INSTANCES)
def test_validation_agrees_with_the_reference_validator(schema: Any, value: Any) -> None:
    assert check_schema(schema) == []
    expected = jsonschema.Draft202012Validator(schema).is_valid(value)
    assert Validator(schema).is_valid(value) == expected
    assert (Validator(schema).errors(value) == []) == expected


# References ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("draft", [DRAFT_07, DRAFT_2020])
def test_a_bundle_is_self_contained_and_means_the_same(tmp_path: Path, draft: str) -> None:
    files = {
        "contracts/out.json": {
            "$schema": draft,
            "type": "object",
            "required": ["kind", "items"],
            "properties": {
                "kind": {"$ref": "shared/kinds.json#/definitions/kind"},
                "items": {"type": "array", "items": {"$ref": "shared/item.json"}},
            },
        },
        "contracts/shared/kinds.json": {"definitions": {"kind": {"enum": ["a", "b"]}}},
        "contracts/shared/item.json": {
            "oneOf": [{"$ref": "#/definitions/leaf"}, {"$ref": "../out.json#/properties/kind"}],
            "definitions": {
                "leaf": {"type": "object", "required": ["n"], "properties": {"n": {"$ref": "#/definitions/n"}}},
                "n": {"type": "integer"},
            },
        },
    }
    schema = bundled(tmp_path, files)
    assert schema["$schema"] == draft
    assert all(reference.startswith("#") for reference in references(schema))
    validator = Validator(json.loads(json.dumps(schema)))
    assert validator.is_valid({"kind": "a", "items": [{"n": 1}, "b"]})
    assert not validator.is_valid({"kind": "c", "items": []})
    assert not validator.is_valid({"kind": "a", "items": [{"n": "1"}]})
    assert not validator.is_valid({"kind": "a", "items": ["c"]})
    assert enum_paths(schema) == {"/kind": ["a", "b"], "/items/*": ["a", "b"]}


def test_anchors_ids_and_escapes(tmp_path: Path) -> None:
    files = {
        "contracts/out.json": {
            "$id": "https://example.com/schemas/out",
            "type": "object",
            "properties": {
                "by_anchor": {"$ref": "#word"},
                "by_id": {"$ref": "https://example.com/schemas/item"},
                "by_relative_id": {"$ref": "item#/$defs/a~1b%20c"},
                "by_file": {"$ref": "item.json"},
                "nested": {"$ref": "https://example.com/inner#/$defs/x"},
                "$id": {"type": "integer"},
            },
            "$defs": {
                "w": {"$anchor": "word", "enum": ["w"]},
                "inner": {"$id": "https://example.com/inner", "$defs": {"x": {"enum": ["x"]}}},
            },
        },
        "contracts/item.json": {
            "$id": "https://example.com/schemas/item",
            "enum": ["i"],
            "$defs": {"a/b c": {"enum": ["abc"]}},
        },
    }
    schema = bundled(tmp_path, files)
    assert enum_paths(schema) == {
        "/by_anchor": ["w"],
        "/by_id": ["i"],
        "/by_relative_id": ["abc"],
        "/by_file": ["i"],
        "/nested": ["x"],
    }
    validator = Validator(schema)
    assert validator.is_valid({"by_anchor": "w", "by_relative_id": "abc", "nested": "x", "$id": 1})
    for wrong in ({"by_anchor": "x"}, {"by_id": "x"}, {"by_relative_id": "i"}, {"nested": "w"}, {"$id": "1"}):
        assert not validator.is_valid(wrong)


def test_recursion_is_fine(tmp_path: Path) -> None:
    tree = {"type": "object", "properties": {"kind": {"enum": ["t"]}, "next": {"$ref": "node.json"}}}
    node = {"anyOf": [{"type": "null"}, {"$ref": "out.json"}]}
    schema = bundled(tmp_path, {"contracts/out.json": tree, "contracts/node.json": node})
    assert Validator(schema).is_valid({"next": {"next": {"kind": "t", "next": None}}})
    assert not Validator(schema).is_valid({"next": {"next": {"kind": "u"}}})
    assert enum_paths(schema)["/kind"] == ["t"]
    assert Validator({"$ref": "#"}).is_valid(1) in {True, False}


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("http://example.com/x.json", "a reference out of the domain"),
        ("file:///etc/passwd", "a reference out of the domain"),
        ("../../outside.json", "leaves the domain's folder"),
        ("missing.json", "no such file"),
        ("#/$defs/missing", "a reference that leads nowhere"),
        ("#missing", "no such anchor"),
        ("link.json", "leads out of the domain's folder"),
        ("old.json", "another draft"),
        ("broken.json", "not a usable schema"),
    ],
)
def test_references_that_are_refused(tmp_path: Path, reference: str, message: str) -> None:
    write(tmp_path, {"outside.json": {"type": "string"}})
    files: dict[str, Any] = {
        "contracts/out.json": {"$schema": DRAFT_2020, "properties": {"a": {"$ref": reference}}},
        "contracts/old.json": {"$schema": DRAFT_07, "type": "string"},
        "contracts/broken.json": "{",
    }
    write(tmp_path / "tiny", files)
    (tmp_path / "tiny/contracts/link.json").symlink_to("../../outside.json")
    found = faults(tmp_path, files)
    assert message in [fault.message for fault in found]
    assert ("contracts/out.json", '$.properties.a["$ref"]') in [(fault.file, fault.path) for fault in found]


def test_json_that_cannot_be_used(tmp_path: Path) -> None:
    [fault] = faults(tmp_path, {"contracts/out.json": '{"type": "object",\n "type": "array"}'})
    assert (fault.message, fault.found) == ("duplicate key", '"type"')
    [fault] = faults(tmp_path, {"contracts/out.json": '{"type":\n oops}'})
    assert (fault.line, fault.file) == (2, "contracts/out.json")
    [fault] = faults(tmp_path, {"contracts/out.json": '{"a":' * 3000 + "1" + "}" * 3000})
    assert "nested" in fault.message or "not usable JSON" in fault.message
    [fault] = faults(tmp_path, {"contracts/out.json": '{"const": NaN}'})
    assert fault.message == "not a finite number"


def test_a_contract_may_be_written_in_yaml(tmp_path: Path) -> None:
    text = CONFIG.replace("out.json", "out.yaml")
    schema = bundled(tmp_path, {CONFIG_NAME: text, "contracts/out.yaml": "type: object\nrequired: [a]\n"})
    assert schema == {"type": "object", "required": ["a"]}


# Places -------------------------------------------------------------------------------------------


def test_values_through_unions_conditions_and_conjunctions() -> None:
    schema = {
        "type": "object",
        "properties": {
            "kind": {"type": "string"},
            "level": {"anyOf": [{"enum": ["low", "high"]}, {"type": "null"}]},
            "both": {"allOf": [{"enum": ["a", "b"]}, {"enum": ["b", "c"]}]},
            "open": {"anyOf": [{"const": "x"}, {"type": "string"}]},
            "pair": {"prefixItems": [{"const": "l"}, {"const": "r"}]},
            "map": {"type": "object", "additionalProperties": {"enum": [1, 2]}},
            "flag": {"type": "boolean"},
        },
        "oneOf": [
            {"properties": {"kind": {"const": "a"}, "payload": {"properties": {"n": {"enum": [1]}}}}},
            {"properties": {"kind": {"const": "b"}, "payload": {"properties": {"n": {"enum": [2]}}}}},
        ],
        "allOf": [
            {"if": {"properties": {"kind": {"const": "a"}}}, "then": {"properties": {"t": {"enum": ["p"]}}}},
            {"if": {"properties": {"kind": {"const": "b"}}}, "then": {"properties": {"t": {"enum": ["q"]}}}},
        ],
    }
    assert enum_paths(schema) == {
        "/kind": ["a", "b"],
        "/level": ["low", "high"],
        "/both": ["b"],
        "/pair/*": ["l", "r"],
        "/map/*": [1, 2],
        "/payload/n": [1, 2],
        "/t": ["p", "q"],
    }
    assert "/payload" not in leaves(schema)
    assert leaves(schema)["/flag"].types == ("boolean",)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", True),
        ("/items/0/tool", True),
        ("/items/*/tool", True),
        ("/items/*/toll", False),
        ("/args/city", None),
        ("/closed/x", False),
        ("/nothing", False),
        ("/items/*/tool/deeper", False),
    ],
)
def test_whether_a_pointer_leads_somewhere(path: str, expected: bool | None) -> None:
    closed = {"type": "object", "additionalProperties": False}
    tool = {**closed, "properties": {"tool": {"type": "string"}}}
    properties = {"items": {"type": "array", "items": tool}, "args": {"type": "object"}, "closed": closed}
    assert has_place(places({**closed, "properties": properties}), path) is expected


def test_places_of_a_contract_that_fans_out_stay_bounded() -> None:
    names = string.ascii_lowercase[:16]
    definitions = {
        name: {"properties": {key: {"$ref": f"#/$defs/{after}"} for key in "xyz"}} for name, after in pairwise(names)
    }
    definitions[names[-1]] = {"enum": ["end"]}
    found = places({"$ref": "#/$defs/a", "$defs": definitions})
    assert 100 < len(found) <= 10_001


def _tidy(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    closed = {"type": "object", "additionalProperties": False}
    return st.one_of(
        st.builds(lambda a, b: {**closed, "properties": {"a": a, "b": b}}, inner, inner),
        st.builds(lambda a: {"type": "array", "items": a}, inner),
        *(st.builds(lambda a, b, word=word: {word: [a, b]}, inner, inner) for word in ("oneOf", "anyOf", "allOf")),
    )


TIDY = st.recursive(
    st.sampled_from([{"type": "string"}, {"type": ["integer", "null"]}, {"type": "null"}])
    | st.lists(SCALARS, min_size=1, max_size=3, unique_by=repr).map(lambda values: {"enum": values}),
    _tidy,
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(TIDY, INSTANCES)
def test_values_of_valid_instances_are_listed(schema: Any, value: Any) -> None:
    """A value at a closed place of a valid instance is one of that place's values."""
    if not Validator(schema).is_valid(value):
        return
    found = places(schema)
    stack: list[tuple[str, str, Any]] = [("", "", value)]
    while stack:
        exact, starred, item = stack.pop()
        spot = found.get(exact) or found.get(starred)
        if spot is not None and spot.values is not None and not isinstance(item, dict | list):
            assert item in spot.values
        if isinstance(item, dict):
            stack += [(f"{exact}/{key}", f"{starred}/{key}", child) for key, child in item.items()]
        elif isinstance(item, list):
            stack += [(f"{exact}/*", f"{starred}/*", child) for child in item]
