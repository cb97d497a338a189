"""Contracts of every kind that decoding holds to, as hypothesis draws them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

keys = st.sampled_from(["a", "b", "tool", "c/d", "~", 'q"uote', "é", "text"])
values = st.sampled_from(["red", "green", None, True, 0, -1.5, "", 'a"b', "é\n", [1, "x"], {"k": 1}])
bound = st.integers(-50, 2000)


def _range(kind: str, low: int, width: int, exclusive: bool, step: Any) -> dict[str, Any]:
    words = ("exclusiveMinimum", "exclusiveMaximum") if exclusive else ("minimum", "maximum")
    made: dict[str, Any] = {"type": kind, words[0]: low / 4 if kind == "number" else low, words[1]: low + width + 2}
    return made if step is None else {**made, "multipleOf": step}


numbers = st.builds(
    _range,
    st.sampled_from(["integer", "number"]),
    bound,
    st.integers(0, 900),
    st.booleans(),
    st.sampled_from([None, None, 1, 2, 0.01]),
)
leaves = st.one_of(
    st.lists(values, min_size=1, max_size=4).map(lambda own: {"enum": own}),
    values.map(lambda value: {"const": value}),
    st.sampled_from(
        [
            {"type": "boolean"},
            {"type": "null"},
            {"type": ["number", "null"]},
            {"type": "integer"},
            {"type": "number", "exclusiveMinimum": 0},
            {"type": "string"},
            {"type": "string", "minLength": 2, "maxLength": 5},
            {"type": "string", "pattern": "^[A-Z]{3}$"},
            {"type": "string", "pattern": "[a-c]+é", "maxLength": 9},
            {"type": "string", "format": "date"},
            {"type": "string", "format": "date-time"},
            {"type": "string", "format": "uuid"},
            {"type": "string", "format": "email"},
            {"type": "string", "format": "money"},
            {"enum": ["red", "green", "blue"], "not": {"const": "green"}},
            {},
            {"type": "object"},
            {"minimum": 3},
        ]
    ),
    numbers,
)


def _object(children: dict[str, Any], required: bool, closed: bool, least: int) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "object", "properties": children}
    if required:
        made["required"] = sorted(children)[: 1 + len(children) // 2]
    if closed:
        made["additionalProperties"] = False
    return {**made, "minProperties": least} if least else made


def _array(child: Any, low: int, more: int, unique: bool) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "array", "items": child, "minItems": low, "maxItems": low + more}
    return {**made, "uniqueItems": True} if unique and "enum" in child else made


def _tuple(children: list[Any], low: int) -> dict[str, Any]:
    return {"type": "array", "prefixItems": children, "items": False, "minItems": min(low, len(children))}


def _told_apart(children: list[Any]) -> dict[str, Any]:
    return {
        "oneOf": [
            {"type": "object", "required": ["kind", "of"], "properties": {"kind": {"const": f"k{i}"}, "of": child}}
            for i, child in enumerate(children)
        ]
    }


def _condition(child: Any, other: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"kind": {"enum": ["x", "y", "z"]}, "of": True, "as": True},
        "required": ["kind"],
        "additionalProperties": False,
        "if": {"properties": {"kind": {"const": "x"}}},
        "then": {"required": ["of"], "properties": {"of": child, "as": False}},
        "else": {"required": ["as"], "properties": {"as": other, "of": False}},
    }


def _both(child: Any) -> dict[str, Any]:
    return {
        "allOf": [
            {"type": "object", "properties": {"a": child, "n": {"type": "integer", "minimum": 0}}, "required": ["n"]},
            {"properties": {"n": {"maximum": 9}, "z": {"type": "boolean"}}, "required": ["z"]},
        ]
    }


nodes = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(
            _object, st.dictionaries(keys, inner, min_size=1, max_size=4), st.booleans(), st.booleans(),
            st.integers(0, 1),
        ),
        st.builds(_array, inner, st.integers(0, 2), st.integers(0, 3), st.booleans()),
        st.builds(_tuple, st.lists(inner, min_size=1, max_size=3), st.integers(0, 3)),
        st.lists(inner, min_size=1, max_size=3).map(_told_apart),
        st.lists(inner, min_size=1, max_size=3).map(lambda own: {"anyOf": own}),
        st.builds(_condition, inner, inner),
        inner.map(_both),
    ),
    max_leaves=8,
)  # fmt: skip


def _document(node: Any, recursive: bool) -> dict[str, Any]:
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    if not recursive:
        return {**head, **node}
    tree = {"type": "object", "properties": {"own": node, "more": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}}
    return {**head, "$ref": "#/$defs/tree", "$defs": {"tree": {**tree, "required": ["own"]}}}


contracts = st.builds(_document, nodes, st.booleans())
