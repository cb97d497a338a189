"""Answering a role or a whole turn: contract first, then the engine, then the record for capture.

Engines answer in the event loop: an answer is a fraction of a millisecond of Python, which a thread cannot
run beside the loop's own, so that handing it over costs more than it gives. To a thread goes only what waits for
another process (a python oracle), and a long input, whose answer may take a hundred times as long as another's:
those queue behind each other and not before the short ones.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.concurrency import run_in_threadpool

from slm_assets.canonical import Json
from slm_assets.domain.turns import role_input
from slm_assets.errors import SlmError
from slm_assets.serving.problems import Problem
from slm_assets.serving.snapshot import LOG, Snapshot
from slm_assets.stages.answering import Answer, BrokenContractError, check, respond
from slm_assets.stages.serving import Serving

INSTANCE = secrets.token_hex(3)
"""Tells the processes of a deployment apart, in turn ids and in the names of their capture files."""
LONG_BYTES = 8192
"""Of a request's body; above it the answer is made in the one thread for long inputs."""
_LONG = ThreadPoolExecutor(1, "slm-long")


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Why a role of a whole turn has no answer. `code` chain: what the earlier role `blame` gave is no input for it,
    at the JSON path `path`; engine: its model threw and nothing stands in."""

    code: Literal["chain", "engine"]
    message: str
    blame: str | None = None
    path: str | None = None

    def shown(self) -> dict[str, Any]:
        """As a caller sees it, in the words of a problem."""
        return {"message": self.message, "code": self.code, "role": self.blame, "param": self.path}


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that was answered: `role` None for a whole one, of which some roles may be `unanswered`. `at` in seconds
    of the epoch."""

    id: str
    at: float
    domain: str
    role: str | None
    value: Json
    answers: Mapping[str, Answer]
    seconds: float
    unanswered: Mapping[str, Unanswered] = field(default_factory=dict)


def new_turn_id(domain: str, at: float) -> str:
    """`<domain>-<milliseconds>-<instance>-<random>`: sorts by time, names its domain, cannot be guessed."""
    return f"{domain}-{int(at * 1000):011x}-{INSTANCE}-{secrets.token_hex(6)}"


async def answer_role(snapshot: Snapshot, role_id: str, value: Json, size: int) -> Turn:
    """Answer one role's input of `size` bytes. Problem 404, 422 with the JSON path, or 500."""
    at, started = time.time(), time.perf_counter()
    answer = await _answer(snapshot.engine(role_id), role_id, value, size, whole=False)
    name = snapshot.domain.name
    return Turn(new_turn_id(name, at), at, name, role_id, value, {role_id: answer}, time.perf_counter() - started)


async def answer_turn(snapshot: Snapshot, turn: Json, size: int) -> Turn:
    """Answer a whole turn, each role with what the earlier ones gave. A role that cannot be asked, or has no answer,
    leaves the others theirs. Problem 422 where the turn itself is at fault, 500 where no role answered."""
    at, started = time.time(), time.perf_counter()
    answers: dict[str, Answer] = {}
    unanswered: dict[str, Unanswered] = {}
    for role in snapshot.roles:
        serving = snapshot.engine(role.id)
        outputs = {name: answers[name].output for name in answers}
        value = role_input(serving.domain.role(role.id), turn, outputs)
        try:
            answers[role.id] = await _answer(serving, role.id, value, size, whole=True)
        except _UnansweredError as error:
            unanswered[role.id] = error.why
    name = snapshot.domain.name
    if not answers and unanswered:
        raise Problem(500, "engine", next(iter(unanswered.values())).message)
    return Turn(new_turn_id(name, at), at, name, None, turn, answers, time.perf_counter() - started, unanswered)


def shown(turn: Turn) -> dict[str, Any]:
    """The answer to a caller."""
    if turn.role is not None:
        return {"turn_id": turn.id, "domain": turn.domain, "role": turn.role, **turn.answers[turn.role].shown()}
    return {
        "turn_id": turn.id,
        "domain": turn.domain,
        "roles": {role: answer.shown() for role, answer in turn.answers.items()},
        "unanswered": {role: why.shown() for role, why in turn.unanswered.items()},
    }


class _UnansweredError(Exception):
    """A role of a whole turn has no answer, through no fault of the caller's."""

    def __init__(self, why: Unanswered) -> None:
        super().__init__(why.message)
        self.why = why


async def _answer(serving: Serving, role_id: str, value: Json, size: int, *, whole: bool) -> Answer:
    try:
        check(serving, role_id, value)
        if serving.blocking:
            return await run_in_threadpool(_alone, serving, value)
        if size > LONG_BYTES:
            return await asyncio.get_running_loop().run_in_executor(_LONG, respond, serving, value)
        return respond(serving, value)
    except BrokenContractError as error:
        raise _broken(error, role_id, whole=whole) from None
    except SlmError as error:
        # What a model threw may quote the input: it stays in the service's own log.
        told = f"nothing could answer for {serving.domain.name}.{role_id}"
        if whole:
            LOG.exception("no answer", extra={"fields": {"domain": serving.domain.name, "role": role_id}})
            raise _UnansweredError(Unanswered("engine", told)) from None
        raise Problem(500, "engine", told) from error


def _alone(serving: Serving, value: Json) -> Answer:
    with serving.lock:
        return respond(serving, value)


def _broken(error: BrokenContractError, role_id: str, *, whole: bool) -> Exception:
    if whole and error.blame:
        path, message = error.faults[0]
        told = f"the answer of {error.blame} is no input for {role_id}: {message}"
        return _UnansweredError(Unanswered("chain", told, error.blame, path))
    # In a whole turn the caller's own words stand under $.turn of a role that reads others.
    faults = [
        (f"${path.removeprefix('$.turn')}" if whole and path.startswith("$.turn") else path, message)
        for path, message in error.faults
    ]
    path, message = faults[0]
    return Problem(422, "contract", f"the input breaks the contract of {role_id}: {message}", path=path, faults=faults)
