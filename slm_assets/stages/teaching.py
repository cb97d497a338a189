"""Opening a teacher for a stage: its endpoint by the deployment, its purse by the domain's budget."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from slm_assets.canonical import Json
from slm_assets.domain.budget import Budget
from slm_assets.domain.config import Teacher
from slm_assets.domain.domain import Domain
from slm_assets.errors import BadInputError
from slm_assets.models.teacher.asking import Asking
from slm_assets.models.teacher.endpoint import endpoint_of
from slm_assets.registry import notices
from slm_assets.registry.teaching import Cost, Purse
from slm_assets.stages.cadence.costs import what_of
from slm_assets.stages.cadence.settings import budget_of
from slm_assets.stages.runtime import StageContext


def teacher_of(domain: Domain, name: str) -> Teacher | None:
    """The teacher of an id, or of `teacher.<id>`; None where it is disabled."""
    wanted = name.removeprefix("teacher.")
    found = next((one for one in domain.config.teachers if one.id == wanted), None)
    if found is None:
        raise BadInputError(f"domain {domain.name}: no teacher {wanted!r}", cure="declare it under teachers")
    return found if found.status == "enabled" else None


@contextmanager
def open_teacher(ctx: StageContext, teacher: Teacher) -> Iterator[Asking]:
    """A teacher to be asked within the budget of the stage's version, until the end of the block."""
    request, registry = ctx.request, ctx.registry
    endpoint = endpoint_of(request.domain, teacher, os.environ)
    plan = registry.plan(request.domain, int(request.version[1:]))
    limits = budget_of(registry, plan) if plan else Budget()
    what = f"{what_of(request.version, request.stage)}/teacher.{teacher.id}"
    purse = Purse(registry, request.domain, what, limits, actor=ctx.envelope.actor)
    asking = Asking(ctx.domain, teacher, endpoint, registry, purse)
    try:
        yield asking
    finally:
        asking.close()
    if asking.stopped.startswith("budget"):
        detail = {"stage": request.stage, "over": asking.stopped, "teacher": teacher.id}
        notices.note(registry, "budget.over", request.domain, int(request.version[1:]), detail, ctx.envelope.actor)


def measured_of(asked: Mapping[str, Asking]) -> dict[str, float]:
    """Tokens and money of a stage's teachers, in all and per model, for its receipt."""
    whole = Cost()
    found: dict[str, float] = {}
    for asking in asked.values():
        for model, (answers, cost) in asking.paid().items():
            whole += cost
            found |= {
                f"answers:{model}": float(answers), f"tokens_in:{model}": float(cost.tokens_in),
                f"tokens_out:{model}": float(cost.tokens_out), f"usd:{model}": round(cost.usd, 6),
            }  # fmt: skip
        whole += asking.unanswered
    if not asked:
        return {}
    unanswered = sum((asking.unanswered for asking in asked.values()), Cost())
    found["tokens_unanswered"] = unanswered.resources["tokens"]
    return {**whole.resources, "usd": round(whole.usd, 6), **found}


def told_of(asking: Asking, fresh: int, likely: Cost) -> dict[str, Json]:
    """What a person wants to know of the asking, for a receipt's summary: the estimate before, and how it ended."""
    estimate: dict[str, Any] = {"requests": fresh, **likely.resources}
    return {"teacher": asking.teacher.id, "estimate": estimate, "stopped": asking.stopped}
