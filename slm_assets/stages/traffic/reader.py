"""Captured turns from the service's segments: whole and verified, each once, each with its outcomes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.stages.traffic.records import joined
from slm_assets.stages.traffic.segments import OPEN, SEALED, read_segment


def captured_turns(folder: Path, damage: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """The turns under a folder, in the order of their segments: what was written of each, joined with its outcomes.

    Only reads, also beside a service that writes. Damaged lines are left out and told in `damage`.
    """
    damage = damage if damage is not None else []
    outcomes: dict[str, Outcomes] = {}
    for record in records(folder, damage):
        if record["kind"] == "outcome":
            outcomes.setdefault(record["turn_id"], Outcomes()).add(record)
    seen: set[str] = set()
    for record in records(folder, []):
        if record["kind"] == "turn" and record["turn_id"] not in seen:
            seen.add(record["turn_id"])
            yield joined(record, outcomes.get(record["turn_id"], Outcomes()).all())


class Outcomes:
    """The outcomes of one turn; one that a client sent twice counts once."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told: dict[bytes, dict[str, Json]] = {}

    def add(self, record: dict[str, Any]) -> bool:
        """Take an outcome in; False where it is there already."""
        told = {key: record[key] for key in ("role", "signal", "detail")}
        key = canonical.dumps(told)
        if key in self._told:
            return False
        self._told[key] = {"at": record["at"], **told}
        return True

    def all(self) -> list[dict[str, Json]]:
        """[{at, role, signal, detail}], in the order in which they came."""
        return list(self._told.values())


def records(folder: Path, damage: list[str]) -> Iterator[dict[str, Any]]:
    """Every whole record of the segments under a folder, sealed and open, in the order of their names."""
    names = {path.with_suffix("") for suffix in (OPEN, SEALED) for path in folder.rglob(f"*{suffix}")}
    for name in sorted(names):
        # Between the listing and the reading a segment may have been sealed.
        for path in (name.with_suffix(OPEN), name.with_suffix(SEALED)):
            try:
                yield from map(orjson.loads, read_segment(path, damage))
                break
            except FileNotFoundError:
                continue
