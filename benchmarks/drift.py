"""How fast drift is, and how often its triggers fire when nothing happened.

    python benchmarks/drift.py speed [--turns 1000000]
    python benchmarks/drift.py alarms [--seeds 200] [--turns 10000] [--shift NAME]

`speed` writes traffic in the store's own format and runs the stage on it: seconds, CPU seconds and peak memory.
`alarms` draws steady traffic (and the eval set of what serves) anew for each seed and counts what fires, with the
functions that the stage uses. Turns come in conversations that share a chance of being right (intraclass
correlation 0.2); a wrong answer is complained of in three of ten cases, a right one in one of a hundred. `--shift`
takes one of the changes that a trigger is there for, and then counts how often that one fires.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from slm_assets import canonical
from slm_assets.domain.loading import Domain, load_domain
from slm_assets.domain.triggers import Quality, RetrainTriggers
from slm_assets.gates import drift
from slm_assets.gates.clusters import group_rows
from slm_assets.gates.intervals import clustering_of
from slm_assets.gates.triggers import ALL
from slm_assets.stages.contract import Envelope, StageRequest
from slm_assets.stages.drift import run
from slm_assets.stages.runtime import StageContext
from slm_assets.stages.traffic import store
from slm_assets.stages.watching.columns import Bounds, Reading
from slm_assets.stages.watching.fields import Known, LabelValues, Training
from slm_assets.stages.watching.judging import Facts, judge
from slm_assets.stages.watching.matching import Serves
from slm_assets.stages.watching.profile import STRANGE, UNLIKE, contracts_of

ROOT = Path(__file__).parents[1]
NOW = datetime(2026, 6, 1, tzinfo=UTC)
INTENTS = ["refund", "track", "cancel", "greet"]
CHANNELS, TIERS = ["app", "mail", "phone", "shop"], ["basic", "plus", "pro"]


@dataclass(frozen=True)
class World:
    """What traffic is like: shares of turns."""

    right: float = 0.95
    noticed: float = 0.3
    grumbled: float = 0.01
    valid: float = 1.0
    strange: float = 0.0
    unsure: float = 0.0


STEADY = World()
SHIFTS = {
    "quality": (replace(STEADY, right=0.85), "quality"),
    "corrections": (replace(STEADY, noticed=0.9, grumbled=0.06), "outcome"),
    "invalid": (replace(STEADY, valid=0.97), "validity"),
    "new": (replace(STEADY, strange=0.15), "distribution"),
}


class Words:
    """Texts of a language with few frequent words and many rare ones."""

    def __init__(self) -> None:
        draw = random.Random(1)
        letters = "abcdefghijklmnopqrstuvwxyz"
        self.known = ["".join(draw.choices(letters, k=draw.randint(3, 9))) for _ in range(4_000)]
        self.other = ["x" + "".join(draw.choices(letters, k=7)) for _ in range(500)]
        self.weights = np.cumsum(1.0 / np.arange(1, len(self.known) + 1)).tolist()

    def text(self, draw: random.Random, strange: bool = False) -> str:
        """8 to 16 words; of a strange text half are of another language."""
        words = draw.choices(self.known, cum_weights=self.weights, k=draw.randint(8, 16))
        if strange:
            words[::2] = draw.choices(self.other, k=len(words[::2]))
        return " ".join(words)


WORDS = Words()


def one_input(draw: random.Random, strange: bool = False) -> dict[str, Any]:
    """A turn's input: a text, two closed fields, a number."""
    tier = draw.choice(TIERS)
    return {
        "text": WORDS.text(draw, strange),
        "about": {"channel": draw.choice(CHANNELS), "tier": tier, "orders": draw.randint(0, 40)},
    }


def conversations(draw: random.Random, turns: int, share: float) -> Iterator[tuple[int, float]]:
    """(conversation, its chance of being right) for each turn; beta with intraclass correlation 0.2."""
    number = count = 0
    while count < turns:
        number += 1
        chance = draw.betavariate(share * 4, (1 - share) * 4)
        for _ in range(min(draw.randint(1, 5), turns - count)):
            count += 1
            yield number, chance


def profile(domain: Domain, draw: random.Random, rows: int = 4_000, judged: int = 1_500) -> dict[str, Any]:
    """What a version of this world would have kept: as make_profile does, from rows of the same generator."""
    training, labels = Training(), LabelValues(["/intent"])
    for _ in range(rows):
        training.add(one_input(draw))
        labels.add({"intent": draw.choice(INTENTS)})
    inputs = training.profile()
    known = Known(inputs)
    cut = drift.conformal_cut([known.look(one_input(draw))[1] for _ in range(judged)], UNLIKE)
    groups, chances = zip(*conversations(draw, judged, STEADY.right), strict=True)
    right = np.array([draw.random() < chance for chance in chances])
    strata: dict[str, list[int]] = {name: [0, 0] for name in INTENTS}
    for hit in right.tolist():
        own = strata[draw.choice(INTENTS)]
        own[0] += 1
        own[1] += hit
    unsure = drift.conformal_cut([-_confidence(draw) for _ in range(judged)], UNLIKE)
    effect = clustering_of(right, group_rows(np.array(groups), judged)).effect()[0]
    return {
        "inputs": inputs,
        "unknown_words": {"n": judged, "cut": None if cut is None else max(cut, STRANGE)},
        "contracts": contracts_of(domain),
        "labels": {"triage": labels.counts()},
        "roles": {
            "triage": {
                "primary": {"id": "intent", "pointer": "/intent", "absent": None},
                "place": "/intent",
                "labels": {"strata": strata, "effect": float(effect)},
                "confidence": {"n": judged, "cut": None if unsure is None else -unsure},
            }
        },
    }


def traffic(
    seed: int, turns: int, days: float, world: World, since: float = 0.0
) -> Iterator[tuple[dict[str, Any], str]]:
    """(turn as the store yields it, the right answer's intent), over the days before NOW minus `since`."""
    draw = random.Random(f"{seed}/{since}")
    for number, (conversation, chance) in enumerate(conversations(draw, turns, world.right)):
        at = NOW - timedelta(days=since + days * (1 - (number + 0.5) / turns))
        answered = draw.choice(INTENTS)
        right = draw.random() < chance
        truth = answered if right else draw.choice([name for name in INTENTS if name != answered])
        outcomes = []
        if draw.random() < (world.grumbled if right else world.noticed):
            signal = draw.choice(["correction", "retry", "tool_error", "abandonment"])
            detail = {"intent": truth, "urgent": False} if signal == "correction" else None
            outcomes.append({"at": _at(at), "role": "triage", "signal": signal, "detail": detail})
        answer = {
            "output": {"intent": answered, "urgent": False}, "engine": "release", "version": "v1",
            "confidence": _confidence(draw), "valid": draw.random() < world.valid, "fallback": None, "error": "",
        }  # fmt: skip
        strange = draw.random() < world.strange
        yield {
            "turn_id": f"t{seed}-{since:g}-{number}", "at": _at(at), "role": None,
            "conversation": f"{seed}-{since:g}-{conversation}", "user": "u", "input": one_input(draw, strange),
            "answers": {"triage": answer}, "seconds": 0.001, "sampled": True, "rate": 1.0, "why": ["sampled"],
            "probability": 1.0, "outcomes": outcomes, "source": "service",
        }, truth  # fmt: skip


REFERENCES = ("outcome", "review")


def verdicts(domain: Domain, seed: int, turns: int, shift: str, newest: int) -> dict[str, dict[str, str]]:
    """What each trigger says of one draw of eval set and traffic, by either reference of quality; the `newest` of the
    turns may be of another world."""
    own = profile(domain, random.Random(seed))
    drawn = [(1, pair) for pair in traffic(seed, turns - newest, 13, STEADY, since=1)]
    drawn += [(2, pair) for pair in traffic(seed, newest, 1, SHIFTS[shift][0] if shift else STEADY)]
    # Reviewers know the right answer of every turn: quality by them is the strictest test.
    decided = {(turn["turn_id"], "triage"): {"intent": truth} for _, (turn, truth) in drawn}
    serves = {"triage": Serves("v1", "", 0, own["roles"]["triage"], own["labels"]["triage"])}
    bounds = Bounds(_at(NOW - timedelta(days=35)), _at(NOW - timedelta(days=7)), 2)
    found = {}
    for reference in REFERENCES:
        policy = RetrainTriggers(quality=Quality(reference=reference))
        domain.__dict__["triggers"] = policy
        reading = Reading(domain, serves, Known(own["inputs"]), own["unknown_words"]["cut"], decided)
        reading.read(((part, turn) for part, (turn, _) in drawn), bounds)
        judged, _ = judge(reading, policy, 2, Facts("", {"triage": 1.0}, [], 5_000))
        found[reference] = {one.trigger: one.verdict for one in judged}
    return found


def alarms(seeds: int, turns: int, shift: str, newest: int) -> dict[str, Counter[str]]:
    """Print and return how often each trigger fired."""
    domain = load_domain(ROOT / "tests" / "fixtures" / "domains" / "tiny")
    fired: dict[str, Counter[str]] = {reference: Counter() for reference in REFERENCES}
    for seed in range(seeds):
        for reference, own in verdicts(domain, seed, turns, shift, newest).items():
            names = [name for name, verdict in own.items() if verdict == "FIRED"]
            fired[reference].update(names)
            fired[reference]["any but volume"] += any(name != "volume" for name in names)
    told = f"{turns:,} turns, {newest:,} of them new"
    print(f"\n{shift or 'steady'}, {told}, {seeds} seeds: how often each fired, quality by")
    print(f"| trigger | {' | '.join(REFERENCES)} |\n|---{'|---' * len(REFERENCES)}|")
    for name in (*ALL, "any but volume"):
        print(f"| {name} | {' | '.join(f'{fired[reference][name] / seeds:.1%}' for reference in REFERENCES)} |")
    return fired


def speed(turns: int) -> None:
    """Write the traffic, run the stage, print what it took."""
    domain = load_domain(ROOT / "tests" / "fixtures" / "domains" / "tiny")
    with tempfile.TemporaryDirectory(prefix="drift-bench-") as scratch:
        folder = Path(scratch)
        profile_path = folder / "reference" / "1" / "profile.json"
        canonical.write_json(profile_path, profile(domain, random.Random(0)))
        size = _write(folder / "traffic", turns)
        print(f"{turns:,} turns, {size / 1e6:.0f} MB, {(folder / 'traffic' / 'outcomes').exists() and 'with outcomes'}")
        serving = {"number": 1, "since": "", "opened_at": "2026-05-20T00:00:00Z", "cut": 0}
        request = StageRequest(
            stage="drift", domain="tiny", version="w4", config="0" * 64,
            params={"as_of": "2026-06-01T00:00:00+00:00", "window": 4, "serving": {"triage": serving}},
        )  # fmt: skip
        out = folder / "out"
        out.mkdir()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        wall, cpu = time.perf_counter(), time.process_time()
        inputs = {"traffic": folder / "traffic", "reference": folder / "reference"}
        result = run(
            StageContext(request, domain, inputs, {"drift": out}, folder, None, Envelope(run_id="bench"))  # type: ignore[arg-type]
        )
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"{wall:.1f} s ({cpu:.1f} s of CPU), {cpu / turns * 1e6:.1f} us a turn")
        print(f"peak memory {peak / 1e3:.0f} MB ({before / 1e3:.0f} MB before)")
        for one in result.triggers:
            print(f"  {one.trigger:12} {one.verdict:15} {one.sentence}")


def _write(folder: Path, turns: int) -> int:
    parts, size = {}, 0
    for number in range(1, 5):
        name, own = store.part_name(number), turns // 4
        (folder / store.OUTCOMES).mkdir(parents=True, exist_ok=True)
        outcomes = 0
        path = folder / store.TURNS / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        first = last = ""
        with path.open("wb") as lines, (folder / store.OUTCOMES / f"{name}.jsonl").open("wb") as told:
            for turn, _ in traffic(number, own, 5, STEADY, since=20 - 5 * number):
                for outcome in turn["outcomes"]:
                    told.write(canonical.dumps({**outcome, "turn_id": turn["turn_id"]}) + b"\n")
                    outcomes += 1
                del turn["outcomes"], turn["why"]
                lines.write(canonical.dumps({**turn, "kept": "sampled"}) + b"\n")
                first, last = first or turn["at"], turn["at"]
        size += path.stat().st_size
        parts[name] = {"turns": own, "outcomes": outcomes, "first": first, "last": last}
    canonical.write_json(folder / store.MANIFEST, {"parts": parts, "turns": turns})
    return size


def _confidence(draw: random.Random) -> float:
    return round(draw.betavariate(20, 1), 4)


def _at(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "alarms"])
    parser.add_argument("--turns", type=int)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--newest", type=int, help="turns of the newest window; default: an eighth of them")
    parser.add_argument("--shift", choices=sorted(SHIFTS), default="")
    given = parser.parse_args()
    if given.what == "speed":
        speed(given.turns or 1_000_000)
    else:
        turns = given.turns or 10_000
        alarms(given.seeds, turns, given.shift, given.newest or turns // 8)


if __name__ == "__main__":
    main()
