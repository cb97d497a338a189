"""What a captured turn says of its right answers: what was served, what users made of it, and whether they agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.config import Role

Holds = Callable[[str, Json], bool]
"""Whether an output meets the contract of a role."""


@dataclass(frozen=True)
class Told:
    """One role of a turn. `served`: the answer, where it met its contract; `correction`: what a user put in its
    place, as far as that can be an output; `label`: the output that the outcomes name or confirm, where they are
    of one mind; `disputed`: they are not."""

    served: Json = None
    engine: str = ""
    correction: Json = None
    label: Json = None
    disputed: bool = False

    def to_json(self) -> dict[str, Json]:
        """As it stands in a dataset's captured.jsonl."""
        return asdict(self)


def roles_of(turn: Mapping[str, Any], roles: Sequence[Role]) -> list[str]:
    """The roles that a turn can give rows for: its input must be the turn itself. Empty for one that cannot."""
    if turn["role"] is None:
        return [role.id for role in roles]
    return [role.id for role in roles if role.id == turn["role"] and not role.reads]


def told_of(turn: Mapping[str, Any], roles: Sequence[str], holds: Holds) -> dict[str, Told]:
    """Role → what the turn says of it; roles of which it says nothing are left out."""
    found = {role: _told(turn, role, roles, holds) for role in roles}
    return {role: told for role, told in found.items() if told != Told()}


def _told(turn: Mapping[str, Any], role: str, roles: Sequence[str], holds: Holds) -> Told:
    answer = turn["answers"].get(role) or {}
    served = answer.get("output") if answer.get("valid") else None
    details: list[Json] = []
    confirmed = False
    for outcome in turn["outcomes"]:
        if outcome["role"] in (None, role):
            confirmed |= outcome["signal"] == "success"
            if outcome["signal"] == "correction":
                details += _details(outcome, role, roles)
    outputs = [_output(detail, served, role, holds) for detail in details]
    corrections = {canonical.dumps(one): one for one in outputs if one is not None}
    whole = [one for key, one in corrections.items() if key in {canonical.dumps(detail) for detail in details}]
    label = None
    if len(whole) == 1 and not confirmed:
        label = whole[0]
    elif confirmed and not details:
        label = served
    disputed = len(corrections) > 1 or (confirmed and bool(details))
    engine = str(answer.get("version") or answer.get("engine") or "")
    return Told(served, engine, next(iter(corrections.values()), None), label, disputed)


def _details(outcome: Mapping[str, Any], role: str, roles: Sequence[str]) -> list[Json]:
    """What a correction says of a role: one that names no role speaks of the only one, or by role. Of several
    without telling which it says that something is wrong, [None]."""
    detail = outcome["detail"]
    if outcome["role"] is not None or len(roles) == 1:
        return [detail]
    if isinstance(detail, dict) and detail and detail.keys() <= set(roles):
        return [detail[role]] if role in detail else []
    return [None]


def _output(detail: Json, served: Json, role: str, holds: Holds) -> Json:
    """The output that a correction names; some keys alone are taken over what was served. None where it is none."""
    if detail is None or holds(role, detail):
        return detail
    if isinstance(detail, dict) and detail and isinstance(served, dict):
        merged = {**served, **detail}
        return merged if holds(role, merged) else None
    return None
