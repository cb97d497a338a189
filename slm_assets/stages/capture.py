"""Stage `capture`: what a window brought joins the captured traffic, each turn and outcome exactly once.

Inputs: `incoming` (see traffic/intake.py) and `previous`, the traffic before, where there are any. Params: `window`,
the part's number, and `as_of`: turns older than the config's retention by then are left behind. Output `traffic`
(see traffic/store.py).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.config import Capture
from slm_assets.domain.contracts import Validator
from slm_assets.domain.domain import Domain
from slm_assets.domain.redaction import Redactor
from slm_assets.stages.contract import StageResult, Verdict
from slm_assets.stages.runtime import StageContext
from slm_assets.stages.traffic import intake, store
from slm_assets.stages.traffic.reader import records

LOOKED_AT = 2_000
"""So many of the new turns are looked through once more for what redaction should have removed."""
MAX_DAMAGE = 50
_TEXT = {"type": "string"}
_ANSWER = {"type": "object", "required": ["output"]}
_TURN = {
    "type": "object",
    "required": ["turn_id", "at", "input", "answers", "sampled", "rate", "kept"],
    "properties": {
        "turn_id": {"type": "string", "minLength": 1, "maxLength": 200},
        "at": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z$"},
        "role": {"type": ["string", "null"]},
        "conversation": _TEXT,
        "user": _TEXT,
        "answers": {"type": "object", "additionalProperties": _ANSWER},
        "sampled": {"type": "boolean"},
        "rate": {"type": "number", "minimum": 0, "maximum": 1},
        "kept": {"enum": ["sampled", "outcome", "invalid", "error"]},
    },
}
_OUTCOME = {
    "type": "object",
    "required": ["turn_id", "at", "signal"],
    "properties": {"turn_id": _TEXT, "at": _TEXT, "signal": _TEXT, "role": {"type": ["string", "null"]}},
}


_SHADOW = {
    "type": "object",
    "required": ["turn_id", "at", "version", "answers"],
    "properties": {
        "turn_id": _TEXT,
        "at": _TEXT,
        "version": _TEXT,
        "answers": {"type": "object", "additionalProperties": _ANSWER},
    },
}
_KINDS = (store.TURNS, store.OUTCOMES, store.SHADOWS)


@dataclass
class _Part:
    """What this window adds."""

    turns: int = 0
    outcomes: int = 0
    shadows: int = 0
    first: str = ""
    last: str = ""
    doubled: int = 0
    too_old: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    damage: list[str] = field(default_factory=list)
    invalid: int = 0

    def seen(self, at: str) -> None:
        self.first = min(self.first or at, at)
        self.last = max(self.last, at)


def run(ctx: StageContext) -> StageResult:
    """Take the window's turns in."""
    as_of = datetime.fromisoformat(ctx.request.params["as_of"])
    kept_for = (ctx.domain.config.improvement.capture or Capture()).retention_days
    cutoff = _iso(as_of - timedelta(days=kept_for))
    name = store.part_name(int(ctx.request.params["window"]))
    out = ctx.out["traffic"]
    previous, incoming = ctx.inputs.get("previous"), ctx.inputs.get("incoming")
    parts, known = _keep(previous, out, cutoff) if previous else ({}, set())
    part = _Part()
    if incoming is not None:
        _take(ctx.domain, incoming, out, name, part, known, cutoff)
    if part.turns or part.outcomes or part.shadows:
        parts[name] = _told(part)
    found, looked_at = _personal(ctx, out / store.TURNS / f"{name}.jsonl")
    manifest = {
        "domain": ctx.domain.name,
        "parts": parts,
        "turns": sum(entry["turns"] for entry in parts.values()),
        "window": {
            "sources": dict(sorted(part.sources.items())),
            "doubled": part.doubled,
            "too_old": part.too_old,
            "refused": dict(sorted(part.refused.items())),
            "damage": part.damage[:MAX_DAMAGE],
            "invalid": part.invalid,
        },
    }
    canonical.write_json(out / store.MANIFEST, manifest)
    refused = sum(part.refused.values()) + len(part.damage)
    return StageResult(
        rows={"traffic": manifest["turns"]},
        verdicts=[_envelope(ctx.domain, part, refused), _pii(found, looked_at)],
        summary={
            "new turns": part.turns,
            "new outcomes": part.outcomes,
            "turns": manifest["turns"],
            "doubled": part.doubled,
            "refused": refused,
            "invalid answers": part.invalid,
            "sources": dict(sorted(part.sources.items())),
            "from": part.first,
            "to": part.last,
        },
    )


def _keep(previous: Path, out: Path, cutoff: str) -> tuple[dict[str, Any], set[bytes]]:
    """Take over the earlier parts, without what is older than the cutoff; returns them and what they hold."""
    parts: dict[str, Any] = {}
    for name, part in sorted(store.read_manifest(previous)["parts"].items()):
        if part["last"] >= cutoff:
            whole = part["first"] >= cutoff
            parts[name] = part if whole else _thinned(previous, out, name, cutoff)
            for kind in _KINDS if whole else ():
                _link(previous / kind / f"{name}.jsonl", out / kind / f"{name}.jsonl")
        # What was once taken is known for ever: a late copy of a forgotten turn must not bring it back.
        _link(previous / store.KNOWN / name, out / store.KNOWN / name)
    return parts, store.known_keys(previous)


def _thinned(previous: Path, out: Path, name: str, cutoff: str) -> dict[str, Any]:
    part = _Part()
    for kind in _KINDS:
        source = previous / kind / f"{name}.jsonl"
        kept = [row for row in canonical.read_jsonl(source) if row["at"] >= cutoff] if source.exists() else []
        for row in kept:
            part.seen(row["at"])
        if kept:
            canonical.write_jsonl(out / kind / f"{name}.jsonl", kept)
        setattr(part, kind, len(kept))
    return _told(part)


def _told(part: _Part) -> dict[str, Any]:
    return {**{kind: getattr(part, kind) for kind in _KINDS}, "first": part.first, "last": part.last}


def _link(source: Path, target: Path) -> None:
    if source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, target)


def _take(domain: Domain, incoming: Path, out: Path, name: str, part: _Part, known: set[bytes], cutoff: str) -> None:
    is_turn, is_outcome, is_shadow = Validator(_TURN), Validator(_OUTCOME), Validator(_SHADOW)
    outputs = {role.id: Validator(domain.output_schema(role.id)) for role in domain.config.roles}
    new: list[bytes] = []

    def fresh(key: bytes) -> bool:
        if key in known:
            part.doubled += 1
            return False
        known.add(key)
        new.append(key)
        return True

    def outcome(record: dict[str, Json]) -> dict[str, Json] | None:
        told = {key: record.get(key) for key in ("turn_id", "role", "signal", "detail")}
        return {**told, "at": record["at"]} if fresh(store.key_of(*told.values())) else None

    for kind in (*_KINDS, store.KNOWN):
        (out / kind).mkdir(parents=True, exist_ok=True)
    turns_file, outcomes_file, shadows_file = (out / kind / f"{name}.jsonl" for kind in _KINDS)
    with turns_file.open("wb") as turns, outcomes_file.open("wb") as outcomes, shadows_file.open("wb") as shadows:
        for source, record in _records(domain, incoming, part):
            if source != "refused" and record.get("kind") == "outcome":
                told = [record] if is_outcome.is_valid(record) else []
                part.refused["an outcome without turn, time or signal"] += not told
            elif source == "service" and record.get("kind") == "shadow":
                told = []
                shadows.write(_beside(record, is_shadow, part, fresh, cutoff))
            elif not is_turn.is_valid(record):
                part.refused["no turn: " + is_turn.errors(record)[0][0]] += 1
                continue
            elif record["at"] < cutoff:
                part.too_old += 1
                continue
            else:
                told = [{**item, "turn_id": record["turn_id"]} for item in record.pop("outcomes", [])]
                if fresh(store.key_of(record["turn_id"])):
                    turn = _turn(record, source, outputs)
                    part.invalid += any(not answer["valid"] for answer in turn["answers"].values())
                    turns.write(canonical.dumps(turn) + b"\n")
                    part.turns += 1
                    part.sources[source] += 1
                    part.seen(turn["at"])
            for line in filter(None, map(outcome, told)):
                outcomes.write(canonical.dumps(line) + b"\n")
                part.outcomes += 1
                part.seen(line["at"])
    (out / store.KNOWN / name).write_bytes(b"".join(sorted(new)))
    for path, rows in ((turns_file, part.turns), (outcomes_file, part.outcomes), (shadows_file, part.shadows)):
        if not rows:
            path.unlink()


def _beside(
    record: dict[str, Any], is_shadow: Validator, part: _Part, fresh: Callable[[bytes], bool], cutoff: str
) -> bytes:
    """What a version answered beside what served, as a line; nothing where it cannot be read, is old or known."""
    if not is_shadow.is_valid(record):
        part.refused["a shadow's answer without turn, time or version"] += 1
        return b""
    if record["at"] < cutoff or not fresh(store.key_of("shadow", record["turn_id"], record["version"])):
        return b""
    part.shadows += 1
    part.seen(record["at"])
    return canonical.dumps({key: record[key] for key in ("turn_id", "at", "version", "answers")}) + b"\n"


def _turn(record: dict[str, Any], source: str, outputs: dict[str, Validator]) -> dict[str, Any]:
    """The turn as it is kept; whether an answer meets its contract is our own finding, also of other engines'."""
    answers = {}
    for role, answer in record["answers"].items():
        valid = answer.get("valid") is not False and (role not in outputs or outputs[role].is_valid(answer["output"]))
        told = {"engine": "unknown", "version": None, "confidence": None, "fallback": None, "error": ""}
        answers[role] = {**told, **answer, "valid": valid}
    kept = {key: value for key, value in record.items() if key not in ("kind", "tenant", "project", "domain")}
    return {"role": None, "conversation": "", "user": "", "seconds": None, **kept, "answers": answers, "source": source}


def _records(domain: Domain, incoming: Path, part: _Part) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from (("service", record) for record in records(incoming / intake.SEGMENTS, part.damage))
    for path in sorted((incoming / intake.EVENT_LOG).glob("*.jsonl")):
        yield from (("event_log", _replayed(row, domain)) for row in canonical.read_jsonl(path))
    for path in sorted((incoming / intake.DROP).glob("*.jsonl")):
        yield from (("drop", row) for row in canonical.read_jsonl(path))
    if (incoming / intake.REFUSED).exists():
        for line in orjson.loads((incoming / intake.REFUSED).read_bytes()):
            part.refused[line["reason"].partition(":")[0][:80]] += 1


def _replayed(row: dict[str, Any], domain: Domain) -> dict[str, Any]:
    """A turn of the event log in our own form. Its outputs are by role, or those of the only role."""
    roles = [role.id for role in domain.config.roles]
    outputs, engine = row.get("outputs"), row.get("engine")
    by_role = outputs if isinstance(outputs, dict) and outputs and outputs.keys() <= set(roles) else None
    if by_role is None:
        by_role = {roles[0]: outputs} if len(roles) == 1 and outputs is not None else {}
    engines = engine if isinstance(engine, dict) else dict.fromkeys(roles, engine)
    return {
        "turn_id": row["id"],
        "at": row["at"] or "1970-01-01T00:00:00Z",
        "conversation": f"noetl-{row['execution']}",
        "input": row["input"],
        "answers": {
            role: {"output": output, "engine": str(engines.get(role) or "unknown")} for role, output in by_role.items()
        },
        "sampled": True,
        "rate": 1.0,
        "kept": "sampled",
        "outcomes": [{"at": row["at"], "role": None, "signal": signal, "detail": None} for signal in row["outcomes"]],
    }


def _envelope(domain: Domain, part: _Part, refused: int) -> Verdict:
    most = domain.config.data.max_quarantine_share
    read = part.turns + part.outcomes + part.shadows + part.doubled + part.too_old + refused
    share = refused / read if read else 0.0
    first = next(iter([*part.refused, *part.damage]), "")
    return Verdict(
        gate="envelope", role="", verdict="FAIL" if share > most else "PASS", value=share, threshold=most, n=read,
        reason=f"{refused} of {read} records could not be read" + (f", such as: {first}" if first else ""),
    )  # fmt: skip


def _personal(ctx: StageContext, path: Path) -> tuple[Counter[str], int]:
    """What redaction finds in turns that were redacted: nothing, unless something came around it."""
    found: Counter[str] = Counter()
    if not path.exists():
        return found, 0
    redactor = Redactor(ctx.domain.redaction.model_copy(update={"fields": []}))
    with path.open("rb") as lines:
        size = sum(1 for _ in lines)
        lines.seek(0)
        step = max(1, size // LOOKED_AT)
        for number, line in enumerate(lines):
            if number % step == 0:
                turn = orjson.loads(line)
                found.update(redactor.redact([turn["input"], [a["output"] for a in turn["answers"].values()]])[1])
    return found, -(-size // step)


def _pii(found: Counter[str], looked_at: int) -> Verdict:
    total = found.total()
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(found.items()))
    return Verdict(
        gate="pii", role="", verdict="FAIL" if total else "PASS", value=float(total), threshold=0, n=looked_at,
        reason=f"{total} personal values in {looked_at} turns looked through" + (f": {kinds}" if kinds else ""),
    )  # fmt: skip


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
