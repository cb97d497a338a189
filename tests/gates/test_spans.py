"""F1 of pieces of text."""

from __future__ import annotations

import random

import pytest

from slm_assets.gates.spans import span_counts, span_f1


def test_a_piece_is_right_in_name_and_both_ends() -> None:
    reference = [("artist", 4, 14), ("playlist", 30, 48)]
    assert span_counts([("artist", 4, 14), ("playlist", 30, 47), ("artist", 30, 48)], reference) == (1, 3, 2)
    assert span_counts([], reference) == (0, 0, 2)


def test_f1_is_over_all_pieces_and_not_a_mean_over_rows() -> None:
    score = span_f1([(1, 1, 1), (0, 0, 3)], ["a", "b"])
    assert score.value == pytest.approx(2 * 1 / (1 + 4))
    assert span_f1([(0, 0, 0)], ["a"]).value == 1.0
    assert span_f1([], []).value == 1.0


def test_the_interval_covers_and_widens_with_groups() -> None:
    rng = random.Random(1)

    def sample(n: int) -> list[tuple[int, int, int]]:
        return [(sum(rng.random() < 0.9 for _ in range(3)), 3, 3) for _ in range(n)]

    inside = 0
    for _ in range(200):
        score = span_f1(sample(150), [str(k) for k in range(150)])
        inside += score.low <= 0.9 <= score.high
    assert inside >= 180
    rows = sample(40) * 5
    apart, together = (span_f1(rows, [str(k % n) for k in range(200)]) for n in (200, 40))
    assert together.high - together.low > 1.5 * (apart.high - apart.low)
