"""The roles of a domain as a chain: a role reads what the earlier ones answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slm_assets.canonical import Json
from slm_assets.domain.config import Role
from slm_assets.domain.turns import role_input
from slm_assets.models.base import Prediction, Predictor

Assignment = Mapping[str, str]
"""Role → the name of the engine that answers for it."""


def ancestors(roles: Mapping[str, Role], role_id: str) -> list[str]:
    """The role and all that its answer depends on, in the order of `roles`, the config's."""
    wanted = {role_id}
    for name in reversed(list(roles)):
        if name in wanted:
            wanted.update(roles[name].reads)
    return [name for name in roles if name in wanted]


def answer_turns(
    roles: Sequence[Role], engines: Mapping[str, Predictor], turns: Sequence[Json]
) -> dict[str, list[Prediction]]:
    """Many turns through all roles, end to end: role → its predictions, in the order of the turns."""
    answers: dict[str, list[Prediction]] = {}
    for role in roles:
        inputs = [
            role_input(role, turn, {name: answers[name][i].output for name in role.reads})
            for i, turn in enumerate(turns)
        ]
        answers[role.id] = engines[role.id].predict_many(inputs)
    return answers


def answer_turn(roles: Sequence[Role], engines: Mapping[str, Predictor], turn: Json) -> dict[str, Prediction]:
    """One turn through all roles, end to end."""
    answers: dict[str, Prediction] = {}
    for role in roles:
        outputs = {name: answers[name].output for name in role.reads}
        answers[role.id] = engines[role.id].predict(role_input(role, turn, outputs))
    return answers
