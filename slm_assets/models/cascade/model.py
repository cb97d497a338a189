"""The cascade as it answers: each rung where the one before was not sure enough, at last the oracle if it may."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from slm_assets.canonical import Json
from slm_assets.models.base import Prediction, Predictor, forget

ORACLE = "oracle"
NEVER = 2.0
"""A threshold that no confidence reaches: the rung answers nothing and is not asked."""


@dataclass(frozen=True)
class Level:
    """A rung of the cascade. `below`: less sure answers (by its own confidence) go on to the next; `power`: makes its
    confidence a probability on the rows that come as far as it."""

    name: str
    recipe: str
    predictor: Predictor
    below: float = 0.0
    power: float = 1.0


@dataclass(frozen=True)
class Last:
    """The oracle at the end: answers less sure than `below` by the last rung are its; `confidence` is how often it
    was right on such rows of the validation part."""

    below: float
    confidence: float


@dataclass
class CascadeModel:
    """One role's cascade. `oracle` None where there is no `last`, or nothing that can stand at the end here."""

    levels: Sequence[Level]
    last: Last | None = None
    oracle: Predictor | None = None
    report: dict[str, Any] = field(default_factory=dict)

    def predict(self, value: Json) -> Prediction:
        """Answer one input."""
        return self.predict_many([value])[0]

    def predict_many(self, values: Sequence[Json]) -> list[Prediction]:
        """Answer many: each rung is asked for what is left, all at once."""
        answers: list[Prediction | None] = [None] * len(values)
        left = list(range(len(values)))
        for number, level in enumerate(self.levels):
            end = number == len(self.levels) - 1
            if not left or (level.below >= NEVER and not end):
                continue
            unsure = []
            for i, found in zip(left, level.predictor.predict_many([values[i] for i in left]), strict=True):
                if not end and (found.confidence < level.below or not found.valid):
                    unsure.append(i)
                else:
                    answers[i] = self._told(level, found, values[i]) if end else _by(level, found)
            left = unsure
        return [answer for answer in answers if answer is not None]

    def _told(self, level: Level, found: Prediction, value: Json) -> Prediction:
        """What the last rung answered, or the oracle in its place where that has an answer."""
        if self.last and self.oracle and (found.confidence < self.last.below or not found.valid):
            instead = self.oracle.predict(value)
            if instead.valid:
                return replace(instead, confidence=self.last.confidence, by=ORACLE)
        return _by(level, found)

    def forget(self) -> None:
        """Let every rung drop what it remembers of earlier inputs."""
        forget(level.predictor for level in self.levels)

    def close(self) -> None:
        """End the oracle's child process, where there is one."""
        close = getattr(self.oracle, "close", None)
        if close is not None:
            close()


def _by(level: Level, found: Prediction) -> Prediction:
    return replace(found, confidence=round(float(found.confidence**level.power), 6), by=level.name)
