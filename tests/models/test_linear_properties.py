"""Whatever the contract and the data: answers are valid, repeatable, and the same after a reload."""

from __future__ import annotations

import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from slm_assets.models import linear

pytestmark = pytest.mark.filterwarnings("error")

# a failing case trains models: shrinking one would take minutes
QUICK = (Phase.explicit, Phase.reuse, Phase.generate)

names = st.sampled_from(["a", "b", "c/d", "*", "text", "~"])
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-9, 9),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.sampled_from(["", "x:y", "off_12", "2030-01-02", "two words", "a b c d e", "seven"]),
    st.text(max_size=12),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=12
)

leaves = st.sampled_from(
    [
        ({"enum": ["red", "green", None]}, st.sampled_from(["red", "green", None])),
        ({"type": "boolean"}, st.booleans()),
        ({"type": "integer", "minimum": 0}, st.integers(0, 20)),
        ({"type": ["number", "null"]}, st.none() | st.floats(0, 9, width=16)),
        ({"type": "string", "maxLength": 12}, st.text("ab 1:", max_size=12)),
    ]
)
Node = tuple[dict[str, Any], st.SearchStrategy[Any]]


def _object(children: dict[str, Node], required: bool) -> Node:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: child[0] for name, child in children.items()},
        "additionalProperties": False,
    }
    fields = {name: child[1] for name, child in children.items()}
    if required:
        schema["required"] = sorted(children)
        return schema, st.fixed_dictionaries(fields)
    return schema, st.fixed_dictionaries({}, optional=fields)


def _array(child: Node) -> Node:
    return {"type": "array", "items": child[0], "maxItems": 3}, st.lists(child[1], max_size=3)


contracts = st.recursive(
    leaves,
    lambda inner: (
        st.builds(_object, st.dictionaries(names, inner, min_size=1, max_size=3), st.booleans())
        | st.builds(_array, inner)
    ),
    max_leaves=6,
)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), phases=QUICK)
@given(data=st.data(), contract=contracts)
def test_random_contracts(data: st.DataObject, contract: Node) -> None:
    schema, outputs = contract
    pairs = data.draw(st.lists(st.tuples(values, outputs), min_size=1, max_size=12))
    echo = data.draw(st.booleans())
    pairs = [({"given": x, "echo": y} if echo else x, y) for x, y in pairs]
    model_rows = [pair for pair in pairs if linear_can_write(pair)]
    if not model_rows:
        return
    model = linear.train(pairs, schema)
    asked = [x for x, _ in pairs] + data.draw(st.lists(values, max_size=4))
    answers = [model.predict(value) for value in asked]
    assert all(a.valid and model.contract.is_valid(a.output) and 0 <= a.confidence <= 1 for a in answers)
    assert model.predict_many(asked) == answers
    with tempfile.TemporaryDirectory() as folder:
        linear.save(model, Path(folder))
        assert linear.load(Path(folder), schema).predict_many(asked) == answers
        again = Path(folder) / "again"
        linear.save(linear.train(pairs, schema), again)
        for name in ("model.json", "weights.safetensors"):
            assert (again / name).read_bytes() == (Path(folder) / name).read_bytes()


words = st.text("abcdeé", min_size=1, max_size=7)
amounts = st.integers(0, 10**7).map(lambda cents: cents / 100)
days = st.dates(min_value=date(1990, 1, 1), max_value=date(2060, 12, 31)).map(date.isoformat)
written = st.sampled_from(
    [
        ({"type": "string"}, words, str),
        ({"type": "string", "format": "date"}, days, str),
        ({"type": "string", "format": "date"}, days, lambda day: "/".join(reversed(day.split("-")))),
        ({"type": "number", "format": "money"}, amounts, lambda x: f"{x:,.2f}"),
        ({"type": "number", "format": "money"}, amounts, lambda x: f"{x:_.2f} EUR".replace(".", ",").replace("_", ".")),
        ({"type": "integer", "minimum": 0}, st.integers(0, 10**6), str),
        ({"enum": ["eur", "usd", "chf"]}, st.sampled_from(["eur", "usd", "chf"]), str),
    ]
)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), phases=QUICK)
@given(data=st.data(), kinds=st.lists(written, min_size=1, max_size=3), listed=st.booleans(), tall=st.booleans())
def test_random_texts(data: st.DataObject, kinds: list[Any], listed: bool, tall: bool) -> None:
    """Values that a text holds, some or all of them, once or in lines, in whatever form."""
    fields = {f"f{k}": kind for k, kind in enumerate(kinds)}
    item = {"type": "object", "properties": {name: kind[0] for name, kind in fields.items()}}
    schema = {"type": "array", "items": item} if listed else item
    optional = st.fixed_dictionaries({}, optional={name: kind[1] for name, kind in fields.items()})
    drawn = data.draw(st.lists(st.lists(optional, max_size=4), min_size=12, max_size=30))
    pairs = []
    for items in drawn:
        lines = [" ".join(f"{name} is {fields[name][2](v)}" for name, v in one.items()) for one in items]
        output = items if listed else (items[0] if items else {})
        head = ["please read", "", "A  B", "", "this"] if tall else ["please read"]
        pairs.append(({"text": "\n".join([*head, *lines])}, output))
    model = linear.train(pairs, schema)
    asked = [x for x, _ in pairs[:8]] + [
        {"text": data.draw(st.text(max_size=80))},
        {"text": "f0 is " * 300},
        {"text": "f0\n1,5  eur\n" * 50},
    ]
    answers = [model.predict(value) for value in asked]
    for value, answer in zip(asked, answers, strict=True):
        assert answer.valid and model.contract.is_valid(answer.output) and 0 <= answer.confidence <= 1
        assert all(0 <= span.start < span.end <= len(value["text"]) for span in answer.spans)
    with tempfile.TemporaryDirectory() as folder:
        linear.save(model, Path(folder) / "a")
        linear.save(linear.train(pairs, schema), Path(folder) / "b")
        assert linear.load(Path(folder) / "a", schema).predict_many(asked) == answers
        for name in ("model.json", "weights.safetensors"):
            assert (Path(folder) / "a" / name).read_bytes() == (Path(folder) / "b" / name).read_bytes()


def linear_can_write(pair: tuple[Any, Any]) -> bool:
    """Whether a row is JSON of at most 64-bit integers without lone surrogates."""
    try:
        orjson.dumps(pair)
    except TypeError:
        return False
    return True
