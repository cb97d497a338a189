"""The sequential test keeps its error rate though it is looked at after every conversation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slm_assets.gates.sequential import conversations_needed, decision, per_conversation, sequential
from slm_assets.gates.verdicts import Level

MARGIN = 0.05
RUNS, LONG = 800, 800


def draws(mean: float, differs: float, seed: int) -> np.ndarray:
    """RUNS × LONG differences of -1, 0 and 1 with this mean."""
    rng = np.random.default_rng(seed)
    better, worse = (differs + mean) / 2, (differs - mean) / 2
    uniform = rng.random((RUNS, LONG))
    return (uniform < better).astype(float) - (uniform > 1 - worse)


def outcomes(found: np.ndarray, **more) -> list[str]:
    return [decision(row, row, margin=MARGIN, **more)[0] for row in found]


@pytest.mark.parametrize("differs", [0.05, 0.1, 0.3])
def test_a_challenger_worse_by_the_margin_passes_in_at_most_alpha_of_cases_though_looked_at_always(differs: float):
    passed = outcomes(draws(-MARGIN, differs, 1)).count("PASS")
    assert passed <= 0.05 * RUNS + 3 * np.sqrt(RUNS * 0.05 * 0.95)


def test_one_that_lies_just_at_the_margin_fails_no_more_often_than_its_own_confidence():
    failed = outcomes(draws(-MARGIN, 0.1, 2), level=Level(family=4)).count("FAIL")
    assert failed <= 0.0125 * RUNS + 3 * np.sqrt(RUNS * 0.0125)


@pytest.mark.parametrize("differs", [0.0, 0.01, 0.05])
def test_an_equal_challenger_passes_at_the_number_named_with_the_power_named(differs: float):
    needed = conversations_needed(differs, 0.0, margin=MARGIN)
    assert needed is not None and needed <= LONG
    passed = outcomes(draws(0.0, differs, 3)[:, :needed]).count("PASS")
    assert passed >= 0.7 * RUNS, (needed, passed)
    early = outcomes(draws(0.0, differs, 3)[:, : needed // 3]).count("PASS")
    assert early < passed


def test_a_much_worse_challenger_fails_early():
    found = [sequential(row, row, margin=MARGIN) for row in draws(-0.3, 0.4, 4)[:50]]
    assert {one.outcome for one in found} == {"FAIL"}
    assert np.median([one.n for one in found]) < 150


def test_what_nobody_can_judge_never_helps():
    agree = np.zeros(1_000)
    unknown = agree.copy()
    unknown[::12] = 1.0
    assert sequential(agree, agree, margin=MARGIN).outcome == "PASS"
    open_ = sequential(-unknown, unknown, margin=MARGIN)
    assert open_.outcome == "INSUFFICIENT" and open_.low < -MARGIN < open_.high
    assert conversations_needed(0.0, 0.06, margin=MARGIN) is None
    assert conversations_needed(0.0, 0.01, margin=MARGIN) > conversations_needed(0.0, 0.0, margin=MARGIN)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=300), st.integers(0, 2**32 - 1))
def test_a_decision_stands_whatever_the_unknown_turn_out_to_be(values: list[float], seed: int):
    rng = np.random.default_rng(seed)
    known = rng.random(len(values)) < 0.9
    worst, best = np.where(known, values, -1.0), np.where(known, values, 1.0)
    before, after = sequential(worst, best, margin=0.2), sequential(values, values, margin=0.2)
    if before.outcome != "INSUFFICIENT":
        assert after.outcome == before.outcome and after.n <= before.n
    assert before.low <= after.low + 1e-6 and after.high <= before.high + 1e-6


def test_the_turns_of_a_conversation_count_once():
    assert per_conversation(["a", "b", "a", "b"], [1.0, 0.0, 0.0, 0.0]).tolist() == [0.5, 0.0]
    assert sequential([], [], margin=MARGIN).outcome == "INSUFFICIENT"
