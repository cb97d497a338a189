"""The artifact `traffic`: all captured turns of a domain, each once, in parts that no later window rewrites.

    turns/000012.jsonl      the turns that window 12 brought, in the order in which they were read
    outcomes/000012.jsonl   the outcomes that it brought, also of turns of earlier parts
    shadows/000012.jsonl    what versions answered beside what served, {turn_id, at, version, answers}
    known/000012            16 bytes for each turn and outcome, by which it is known again
    manifest.json           counts, first and last time of each part, what was refused

A turn is read joined with its outcomes (`turns`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.stages.traffic.reader import Outcomes
from slm_assets.stages.traffic.records import joined

TURNS, OUTCOMES, SHADOWS, KNOWN, MANIFEST = "turns", "outcomes", "shadows", "known", "manifest.json"


def part_name(number: int) -> str:
    """The name of a window's part."""
    return f"{number:06d}"


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a stored traffic folder."""
    manifest: dict[str, Any] = canonical.read_json(folder / MANIFEST)
    return manifest


def turns(folder: Path, *, since: str = "", after_part: int = 0) -> Iterator[dict[str, Any]]:
    """The turns from time `since` on, joined with their outcomes (see `records.joined`), oldest part first.

    With `after_part`, only those that later windows brought. Times are ISO 8601 in UTC.
    """
    for _number, turn in numbered(folder, since=since, after_part=after_part):
        yield turn


def numbered(
    folder: Path, *, since: str = "", after_part: int = 0, or_after: int | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The same turns, each with the number of the window that brought it; with `or_after` also older ones, of windows
    after that."""
    wanted: list[tuple[str, str]] = []
    for name, part in sorted(read_manifest(folder)["parts"].items()):
        from_ = "" if or_after is not None and int(name) > or_after else since
        if int(name) > after_part and part["turns"] and part["last"] >= from_:
            wanted.append((name, from_))
    if not wanted:
        return
    outcomes = outcomes_of(folder)
    nothing = Outcomes()
    for name, from_ in wanted:
        with (folder / TURNS / f"{name}.jsonl").open("rb") as lines:
            for line in lines:
                turn = orjson.loads(line)
                if turn["at"] >= from_:
                    yield int(name), joined(turn, outcomes.get(turn["turn_id"], nothing).all())


def outcomes_of(folder: Path) -> dict[str, Outcomes]:
    """Turn id → what became of it."""
    found: dict[str, Outcomes] = {}
    for path in sorted((folder / OUTCOMES).glob("*.jsonl")):
        for record in canonical.read_jsonl(path):
            found.setdefault(record["turn_id"], Outcomes()).add(record)
    return found


def shadows_of(folder: Path, version: str) -> dict[str, dict[str, Any]]:
    """Turn id → what a version answered beside what served, by role."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((folder / SHADOWS).glob("*.jsonl")):
        for record in canonical.read_jsonl(path):
            if record["version"] == version:
                found[record["turn_id"]] = record["answers"]
    return found


def key_of(*parts: Json) -> bytes:
    """16 bytes that stand for a turn or an outcome."""
    return bytes.fromhex(canonical.digest(list(parts))[:32])


def known_keys(folder: Path) -> set[bytes]:
    """The keys of everything in a stored traffic folder."""
    found: set[bytes] = set()
    for path in sorted((folder / KNOWN).glob("*")):
        data = path.read_bytes()
        found.update(data[at : at + 16] for at in range(0, len(data), 16))
    return found
