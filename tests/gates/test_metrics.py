"""Scores of outputs against labels."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slm_assets import canonical
from slm_assets.errors import BadInputError
from slm_assets.gates.calibration import accuracy_at_coverage, calibration, ece_interval
from slm_assets.gates.metrics import (
    class_names,
    confusion,
    recall_per_class,
    same,
    score,
    values_at,
)

FRAME = {
    "tool_requests": [{"tool": "search", "arguments": {"q": "a/b"}}, {"arguments": {}}],
    "groups": [{"items": [{"id": 1}, {"id": 2}]}, {"items": []}, {}],
    "a/b": {"m~n": 7},
    "by_name": {"z": 1, "a": 2},
}


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [
        ("", FRAME),
        ("/tool_requests/0/tool", "search"),
        ("/tool_requests/*/tool", ["search", "?"]),
        ("/tool_requests/2", "?"),
        ("/tool_requests/-1", "?"),
        ("/tool_requests/tool", "?"),
        ("/a~1b/m~0n", 7),
        ("/a~1b/m~0n/deeper", "?"),
        ("/groups/*/items/*/id", [1, 2, "?"]),
        ("/by_name/*", [2, 1]),
        ("/missing", "?"),
        ("/missing/*/x", "?"),
    ],
)
def test_values_at(pointer: str, expected: object) -> None:
    assert values_at(FRAME, pointer, "?") == expected


def test_a_pointer_without_a_slash_is_refused() -> None:
    with pytest.raises(BadInputError, match="not a JSON pointer"):
        values_at(FRAME, "tool")


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (1, 1.0, True),
        (True, 1, False),
        (False, 0, False),
        (0.0, False, False),
        (None, None, True),
        (None, False, False),
        ("1", 1, False),
        ({"a": 1, "b": [1, 2]}, {"b": [1, 2.0], "a": 1}, True),
        ({"a": True}, {"a": 1}, False),
        ([1, 2], [2, 1], False),
        ([], {}, False),
        ({"a": None}, {}, False),
        (2**53 + 1, float(2**53), False),
    ],
)
def test_same(left: Any, right: Any, expected: bool) -> None:
    assert same(left, right) is expected
    assert same(right, left) is expected
    assert same([left], [right]) is expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-100, 100) | st.floats(-5, 5) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, json_values)
def test_same_is_reflexive_and_equal_text_is_equal(left: Any, right: Any) -> None:
    assert same(left, json.loads(canonical.text(left)))
    if canonical.text(left) == canonical.text(right):
        assert same(left, right)


def test_score_at_a_place_and_of_the_whole_frame() -> None:
    labels: list[Any] = [{"tool": "a", "n": 1}, {"n": 2}, {"tool": "b"}, {"tool": "b"}]
    outputs: list[Any] = [{"n": 1.0, "tool": "a"}, {"tool": ""}, {"tool": "c"}, None]
    assert score(outputs, labels, "/tool").tolist() == [True, False, False, False]
    assert score(outputs, labels, "/tool", absent="").tolist() == [True, True, False, False]
    assert score(outputs, labels).tolist() == [True, False, False, False]


def test_an_engine_that_could_not_answer_misses_even_where_the_label_is_absent() -> None:
    assert score([None, {}], [{}, {}], "/slot").tolist() == [False, True]
    assert score([None], [None]).tolist() == [True]
    with pytest.raises(BadInputError, match="1 outputs, but 2 labels"):
        score([None], [{}, {}])


def test_score_is_fast_enough_for_a_hundred_thousand_rows() -> None:
    rows = [{"tool": "search", "arguments": {"q": str(i), "n": i}} for i in range(100_000)]
    copies = [dict(row) for row in rows]
    start = time.perf_counter()
    assert score(rows, copies, "/arguments").all()
    assert time.perf_counter() - start < 5


def test_recall_is_keyed_by_the_true_class() -> None:
    true = ["flights"] * 4 + ["hotels"] * 2 + ["other"]
    predicted = ["flights", "flights", "hotels", "hotels", "hotels", "hotels", "flights"]
    rows = recall_per_class(predicted, true)
    assert [(row["class"], row["n"], row["recall"]) for row in rows] == [
        ("flights", 4, 0.5),
        ("hotels", 2, 1.0),
        ("other", 1, 0.0),
    ]
    assert all(0 <= row["low"] <= row["recall"] <= row["high"] <= 1 for row in rows)


def test_class_names_keep_text_and_write_the_rest_as_json() -> None:
    values = [{"kind": "a"}, {"kind": True}, {"kind": {"b": 1, "a": 2}}, {}]
    assert class_names(values, "/kind") == ["a", "true", '{"a":2,"b":1}', "null"]


def test_confusion_counts_every_row_once_and_folds_the_rare() -> None:
    rng = np.random.default_rng(0)
    names = [f"c{i}" for i in range(30)]
    true = [names[min(int(rng.exponential(5)), 29)] for _ in range(1000)]
    predicted = [t if rng.random() < 0.8 else names[int(rng.integers(30))] for t in true]
    table = confusion(predicted, true, top=5)
    assert len(table["classes"]) == 6 and table["classes"][-1] == "(other)"
    assert np.sum(table["counts"]) == 1000
    first = table["classes"][0]
    assert sum(table["counts"][0]) == true.count(first)
    both = sum(1 for p, t in zip(predicted, true, strict=True) if p == t == first)
    assert table["counts"][0][0] == both
    small = confusion(["a", "z"], ["a", "b"])
    assert small == {"classes": ["a", "b", "z"], "counts": [[1, 0, 0], [0, 0, 1], [0, 0, 0]]}
    assert confusion([], []) == {"classes": [], "counts": []}


def test_calibration_error_of_known_data() -> None:
    told = [0.95] * 10 + [0.55] * 10
    right = [1] * 9 + [0] + [1] * 4 + [0] * 6
    report = calibration(told, right)
    assert report["ece"] == pytest.approx(0.5 * 0.05 + 0.5 * 0.15)
    assert [row["n"] for row in report["bins"]] == [10, 10], "equal confidences share a bin"
    assert [row["accuracy"] for row in report["bins"]] == pytest.approx([0.4, 0.9])
    assert calibration([1.0, 0.0], [1, 0])["ece"] == 0
    assert calibration([], [])["ece"] is None


def test_bins_of_calibration_are_of_equal_mass() -> None:
    told = np.linspace(0.0, 1.0, 1_000) ** 4  # most are unsure: bins of equal width would leave some almost empty
    report = calibration(told, np.arange(1_000) % 2)
    assert {row["n"] for row in report["bins"]} == {66, 67} and len(report["bins"]) == 15
    assert report["n"] == sum(row["n"] for row in report["bins"])


def test_the_interval_of_the_calibration_error_holds_it_and_widens_with_groups() -> None:
    rng = np.random.default_rng(1)
    told = rng.uniform(0.5, 1.0, 2_000)
    right = rng.uniform(size=2_000) < told - 0.2  # overconfident by 20 points
    alone = ece_interval(told, right)
    assert alone.low < 0.2 < alone.high and alone.high - alone.low < 0.06
    assert alone.low <= alone.value == calibration(told, right)["ece"] <= alone.high
    clumped = np.repeat(rng.uniform(size=20) < 0.55, 100)
    together = ece_interval(told, clumped, np.repeat(np.arange(20), 100))
    apart = ece_interval(told, clumped)
    assert together.high - together.low > 2 * (apart.high - apart.low)
    assert ece_interval([], []) == (0.0, 0.0, 1.0, 0, 0.0)


def test_accuracy_at_coverage_takes_ties_along() -> None:
    rows = accuracy_at_coverage([0.9, 0.8, 0.8, 0.8, 0.1], [1, 1, 0, 1, 0], (0.2, 0.4, 1.0))
    assert [(row["n"], row["coverage"], row["accuracy"], row["threshold"]) for row in rows] == [
        (1, 0.2, 1.0, 0.9),
        (4, 0.8, 0.75, 0.8),
        (5, 1.0, 0.6, 0.1),
    ]
    assert accuracy_at_coverage([], []) == []


def test_confidences_outside_their_range_or_length_are_refused() -> None:
    with pytest.raises(BadInputError, match=r"outside \[0, 1\]"):
        calibration([1.2], [1])
    with pytest.raises(BadInputError, match="2 confidences, but 1 scores"):
        calibration([0.5, 0.5], [1])


def test_reports_are_json_with_a_stable_form() -> None:
    rng = np.random.default_rng(1)
    sure, right = rng.random(200), rng.random(200) < 0.7
    for report in (calibration(sure, right), accuracy_at_coverage(sure, right)):
        assert json.loads(json.dumps(report)) == report
