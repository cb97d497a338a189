"""The teacher as what answers for a role: opened for the service, and switched on and off by a person."""

from __future__ import annotations

import os
import uuid

from slm_assets.domain.loading import Domain
from slm_assets.errors import BadInputError
from slm_assets.models.teacher.endpoint import endpoint_of
from slm_assets.models.teacher.live import LivePredictor
from slm_assets.registry.registry import Flag, Flip, Registry
from slm_assets.registry.teaching import Purse
from slm_assets.stages.cadence.settings import settings_of
from slm_assets.stages.teaching import teacher_of

SERVING = "serving"
"""What live answers are paid under, in place of a version."""
_PROCESS = uuid.uuid4().hex[:8]


def live_teacher(registry: Registry, domain: Domain, role: str) -> LivePredictor:
    """The teacher of `serving.teacher` as a role's engine. BadInputError where there is none that may be asked."""
    name = domain.config.serving.teacher
    teacher = teacher_of(domain, name) if name else None
    if teacher is None:
        raise BadInputError(
            f"{domain.name}.{role}: no teacher may answer", cure="name an enabled one in serving.teacher"
        )
    endpoint = endpoint_of(domain.name, teacher, os.environ)
    limits = settings_of(registry.home, domain.name).budget
    what = f"{SERVING}/{role}/teacher.{teacher.id}.{_PROCESS}"
    return LivePredictor(domain, role, teacher, endpoint, Purse(registry, domain.name, what, limits, actor="service"))


def switch(registry: Registry, domain: Domain, role: str, *, on: bool, actor: str, reason: str) -> Flag:
    """Let the teacher answer for a role, once its server is shown to be ready, or take that back: to what answered
    before. BadInputError where there is nothing to take back."""
    domain.role(role)
    current = registry.flags(domain.name).get(role, Flag(role, "oracle"))
    if on:
        predictor = live_teacher(registry, domain, role)
        try:
            predictor.ready()
        finally:
            predictor.close()
        target = Flag(role, "teacher")
    else:
        if current.engine != "teacher":
            raise BadInputError(f"{domain.name}.{role} is not answered by a teacher", cure="see `slm status`")
        before = registry.flag_events(domain.name, role)[-1]["previous"]
        target = Flag(role, before["engine"], before["number"], before["release"]) if before else Flag(role, "oracle")
    if target.engine == current.engine and target.release == current.release:
        return current
    flip = Flip(role, target.engine, target.number, target.release, current.event)
    return registry.flip(domain.name, [flip], action="teacher", actor=actor, reason=reason)[0]
