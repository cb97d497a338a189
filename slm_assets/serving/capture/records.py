"""What is written of a turn and of an outcome: plain JSON, the user's words apart from ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from slm_assets.canonical import Json
from slm_assets.serving.turns import Turn
from slm_assets.stages.traffic.records import Scope, pseudonym, sampled

Kept = Literal["sampled", "outcome", "invalid", "error"]
Redactor = Callable[[str, Json], Json]
"""Takes a domain's name and what people, models or tools wrote; gives it back without what may not be kept.
Throws if it cannot."""


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """A turn as it goes into the queue, not yet redacted. `size`: bytes of the request's body; `trace`: id of the
    trace that the caller sent."""

    scope: Scope
    turn: Turn
    conversation: str
    user: str
    rate: float
    size: int
    trace: str = ""


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


@dataclass(frozen=True, slots=True)
class ShadowRecord:
    """What a version answered beside what served, not yet redacted. `answers`: role → {"output", "valid",
    "confidence", "fallback", "error", "seconds"}."""

    scope: Scope
    turn_id: str
    at: float
    version: str
    answers: dict[str, dict[str, Any]]
    size: int


Record = TurnRecord | OutcomeRecord | ShadowRecord


def why_kept(record: TurnRecord) -> Kept | None:
    """Why a turn is kept as soon as it was answered; None: only if a bad outcome follows."""
    answers = record.turn.answers.values()
    if record.turn.unanswered or any(answer.error for answer in answers):
        return "error"
    if any(not answer.valid or answer.fallback == "invalid" for answer in answers):
        return "invalid"
    return "sampled" if sampled(record.scope, record.conversation or record.turn.id, record.rate) else None


def redacted(record: Record, redact: Redactor) -> dict[str, Json]:
    """Everything in a record that a user, a model or a tool wrote, through the redactor; each value by itself, as
    a policy names places in it."""

    def clean(value: Json) -> Json:
        return redact(record.scope.domain, value)

    if isinstance(record, OutcomeRecord):
        return {"detail": clean(record.detail)}
    if isinstance(record, ShadowRecord):
        return {"outputs": {role: clean(answer["output"]) for role, answer in record.answers.items()}}
    answers = record.turn.answers
    return {
        "input": clean(record.turn.value),
        "outputs": {role: clean(answer.output) for role, answer in answers.items()},
        "errors": {role: clean(answer.error) for role, answer in answers.items() if answer.error},
        "unanswered": {role: clean(why.message) for role, why in record.turn.unanswered.items()},
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
        "unanswered": {
            role: {**why.shown(), "message": words["unanswered"][role]} for role, why in turn.unanswered.items()
        },
        "seconds": round(turn.seconds, 6),
        "sampled": in_sample,
        "rate": record.rate,
        "kept": kept,
        "probability": record.rate if kept == "sampled" else 1.0,
        **({"trace": record.trace} if record.trace else {}),
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


def shadow_line(record: ShadowRecord, words: dict[str, Json]) -> dict[str, Any]:
    """The record of what a version answered beside what served, as it is stored."""
    scope, outputs = record.scope, words["outputs"]
    return {
        "kind": "shadow",
        "turn_id": record.turn_id,
        "at": _iso(record.at),
        "tenant": scope.tenant,
        "project": scope.project,
        "domain": scope.domain,
        "version": record.version,
        "answers": {role: {**answer, "output": outputs[role]} for role, answer in record.answers.items()},
    }


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
