"""How often the gates are right: error rates and power by simulation, with the functions the product uses.

    python benchmarks/gates_simulation.py [--runs 10000] [--only margin|power|role|target] [--json FILE]

Rows come in groups. "beta" groups share a Dirichlet draw of the outcome probabilities with intraclass
correlation `icc`; "block" groups have one outcome that each row copies with probability sqrt(icc).
A challenger's outcome against the incumbent's is a win, a loss, both right, or both wrong.
Spread is one binomial standard error.

A limit that no method on these rows escapes: a fault that hits whole groups, a share f of them, leaves no
trace in G groups with probability (1 - f)^G. For f = 0.02 that is above 0.05 under 149 groups, so a verdict
on fewer groups of several rows is INSUFFICIENT whatever the bound, here as in the product. `--bound-alone`
leaves that rule out, and its "block icc 0.5" lines without wins show why it is there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slm_assets.gates.clusters import Groups, group_rows
from slm_assets.gates.intervals import mean_bounds
from slm_assets.gates.paired import Bounds, paired_bounds
from slm_assets.gates.verdicts import (
    Level,
    Place,
    combine,
    decide,
    groups_short,
    needed,
    noninferiority,
    not_worse,
    slice_verdict,
    target,
)

RULES = {"groups": True}
MARGIN, ACCURACY, TARGET, CHUNK_CELLS = 0.02, 0.97, 0.95, 4_000_000
METRICS, SHARED, SLICE_SHARE = 4, 0.6, 0.5


@dataclass(frozen=True)
class World:
    """Where rows come from: losses and wins as shares of rows, and how groups cluster."""

    groups: int
    size: int
    losses: float
    wins: float
    icc: float = 0.0
    kind: str = "beta"

    @property
    def rows(self) -> int:
        return self.groups * self.size

    @property
    def shares(self) -> NDArray[np.float64]:
        right = min(ACCURACY - self.wins, 1 - self.wins - self.losses)
        return np.array([self.wins, self.losses, right, 1 - self.wins - self.losses - right])

    def sized(self, rows: int) -> World:
        return World(ceil(rows / self.size), self.size, self.losses, self.wins, self.icc, self.kind)

    def __str__(self) -> str:
        how = "independent" if self.icc == 0 else f"{self.kind} icc {self.icc:g}"
        return f"{self.groups:5d} x {self.size:2d}  wins {self.wins:.3f} losses {self.losses:.3f}  {how}"


def grouping(world: World) -> Groups:
    return group_rows(np.repeat(np.arange(world.groups), world.size), world.rows)


def outcomes(world: World, runs: int, rng: np.random.Generator, metrics: int = 1) -> Iterator[NDArray[np.int8]]:
    """Chunks of (runs, metrics, groups, size): 0 win, 1 loss, 2 both right, 3 both wrong.

    Metrics share the group's fate, and each row's draw in `SHARED` of the cases.
    """
    per_chunk = max(1, CHUNK_CELLS // (world.rows * metrics))
    for start in range(0, runs, per_chunk):
        count = min(per_chunk, runs - start)
        fate = np.broadcast_to(world.shares, (count, world.groups, 4))
        copies = None
        if world.icc and world.kind == "beta":
            draw = rng.standard_gamma(fate * (1 - world.icc) / world.icc)
            fate = draw / np.maximum(draw.sum(axis=-1, keepdims=True), 1e-300)
        elif world.icc:
            copies = rng.choice(4, size=(count, world.groups), p=world.shares).astype(np.int8)
        edges = np.cumsum(fate, axis=-1)[..., :3]
        shape = (count, world.groups, world.size)
        common, followed = rng.random(shape), rng.random(shape)
        chunk = np.empty((count, metrics, world.groups, world.size), dtype=np.int8)
        for metric in range(metrics):
            draw = common if metric == 0 else np.where(rng.random(shape) < SHARED, common, rng.random(shape))
            chunk[:, metric] = sum((draw > edges[..., [k]]).astype(np.int8) for k in range(3))
            if copies is not None:
                chunk[:, metric] = np.where(followed < sqrt(world.icc), copies[..., None], chunk[:, metric])
        yield chunk


def too_few(groups: Groups, share: float) -> bool:
    """Whether a PASS is withheld for want of groups."""
    return RULES["groups"] and groups_short(groups.count, groups.rows, share, Level().confidence) > 0


def bounds(found: NDArray[np.int8], groups: Groups, level: Level) -> Bounds:
    """Bounds of many runs, as `noninferiority` gets them for one; `found` is (runs, groups, size)."""
    wins, losses = ((found == kind).sum(axis=-1).astype(float) for kind in (0, 1))
    squares = (wins + losses).sum(axis=1)
    return paired_bounds(wins, losses, squares, groups, (level.confidence, level.fail_confidence))


def rates(world: World, runs: int, level: Level, seed: int = 0) -> tuple[float, float]:
    """Share of runs in which the margin test passes, and in which it fails."""
    rng, groups, passed, failed = np.random.default_rng(seed), grouping(world), 0, 0
    for chunk in outcomes(world, runs, rng):
        found = bounds(chunk[:, 0], groups, level)
        said = [decide(*pair, -MARGIN) for pair in zip(found.low, found.high, strict=True)]
        passed += 0 if too_few(groups, MARGIN) else said.count("PASS")
        failed += said.count("FAIL")
    return passed / runs, failed / runs


def power_at_named(pilot: World, runs: int, pilots: int, seed: int = 0) -> tuple[float, float, int]:
    """An equal challenger meets fresh rows, as many as an INSUFFICIENT verdict on pilot rows named.

    Returns the share that passes, the median n named, and the number of runs.
    """
    rng, level, place = np.random.default_rng(seed), Level(), Place("incumbent", "role")
    passed = total = 0
    named: list[int] = []
    each = max(1, runs // pilots)
    while len(named) < pilots:
        first = next(outcomes(pilot, 1, rng))[0, 0].ravel()
        verdict = noninferiority(*pair(first), grouping(pilot), place=place, margin=MARGIN, level=level)
        if verdict.n_needed is None:
            continue
        named.append(verdict.n_needed)
        world = pilot.sized(verdict.n_needed)
        for chunk in outcomes(world, each, rng):
            groups = grouping(world)
            passed += 0 if too_few(groups, MARGIN) else int((bounds(chunk[:, 0], groups, level).low > -MARGIN).sum())
        total += each
    return passed / total, float(np.median(named)), total


def pair(found: NDArray[np.int8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores of challenger and incumbent from outcomes."""
    return ((found == 0) | (found == 2)).astype(float), ((found == 1) | (found == 2)).astype(float)


FAMILY = Level(family=2 * METRICS + 2)


def role_verdict(found: NDArray[np.int8], world: World) -> tuple[str, dict[str, int]]:
    """One role's gates on (metrics, groups, size): margins, primary, targets, a critical slice."""
    groups = grouping(world)
    inside = groups.codes < SLICE_SHARE * world.groups
    verdicts = []
    for metric in range(METRICS):
        ours, theirs = pair(found[metric].ravel())
        name = f"m{metric}"
        where = Place("incumbent", "role", name)
        verdicts.append(noninferiority(ours, theirs, groups, place=where, margin=MARGIN, level=FAMILY))
        goal = Place("target", "role", name)
        verdicts.append(target(ours, groups, place=goal, target=TARGET, level=FAMILY))
        if metric == 0:
            verdicts.append(not_worse(ours, theirs, groups, place=where, level=FAMILY))
            part = Place("slices", "role", name, "critical")
            verdicts.append(slice_verdict(ours, theirs, inside, groups, place=part, critical=True, level=FAMILY))
    return combine(verdicts), needed(verdicts)


def role_rates(world: World, runs: int, seed: int = 0, hurt: World | None = None) -> tuple[float, float]:
    """Share of runs in which a role passes all its gates, and in which any fails.

    `hurt`: the world of the primary metric, where it differs. The batched functions behind
    `role_verdict`: a test shows that both say the same.
    """
    rng, groups = np.random.default_rng(seed), grouping(world)
    cut = ceil(SLICE_SHARE * world.groups)
    inside = grouping(World(cut, world.size, 0, 0))
    worse = outcomes(hurt, runs, np.random.default_rng(seed + 1), METRICS) if hurt else None
    levels = (FAMILY.confidence, FAMILY.fail_confidence)
    passed = failed = 0
    for chunk in outcomes(world, runs, rng, METRICS):
        if worse:
            chunk[:, 0] = next(worse)[:, 0]
        enough = not any(too_few(g, share) for g, share in ((groups, MARGIN), (groups, 1 - TARGET), (inside, MARGIN)))
        good, bad = np.full(len(chunk), enough), np.zeros(len(chunk), dtype=bool)
        for metric in range(METRICS):
            found = chunk[:, metric]
            whole = bounds(found, groups, FAMILY)
            good &= whole.low > -MARGIN
            bad |= whole.high < -MARGIN
            right = ((found == 0) | (found == 2)).sum(axis=-1).astype(float)
            low, high = mean_bounds(right, right.sum(axis=1), groups, levels)
            good &= low >= TARGET
            bad |= high < TARGET
            if metric == 0:
                bad |= whole.high < 0
                part = bounds(found[:, :cut], inside, FAMILY)
                good &= part.low > -MARGIN
                bad |= part.high < -MARGIN
        passed += int((good & ~bad).sum())
        failed += int(bad.sum())
    return passed / runs, failed / runs


def role_named(pilot: World, pilots: int, seed: int = 0) -> list[int]:
    """Rows that the verdicts of an undecided role name, from pilots: the largest need of any slice."""
    rng, named = np.random.default_rng(seed), []
    while len(named) < pilots:
        outcome, need = role_verdict(next(outcomes(pilot, 1, rng, METRICS))[0], pilot)
        if outcome == "INSUFFICIENT" and need:
            named.append(max(ceil(n / (SLICE_SHARE if part else 1)) for part, n in need.items()))
    return named


def target_rate(world: World, runs: int, goal: float, seed: int = 0) -> tuple[float, float]:
    """Share of runs in which a model of accuracy `ACCURACY` passes and fails a target."""
    rng, groups, passed, failed = np.random.default_rng(seed), grouping(world), 0, 0
    for chunk in outcomes(world, runs, rng):
        right = ((chunk[:, 0] == 0) | (chunk[:, 0] == 2)).sum(axis=-1).astype(float)
        low, high = mean_bounds(right, right.sum(axis=1), groups, (0.95, 0.95))
        passed += 0 if too_few(groups, 1 - goal) else int((low >= goal).sum())
        failed += int((high < goal).sum())
    return passed / runs, failed / runs


CLUSTERS = [(20, 0.0, "beta"), (20, 0.3, "beta"), (20, 0.7, "beta"), (20, 0.5, "block"), (20, 0.95, "block")]


LINES: list[dict[str, Any]] = []
"""What was printed, for --json."""


def _line(world: object, claim: str, rate: float, runs: int, bar: str, *, at: str = "") -> None:
    """Print one measured rate; lines of one claim make one row of the report."""
    text = f"{claim} {at}".strip()
    print(f"{world!s:62s} {text:28s} {rate:7.4f} ± {sqrt(max(rate * (1 - rate), 1e-9) / runs):.4f}  {bar}")
    world_ = " ".join(str(world).split())
    LINES.append({"world": world_, "claim": claim, "at": at, "rate": round(rate, 6), "runs": runs, "demanded": bar})


def margin_table(runs: int) -> None:
    print("\nA challenger worse by exactly the margin passes; an equal one fails (one gate)")
    shapes = [(n, 1, 0.0, "beta") for n in (150, 500, 1500)]
    shapes += [(count, *how) for count in (75, 100, 250) for how in CLUSTERS]
    for count, size, icc, kind in shapes:
        for wins in (0.0, 0.01, 0.04):
            worse = World(count, size, wins + MARGIN, wins, icc, kind)
            _line(worse, "worse by the margin: PASS", rates(worse, runs, Level())[0], runs, "<= 0.05")
        equal = World(count, size, 0.02, 0.02, icc, kind)
        _line(equal, "equal: FAIL", rates(equal, runs, Level())[1], runs, "<= 0.05")


def power_table(runs: int) -> None:
    print("\nAn equal challenger passes on fresh rows, as many as the verdict on a pilot named")
    worlds = [World(n, 1, d, d) for n, d in ((100, 0.005), (200, 0.02), (500, 0.05))]
    worlds += [World(75, *how[:1], d, d, *how[1:]) for how in CLUSTERS for d in (0.01, 0.04)]
    for pilot in worlds:
        rate, named, total = power_at_named(pilot, runs, min(max(runs // 40, 10), 100))
        _line(pilot, "equal: PASS at the n named", rate, total, ">= 0.80", at=f"{named:.0f}")


def role_table(runs: int) -> None:
    print(f"\nA role: {METRICS} correlated metrics with margin and target {TARGET}, primary, a critical slice")
    for count, size, icc in ((600, 1, 0.0), (75, 20, 0.0), (150, 20, 0.3)):
        pilot = World(count, size, 0.01, 0.01, icc)
        for rows in (pilot.rows // 4, pilot.rows):
            at = pilot.sized(rows)
            _line(at, "role, equal: any FAIL", role_rates(at, runs, seed=3)[1], runs, "<= 0.05")
        named = role_named(pilot, 25)
        at = pilot.sized(int(np.median(named)))
        worse = World(at.groups, size, 0.03, 0.01, icc)
        rate = role_rates(at, runs, 4, worse)[0]
        _line(at, "role, worse primary: PASS", rate, runs, "<= 0.05", at=f"at {at.rows}")
        each = [role_rates(pilot.sized(n), max(runs // len(named), 1), seed=n) for n in named]
        _line(pilot, "role, equal: PASS at the n named", float(np.mean([x[0] for x in each])), runs, ">= 0.80")
        failed = float(np.mean([x[1] for x in each]))
        _line(pilot, "role, equal: any FAIL", failed, runs, "<= 0.05", at="at the n named")


def target_table(runs: int) -> None:
    print(f"\nA model of accuracy {ACCURACY} against a target of exactly that: PASS and FAIL by the bound")
    shapes = [(n, 1, 0.0, "beta") for n in (100, 144, 500, 1500)]
    shapes += [(count, *how) for count in (75, 250) for how in CLUSTERS]
    for count, size, icc, kind in shapes:
        world = World(count, size, 0.0, 0.0, icc, kind)
        passed, failed = target_rate(world, runs, ACCURACY)
        _line(world, "at the target: PASS", passed, runs, "<= 0.05")
        _line(world, "at the target: FAIL", failed, runs, "<= 0.05")


TABLES = {"margin": margin_table, "power": power_table, "role": role_table, "target": target_table}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--only", nargs="+", choices=sorted(TABLES), default=sorted(TABLES))
    parser.add_argument("--bound-alone", action="store_true", help="judge few groups by the bound alone")
    parser.add_argument("--json", type=Path, help="write the lines to this file too")
    chosen = parser.parse_args()
    RULES["groups"] = not chosen.bound_alone
    print(f"margin {MARGIN}, confidence 0.95, {chosen.runs} runs each")
    for name, table in TABLES.items():
        if name in chosen.only:
            table(chosen.runs)
    if chosen.json:
        settings = {"runs": chosen.runs, "margin": MARGIN, "accuracy": ACCURACY, "bound_alone": chosen.bound_alone}
        chosen.json.write_text(json.dumps({**settings, "lines": LINES}, indent=1) + "\n")


if __name__ == "__main__":
    main()
