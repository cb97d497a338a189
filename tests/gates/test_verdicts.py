"""Verdicts: what passes, what fails, what stays open, and how a role's verdicts combine."""

from __future__ import annotations

import numpy as np
import pytest

from slm_assets.errors import BadInputError
from slm_assets.gates.latency import latency, median_bounds
from slm_assets.gates.types import Verdict
from slm_assets.gates.verdicts import (
    Level,
    Place,
    combine,
    confidence_at_look,
    floor,
    missing,
    needed,
    noninferiority,
    not_applicable,
    not_worse,
    slice_verdict,
    target,
)

PLACE = Place("incumbent", "extract", "tool_match")


def scores(n: int, wrong: int, start: int = 0) -> np.ndarray:
    """`n` rows, all right but `wrong` of them."""
    found = np.ones(n)
    found[start : start + wrong] = 0
    return found


def test_equal_models_pass_on_enough_rows_and_are_undecided_on_few() -> None:
    assert noninferiority(scores(500, 10), scores(500, 10), place=PLACE).verdict == "PASS"
    few = noninferiority(scores(60, 2), scores(60, 2), place=PLACE)
    assert few.verdict == "INSUFFICIENT"
    assert few.n_needed is not None and few.n_needed > 60
    assert str(few.n_needed) in few.reason and "60 turns" in few.reason


def test_without_common_rows_nothing_is_decided() -> None:
    verdict = noninferiority([], [], place=PLACE)
    assert verdict.verdict == "INSUFFICIENT" and verdict.n == 0
    assert verdict.n_needed is not None and 149 <= verdict.n_needed <= 170


def test_a_much_worse_model_fails_with_its_numbers() -> None:
    verdict = noninferiority(scores(500, 100), scores(500, 10), place=PLACE)
    assert verdict.verdict == "FAIL"
    assert verdict.value == pytest.approx(-0.18)
    assert verdict.low is not None and verdict.high is not None and verdict.threshold is not None
    assert verdict.low < verdict.value < verdict.high < verdict.threshold == -0.02
    assert (verdict.gate, verdict.role, verdict.metric, verdict.n) == (
        "incumbent",
        "extract",
        "tool_match",
        500,
    )


def test_rows_in_few_groups_do_not_count_as_many() -> None:
    keys = np.repeat(np.arange(25), 20)
    assert noninferiority(scores(500, 10), scores(500, 10), keys, place=PLACE).verdict == "INSUFFICIENT"


def test_few_groups_cannot_show_that_no_group_is_lost() -> None:
    rng = np.random.default_rng(4)
    keys = np.repeat(np.arange(100), 20)
    theirs = (rng.random(2000) < 0.98).astype(float)
    ours = np.where(rng.random(2000) < 0.02, 1 - theirs * (rng.random(2000) < 0.5), theirs)
    verdict = noninferiority(ours, theirs, keys, place=PLACE, margin=0.02)
    assert verdict.verdict == "INSUFFICIENT" and verdict.low is not None and verdict.low > -0.02
    assert "49 more groups" in verdict.reason and verdict.n_needed == 2980
    many = noninferiority(*(np.tile(x, 2) for x in (ours, theirs)), np.repeat(np.arange(200), 20), place=PLACE)
    assert many.verdict == "PASS"


def test_the_confidence_decides() -> None:
    ours, theirs = scores(300, 5, 100), scores(300, 5)
    strict = noninferiority(ours, theirs, place=PLACE, level=Level(confidence=0.99))
    loose = noninferiority(ours, theirs, place=PLACE, level=Level(confidence=0.8))
    assert (strict.verdict, loose.verdict) == ("INSUFFICIENT", "PASS")


def test_a_family_of_gates_makes_a_fail_harder_and_asks_for_more_turns() -> None:
    ours, theirs = scores(100, 9), scores(100, 0)
    alone = noninferiority(ours, theirs, place=PLACE)
    together = noninferiority(ours, theirs, place=PLACE, level=Level(family=10))
    assert (alone.verdict, together.verdict) == ("FAIL", "INSUFFICIENT")
    assert alone.low == together.low
    open_alone = noninferiority(scores(60, 2), scores(60, 2), place=PLACE)
    open_together = noninferiority(scores(60, 2), scores(60, 2), place=PLACE, level=Level(family=10))
    assert open_alone.n_needed is not None and open_together.n_needed is not None
    assert open_together.n_needed > open_alone.n_needed


def test_primary_fails_only_when_proven_worse() -> None:
    assert not_worse(scores(500, 12), scores(500, 10), place=PLACE).verdict == "PASS"
    assert not_worse(scores(500, 40), scores(500, 10), place=PLACE).verdict == "FAIL"
    assert not_worse(scores(500, 5), scores(500, 40), place=PLACE).verdict == "PASS"


def test_target_of_one_is_a_count() -> None:
    place = Place("validity", "extract", "output_validity")
    clean = target(scores(144, 0), place=place, target=1.0)
    assert clean.verdict == "PASS"
    assert "0.0208 (3/n)" in clean.reason
    assert clean.low is not None and clean.low == pytest.approx(1 - 3 / 144, abs=1e-3)
    broken = target(scores(100_000, 1), place=place, target=1.0)
    assert broken.verdict == "FAIL" and "1 violations in 100000" in broken.reason


@pytest.mark.parametrize(
    ("wrong", "n", "by", "expected"),
    [
        (0, 149, "bound", "PASS"),
        (0, 148, "bound", "INSUFFICIENT"),
        (1, 144, "bound", "INSUFFICIENT"),
        (1, 144, "point", "PASS"),
        (20, 144, "bound", "FAIL"),
        (4, 144, "point", "FAIL"),
    ],
)
def test_target_by_bound_or_point(wrong: int, n: int, by: str, expected: str) -> None:
    place = Place("target", "extract", "tool_match")
    verdict = target(scores(n, wrong), place=place, target=0.98, by=by)  # type: ignore[arg-type]
    assert verdict.verdict == expected
    assert f"on {n} turns" in verdict.reason


@pytest.mark.parametrize(("groups", "expected"), [(148, "INSUFFICIENT"), (149, "PASS")])
def test_few_groups_cannot_show_that_no_whole_group_is_wrong(groups: int, expected: str) -> None:
    keys = np.repeat(np.arange(groups), 20)
    ours, theirs = np.ones(groups * 20), np.ones(groups * 20)
    ours[:200:20] = theirs[10:210:20] = 0
    goal = target(ours, keys, place=Place("target", "extract", "tool_match"), target=0.98)
    paired = noninferiority(ours, theirs, keys, place=PLACE)
    assert goal.verdict == paired.verdict == expected
    if expected == "INSUFFICIENT":
        for verdict in (goal, paired):
            assert verdict.reason.startswith("1 more groups are needed")
            assert verdict.n_needed is not None and verdict.n_needed >= 149 * 20


def test_undecided_target_names_turns_only_where_they_would_help() -> None:
    place = Place("target", "extract", "tool_match")
    above = target(scores(200, 2), place=place, target=0.98)
    assert above.n_needed is not None and above.n_needed > 200
    enough = scores(above.n_needed, round(above.n_needed * 0.01))
    assert target(enough, place=place, target=0.98).verdict == "PASS"
    below = target(scores(200, 5), place=place, target=0.98)
    assert below.verdict == "INSUFFICIENT" and below.n_needed is None
    assert "do not help" in below.reason
    nothing = target([], place=place, target=0.98)
    assert nothing.verdict == "INSUFFICIENT" and nothing.n_needed == 149


def test_floor_counts_only_labels_that_are_not_the_oracles() -> None:
    place = Place("floor", "extract", "tool_match")
    ours, oracle = scores(400, 5), np.concatenate([np.ones(200), scores(200, 60)])
    independent = np.arange(400) >= 200
    verdict = floor(ours, oracle, independent, place=place)
    assert verdict.verdict == "PASS" and verdict.n == 200
    none = floor(ours, oracle, np.zeros(400, dtype=bool), place=place)
    assert none.verdict == "NOT_INDEPENDENT" and none.n == 0
    keys = np.repeat(np.arange(40), 10)
    assert floor(ours, oracle, independent, keys, place=place).n == 200


def test_slices_gate_when_critical_and_warn_otherwise() -> None:
    place = Place("slices", "extract", "tool_match", "refusals")
    inside = np.arange(1000) < 20
    small = slice_verdict(scores(1000, 0), scores(1000, 0), inside, place=place, critical=True)
    assert small.verdict == "INSUFFICIENT" and small.blocking and "only 20 turns of at least 30" in small.reason
    assert small.n_needed is not None and small.n_needed >= 30
    inside = np.arange(1000) < 300
    harmed = slice_verdict(scores(1000, 90), scores(1000, 0), inside, place=place, critical=False)
    assert harmed.verdict == "FAIL" and not harmed.blocking and harmed.n == 300
    assert combine([harmed, target(scores(500, 0), place=Place("target", "extract"), target=0.95)]) == "PASS"


def test_latency_ratio_budget_and_better() -> None:
    place = Place("latency", "extract")
    rng = np.random.default_rng(0)
    base = rng.lognormal(0, 0.3, 400)
    noise = rng.lognormal(0, 0.05, (2, 400))
    equal = latency(base * noise[0], base * noise[1], place=place)
    assert equal.verdict == "PASS" and equal.value == pytest.approx(1.0, abs=0.02)
    slow = latency(1.3 * base * noise[0], base * noise[1], place=place)
    assert slow.verdict == "FAIL" and "slower than 1.1" in slow.reason
    assert latency(1.3 * base, base, place=place, better=True).verdict == "PASS"
    assert latency(1.3 * base, base, place=place, mode="budget", budget_p95_ms=50).verdict == "PASS"
    over = latency(base, base, place=place, budget_p95_ms=0.1, better=True)
    assert over.verdict == "FAIL" and "over budget" in over.reason
    edge = latency(base[:20] * 1.1 * noise[0, :20], base[:20] * noise[1, :20], place=place)
    assert edge.verdict == "INSUFFICIENT" and edge.n_needed == 80
    few = latency([1.0, 1.0], [1.0, 1.0], place=place)
    assert few.verdict == "INSUFFICIENT" and few.high is None
    assert latency([], [], place=place).verdict == "FAIL"
    with pytest.raises(BadInputError, match="latency_p95_ms"):
        latency(base, base, place=place, mode="budget")
    with pytest.raises(BadInputError, match="in pairs"):
        latency(base, base[:5], place=place)


def test_median_bounds_cover_as_promised() -> None:
    rng = np.random.default_rng(8)
    found = [median_bounds(rng.exponential(size=101)) for _ in range(2000)]
    too_low = np.mean([high < np.log(2) for _, _, high in found])
    too_high = np.mean([low > np.log(2) for _, low, _ in found])
    assert too_low <= 0.05 + 0.012 and too_high <= 0.05 + 0.012
    assert too_low > 0.02


def test_looks_spend_alpha_and_no_more() -> None:
    assert confidence_at_look(0.95, 1) == pytest.approx(0.975)
    assert confidence_at_look(0.95, 2) == pytest.approx(1 - 0.05 / 6)
    spent = sum(1 - confidence_at_look(0.95, k) for k in range(1, 10_000))
    assert 0.0499 < spent <= 0.05
    with pytest.raises(BadInputError):
        confidence_at_look(0.95, 0)


def said(name: str, gate: str = "incumbent", **more: object) -> Verdict:
    return Verdict.model_validate({"gate": gate, "role": "extract", "verdict": name, **more})


@pytest.mark.parametrize(
    ("names", "first", "expected"),
    [
        (["PASS", "PASS"], False, "PASS"),
        (["PASS", "FAIL", "INSUFFICIENT"], False, "FAIL"),
        (["PASS", "INSUFFICIENT"], False, "INSUFFICIENT"),
        (["PASS", "NOT_APPLICABLE"], True, "PASS"),
        (["PASS", "NOT_APPLICABLE"], False, "FAIL"),
        (["NOT_APPLICABLE"], True, "INSUFFICIENT"),
        ([], False, "FAIL"),
    ],
)
def test_combine(names: list[str], first: bool, expected: str) -> None:
    assert combine([said(name) for name in names], first_promotion=first) == expected


def test_a_floor_that_is_not_independent_leaves_it_to_the_target() -> None:
    blind = said("NOT_INDEPENDENT", "floor")
    assert combine([blind, said("PASS", "target")]) == "PASS"
    assert combine([blind, said("FAIL", "target")]) == "FAIL"
    assert combine([blind, said("PASS")]) == "INSUFFICIENT"
    assert combine([blind]) == "INSUFFICIENT"


def test_combine_ignores_warnings_and_refuses_to_mix_roles() -> None:
    assert combine([said("PASS"), said("FAIL", blocking=False)]) == "PASS"
    assert combine([said("FAIL", blocking=False)]) == "FAIL"
    with pytest.raises(BadInputError, match="extract, render"):
        combine([said("PASS"), said("PASS").model_copy(update={"role": "render"})])


def test_a_missing_metric_fails_and_what_cannot_exist_yet_is_listed() -> None:
    assert combine([said("PASS"), missing(PLACE, -0.02)]) == "FAIL"
    assert "tool_match was not measured" in missing(PLACE).reason
    shadow = not_applicable(Place("shadow", "extract"), "nothing was served yet")
    assert combine([said("PASS"), shadow], first_promotion=True) == "PASS"


def test_needed_is_the_most_of_each_slice() -> None:
    verdicts = [
        said("INSUFFICIENT", n_needed=300),
        said("INSUFFICIENT", n_needed=500),
        said("INSUFFICIENT", n_needed=90, slice="refusals"),
        said("INSUFFICIENT", n_needed=9000, blocking=False),
        said("PASS"),
    ]
    assert needed(verdicts) == {"": 500, "refusals": 90}
