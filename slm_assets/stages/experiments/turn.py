"""From an answer back to what it was learned from: the turn, the release, the nearest train rows, the verdicts."""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.errors import BadInputError
from slm_assets.registry import windows
from slm_assets.registry.registry import Plan, Registry
from slm_assets.stages.plans import output_of
from slm_assets.stages.rows.texts import texts_of
from slm_assets.stages.state import gate_lines
from slm_assets.stages.traffic import store
from slm_assets.stages.traffic.intake import capture_folder
from slm_assets.stages.traffic.reader import captured_turns

NEAREST = 5


@dataclass(frozen=True)
class Near:
    """A train row near the turn: `similarity` of their words (Jaccard, 0 to 1), its label for the role and where that
    comes from."""

    id: str
    similarity: float
    source: str
    label: Json
    label_source: str
    input: Json


@dataclass(frozen=True)
class Trail:
    """How one role came to its answer. Without a version the oracle answered: there is nothing it learned from."""

    role: str
    answer: dict[str, Json]
    release: str | None = None
    model: str | None = None
    dataset: str | None = None
    train_rows: int | None = None
    nearest: tuple[Near, ...] = ()
    gates: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Explanation:
    """A kept turn, where it was found, and the trail of each role's answer."""

    domain: str
    turn_id: str
    at: str
    kept: str
    input: Json
    outcomes: list[dict[str, Json]]
    trails: list[Trail]


def explain_turn(registry: Registry, domain: str, turn_id: str) -> Explanation:
    """Walk from an answer to the rows that its model was trained on.

    BadInputError for a turn that was not kept, or has been forgotten.
    """
    found = _captured(registry, domain, turn_id) or _on_disk(registry, domain, turn_id)
    if found is None:
        raise BadInputError(
            f"turn {turn_id} of {domain} was not kept",
            cure="kept are the sampled conversations (improvement.capture.sample_rate) and turns with a bad outcome, "
            "for retention_days",
        )
    turn, kept = found
    trails = [_trail(registry, domain, turn["input"], role, answer) for role, answer in turn["answers"].items()]
    return Explanation(domain, turn_id, turn["at"], kept, turn["input"], turn["outcomes"], trails)


def _captured(registry: Registry, domain: str, turn_id: str) -> tuple[dict[str, Any], str] | None:
    newest = windows.newest_traffic(registry, domain)
    if newest is None:
        return None
    with tempfile.TemporaryDirectory(prefix="slm-why-") as scratch:
        registry.store.get(newest["traffic"], Path(scratch) / "traffic")
        for turn in store.turns(Path(scratch) / "traffic"):
            if turn["turn_id"] == turn_id:
                return turn, registry.urn("traffic", domain, newest["number"])
    return None


def _on_disk(registry: Registry, domain: str, turn_id: str) -> tuple[dict[str, Any], str] | None:
    for turn in captured_turns(capture_folder(registry.home, registry, domain)):
        if turn["turn_id"] == turn_id:
            return turn, "a segment of the service, not captured yet"
    return None


def _trail(registry: Registry, domain: str, value: Json, role: str, answer: dict[str, Json]) -> Trail:
    version = answer.get("version")
    plan = registry.plan(domain, int(str(version)[1:])) if version else None
    if plan is None:
        return Trail(role, answer)
    gates = tuple(line for line in gate_lines(registry, plan) if line["role"] in ("", role))
    entry = registry.entry("model", domain, plan.number)
    return Trail(
        role,
        answer,
        release=registry.urn("release", domain, plan.number),
        model=registry.urn("model", domain, plan.number),
        dataset=registry.urn("dataset", domain, plan.number),
        train_rows=entry["rows"] if entry else None,
        nearest=tuple(_nearest(registry, plan, value, role)),
        gates=gates,
    )


def _nearest(registry: Registry, plan: Plan, value: Json, role: str) -> list[Near]:
    """The train rows whose words are most like the turn's; equal structure goes before words."""
    with tempfile.TemporaryDirectory(prefix="slm-why-") as scratch:
        rows, labels = Path(scratch) / "dataset", Path(scratch) / "labels"
        registry.store.get(output_of(registry, plan, "dataset"), rows, only=["train.jsonl"])
        registry.store.get(output_of(registry, plan, "label"), labels)
        turn = texts_of(value)
        words = set(turn.text.split())

        def scored() -> Iterator[tuple[float, bool, str, Json]]:
            for row in canonical.read_jsonl(rows / "train.jsonl"):
                other = texts_of(row["input"])
                theirs = set(other.text.split())
                both = len(words | theirs)
                alike = len(words & theirs) / both if both else 1.0
                yield alike, other.structure == turn.structure, row["id"], row

        best = heapq.nlargest(NEAREST, scored(), key=lambda one: (one[0], one[1], one[2]))
        wanted = {name for _, _, name, _ in best}
        known = {
            row["id"]: row["labels"].get(role)
            for path in sorted(labels.glob("*.jsonl"))
            for row in canonical.read_jsonl(path)
            if row.get("id") in wanted and isinstance(row.get("labels"), dict)
        }
    found = []
    for alike, _, name, row in best:
        label = known.get(name) or {"output": None, "source": ""}
        found.append(Near(name, round(alike, 3), row["source"], label["output"], label["source"], row["input"]))
    return found
