"""The form of a turn and of an outcome as they are kept, whoever wrote them.

A turn:    {"kind": "turn", "turn_id", "at", "tenant", "project", "domain", "role", "conversation", "user",
            "input", "answers": {role: {"output", "engine", "version", "confidence", "valid", "fallback", "error", …}},
            "unanswered": {role: {"message", "code", "role", "param"}}, "seconds", "sampled", "rate", "kept",
            "probability", "source"}
An outcome: {"kind": "outcome", "turn_id", "at", "role", "signal", "detail", …}

`conversation` and `user` are pseudonyms; every text of a user, a model or a tool is redacted.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from slm_assets.canonical import Json
from slm_assets.domain.outcomes import GOOD


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a record belongs."""

    tenant: str
    project: str
    domain: str


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


def joined(turn: dict[str, Any], outcomes: list[dict[str, Json]]) -> dict[str, Any]:
    """A turn with its `outcomes` [{at, role, signal, detail}], `why` it was kept (all reasons) and its
    `probability` in view of them."""
    why = [turn["kept"]]
    if "outcome" not in why and any(outcome["signal"] not in GOOD for outcome in outcomes):
        why.append("outcome")
    rest = {key: value for key, value in turn.items() if key != "kept"}
    return {**rest, "why": why, "probability": turn["rate"] if why == ["sampled"] else 1.0, "outcomes": outcomes}
