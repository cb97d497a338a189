"""What is written of a turn and of an outcome: plain JSON, the user's words apart from ours."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from slm_assets.canonical import Json
from slm_assets.serving.turns import Turn

Kept = Literal["sampled", "outcome", "invalid", "error"]
Redactor = Callable[[str, Json], Json]
"""Takes a domain's name and what people, models or tools wrote; gives it back without what may not be kept.
Throws if it cannot."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a record belongs."""

    tenant: str
    project: str
    domain: str


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """A turn as it goes into the queue, not yet redacted. `size`: bytes of the request's body."""

    scope: Scope
    turn: Turn
    conversation: str
    user: str
    rate: float
    size: int


@dataclass(frozen=True, slots=True)
class OutcomeRecord:
    """What became of a turn, not yet redacted."""

    scope: Scope
    turn_id: str
    signal: str
    role: str | None
    detail: Json
    at: float
    size: int


def pseudonym(scope: Scope, kind: str, identifier: str) -> str:
    """What stands for a user's or conversation's id: the same for the same id, so that it can be counted and
    erased, and not the id, which may be a name or an address. "" for none."""
    if not identifier:
        return ""
    text = "\0".join((scope.tenant, scope.project, scope.domain, kind, identifier))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def sampled(scope: Scope, conversation: str, rate: float) -> bool:
    """Whether a conversation is in the uniform sample: all of its turns are, or none."""
    text = "\0".join(("sample", scope.tenant, scope.project, scope.domain, conversation))
    number = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    return number < rate * 2.0**64


def why_kept(record: TurnRecord) -> Kept | None:
    """Why a turn is kept as soon as it was answered; None: only if a bad outcome follows."""
    answers = record.turn.answers.values()
    if any(answer.error for answer in answers):
        return "error"
    if any(not answer.valid or answer.fallback == "invalid" for answer in answers):
        return "invalid"
    return "sampled" if sampled(record.scope, record.conversation or record.turn.id, record.rate) else None


def redacted(record: TurnRecord | OutcomeRecord, redact: Redactor) -> dict[str, Json]:
    """Everything in a record that a user, a model or a tool wrote, through the redactor; each value by itself, as
    a policy names places in it."""

    def clean(value: Json) -> Json:
        return redact(record.scope.domain, value)

    if isinstance(record, OutcomeRecord):
        return {"detail": clean(record.detail)}
    answers = record.turn.answers
    return {
        "input": clean(record.turn.value),
        "outputs": {role: clean(answer.output) for role, answer in answers.items()},
        "errors": {role: clean(answer.error) for role, answer in answers.items() if answer.error},
    }


def turn_line(record: TurnRecord, words: dict[str, Json], kept: Kept) -> dict[str, Any]:
    """The record of a turn as it is stored; `probability` is that of being kept."""
    turn, scope = record.turn, record.scope
    outputs, errors = words["outputs"], words["errors"]
    in_sample = sampled(scope, record.conversation or turn.id, record.rate)
    return {
        "kind": "turn",
        "turn_id": turn.id,
        "at": _iso(turn.at),
        "tenant": scope.tenant,
        "project": scope.project,
        "domain": scope.domain,
        "role": turn.role,
        "conversation": pseudonym(scope, "conversation", record.conversation),
        "user": pseudonym(scope, "user", record.user),
        "input": words["input"],
        "answers": {
            role: {**answer.shown(), "output": outputs[role], "error": errors.get(role, "")}
            for role, answer in turn.answers.items()
        },
        "seconds": round(turn.seconds, 6),
        "sampled": in_sample,
        "rate": record.rate,
        "kept": kept,
        "probability": record.rate if kept == "sampled" else 1.0,
    }


def outcome_line(record: OutcomeRecord, words: dict[str, Json]) -> dict[str, Any]:
    """The record of an outcome as it is stored."""
    scope = record.scope
    return {
        "kind": "outcome",
        "turn_id": record.turn_id,
        "at": _iso(record.at),
        "tenant": scope.tenant,
        "project": scope.project,
        "domain": scope.domain,
        "role": record.role,
        "signal": record.signal,
        "detail": words["detail"],
    }


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
