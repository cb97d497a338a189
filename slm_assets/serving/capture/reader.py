"""Captured turns from the segments: whole and verified, each once, each with its outcomes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.outcomes import GOOD
from slm_assets.serving.capture.segments import OPEN, SEALED, read_segment


def captured_turns(folder: Path, damage: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """The turns under a folder, in the order of their segments: what was written of each, with `outcomes`
    [{at, role, signal, detail}], `why` it was kept (all reasons) and its `probability` in view of them.

    Only reads, also beside a service that writes. Damaged lines are left out and told in `damage`.
    """
    damage = damage if damage is not None else []
    outcomes = _outcomes(folder, damage)
    seen: set[str] = set()
    for record in _records(folder, []):
        if record["kind"] == "turn" and record["turn_id"] not in seen:
            seen.add(record["turn_id"])
            yield _joined(record, outcomes.get(record["turn_id"], []))


def _outcomes(folder: Path, damage: list[str]) -> dict[str, list[dict[str, Json]]]:
    """Turn id → its outcomes; one that a client sent twice counts once."""
    found: dict[str, dict[bytes, dict[str, Json]]] = {}
    for record in _records(folder, damage):
        if record["kind"] == "outcome":
            told = {key: record[key] for key in ("role", "signal", "detail")}
            found.setdefault(record["turn_id"], {}).setdefault(canonical.dumps(told), {"at": record["at"], **told})
    return {turn: list(each.values()) for turn, each in found.items()}


def _joined(record: dict[str, Any], outcomes: list[dict[str, Json]]) -> dict[str, Any]:
    why = [record.pop("kept")]
    if "outcome" not in why and any(outcome["signal"] not in GOOD for outcome in outcomes):
        why.append("outcome")
    probability = record["rate"] if why == ["sampled"] else 1.0
    return {**record, "why": why, "probability": probability, "outcomes": outcomes}


def _records(folder: Path, damage: list[str]) -> Iterator[dict[str, Any]]:
    names = {path.with_suffix("") for suffix in (OPEN, SEALED) for path in folder.rglob(f"*{suffix}")}
    for name in sorted(names):
        # Between the listing and the reading a segment may have been sealed.
        for path in (name.with_suffix(OPEN), name.with_suffix(SEALED)):
            try:
                yield from map(orjson.loads, read_segment(path, damage))
                break
            except FileNotFoundError:
                continue
