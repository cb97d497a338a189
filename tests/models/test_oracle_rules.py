"""The rules oracle: what a rules file can say, and what a wrong one is told."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slm_assets.errors import ConfigError
from slm_assets.models.base import Prediction
from slm_assets.models.rules import RulesOracle, check_rules

CITY = {"path": "/text", "entries": {"new york": "NYC", "york": "YRK", "São Paulo": "SAO", "paris": "PAR"}}


def answer(value: Any, **doc: Any) -> Any:
    """What a document with a default of its own answers."""
    output, error = RulesOracle(doc).answer(value)
    assert not error, error
    return output


def test_first_matching_rule_answers_and_the_default_comes_last() -> None:
    doc = {
        "paths": {"n": {"path": "/n", "default": 0}},
        "rules": [
            {"id": "big", "when": "n > 10", "then": {"size": "big"}},
            {"id": "also", "when": "n > 5", "then": {"size": "medium"}},
        ],
        "default": {"size": "small"},
    }
    oracle = RulesOracle(doc)
    outputs = [prediction.output["size"] for prediction in oracle.predict_many([{"n": 11}, {"n": 6}, {"n": 1}, {}])]
    assert outputs == ["big", "medium", "small", "small"]


def test_a_lexicon_finds_whole_words_longest_first_in_text_order() -> None:
    found = {"default": {"found": "=city"}, "lexicons": {"city": CITY}}
    assert answer({"text": "Paris, NEW  YORK or são paulo? Yorkshire no"}, **found) == {"found": ["PAR", "NYC", "SAO"]}
    assert answer({"text": "york"}, **found) == {"found": ["YRK"]}
    assert answer({}, **found) == {"found": []}


def test_patterns_give_groups_casts_and_lexicon_values() -> None:
    doc: dict[str, Any] = {
        "lexicons": {"city": CITY},
        "patterns": {
            "trip": {"path": "/text", "regex": "from (?P<a>{city}) to (?P<b>{city})", "cast": "city", "take": "first"},
            "adults": {"path": "/text", "regex": r"(\d+) (?:adults|people)", "cast": "int"},
            "exact": {"path": "/text", "regex": "Paris", "fold": False, "take": "last"},
        },
        "default": {"trip": "=trip", "exact": "=exact", "adults": "=adults"},
    }
    output = answer({"text": "From New York to paris, 2 adults and 12 people"}, **doc)
    assert output == {"trip": {"a": "NYC", "b": "PAR"}, "exact": None, "adults": [2, 12]}
    assert all(type(number) is int for number in output["adults"])


def test_a_list_of_patterns_stands_for_any_of_them() -> None:
    doc = {"patterns": {"w": {"path": "/text", "regex": [r"\bhotel", r"\broom"]}}, "default": "=w"}
    assert answer({"text": "a room in a hotel"}, **doc) == ["room", "hotel"]


def test_templates_drop_null_options_and_escape_the_equals_sign() -> None:
    doc = {
        "paths": {"a": {"path": "/a"}, "b": {"path": "/b"}},
        "let": {"inner": {"x?": "=a", "y": "=b"}},
        "default": {"literal": "==a", "inner": "=inner", "list": ["=a", 1, True, None], "gone?": None},
    }
    assert answer({"b": 2}, **doc) == {"literal": "=a", "inner": {"y": 2}, "list": [None, 1, True, None]}


def test_names_that_no_rule_needs_are_not_computed() -> None:
    doc = {
        "paths": {"a": {"path": "/a"}},
        "let": {"bad": "a.b.c"},
        "rules": [{"id": "ok", "when": "true", "then": 1}, {"id": "never", "when": "bad == 1", "then": 2}],
    }
    assert answer({}, **doc) == 1


def test_an_error_while_answering_names_the_place_and_the_next_input_is_answered() -> None:
    doc = {"paths": {"a": {"path": "/a"}}, "default": {"n": "=int(a)"}}
    oracle = RulesOracle(doc)
    output, error = oracle.answer({"a": "x"})
    assert output is None
    assert "$.default.n" in error and "int(a)" in error
    assert oracle.predict({"a": "x"}) == Prediction(None, 0.0, valid=False)
    assert oracle.predict({"a": "7"}) == Prediction({"n": 7})


def test_no_match_without_default_is_no_answer() -> None:
    output, error = RulesOracle({"rules": [{"id": "r", "when": "false", "then": 1}]}).answer({})
    assert output is None and "no rule matched" in error


def test_a_condition_must_be_a_boolean() -> None:
    _, error = RulesOracle({"rules": [{"id": "r", "when": "1", "then": 1}]}).answer({})
    assert "$.rules[0].when" in error and "boolean" in error


def test_values_that_double_at_every_step_are_stopped() -> None:
    doc = {"let": {"a0": "'xxxxxxxx'"}, "default": "=a40"}
    doc["let"] |= {f"a{i + 1}": f"a{i} + a{i}" for i in range(40)}
    started = time.process_time()
    output, error = RulesOracle(doc).answer({})
    assert output is None and "too large" in error
    assert time.process_time() - started < 2


def test_a_pattern_that_ruins_backtracking_engines_runs_in_linear_time() -> None:
    oracle = RulesOracle({"patterns": {"p": {"path": "/t", "regex": "(a+)+$"}}, "default": "=p"})
    started = time.process_time()
    assert oracle.answer({"t": "a" * 19_000 + "b"}).output == []
    assert time.process_time() - started < 2


def test_every_fault_is_reported_with_its_place_and_a_cure() -> None:
    doc = {
        "pattern": {},
        "paths": {"region": {"path": "region"}, "x": {"pth": "/x"}, "input": {"path": "/a"}},
        "lexicons": {"empty": {"entries": {}}},
        "patterns": {
            "p": {"path": "/t", "regex": "(a"},
            "q": {"path": "/t", "regex": "(?=a)"},
            "r": {"path": "/t", "regex": "{nowhere}"},
            "s": {"path": "/t", "regex": "a", "cast": "date"},
        },
        "let": {"a": "1 +", "b": "reigon == 1", "c": "now()", "d": "[1].map(x, [2].map(y, [3].map(z, z)))"},
        "rules": [{"id": "r", "when": "true", "then": "=1 +"}, {"id": "r", "whn": "true", "then": 1}, 7],
    }
    faults = check_rules(doc, "oracle/x.yaml")
    places = {fault.path for fault in faults}
    assert places >= {
        "$.pattern", "$.paths.region.path", "$.paths.x", "$.paths.x.pth", "$.paths.input", "$.lexicons.empty.entries",
        "$.patterns.p.regex", "$.patterns.q.regex", "$.patterns.r.regex", "$.patterns.s.cast", "$.let.a", "$.let.b",
        "$.let.c", "$.let.d", "$.rules[0].then", "$.rules[1]", "$.rules[1].id", "$.rules[1].whn", "$.rules[2]",
    }  # fmt: skip
    by_place = {fault.path: fault for fault in faults}
    assert by_place["$.let.b"].cure == "did you mean region?"
    assert by_place["$.pattern"].cure == "did you mean patterns?"
    assert all(fault.file == "oracle/x.yaml" for fault in faults)
    with pytest.raises(ConfigError) as error:
        RulesOracle(doc, file="oracle/x.yaml", domain="d")
    assert error.value.faults == faults


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PARTS = st.sampled_from(["paths", "lexicons", "patterns", "let", "rules", "default", "other"])


@settings(max_examples=150, deadline=None)
@given(doc=JSON | st.dictionaries(PARTS, JSON, max_size=5))
def test_any_document_is_either_compiled_or_faulted(doc: Any) -> None:
    faults = check_rules(doc, "f")
    if faults:
        return
    output, error = RulesOracle(doc).answer({"a": 1})
    assert error or RulesOracle(doc).answer({"a": 1}).output == output


@settings(max_examples=100, deadline=None)
@given(value=JSON | st.fixed_dictionaries({"text": JSON, "n": JSON}))
def test_any_input_gets_an_answer_or_a_reason(value: Any) -> None:
    doc = {
        "paths": {"n": {"path": "/n", "default": 0}},
        "lexicons": {"city": CITY},
        "patterns": {"p": {"path": "/text", "regex": r"(?P<x>\d+)(?P<y>b)?", "cast": "int"}},
        "rules": [{"id": "r", "when": "size(city) > 0", "then": {"city": "=city[0]", "n": "=n"}}],
        "default": {"p": "=p", "n": "=n"},
    }
    assert check_rules(doc, "f") == []
    output, error = RulesOracle(doc).answer(value)
    assert (output is None) == bool(error)
