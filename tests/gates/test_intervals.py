"""Intervals against published values, an independent library, and properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from slm_assets.errors import BadInputError
from slm_assets.gates.clusters import group_rows
from slm_assets.gates.intervals import (
    certified,
    lower_bound,
    n_to_certify,
    proportion,
    turns_to_certify,
    upper_bound,
    wilson,
)

counts = st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_wilson_agrees_with_statsmodels(pair: tuple[int, int], confidence: float) -> None:
    hits, n = pair
    expected = proportion_confint(hits, n, alpha=1 - confidence, method="wilson")
    assert wilson(hits, n, confidence) == pytest.approx(expected, abs=1e-12)


@given(counts, st.sampled_from([0.9, 0.95, 0.99]))
def test_one_sided_bounds_agree_with_clopper_pearson(pair: tuple[int, int], confidence: float) -> None:
    hits, n = pair
    low, high = proportion_confint(hits, n, alpha=2 * (1 - confidence), method="beta")
    assert lower_bound(hits, n, confidence) == pytest.approx(low, abs=1e-9)
    assert upper_bound(hits, n, confidence) == pytest.approx(high, abs=1e-9)


@given(counts)
def test_intervals_hold_the_point_widen_with_confidence_and_mirror(pair: tuple[int, int]) -> None:
    hits, n = pair
    scores = np.arange(n) < hits
    for interval in (proportion, certified):
        narrow, wide = interval(scores, confidence=0.9), interval(scores, confidence=0.99)
        assert 0 <= wide.low <= narrow.low <= narrow.value <= narrow.high <= wide.high <= 1
        mirror = interval(~scores, confidence=0.9)
        assert (mirror.low, mirror.high) == pytest.approx((1 - narrow.high, 1 - narrow.low), abs=2e-9)


def test_rule_of_three_and_its_inverse() -> None:
    assert upper_bound(0, 144) == pytest.approx(3 / 144, rel=0.02)
    assert n_to_certify(0.98) == 149
    assert n_to_certify(0.95) == 59
    assert n_to_certify(1.0) is None
    for target in (0.8, 0.95, 0.98, 0.995):
        n = n_to_certify(target)
        assert n is not None
        assert lower_bound(n, n) >= target > lower_bound(n - 1, n - 1)


@settings(max_examples=50)
@given(st.integers(2, 40), st.integers(2, 30), st.integers(0, 2**31))
def test_copies_of_a_row_are_worth_one_row(groups: int, size: int, seed: int) -> None:
    scores = np.random.default_rng(seed).random(groups) < 0.8
    keys = [f"g{i}" for i in range(groups) for _ in range(size)]
    copied = proportion(np.repeat(scores, size), keys)
    alone = proportion(scores)
    assert copied.value == alone.value
    assert copied.low <= alone.low + 1e-9 and copied.high >= alone.high - 1e-9
    assert copied.effective <= groups + 1e-6


def test_scores_between_zero_and_one_are_bounded_conservatively() -> None:
    half = certified(np.full(200, 0.5))
    assert half.low == pytest.approx(lower_bound(100, 200), abs=1e-9)


def test_no_rows_know_nothing_and_mismatched_groups_are_refused() -> None:
    assert proportion([])[:3] == (0.0, 0.0, 1.0)
    assert certified([])[:3] == (0.0, 0.0, 1.0)
    with pytest.raises(BadInputError, match="3 scores, but group keys for 2 rows"):
        proportion([1, 0, 1], ["a", "b"])


def test_groups_do_not_depend_on_their_names_or_the_order_of_rows() -> None:
    rng = np.random.default_rng(3)
    keys, scores = rng.integers(0, 30, 400), rng.random(400) < 0.9
    named = [f"template {key}" for key in keys]
    order = rng.permutation(400)
    assert certified(scores, keys) == certified(scores[order], keys[order])
    assert certified(scores, keys) == certified(scores, named)
    assert group_rows(named, 400).count == len(set(named))


@pytest.mark.parametrize(("truth", "target"), [(0.99, 0.95), (0.97, 0.95), (0.995, 0.98)])
def test_turns_to_certify_have_the_power_they_promise(truth: float, target: float) -> None:
    n = turns_to_certify(truth, target, power=0.8)
    assert n is not None
    hits = np.random.default_rng(1).binomial(n, truth, 4000)
    passed = np.mean([lower_bound(k, n) >= target for k in hits])
    assert 0.8 - 0.02 <= passed <= 0.95
    assert turns_to_certify(target, target) is None
