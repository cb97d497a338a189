"""What a user does about an answer: whether it is right, and which signal follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from slm_assets.canonical import Json
from slm_assets.domain.simulation import Outcomes
from slm_assets.gates.metrics import same

Seen = Literal["right", "wrong", "unknown"]


class Feedback(NamedTuple):
    """One call of /v1/feedback."""

    signal: str
    role: str | None
    detail: Json

    def body(self) -> dict[str, Json]:
        """What is sent of it."""
        return {key: value for key, value in self._asdict().items() if value is not None}


def compared(labels: Mapping[str, Json], outputs: Mapping[str, Json]) -> dict[str, bool]:
    """Role → whether the whole output is what the row says; roles that it says nothing of are left out."""
    return {role: role in outputs and same(outputs[role], label) for role, label in labels.items()}


def seen(right: Mapping[str, bool]) -> Seen:
    """A turn is right where each role is."""
    if not right:
        return "unknown"
    return "right" if all(right.values()) else "wrong"


def reaction(model: Outcomes, draw: float, labels: Mapping[str, Json], right: Mapping[str, bool]) -> list[Feedback]:
    """What the user sends, by a draw in [0, 1): the signals share that interval in the order of the file.

    A correction names each wrong role and tells what is right; every other signal is about the turn.
    """
    case = seen(right)
    given: dict[str, float] = getattr(model, case)
    for signal, probability in given.items():
        if draw < probability:
            wrong = [role for role, good in right.items() if not good]
            if signal == "correction" and wrong:
                return [Feedback(signal, role, labels[role]) for role in wrong]
            return [Feedback(signal, None, None)]
        draw -= probability
    return []
