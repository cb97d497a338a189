"""What answers for a role elsewhere: the teacher, switched on and off by a person, or the server of a release."""

from __future__ import annotations

import os
import uuid

from slm_assets import canonical
from slm_assets.domain.budget import Budget
from slm_assets.domain.config import Teacher
from slm_assets.domain.loading import Domain
from slm_assets.domain.turns import role_input
from slm_assets.errors import ArtifactError, BadInputError
from slm_assets.models.teacher.endpoint import endpoint_of
from slm_assets.models.teacher.live import LivePredictor
from slm_assets.registry.registry import Flag, Flip, Registry
from slm_assets.registry.teaching import Purse
from slm_assets.stages.bundle import Bundle
from slm_assets.stages.cadence.settings import settings_of
from slm_assets.stages.teaching import teacher_of

SERVING = "serving"
"""What live answers are paid under, in place of a version."""
PROBES = 5
"""So many of a bundle's probes a server must answer as the bundle does before it is used."""
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


def served_elsewhere(registry: Registry, domain: Domain, role_id: str, release: str, bundle: Bundle) -> LivePredictor:
    """The server of `serving.endpoint` as the engine of a release, once it is shown to serve that very release: it
    lists the name that holds its digest, and answers the bundle's probes as the bundle does.

    SlmError where it is away, ArtifactError where it answers otherwise.
    """
    server = domain.config.serving.endpoint
    assert server is not None
    name = served_name(domain.name, release)
    teacher = Teacher(
        id="endpoint", base_url=server.base_url, credential=server.credential, model=name,
        concurrency=server.concurrency, timeout_s=server.timeout_s, max_output_tokens=server.max_output_tokens,
    )  # fmt: skip
    endpoint = endpoint_of(domain.name, teacher, os.environ)
    purse = Purse(registry, domain.name, f"{SERVING}/{role_id}/endpoint.{_PROCESS}", Budget(), actor="service")
    predictor = LivePredictor(bundle.domain, role_id, teacher, endpoint, purse)
    role = bundle.domain.role(role_id)
    try:
        predictor.ready()
        for probe in bundle.probes[:PROBES]:
            found = predictor.predict(role_input(role, probe["turn"], probe["outputs"]))
            if canonical.dumps(found.output) != canonical.dumps(probe["outputs"][role_id]):
                raise ArtifactError(
                    f"{domain.name}.{role_id}: the server of {name} answers probe {probe['id']!r} otherwise than the "
                    "release; it is refused",
                    cure="start it with the weights, prompt template and quantisation of that release",
                )
    except BaseException:
        predictor.close()
        raise
    return predictor


def served_name(domain: str, release: str) -> str:
    """The name under which a server must serve a release."""
    return f"{domain}-{release[:12]}"


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
