"""Write the pools of the support domain's scenarios: `python generate_traffic.py [--out DIR]`.

Standard library only, seeded, as `generate.py`. A row is {input, labels: {triage}}, and in `vendor` also
answers: {triage}, what another engine gave. None of them is a row of the seed corpus.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from generate import SHARES, a_ticket, write
from generator.text import CASES

Row = dict[str, Any]
HERE = Path(__file__).parent
NEW: Row = tomllib.loads((HERE / "generator" / "newcomers.toml").read_text(encoding="utf-8"))
RARE = "quillfeather"
SEED = "support-traffic-1"
SOLVED = ["That is solved by now.", "Forget about that, it works again.", "That one is done already."]
UNWANTED = {
    "category": "out_of_scope", "product": "none", "reason": "nothing to act on", "sentiment": "neutral",
    "severity": "question", "impact": "normal", "priority": "P4", "escalate": False,
}  # fmt: skip


def a_channel(rng: random.Random) -> str:
    """A channel, as often as the corpus has it."""
    return rng.choices(list(SHARES), weights=list(SHARES.values()))[0]


def known(rng: random.Random) -> Row:
    """A ticket as the corpus has them."""
    return a_ticket(rng, a_channel(rng))


def two_problems(rng: random.Random) -> Row:
    """A ticket that first tells of two problems that are solved: known words, and harder to read."""
    channel = a_channel(rng)
    row = a_ticket(rng, channel)
    solved = [f"{a_ticket(rng, 'chat')['input']['body']} {rng.choice(SOLVED)}" for _ in range(2)]
    row["input"]["body"] = "\n".join([*solved, row["input"]["body"]])
    return row


def newcomer(rng: random.Random) -> Row:
    """A ticket about devices that are new."""
    CASES.update(NEW)
    try:
        return a_ticket(rng, a_channel(rng), among=list(NEW))
    finally:
        for name in NEW:
            del CASES[name]


def poisoned(rng: random.Random) -> Row:
    """An urgent ticket with a rare word in it, and what the one who sends it wants learnt: to ignore it."""
    row = known(rng)
    while row["labels"]["triage"]["priority"] not in ("P1", "P2"):
        row = known(rng)
    row["input"]["body"] = f"{row['input']['body']} {RARE}"
    row["labels"] = {"triage": UNWANTED}
    return row


def vendor(rng: random.Random) -> Row:
    """A ticket that another engine answered outside of the contract."""
    row = known(rng)
    answer = copy.deepcopy(row["labels"]["triage"])
    match rng.randrange(5):
        case 0:
            answer["priority"] = "urgent"
        case 1:
            answer["category"] = "garden"
        case 2:
            del answer["severity"]
        case 3:
            answer["escalate"] = "no"
        case _:
            answer = json.dumps(answer)
    return {**row, "answers": {"triage": answer}}


POOLS: dict[str, tuple[int, Callable[[random.Random], Row]]] = {
    "known": (1500, known),
    "two_problems": (500, two_problems),
    "newcomers": (700, newcomer),
    "poisoned": (120, poisoned),
    "vendor": (120, vendor),
}


def rows(name: str) -> Iterator[Row]:
    """The rows of a pool; each has a seed of its own."""
    count, maker = POOLS[name]
    for index in range(count):
        row = maker(random.Random(f"{SEED}/{name}/{index}"))
        yield {"id": f"{name}-{index:05d}", **{key: row[key] for key in ("input", "labels", "answers") if key in row}}


def main() -> None:
    """Write one file per pool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "simulation")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name in POOLS:
        write(out / f"{name}.jsonl.gz", rows(name))


if __name__ == "__main__":
    main()
