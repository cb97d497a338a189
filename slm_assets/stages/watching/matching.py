"""Whether a live answer was right: by what became of the turn, by a reviewer's decision, or by the oracle."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slm_assets.canonical import Json
from slm_assets.domain.contracts import Validator
from slm_assets.domain.domain import Domain
from slm_assets.domain.outcomes import GOOD
from slm_assets.domain.turns import role_input
from slm_assets.gates import metrics
from slm_assets.models.oracle import load_oracle

UNKNOWN = -1
ASKED = 1_000
"""Turns of each role that the oracle is asked about, where it is the reference."""


@dataclass
class Serves:
    """What serves a role: its version's name (None: the oracle) since when, and what its profile knows."""

    version: str | None = None
    since: str = ""
    cut: int = 0
    score: Mapping[str, Any] | None = None
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass
class _Asked:
    """What the oracle is to be asked: (the turn's number, the role's input, what was answered), of so many."""

    kept: list[tuple[int, Json, Json]] = field(default_factory=list)
    offered: int = 0


class Matching:
    """Live answers held against the reference that the policy names; `reviews`: (turn, role) → the decided label."""

    def __init__(self, domain: Domain, serves: Mapping[str, Serves], reviews: Mapping[tuple[str, str], Json]) -> None:
        self._domain, self._serves, self._reviews = domain, serves, reviews
        self._roles = {role.id: role for role in domain.config.roles}
        self._contracts = {role: Validator(domain.output_schema(role)) for role in self._roles}
        self._by = domain.triggers.quality.reference
        self._draw = random.Random(0)  # noqa: S311 - which turns the oracle is asked about
        self._asked = {role: _Asked() for role in self._roles}

    def right(self, role: str, turn: Mapping[str, Any], number: int) -> int:
        """Whether the role's answer matches the reference, 1 or 0; UNKNOWN where that says nothing of it, or has yet
        to be asked (`by_oracle`) about turn `number`."""
        output = turn["answers"][role]["output"]
        if self._by == "outcome":
            return self._by_outcome(role, turn, output)
        if self._by == "review":
            decided = self._reviews.get((turn["turn_id"], role))
            return UNKNOWN if decided is None else self._same(role, output, decided)
        if self._by == "oracle":
            self._ask_later(role, turn, output, number)
        return UNKNOWN

    def corrected(self, role: str, turn: Mapping[str, Any]) -> Json:
        """The role's right answer by the last correction within its contract, or None."""
        found = None
        for outcome in turn["outcomes"]:
            detail = outcome["detail"]
            if outcome["signal"] != "correction" or detail is None:
                continue
            if outcome["role"] in (None, "") and len(self._roles) > 1:
                detail = detail.get(role) if isinstance(detail, dict) else None
            elif outcome["role"] not in (None, "", role):
                continue
            if detail is not None and role in self._contracts and self._contracts[role].is_valid(detail):
                found = detail
        return found

    def by_oracle(self, role: str) -> list[tuple[int, int]]:
        """(number, right) of each turn that was kept for the oracle and to which it has a valid answer."""
        kept = self._asked[role].kept
        oracle = load_oracle(self._domain, role) if kept else None
        if oracle is None:
            return []
        try:
            answers = oracle.predict_many([value for _, value, _ in kept])
        finally:
            oracle.close()
        pairs = zip(kept, answers, strict=True)
        return [(number, self._same(role, output, found.output)) for (number, _, output), found in pairs if found.valid]

    def _by_outcome(self, role: str, turn: Mapping[str, Any], output: Json) -> int:
        told = [o for o in turn["outcomes"] if o["signal"] not in GOOD and o["role"] in (None, "", role)]
        if not told:
            return 1
        corrected = self.corrected(role, turn)
        return 0 if corrected is None else self._same(role, output, corrected)

    def _same(self, role: str, output: Json, label: Json) -> int:
        """Whether an output matches a label at the role's primary metric."""
        score = self._serves[role].score
        pointer, absent = (score["primary"]["pointer"], score["primary"]["absent"]) if score else ("", None)
        return int(metrics.score([output], [label], pointer, absent)[0])

    def _ask_later(self, role: str, turn: Mapping[str, Any], output: Json, number: int) -> None:
        """Keep a uniform sample of the answers (Vitter's algorithm R)."""
        asked = self._asked[role]
        place = asked.offered if asked.offered < ASKED else self._draw.randrange(asked.offered + 1)
        asked.offered += 1
        if place < ASKED:
            value = turn["input"]
            if turn["role"] is None:
                outputs = {name: answer["output"] for name, answer in turn["answers"].items()}
                value = role_input(self._roles[role], value, outputs)
            asked.kept[place : place + 1] = [(number, value, output)]
