"""The paired difference: published values, properties, edges, speed, and error rates by simulation."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from slm_assets.errors import BadInputError
from slm_assets.gates.paired import paired, tango_interval, turns_needed

Scores = tuple[np.ndarray, np.ndarray, np.ndarray]


@st.composite
def tables(draw: st.DrawFn) -> Scores:
    groups, size = draw(st.integers(2, 40)), draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    n = groups * size
    keys = rng.permutation(np.repeat(np.arange(groups), size))
    grades = draw(st.sampled_from([1, 4]))
    ours, theirs = (np.ceil(rng.random(n) * grades - draw(st.floats(0, 0.5))) / grades for _ in range(2))
    return np.clip(ours, 0, 1), np.clip(theirs, 0, 1), keys


def test_tango_gives_the_published_interval() -> None:
    """Airway hyper-responsiveness before and after transplantation (Bentur et al. 2009): of 21 children 1
    only before and 7 only after; -0.517 to -0.026 in Fagerland, Lydersen and Laake, Statistics in Medicine
    33 (2014), 2850-2875."""
    assert tango_interval(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 300), st.sampled_from([0.9, 0.95]))
def test_tango_solves_the_score_equation_of_the_paper(b: int, c: int, rest: int, confidence: float) -> None:
    n = b + c + rest + 1

    def score(delta: float) -> float:
        """(b - c - n d) / se, with the restricted estimate of p21 as the paper writes it (eq. 4)."""
        linear = -b - c + (2 * n - b + c) * delta
        lost = (np.sqrt(linear**2 + 8 * n * c * delta * (1 - delta)) - linear) / (4 * n)
        return float((b - c - n * delta) / np.sqrt(n * (2 * lost + delta * (1 - delta))))

    z = float(norm.ppf((1 + confidence) / 2))
    point = (b - c) / n
    low, high = tango_interval(b, c, n, confidence)
    assert low == pytest.approx(brentq(lambda d: score(d) - z, -1 + 1e-9, point - 1e-9), abs=1e-7)
    assert high == pytest.approx(brentq(lambda d: score(d) + z, point + 1e-9, 1 - 1e-9), abs=1e-7)


@settings(max_examples=60, deadline=None)
@given(tables())
def test_bounds_hold_the_point_widen_with_confidence_and_stay_in_range(table: Scores) -> None:
    narrow, wide = paired(*table, 0.9), paired(*table, 0.99)
    assert -1 <= wide.low <= narrow.low <= narrow.diff <= narrow.high <= wide.high <= 1
    assert narrow.low < narrow.high


@settings(max_examples=60, deadline=None)
@given(tables())
def test_swapping_the_models_mirrors_the_interval(table: Scores) -> None:
    ours, theirs, keys = table
    here, there = paired(ours, theirs, keys), paired(theirs, ours, keys)
    assert there.diff == -here.diff
    assert (there.low, there.high) == pytest.approx((-here.high, -here.low), abs=2e-9)


@settings(max_examples=30, deadline=None)
@given(tables(), st.integers(0, 2**31))
def test_the_order_of_rows_changes_nothing(table: Scores, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(table[0]))
    assert paired(*table) == paired(*(part[order] for part in table))


def test_no_difference_still_has_a_width_which_counts_groups_not_rows() -> None:
    ones = np.ones(2000)
    alone, grouped = paired(ones, ones), paired(ones, ones, np.repeat(np.arange(100), 20))
    assert alone.diff == grouped.diff == 0
    assert -3.2 / 2000 < alone.low < -3 / 2000
    assert -3.2 / 100 < grouped.low < -3 / 100


def test_copies_of_rows_add_nothing() -> None:
    rng = np.random.default_rng(5)
    ours, theirs = rng.random(200) < 0.9, rng.random(200) < 0.9
    alone = paired(ours, theirs)
    copied = paired(np.repeat(ours, 20), np.repeat(theirs, 20), np.repeat(np.arange(200), 20))
    assert copied.diff == alone.diff
    assert copied.low <= alone.low + 1e-3
    assert copied.effect == pytest.approx(20, rel=0.1)


def test_edges_nothing_known_gives_the_widest_bounds() -> None:
    assert paired([], []).n == 0
    assert (paired([], []).low, paired([], []).high) == (-1.0, 1.0)
    one_group = paired(np.ones(50), np.zeros(50), ["same"] * 50)
    assert one_group.low == -1.0 and one_group.n_groups == 1
    with pytest.raises(BadInputError, match="4 scores, but group keys for 3 rows"):
        paired([1, 0, 1, 1], [1, 1, 1, 1], ["a", "b", "c"])


def test_many_groups_are_pooled_without_losing_width() -> None:
    rng = np.random.default_rng(2)
    ours, theirs = rng.random(20_000) < 0.9, rng.random(20_000) < 0.9
    result = paired(ours, theirs)
    spread = 1.645 * np.sqrt((result.wins + result.losses - result.diff**2) / 20_000)
    assert result.diff - result.low == pytest.approx(spread, rel=0.1)


def test_two_thousand_rows_in_five_hundred_groups_take_little_time() -> None:
    rng = np.random.default_rng(0)
    ours, theirs, keys = rng.random(2000) < 0.9, rng.random(2000) < 0.9, np.repeat(np.arange(500), 4)
    paired(ours, theirs, keys)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        paired(ours, theirs, keys)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.25  # 12 ms on an idle core


def test_turns_needed_grow_with_discordance_power_and_clustering() -> None:
    rows = [turns_needed(share, 0.02) for share in (0.0, 0.01, 0.05, 0.2)]
    assert rows == sorted(rows)
    assert rows[0] == pytest.approx(3 / 0.02, rel=0.06)
    assert turns_needed(0.05, 0.02, power=0.95) > turns_needed(0.05, 0.02, power=0.8)
    assert turns_needed(0.05, 0.01) > 3 * turns_needed(0.05, 0.02)
    rng = np.random.default_rng(1)
    copied = np.repeat(rng.random(100) < 0.1, 20)
    known = paired(np.zeros(2000), copied, np.repeat(np.arange(100), 20)).clustering
    assert turns_needed(0.1, 0.02, known=known, rows=2000) > 15 * turns_needed(0.1, 0.02)
