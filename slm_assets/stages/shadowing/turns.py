"""Which captured turns may judge a version: those after its dataset's cut, in no group that it was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.config import NearDuplicates
from slm_assets.gates.types import Verdict
from slm_assets.stages.rows.corpus import Corpus, Kind, Row
from slm_assets.stages.rows.near_duplicates import near_to, units_of
from slm_assets.stages.traffic import store

MOST_TURNS = 20_000
"""So many turns of the uniform sample are read, the first after the cut."""
SEEDS = (5_003, 6_007, 7_001, 8_009)
_TRAINED = Kind("train", (), 0, b"")
_LIVE = Kind("live", (), 0, b"")


@dataclass(frozen=True)
class LiveTurn:
    """A turn as it was captured: `role` None for a whole one; `served`: role → the answer that was given."""

    id: str
    at: str
    role: str | None
    conversation: str
    value: Json
    served: dict[str, dict[str, Any]]
    outcomes: list[dict[str, Any]]


@dataclass(frozen=True)
class Untrained:
    """`turns` that may judge; how many were `excluded` as trained on, of `read`; and the proof."""

    turns: list[LiveTurn]
    read: int
    excluded: int
    verdict: Verdict


def live_turns(traffic: Path, cut: int) -> list[LiveTurn]:
    """The turns of the uniform sample that later windows than `cut` brought, in the order of the traffic.

    What was kept only for its outcome is left out: there what served is wrong more often than on all turns. So is a
    conversation that began before the cut, which may be in the dataset with its earlier turns.
    """
    before = _conversations(traffic, cut)
    found: list[LiveTurn] = []
    for turn in store.turns(traffic, after_part=cut):
        key = turn["conversation"] or turn["turn_id"]
        if turn["sampled"] and key not in before:
            answers, outcomes = turn["answers"], turn["outcomes"]
            found.append(LiveTurn(turn["turn_id"], turn["at"], turn["role"], key, turn["input"], answers, outcomes))
            if len(found) >= MOST_TURNS:
                break
    return found


def untrained(turns: Sequence[LiveTurn], dataset: Path, near: NearDuplicates, scratch: Path) -> Untrained:
    """Leave out the turns whose input is equal or near to a row for training, until a search with fresh hashes
    finds none: that last search is the check."""
    corpus = Corpus(scratch)
    try:
        trained = _fill(corpus, turns, dataset)
        live = ~trained
        units = units_of(corpus, np.ones(len(corpus), dtype=np.bool_), near.min_words)
        wanted, searched = np.zeros(len(units), dtype=np.bool_), np.zeros(len(units), dtype=np.bool_)
        wanted[units.of_row[trained]] = True
        searched[units.of_row[live]] = True
        dropped = np.zeros(len(corpus), dtype=np.bool_)
        left = 0
        for seed in SEEDS if len(turns) else ():
            found = near_to(corpus, units, wanted, searched, near.threshold, seed)
            hit = found[units.of_row] & live & ~dropped
            left = int(hit.sum())
            if not left:
                break
            dropped |= hit
            searched &= ~found
    finally:
        corpus.close()
    gone = dropped[: len(turns)]
    kept = [turn for turn, out in zip(turns, gone.tolist(), strict=True) if not out]
    return Untrained(kept, len(turns), int(gone.sum()), _verdict(len(kept), int(gone.sum()), left))


def _fill(corpus: Corpus, turns: Sequence[LiveTurn], dataset: Path) -> np.typing.NDArray[np.bool_]:
    """The live turns, then the rows for training; returns which are the latter."""
    for number, turn in enumerate(turns):
        corpus.put(_row(f"live {number}", turn_of(turn.value, turn.role), _LIVE))
    for split in ("train", "validation"):
        for number, row in enumerate(canonical.read_jsonl(dataset / f"{split}.jsonl")):
            corpus.put(_row(f"{split} {number}", row["input"], _TRAINED))
    corpus.seal()
    mask = np.ones(len(corpus), dtype=np.bool_)
    mask[: len(turns)] = False
    return mask


def turn_of(value: Json, role: str | None) -> Json:
    """The turn itself, also where a role that reads others was asked by itself."""
    reads = role is not None and isinstance(value, dict) and "turn" in value
    return value["turn"] if reads and isinstance(value, dict) else value


def _row(name: str, value: Json, kind: Kind) -> Row:
    return Row(name, value, (), kind, canonical.dumps(value))


def _verdict(judging: int, excluded: int, left: int) -> Verdict:
    if not judging and not excluded:
        return Verdict(
            gate="untrained", role="", verdict="NOT_APPLICABLE", blocking=False,
            reason="no live turn came after the dataset",
        )  # fmt: skip
    return Verdict(
        gate="untrained", role="", verdict="FAIL" if left else "PASS", value=float(left), threshold=0, n=judging,
        reason=f"{left} of {judging} live turns are equal or near to a row that was trained on; {excluded} were and "
        "are left out",
    )  # fmt: skip


def _conversations(traffic: Path, cut: int) -> set[str]:
    return {turn["conversation"] for turn in _early(traffic, cut) if turn["conversation"]}


def _early(traffic: Path, cut: int) -> Iterator[dict[str, Any]]:
    for path in sorted((traffic / store.TURNS).glob("*.jsonl")):
        if int(path.stem) <= cut:
            with path.open("rb") as lines:
                yield from map(orjson.loads, lines)
