"""How fast a turn is answered: one by one in a process that has answered others before, each turn a new one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slm_assets.canonical import Json
from slm_assets.domain.config import Role
from slm_assets.domain.turns import role_input
from slm_assets.models.base import Predictor, forget
from slm_assets.models.chain import answer_turn
from slm_assets.stages.rows_io import LabelledRow

FEW = 8
"""Of fewer rows every part has all: then they are not new."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds per turn of each role, challenger and incumbent on the same turns, and of the whole
    turn by the challenger."""

    challenger: Mapping[str, NDArray[np.float64]]
    incumbent: Mapping[str, NDArray[np.float64]]
    turn: NDArray[np.float64]


def measure(
    roles: Sequence[Role], rows: Sequence[LabelledRow], engines: Mapping[str, Mapping[str, Predictor]]
) -> Timing:
    """Time turns that none of the engines was asked before: what they keep of others helps as it does live, what they
    keep of the very same would not.

    A quarter of the rows warms, a half times the roles on reference input, challenger and incumbent in turns (each
    second time the other comes first, for what they share), a quarter the challenger's whole turn.
    """
    warm, timed, whole = (rows, rows, rows) if len(rows) < FEW else (rows[0::4], rows[1::2], rows[2::4])
    times: dict[str, dict[str, list[float]]] = {"challenger": {}, "incumbent": {}}
    for role in roles:
        pair = [(times[name].setdefault(role.id, []), engines[role.id][name]) for name in times]
        for row in warm:
            for _, engine in pair:
                engine.predict(role_input(role, row.turn, row.labels))
        for row in timed:
            value = role_input(role, row.turn, row.labels)
            for own, engine in pair:
                own.append(_milliseconds(engine, value))
            pair.reverse()
    challengers = {role.id: engines[role.id]["challenger"] for role in roles}
    turns = []
    for row in whole:
        started = time.perf_counter()
        answer_turn(roles, challengers, row.turn)
        turns.append((time.perf_counter() - started) * 1e3)
    arrays = {name: {r: np.array(v) for r, v in own.items()} for name, own in times.items()}
    return Timing(arrays["challenger"], arrays["incumbent"], np.array(turns))


def _milliseconds(engine: Predictor, value: Json) -> float:
    forget([engine])  # challenger and incumbent may share what they remember
    started = time.perf_counter()
    engine.predict(value)
    return (time.perf_counter() - started) * 1e3
