"""What is new in live traffic, gathered from every source into one folder, redacted before it is kept anywhere.

segments/<name>.jsonl            of the service: as they were sealed, or as far as they are written
event_log/event_log-000001.jsonl what `slm replay` read
drop/<digest>.jsonl              turns that somebody left in the drop folder, in the form of traffic/records.py
refused.json                     lines of the drop folder that are no turn: where and why, not what
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.domain import Domain
from slm_assets.domain.redaction import RedactionError, Redactor
from slm_assets.errors import BadInputError, SlmError
from slm_assets.registry.captures import mark
from slm_assets.registry.erasures import erasures, forgotten
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry, Row
from slm_assets.stages.rows.reading import SUFFIXES, SourceFile, read_rows
from slm_assets.stages.traffic.records import Scope, pseudonym
from slm_assets.stages.traffic.segments import OPEN, SEALED, read_segment, thin

SEGMENTS, EVENT_LOG, DROP = "segments", "event_log", "drop"
REFUSED = "refused.json"
_KEPT = ("engine", "version", "release", "urn", "confidence", "valid", "fallback")
Taken = list[dict[str, Any]]


@dataclass
class Intake:
    """What was gathered: `taken` names it, `consumed` are the files that are done with once it is kept, `unclean`
    those of them of which lines were refused, now or when an earlier reading took them."""

    taken: Taken = field(default_factory=list)
    consumed: list[Path] = field(default_factory=list)
    refused: list[dict[str, Json]] = field(default_factory=list)
    unclean: set[str] = field(default_factory=set)


def capture_folder(home: Home, registry: Registry, domain: str) -> Path:
    """Where the service writes a domain's segments."""
    return home.root / "capture" / registry.tenant / registry.project / domain


def drop_folder(home: Home, registry: Registry, domain: str) -> Path:
    """Where anybody may leave files of turns; one that begins with a dot, or ends otherwise, is not finished yet."""
    return home.root / "drop" / registry.tenant / registry.project / domain


def listed(segments: Path, dropped: Path) -> Iterator[tuple[str, str, int]]:
    """(source, name, size) of the files in the two folders; a listing each, none is opened."""
    for source, folder, mine in ((SEGMENTS, segments, _is_segment), (DROP, dropped, _is_dropped)):
        with suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in sorted((entry for entry in entries if mine(entry.name)), key=lambda entry: entry.name):
                with suppress(FileNotFoundError):
                    if entry.is_file():
                        name = Path(entry.name).stem if source == SEGMENTS else entry.name
                        yield source, name, entry.stat().st_size


def gather(domain: Domain, registry: Registry, folder: Path, before: Taken) -> Intake:
    """Copy what is new since `before` into `folder`, files of the drop folder redacted on the way."""
    home, found = registry.home, Intake()
    erased = erasures(registry, domain.name)
    known = {(entry["source"], entry["name"]): entry["stamp"] for entry in before}
    unclean = {(entry["name"], entry["stamp"]) for entry in before if entry.get("refused")}
    for source, name, path in _segments(home, registry, domain.name):
        with suppress(FileNotFoundError):  # sealed, and so renamed, since it was listed: the next reading has it
            stamp = str(path.stat().st_size)
            if known.get((source, name)) != stamp:
                target = folder / SEGMENTS / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                if erased:
                    thin(path, target, _forgotten(path, erased))
                else:
                    shutil.copyfile(path, target)
            found.taken.append({"source": source, "name": name, "stamp": stamp})
            if path.suffix != OPEN:
                found.consumed.append(path)
    for source, name, path in _dropped(home, registry, domain.name):
        stamp = canonical.digest_file(path)
        if known.get((source, name)) != stamp:
            _redacted(domain, registry, path, stamp, folder, found, erased)
        elif (name, stamp) in unclean:
            found.unclean.add(name)
        refused = {"refused": True} if name in found.unclean else {}
        found.taken.append({"source": source, "name": name, "stamp": stamp, **refused})
        found.consumed.append(path)
    _event_log(registry, domain.name, folder, known, found)
    if found.refused:
        canonical.write_json(folder / REFUSED, found.refused)
    return found


def consume(found: Intake) -> None:
    """Remove what a window holds now. A file of which lines were refused stays, as `<name>.refused`."""
    for path in found.consumed:
        if path.name in found.unclean:
            path.replace(path.with_name(f"{path.name}.refused"))
        else:
            path.unlink(missing_ok=True)


def _is_segment(name: str) -> bool:
    return name.endswith((OPEN, SEALED))


def _is_dropped(name: str) -> bool:
    return name.endswith(SUFFIXES) and not name.startswith(".")


def _segments(home: Home, registry: Registry, domain: str) -> Iterator[tuple[str, str, Path]]:
    root = capture_folder(home, registry, domain)
    for path in sorted(path for suffix in (OPEN, SEALED) for path in root.glob(f"*{suffix}")):
        yield SEGMENTS, path.stem, path


def _dropped(home: Home, registry: Registry, domain: str) -> Iterator[tuple[str, str, Path]]:
    root = drop_folder(home, registry, domain)
    for path in sorted(root.glob("*")):
        if _is_dropped(path.name) and path.is_file():
            yield DROP, path.name, path


def _event_log(registry: Registry, domain: str, folder: Path, known: dict[Any, str], found: Intake) -> None:
    artifact = mark(registry, domain).artifact
    if artifact is None:
        return
    replayed = sorted(registry.store.describe(artifact).files)
    new = [name for name in replayed if (EVENT_LOG, name) not in known]
    if new:
        registry.store.get(artifact, folder / EVENT_LOG, only=new)
    # All of them, so that the next reading, which knows this one alone, does not take the old ones again.
    found.taken += [{"source": EVENT_LOG, "name": name, "stamp": ""} for name in replayed]


def _forgotten(path: Path, erased: list[Row]) -> Callable[[bytes], bool]:
    """Of a segment: whether a record is of somebody who was to be forgotten."""
    whole = map(orjson.loads, read_segment(path, []))
    gone = {record["turn_id"] for record in whole if record["kind"] == "turn" and forgotten(erased, record)}
    return lambda data: orjson.loads(data)["turn_id"] in gone


def _redacted(
    domain: Domain, registry: Registry, path: Path, digest: str, folder: Path, found: Intake, erased: list[Row]
) -> None:
    scope = Scope(registry.tenant, registry.project, domain.name)
    redactor = Redactor(domain.redaction)
    arrived = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="milliseconds")

    def refuse(line: int | None, error: SlmError) -> None:
        found.refused.append({"file": path.name, "line": line, "reason": error.message[:300]})
        found.unclean.add(path.name)

    def turns() -> Iterator[Json]:
        source = SourceFile(DROP, path.name, path)
        try:
            for line in read_rows(source, domain.config.data.max_row_bytes):
                try:
                    if line.error:
                        raise BadInputError(line.error)
                    turn = turn_of(line.value, scope, redactor, f"drop-{digest[:12]}-{line.number}", arrived)
                    if not forgotten(erased, turn):
                        yield turn
                except (BadInputError, RedactionError) as error:
                    refuse(line.number, error)
        except BadInputError as error:
            refuse(None, error)  # the file itself is damaged: what came before is taken

    canonical.write_jsonl(folder / DROP / f"{digest[:32]}.jsonl", turns())


def turn_of(value: Json, scope: Scope, redactor: Redactor, name: str, arrived: str) -> dict[str, Json]:
    """A dropped turn in the form of our own, redacted. BadInputError where it is none, without quoting it."""
    if not isinstance(value, dict) or "input" not in value:
        raise BadInputError("no turn: expected an object with an input")
    answers = value.get("answers")
    if answers is None and isinstance(value.get("outputs"), dict):
        answers = {role: {"output": output} for role, output in value["outputs"].items()}
    if not isinstance(answers, dict) or not all(isinstance(answer, dict) for answer in answers.values()):
        raise BadInputError("no turn: expected answers {role: {output, …}}, or outputs {role: output}")
    outcomes = value.get("outcomes", [])
    signals = [{"signal": item} if isinstance(item, str) else item for item in _list(outcomes)]
    if not all(isinstance(item, dict) and isinstance(item.get("signal"), str) for item in signals):
        raise BadInputError("no turn: expected outcomes [{signal, role, detail}]")
    if not str(value.get("turn_id") or "").isprintable():
        raise BadInputError("no turn: a turn_id of printable characters is expected")  # a key: Postgres takes no NUL
    at = _time(value.get("at"), arrived)
    rate = _share(value.get("rate"), 1.0)

    def clean(found: Json) -> Json:
        return redactor.redact(found)[0]

    def text(key: str) -> str:
        return str(value.get(key) or "")[:200]

    return {
        "turn_id": clean(text("turn_id")) or name,
        "at": at,
        "role": clean(value["role"]) if isinstance(value.get("role"), str) else None,
        "conversation": pseudonym(scope, "conversation", text("conversation")),
        "user": pseudonym(scope, "user", text("user")),
        "input": clean(value["input"]),
        "answers": {
            str(role): {
                **{key: clean(answer[key]) for key in _KEPT if key in answer},
                "output": clean(answer.get("output")),
                "error": clean(str(answer.get("error") or "")[:2_000]),
            }
            for role, answer in answers.items()
        },
        "seconds": value["seconds"] if isinstance(value.get("seconds"), int | float) else None,
        "sampled": value.get("sampled") is not False,
        "rate": rate,
        "kept": "sampled",
        "outcomes": [
            {
                "at": _time(item.get("at"), at),
                "role": clean(item.get("role")),
                "signal": clean(item["signal"][:64]),
                "detail": clean(item.get("detail")),
            }
            for item in signals
        ],
    }


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [value]


def _share(value: Json, default: float) -> float:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1
    return float(value) if fits else default


def _time(value: Json, default: str) -> str:
    """A time as ISO 8601 in UTC; what is none, or lies ahead of us, counts as `default`."""
    if isinstance(value, str) and len(value) <= 40:
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            return default.replace("+00:00", "Z")
        found = found if found.tzinfo else found.replace(tzinfo=UTC)
        if found.timestamp() <= time.time() + 60:
            return found.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return default.replace("+00:00", "Z")
