"""Who was right where two answers differ: what a reviewer, the user, or an oracle that is neither of them says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.contracts import Validator
from slm_assets.domain.outcomes import GOOD
from slm_assets.gates.metrics import same, score
from slm_assets.models.oracle import OraclePredictor
from slm_assets.stages.evaluation.scoring import Compared
from slm_assets.stages.shadowing.replay import Pair

CORRECTION = "correction"
Reviews = Mapping[tuple[str, str], Json]
"""(turn, or digest of the role's input; role) → the output that a reviewer decided on."""


@dataclass(frozen=True)
class Judge:
    """What may tell who is right for one role. `oracle`: None where it is one of the two that are compared."""

    role: str
    contract: Validator
    reviews: Reviews = field(default_factory=dict)
    oracle: OraclePredictor | None = None

    def label(self, pair: Pair) -> tuple[Json, str] | None:
        """The right output and whose word it is: review, outcome or oracle; None where nobody knows."""
        ways: tuple[tuple[str, Callable[[Pair], Json]], ...] = (
            ("review", self._reviewed),
            ("outcome", self._outcome),
            ("oracle", self._by_oracle),
        )
        for name, way in ways:
            found = way(pair)
            if found is not None and self.contract.is_valid(found):
                return found, name
        return None

    def _reviewed(self, pair: Pair) -> Json:
        by_turn = self.reviews.get((pair.turn.id, self.role))
        return by_turn if by_turn is not None else self.reviews.get((canonical.digest(pair.value), self.role))

    def _outcome(self, pair: Pair) -> Json:
        served = pair.turn.served.get(self.role, {}).get("output")
        own = [one for one in pair.turn.outcomes if one.get("role") in (None, self.role)]
        for outcome in reversed(own):
            if outcome["signal"] == CORRECTION:
                found = self._corrected(outcome.get("detail"), served)
                if found is not None:
                    return found
        # Said to be right, and nothing said against it.
        return served if own and all(outcome["signal"] in GOOD for outcome in own) else None

    def _corrected(self, detail: Any, served: Json) -> Json:
        """The whole output as the user gave it, or what was served with the fields that he gave."""
        if isinstance(detail, dict) and isinstance(detail.get(self.role), dict):
            detail = detail[self.role]
        if self.contract.is_valid(detail):
            return detail
        both = isinstance(detail, dict) and isinstance(served, dict) and detail
        return {**served, **detail} if both and isinstance(served, dict) else None

    def _by_oracle(self, pair: Pair) -> Json:
        if self.oracle is None:
            return None
        found = self.oracle.predict(pair.value)
        return found.output if found.valid else None


def differences(pair: Pair, metric: Compared, label: tuple[Json, str] | None) -> tuple[float, float]:
    """The challenger's score less the incumbent's at one place, at its worst and at its best: both the same where
    they agree there or somebody knows who is right."""
    ours, theirs = pair.challenger.output, pair.incumbent.output
    if agrees(ours, theirs, metric):
        return 0.0, 0.0
    if label is None:
        return -1.0, 1.0
    right, wrong = (float(score([o], [label[0]], metric.pointer, metric.absent)[0]) for o in (ours, theirs))
    return right - wrong, right - wrong


def agrees(one: Json, other: Json, metric: Compared) -> bool:
    """Whether two outputs are the same at that place; no answer is only the same as no answer."""
    if one is None or other is None:
        return same(one, other)
    return bool(score([one], [other], metric.pointer, metric.absent)[0])
