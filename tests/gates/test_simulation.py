"""The gates' error rates and power, at a smaller size than `benchmarks/gates_simulation.py` prints."""

from __future__ import annotations

import importlib.util
import sys
from math import sqrt
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from slm_assets.gates.verdicts import Level, Place, noninferiority

RUNS = 2000
SLACK = 2.6
"""Binomial standard errors: a rate exactly at its bar fails a test in less than one of a hundred."""


def _load() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "gates_simulation.py"
    spec = importlib.util.spec_from_file_location("gates_simulation", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


sim = _load()
AT_MOST_5 = 0.05 + SLACK * sqrt(0.05 * 0.95 / RUNS)


@pytest.mark.parametrize(
    ("groups", "size", "icc", "kind", "wins"),
    [
        (150, 1, 0.0, "beta", 0.0),
        (500, 1, 0.0, "beta", 0.01),
        (75, 20, 0.3, "beta", 0.0),
        (75, 20, 0.7, "beta", 0.01),
        (100, 20, 0.3, "beta", 0.04),
        (100, 20, 0.5, "block", 0.01),
        (75, 20, 0.95, "block", 0.0),
        (100, 20, 0.95, "block", 0.01),
    ],
)
def test_a_challenger_worse_by_the_margin_seldom_passes(
    groups: int, size: int, icc: float, kind: str, wins: float
) -> None:
    worse = sim.World(groups, size, wins + sim.MARGIN, wins, icc, kind)
    assert sim.rates(worse, RUNS, Level())[0] <= AT_MOST_5


@pytest.mark.parametrize(("groups", "size", "icc"), [(30, 1, 0.0), (300, 1, 0.0), (75, 20, 0.5)])
def test_an_equal_challenger_seldom_fails(groups: int, size: int, icc: float) -> None:
    assert sim.rates(sim.World(groups, size, 0.03, 0.03, icc), RUNS, Level())[1] <= AT_MOST_5


def test_an_equal_challenger_passes_at_the_n_that_the_verdict_names() -> None:
    for pilot in (sim.World(150, 1, 0.02, 0.02), sim.World(75, 20, 0.02, 0.02, 0.3)):
        rate, _, total = sim.power_at_named(pilot, RUNS, 25)
        assert total == RUNS and rate >= 0.8


def test_a_role_with_all_its_gates() -> None:
    worse = sim.World(300, 5, 0.03, 0.01, 0.1)
    equal = sim.World(300, 5, 0.01, 0.01, 0.1)
    passed, _ = sim.role_rates(equal, 300, seed=2, hurt=worse)
    assert passed <= 0.05 + SLACK * sqrt(0.05 * 0.95 / 300)
    _, failed = sim.role_rates(equal, 300, seed=3)
    assert failed <= 0.05 + SLACK * sqrt(0.05 * 0.95 / 300)
    pilot = sim.World(600, 1, 0.01, 0.01)
    named = sim.role_named(pilot, 3)
    rates = [sim.role_rates(pilot.sized(n), 100, seed=n)[0] for n in named]
    assert np.mean(rates) >= 0.8 - SLACK * sqrt(0.8 * 0.2 / 300)


def test_a_model_exactly_at_its_target_seldom_passes() -> None:
    for world in (sim.World(144, 1, 0.0, 0.0), sim.World(75, 20, 0.0, 0.0, 0.3), sim.World(100, 20, 0.0, 0.0, 0.3)):
        passed, failed = sim.target_rate(world, RUNS, sim.ACCURACY)
        assert passed <= AT_MOST_5 and failed <= AT_MOST_5


def test_the_batched_functions_say_what_the_verdicts_say() -> None:
    world = sim.World(60, 10, 0.04, 0.02, 0.2)
    groups, rng = sim.grouping(world), np.random.default_rng(6)
    chunk = next(sim.outcomes(world, 12, rng))[:, 0]
    found = sim.bounds(chunk, groups, Level())
    for run, low, high in zip(chunk, found.low, found.high, strict=True):
        verdict = noninferiority(*sim.pair(run.ravel()), groups, place=Place("incumbent", "role"))
        assert (verdict.low, verdict.high) == pytest.approx((low, high), abs=1e-8)
