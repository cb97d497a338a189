"""What every rung of the ladder offers: predict one, predict many, and say how sure it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from slm_assets.canonical import Json


class Span(NamedTuple):
    """Where a value of the output came from in a text of the input: JSON pointers and character offsets."""

    output_path: str
    input_path: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Prediction:
    """An answer. `confidence` in [0, 1], calibrated on validation rows; `valid`: the output, as it was
    decoded, meets the contract (nothing repairs it afterwards). An engine that cannot answer (an oracle
    that threw) has output None. `by`: which rung of a cascade answered, "" elsewhere."""

    output: Json
    confidence: float = 1.0
    valid: bool = True
    spans: tuple[Span, ...] = ()
    by: str = ""


def forget(engines: Iterable[object]) -> None:
    """Let engines drop what they remember of earlier inputs: what is timed is an answer to a new one."""
    for engine in engines:
        drop = getattr(engine, "forget", None)
        if drop is not None:
            drop()


class Predictor(Protocol):
    """One role's engine: an oracle, a baseline or a trained model."""

    def predict(self, value: Json) -> Prediction:
        """Answer one input."""
        ...

    def predict_many(self, values: Sequence[Json]) -> list[Prediction]:
        """Answer many inputs, in order, with the same outputs as one by one."""
        ...
