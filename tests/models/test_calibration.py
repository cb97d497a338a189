"""The one parameter that makes the confidence of whole answers a probability."""

from __future__ import annotations

import numpy as np
import pytest

from slm_assets.gates.calibration import calibration
from slm_assets.models.calibration import calibrated, fit_power


@pytest.mark.parametrize("truth", [0.2, 0.5, 2.0, 5.0])
def test_a_distorted_confidence_is_straightened(truth: float) -> None:
    rng = np.random.default_rng(3)
    honest = rng.uniform(0.05, 0.999, 20_000)
    right = rng.uniform(size=len(honest)) < honest
    told = honest ** (1 / truth)
    power = fit_power(told, right)
    assert power == pytest.approx(truth, rel=0.13), "the grid's steps are 12 %"
    assert calibration(told, right)["ece"] > 0.05
    assert calibration(calibrated(told, power), right)["ece"] < 0.03


def test_a_confidence_of_nothing_and_of_everything_is_bounded() -> None:
    assert fit_power([], []) == 1.0
    assert 0.1 <= fit_power([0.0, 1.0], [True, False]) <= 10.0
    assert fit_power([0.5] * 100, [True] * 100) == 0.1, "the least power: as sure as the grid allows"
