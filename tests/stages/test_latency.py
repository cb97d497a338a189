"""What is timed was not asked before, and neither side always comes first."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from slm_assets.domain.config import Role
from slm_assets.models.base import Prediction
from slm_assets.stages.evaluation import latency


class Asked:
    """An engine that writes down who was asked what."""

    def __init__(self, name: str, log: list[tuple[str, int]]) -> None:
        self.name, self.log = name, log

    def predict(self, value: Any) -> Prediction:
        self.log.append((self.name, value["n"]))
        return Prediction({})


@pytest.mark.parametrize("count", [0, 1, 7, 8, 31, 400])
def test_every_turn_is_new_to_the_engine_that_is_timed(count: int) -> None:
    log: list[tuple[str, int]] = []
    role = Role.model_validate({"id": "route", "output_schema": "out.json"})
    rows: Any = [SimpleNamespace(turn={"n": n}, labels={}) for n in range(count)]
    engines = {"route": {name: Asked(name, log) for name in ("challenger", "incumbent")}}
    timing = latency.measure([role], rows, engines)
    assert len(timing.challenger["route"]) == len(timing.incumbent["route"])
    for name in ("challenger", "incumbent"):
        asked = [n for own, n in log if own == name]
        if count >= latency.FEW:
            assert len(asked) == len(set(asked))
    if count >= latency.FEW:
        assert sorted({n for _, n in log}) == list(range(count))
        assert len(timing.challenger["route"]) == count // 2
        timed = [own for own, n in log if n % 2]
        assert timed[:4] == ["challenger", "incumbent", "incumbent", "challenger"]
