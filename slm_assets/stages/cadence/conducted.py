"""A retrain whose version a playbook makes: decided and written down as every other, and started by no sensor."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

from slm_assets.registry.registry import Plan, Registry, Row
from slm_assets.stages.cadence.retraining import advance, ask_for_fired, finish, under_way

NOTE = "made by a playbook"
"""On the row of such a retrain."""
ALONE = timedelta(hours=24)
"""So long it is the playbook's; one that has not ended it by then is believed to be gone."""


def take(registry: Registry, domain: str, *, actor: str, now: datetime | None = None) -> Plan | None:
    """The version that a playbook is to make now: the one that an earlier execution left unfinished, else that of the
    next retrain, where one is asked for and nothing forbids it. None where there is none, or it has to wait."""
    for launch in under_way(registry, domain):
        ended = finish(registry, launch, ended=False) is not None
        if not ended and launch.row["note"] == NOTE:
            return launch.plan
    ask_for_fired(registry, actor=actor, domain=domain)
    with ExitStack() as held:
        launches = advance(registry, held, actor=actor, now=now, domain=domain, note=NOTE)
    return launches[0].plan if launches else None


def is_playbooks(row: Row, now: datetime) -> bool:
    """Whether a launched retrain is still left to the playbook that took it."""
    return bool(row["note"] == NOTE and now < datetime.fromisoformat(row["launched_at"]).astimezone(UTC) + ALONE)
