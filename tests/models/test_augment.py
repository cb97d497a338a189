"""`augment: slots`: rows made by exchanging values, in texts and outputs alike."""

from __future__ import annotations

import re
from typing import Any

import pytest

from slm_assets.errors import BadInputError
from slm_assets.models import ladder
from slm_assets.models.linear.augment import augmented, substituted

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["table", "taxi"]},
        "name": {"type": "string", "maxLength": 12},
        "town": {"type": "string"},
        "note": {"type": "string"},
    },
    "required": ["kind"],
}
PAIRS = [
    ({"text": "a table for Ann in Rome please"}, {"kind": "table", "name": "Ann", "town": "Rome"}),
    ({"text": "a taxi for Bob from Oslo now"}, {"kind": "taxi", "name": "Bob", "town": "Oslo"}),
    ({"text": "a taxi for Maximiliana-Theodora now"}, {"kind": "taxi", "note": "Maximiliana-Theodora"}),
    ({"text": "Eve likes Annapolis, a table for Eve"}, {"kind": "table", "name": "Eve", "town": "Annapolis"}),
    ({"text": "nothing stands in this text"}, {"kind": "table", "name": "Ann", "town": "Ann"}),
]


def test_values_are_exchanged_in_text_and_output_for_others_of_the_same_place():
    made, groups = substituted(PAIRS, list("abcde"), SCHEMA, 3)
    assert made[: len(PAIRS)] == PAIRS and groups[: len(PAIRS)] == list("abcde")
    new = list(zip(made, groups, strict=True))[len(PAIRS) :]
    assert new, "nothing was exchanged"
    for (value, output), group in new:
        origin_value, origin = PAIRS["abcde".index(group)]
        assert output != origin and output.keys() == origin.keys()
        assert output["kind"] == origin["kind"], "a listed value says more than its word in the text"
        template = origin_value["text"]
        for key in ("town", "name"):
            if output.get(key) != origin.get(key):
                assert re.search(rf"(?<!\w){re.escape(output[key])}(?!\w)", value["text"])
                assert output[key] in {other.get(key) for _, other in PAIRS}
                template = re.sub(rf"\b{origin[key]}\b", output[key], template)
        assert value["text"] == template, "nothing but the exchanged values changed"


def test_a_value_that_stands_twice_or_nowhere_stays():
    for seed in range(20):
        made, groups = substituted(PAIRS, list("abcde"), SCHEMA, seed)
        for (_, output), group in list(zip(made, groups, strict=True))[len(PAIRS) :]:
            assert group != "e"
            assert group != "d" or output["name"] == "Eve"


def test_what_breaks_the_contract_is_left_out():
    pairs = [({"text": f"call {name} now"}, {"kind": "taxi", "name": name}) for name in ("Bo", "Maximiliana-Theodora")]
    made, _ = substituted(pairs, None, SCHEMA, 0)
    assert all(len(output["name"]) <= 12 for _, output in made[2:])


def test_it_is_seeded_and_leaves_what_was_given_as_it_was():
    before = repr(PAIRS)
    assert substituted(PAIRS, None, SCHEMA, 1) == substituted(PAIRS, None, SCHEMA, 1)
    assert len({repr(substituted(PAIRS, None, SCHEMA, seed)) for seed in range(8)}) > 1
    assert repr(PAIRS) == before


def test_the_report_counts_given_and_made_rows_apart():
    pairs = [({"text": f"a taxi for {n} now"}, {"kind": "taxi", "name": n}) for n in ("Al", "Bo", "Cy", "Di", "Ed")]
    plain = ladder.rung("linear").train(ladder.Training(pairs, SCHEMA))
    more = ladder.rung("linear").train(ladder.Training(pairs, SCHEMA, hyperparams={"augment": "slots"}))
    assert plain.report["n"] == more.report["n"] == 5 and "augmented" not in plain.report
    assert 1 <= more.report["augmented"] <= 5


def test_off_by_default_and_another_value_is_refused():
    assert augmented(ladder.Training(PAIRS, SCHEMA)) == (ladder.Training(PAIRS, SCHEMA), 0)
    assert augmented(ladder.Training(PAIRS, SCHEMA, hyperparams={"augment": None}))[1] == 0
    for rung in ("linear", "encoder"):
        with pytest.raises(BadInputError, match="expected slots or null"):
            ladder.rung(rung).train(ladder.Training(PAIRS, SCHEMA, hyperparams={"augment": "words"}))
