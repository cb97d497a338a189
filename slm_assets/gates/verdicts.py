"""Verdicts: scores in, PASS, FAIL or INSUFFICIENT out, each with its numbers and one sentence why.

A PASS is read off a one-sided bound at the policy's confidence. All gates of a role must pass, so no
PASS is corrected for the others; but one FAIL is a no, so a FAIL is judged at confidence 1 - alpha / family,
and `n_needed` at power 1 - (1 - power) / family, with `family` the number of gates the role faces.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slm_assets.errors import BadInputError
from slm_assets.gates.clusters import group_rows, select
from slm_assets.gates.intervals import Keys, certified, clustering_of, n_to_certify, turns_to_certify, upper_bound
from slm_assets.gates.paired import PairedResult, paired, turns_needed
from slm_assets.gates.types import Verdict, VerdictName

Outcome = Literal["PASS", "FAIL", "INSUFFICIENT"]
EPOCH_SHARE = 1.2
"""An eval epoch opens when a fifth of its rows is new: fewer turns than that decide nothing."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which gate is judged, of which role, on which metric and slice."""

    gate: str
    role: str
    metric: str = ""
    slice: str = ""
    blocking: bool = True


@dataclass(frozen=True, slots=True)
class Level:
    """How sure a verdict must be. `family`: blocking gates that the role faces together."""

    confidence: float = 0.95
    power: float = 0.8
    family: int = 1

    @property
    def fail_confidence(self) -> float:
        """Confidence of a FAIL: an equal challenger fails any of the gates in at most alpha."""
        return 1 - (1 - self.confidence) / self.family

    @property
    def gate_power(self) -> float:
        """Power of one gate, such that all of them pass together with the policy's power."""
        return 1 - (1 - self.power) / self.family


DEFAULT = Level()


def confidence_at_look(confidence: float, look: int) -> float:
    """Confidence of the k-th look at one eval epoch: 1 - alpha / (k (k + 1)), which sums to alpha."""
    if look < 1:
        raise BadInputError(f"look {look}: looks are counted from 1")
    return 1 - (1 - confidence) / (look * (look + 1))


def decide(low: float, high: float, threshold: float) -> Outcome:
    """PASS with the lower bound above the threshold, FAIL with the upper below it, else INSUFFICIENT."""
    if low > threshold:
        return "PASS"
    return "FAIL" if high < threshold else "INSUFFICIENT"


def verdict_at(
    place: Place,
    verdict: VerdictName,
    reason: str,
    *,
    numbers: tuple[float | None, float | None, float | None] = (None, None, None),
    threshold: float | None = None,
    n: int = 0,
    n_needed: int | None = None,
) -> Verdict:
    """A verdict; `numbers` are the value and its one-sided bounds."""
    value, low, high = numbers
    return Verdict(
        gate=place.gate,
        role=place.role,
        metric=place.metric,
        slice=place.slice,
        blocking=place.blocking,
        verdict=verdict,
        value=value,
        low=low,
        high=high,
        threshold=threshold,
        n=n,
        n_needed=n_needed,
        reason=reason,
    )


def missing(place: Place, threshold: float | None = None) -> Verdict:
    """A metric that the challenger does not have: FAIL."""
    return verdict_at(place, "FAIL", f"{place.metric or place.gate} was not measured", threshold=threshold)


def not_applicable(place: Place, reason: str) -> Verdict:
    """A gate whose input cannot exist yet; `combine` allows it at a role's first promotion only."""
    return verdict_at(place, "NOT_APPLICABLE", reason)


def _points(share: float) -> str:
    return f"{100 * share:+.2f} points"


def _needed(result: PairedResult, margin: float, level: Level) -> int:
    """Turns that decide for an equal challenger. Discordance and design effect are estimates: half a
    standard error of both is added, without which the power on average falls short of its promise."""
    discordance, known = 0.0, result.clustering
    if known:
        error = sqrt(1 / max(float(known.informed[0]), 1.0) + 2 / float(known.freedom[0]))
        discordance = (result.wins + result.losses) * (1 + error / 2) + result.effect / result.n
    needed = turns_needed(
        min(discordance, 1.0),
        margin,
        confidence=level.confidence,
        power=level.gate_power,
        known=known,
        rows=max(result.n, 1),
    )
    return max(needed, ceil(EPOCH_SHARE * result.n))


def groups_short(groups: int, rows: int, share: float, confidence: float) -> int:
    """How many content groups are missing until a fault of whole groups, a `share` of them, would leave a
    trace: it leaves none in G groups with probability (1 - share)^G, whatever the rows inside say."""
    if groups == rows or upper_bound(0, groups, confidence) <= share + 1e-9:
        return 0
    return max((n_to_certify(1 - share, confidence) or 0) - groups, 0)


def _with_groups(more: int, groups: int, rows: int) -> int:
    """Turns that bring `more` groups, at as many turns a group as now."""
    return ceil((groups + more) * rows / groups)


def _short(groups: int) -> str:
    return f"{groups} more groups are needed to see a fault of whole groups; "


def noninferiority(
    challenger: ArrayLike,
    incumbent: ArrayLike,
    groups: Keys = None,
    *,
    place: Place,
    margin: float = 0.02,
    level: Level = DEFAULT,
    min_n: int = 1,
) -> Verdict:
    """Not worse than the incumbent by the margin, on the same rows. Scores in [0, 1], one per row.

    PASS: the difference's lower bound lies above -margin; FAIL: its upper bound below; otherwise, and
    under `min_n` rows, INSUFFICIENT with the turns that would decide.
    """
    result = paired(challenger, incumbent, groups, level.confidence, upper_confidence=level.fail_confidence)
    verdict = decide(result.low, result.high, -margin) if result.n >= min_n else "INSUFFICIENT"
    short_of = groups_short(result.n_groups, result.n, margin, level.confidence)
    by_groups = verdict == "PASS" and short_of > 0
    if by_groups:
        verdict = "INSUFFICIENT"
    seen = (
        f"difference {_points(result.diff)}, lower bound {_points(result.low)} on {result.n} turns"
        f" in {result.n_groups} groups, margin {_points(-margin)}"
    )
    needed = None
    if verdict == "INSUFFICIENT":
        needed = max(_needed(result, margin, level), min_n)
        short = f"only {result.n} turns of at least {min_n}; " if result.n < min_n else ""
        if short_of:
            needed = max(needed, _with_groups(short_of, result.n_groups, result.n))
        if by_groups:
            short = _short(short_of)
        reason = f"{short}not decided: {seen}; {needed} turns would decide for an equal challenger"
    else:
        reason = f"{'not worse' if verdict == 'PASS' else 'worse'} by the margin: {seen}"
    return verdict_at(
        place,
        verdict,
        reason,
        numbers=(result.diff, result.low, result.high),
        threshold=-margin,
        n=result.n,
        n_needed=needed,
    )


def not_worse(
    challenger: ArrayLike,
    incumbent: ArrayLike,
    groups: Keys = None,
    *,
    place: Place,
    level: Level = DEFAULT,
) -> Verdict:
    """At least equal on the primary metric, in the sense of "not proven worse".

    FAIL when the difference's upper bound lies below 0, otherwise PASS: a proof of equality needs
    infinitely many turns, and what may be lost is bounded by `noninferiority` beside it.
    """
    result = paired(challenger, incumbent, groups, level.confidence, upper_confidence=level.fail_confidence)
    worse = result.high < 0
    reason = (
        f"{'proven worse' if worse else 'not proven worse'}: difference {_points(result.diff)},"
        f" upper bound {_points(result.high)} on {result.n} turns in {result.n_groups} groups"
    )
    numbers = (result.diff, result.low, result.high)
    return verdict_at(place, "FAIL" if worse else "PASS", reason, numbers=numbers, threshold=0.0, n=result.n)


def slice_verdict(
    challenger: ArrayLike,
    incumbent: ArrayLike,
    inside: NDArray[np.bool_],
    groups: Keys = None,
    *,
    place: Place,
    critical: bool,
    min_n: int = 30,
    margin: float = 0.02,
    level: Level = DEFAULT,
) -> Verdict:
    """Non-inferiority on the rows of a slice; one that is not critical warns and does not block."""
    ours, theirs = np.asarray(challenger)[inside], np.asarray(incumbent)[inside]
    known = select(group_rows(groups, len(inside)), inside)
    where = Place(place.gate, place.role, place.metric, place.slice, critical and place.blocking)
    return noninferiority(ours, theirs, known, place=where, margin=margin, level=level, min_n=min_n)


def floor(
    challenger: ArrayLike,
    oracle: ArrayLike,
    independent: NDArray[np.bool_],
    groups: Keys = None,
    *,
    place: Place,
    margin: float = 0.02,
    level: Level = DEFAULT,
) -> Verdict:
    """Not worse than the oracle, on the rows whose label is not the oracle's own (`independent`).

    Where there are none it is NOT_INDEPENDENT, which is no PASS: the absolute target decides.
    """
    if not independent.any():
        reason = f"all {len(independent)} labels come from this oracle: the absolute target decides"
        return verdict_at(place, "NOT_INDEPENDENT", reason, threshold=-margin)
    ours, theirs = np.asarray(challenger)[independent], np.asarray(oracle)[independent]
    known = select(group_rows(groups, len(independent)), independent)
    return noninferiority(ours, theirs, known, place=place, margin=margin, level=level)


def target(
    scores: ArrayLike,
    groups: Keys = None,
    *,
    place: Place,
    target: float,
    level: Level = DEFAULT,
    by: Literal["bound", "point"] = "bound",
) -> Verdict:
    """An absolute target for the mean of scores in [0, 1].

    A target of exactly 1 is a count: one violation is a FAIL, none a PASS with the bound 3/n in the
    reason. Otherwise by the bound (PASS, FAIL or INSUFFICIENT; `n_needed` at the observed value, None
    where that does not meet the target), or by the point with the bounds shown.
    """
    values = np.asarray(scores, dtype=np.float64)
    shown = certified(values, groups, level.confidence, level.fail_confidence)
    numbers, n = (shown.value, shown.low, shown.high), shown.n
    if n == 0:
        return verdict_at(place, "INSUFFICIENT", "no turns", threshold=target, n_needed=n_to_certify(target))
    if target >= 1:
        violations = int((values < 1).sum())
        reason = (
            f"{violations} violations in {n} turns, none allowed"
            if violations
            else f"no violation in {n} turns, which bounds their share at {min(3 / n, 1.0):.3g} (3/n)"
        )
        return verdict_at(place, "FAIL" if violations else "PASS", reason, numbers=numbers, threshold=target, n=n)
    seen = f"{shown.value:.4f}, bounds {shown.low:.4f} to {shown.high:.4f} on {n} turns, target {target:g}"
    if by == "point":
        met = shown.value >= target
        reason = f"{'met' if met else 'missed'} by the point: {seen}"
        return verdict_at(place, "PASS" if met else "FAIL", reason, numbers=numbers, threshold=target, n=n)
    verdict = "PASS" if shown.low >= target else decide(shown.low, shown.high, target)
    known = group_rows(groups, n)
    short_of = groups_short(known.count, n, 1 - target, level.confidence)
    by_groups = verdict == "PASS" and short_of > 0
    needed = None
    if by_groups or verdict == "INSUFFICIENT":
        verdict = "INSUFFICIENT"
        needed = turns_to_certify(
            shown.value,
            target,
            confidence=level.confidence,
            power=level.gate_power,
            known=clustering_of(values, known),
            rows=n,
        )
        needed = needed if needed is None else max(needed, n + 1, _with_groups(short_of, known.count, n))
        cure = "more turns do not help below the target" if needed is None else f"{needed} turns would decide"
        reason = f"{_short(short_of) if by_groups else ''}not decided: {seen}; {cure}"
    else:
        reason = f"{'met' if verdict == 'PASS' else 'missed'} by the bound: {seen}"
    return verdict_at(place, verdict, reason, numbers=numbers, threshold=target, n=n, n_needed=needed)


def needed(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """Turns that would decide what is open, per slice ("" is all rows)."""
    most: dict[str, int] = {}
    for verdict in verdicts:
        if verdict.verdict == "INSUFFICIENT" and verdict.blocking and verdict.n_needed:
            most[verdict.slice] = max(most.get(verdict.slice, 0), verdict.n_needed)
    return dict(sorted(most.items()))


def combine(verdicts: Iterable[Verdict], *, first_promotion: bool = False) -> Outcome:
    """The outcome of one role's verdicts.

    Warnings do not count. NOT_APPLICABLE is a no unless this is the role's first promotion.
    NOT_INDEPENDENT is never a no where absolute targets were set and pass, and otherwise leaves the role
    undecided. No blocking verdict at all is a no.
    """
    counted = [verdict for verdict in verdicts if verdict.blocking]
    roles = sorted({verdict.role for verdict in counted})
    if len(roles) > 1:
        raise BadInputError(f"verdicts of several roles: {', '.join(roles)}", cure="combine each role's alone")
    names = {verdict.verdict for verdict in counted}
    if not counted or "FAIL" in names or ("NOT_APPLICABLE" in names and not first_promotion):
        return "FAIL"
    targets = {verdict.verdict for verdict in counted if verdict.gate == "target"}
    unchecked = "NOT_INDEPENDENT" in names and targets != {"PASS"}
    if "INSUFFICIENT" in names or unchecked or names <= {"NOT_APPLICABLE", "NOT_INDEPENDENT"}:
        return "INSUFFICIENT"
    return "PASS"
