"""A turn and what each role sees of it: one function for labelling, training, evaluation and serving."""

from __future__ import annotations

from collections.abc import Mapping

from slm_assets.canonical import Json
from slm_assets.domain.config import Role


def role_input(role: Role, turn: Json, outputs: Mapping[str, Json]) -> Json:
    """The role's input: the turn itself, or {"turn": turn, <role>: its output, …} for a role that reads
    earlier ones. An earlier role that gave no answer is null."""
    if not role.reads:
        return turn
    return {"turn": turn, **{name: outputs.get(name) for name in role.reads}}
