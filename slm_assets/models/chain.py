"""All roles of a domain over many turns, each answered by a chosen engine, nothing computed twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.config import Role
from slm_assets.domain.turns import role_input
from slm_assets.models.base import Prediction, Predictor

Assignment = Mapping[str, str]
"""Role → the name of the engine that answers for it."""


class Chain:
    """Turns run through the roles in order, end to end: a role reads what the earlier ones answered.

    `engines`: role → engine name → predictor. An engine answers equal inputs once, however many
    assignments, names and ways lead to them.
    """

    def __init__(
        self, roles: Sequence[Role], turns: Sequence[Json], engines: Mapping[str, Mapping[str, Predictor]]
    ) -> None:
        self._roles = {role.id: role for role in roles}
        self._turns = turns
        self._engines = engines
        self._answered: dict[tuple[tuple[str, str], ...], list[Prediction]] = {}
        self._known: dict[int, dict[bytes, Prediction]] = {}

    def answers(self, role_id: str, assignment: Assignment) -> list[Prediction]:
        """The role's predictions under the assignment, one per turn."""
        key = tuple((name, assignment[name]) for name in self.ancestors(role_id))
        if key not in self._answered:
            role = self._roles[role_id]
            upstream = {name: self.answers(name, assignment) for name in role.reads}
            inputs = [
                role_input(role, turn, {name: upstream[name][i].output for name in role.reads})
                for i, turn in enumerate(self._turns)
            ]
            self._answered[key] = self._predict(self._engines[role_id][assignment[role_id]], inputs)
        return self._answered[key]

    def reference_answers(self, role_id: str, engine: str, labels: Sequence[Mapping[str, Json]]) -> list[Prediction]:
        """The role's predictions on reference input: the earlier roles' labels instead of their answers."""
        role = self._roles[role_id]
        inputs = [role_input(role, turn, own) for turn, own in zip(self._turns, labels, strict=True)]
        return self._predict(self._engines[role_id][engine], inputs)

    def _predict(self, engine: Predictor, inputs: Sequence[Json]) -> list[Prediction]:
        known = self._known.setdefault(id(engine), {})
        keys = [canonical.dumps(value) for value in inputs]
        fresh = {key: value for key, value in zip(keys, inputs, strict=True) if key not in known}
        known.update(zip(fresh, engine.predict_many(list(fresh.values())), strict=True))
        return [known[key] for key in keys]

    def ancestors(self, role_id: str) -> list[str]:
        """The role and all that its answer depends on, in the config's order."""
        return ancestors(self._roles, role_id)


def ancestors(roles: Mapping[str, Role], role_id: str) -> list[str]:
    """The role and all that its answer depends on, in the order of `roles`, the config's."""
    wanted = {role_id}
    for name in reversed(list(roles)):
        if name in wanted:
            wanted.update(roles[name].reads)
    return [name for name in roles if name in wanted]


def answer_turn(roles: Sequence[Role], engines: Mapping[str, Predictor], turn: Json) -> dict[str, Prediction]:
    """One turn through all roles, end to end."""
    answers: dict[str, Prediction] = {}
    for role in roles:
        outputs = {name: answers[name].output for name in role.reads}
        answers[role.id] = engines[role.id].predict(role_input(role, turn, outputs))
    return answers
