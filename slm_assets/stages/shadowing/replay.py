"""Both answers to a live turn, as each side would serve it: its oracle behind it, timed one after the other."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slm_assets.canonical import Json
from slm_assets.domain.config import Role
from slm_assets.domain.domain import Domain
from slm_assets.domain.turns import role_input
from slm_assets.errors import SlmError
from slm_assets.stages.answering import Answer, BrokenContractError, check, respond
from slm_assets.stages.bundle import Bundle, open_bundle
from slm_assets.stages.serving import Serving, serving_bundle, serving_oracle
from slm_assets.stages.shadowing.turns import LiveTurn

NOTHING = Answer(None, 0.0, valid=False, engine="none")
Side = Mapping[str, Serving]
"""Role → what answers for it; a role that nothing answers for is left out."""


@dataclass(frozen=True)
class Pair:
    """One role's two answers to one turn, and the milliseconds that each took. `value`: the incumbent's input."""

    turn: LiveTurn
    role: str
    value: Json
    challenger: Answer
    incumbent: Answer
    challenger_ms: float
    incumbent_ms: float


@contextmanager
def open_sides(domain: Domain, inputs: Mapping[str, Path]) -> Iterator[tuple[Side, Side]]:
    """(challenger, incumbent): every role of the release, and what serves for each: a release or the oracle."""
    release = open_bundle(inputs["release"])
    opened: dict[Path, Bundle] = {}
    challenger = {role.id: serving_bundle(release, role.id) for role in domain.config.roles}
    incumbent: dict[str, Serving] = {}
    for role in domain.config.roles:
        folder = inputs.get(f"incumbent_{role.id}")
        if folder is not None:
            if folder not in opened:
                opened[folder] = open_bundle(folder)
            incumbent[role.id] = serving_bundle(opened[folder], role.id)
        elif role.deterministic_oracle is not None:
            incumbent[role.id] = serving_oracle(domain, role.id)
    try:
        yield challenger, incumbent
    finally:
        for serving in (*challenger.values(), *incumbent.values()):
            serving.close()


def replay(roles: Sequence[Role], challenger: Side, incumbent: Side, turn: LiveTurn, first: bool) -> list[Pair]:
    """The turn through both sides, end to end; `first`: the challenger is asked first, which is to alternate.

    Empty where the turn breaks a contract of today's, so that neither may answer it.
    """
    ours: dict[str, Json] = {}
    theirs: dict[str, Json] = {}
    pairs: list[Pair] = []
    for role in roles:
        if turn.role not in (None, role.id):
            continue
        asked = [(challenger, ours), (incumbent, theirs)]
        found: dict[int, tuple[Answer, float]] = {}
        for place in (0, 1) if first else (1, 0):
            side, outputs = asked[place]
            try:
                found[place] = _ask(side.get(role.id), role, _input(role, turn, outputs))
            except BrokenContractError:
                return []
        (mine, my_ms), (other, other_ms) = found[0], found[1]
        pairs.append(Pair(turn, role.id, _input(role, turn, theirs), mine, other, my_ms, other_ms))
        ours[role.id], theirs[role.id] = mine.output, other.output
    return pairs


def _input(role: Role, turn: LiveTurn, outputs: Mapping[str, Json]) -> Json:
    return turn.value if turn.role is not None else role_input(role, turn.value, outputs)


def _ask(serving: Serving | None, role: Role, value: Json) -> tuple[Answer, float]:
    if serving is None:
        return NOTHING, 0.0
    check(serving, role.id, value)
    started = time.perf_counter()
    try:
        answer = respond(serving, value)
    except SlmError:
        answer = NOTHING
    return answer, (time.perf_counter() - started) * 1e3
