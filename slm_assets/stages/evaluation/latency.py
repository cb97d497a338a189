"""How fast a turn is answered: warm, in process, one by one, challenger and incumbent interleaved."""

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

WARM = 20


@dataclass(frozen=True)
class Timing:
    """Milliseconds per turn of each role, challenger and incumbent on the same turns, and of the whole
    turn by the challenger; rows per second of `predict_many` over all roles."""

    challenger: Mapping[str, NDArray[np.float64]]
    incumbent: Mapping[str, NDArray[np.float64]]
    turn: NDArray[np.float64]
    rows_per_second: float


def measure(
    roles: Sequence[Role], rows: Sequence[LabelledRow], engines: Mapping[str, Mapping[str, Predictor]]
) -> Timing:
    """Time these turns, on reference input per role, which stand for all."""
    times: dict[str, dict[str, list[float]]] = {"challenger": {}, "incumbent": {}}
    for role in roles:
        inputs = [role_input(role, row.turn, row.labels) for row in rows]
        pair = [(name, engines[role.id][name]) for name in times]
        for name, engine in pair:
            for value in inputs[:WARM]:
                engine.predict(value)
            times[name][role.id] = []
        for value in inputs:
            for name, engine in pair:
                times[name][role.id].append(_milliseconds(engine, value))
    challengers = {role.id: engines[role.id]["challenger"] for role in roles}
    whole = []
    for row in rows:
        forget(challengers.values())
        started = time.perf_counter()
        answer_turn(roles, challengers, row.turn)
        whole.append((time.perf_counter() - started) * 1e3)
    forget(challengers.values())
    started = time.perf_counter()
    for role in roles:
        challengers[role.id].predict_many([role_input(role, row.turn, row.labels) for row in rows])
    seconds = time.perf_counter() - started
    arrays = {name: {r: np.array(v) for r, v in own.items()} for name, own in times.items()}
    return Timing(arrays["challenger"], arrays["incumbent"], np.array(whole), len(whole) / max(seconds, 1e-9))


def _milliseconds(engine: Predictor, value: Json) -> float:
    forget([engine])  # challenger and incumbent may share what they remember
    started = time.perf_counter()
    engine.predict(value)
    return (time.perf_counter() - started) * 1e3
