"""What stands behind each path: answers, OpenAI's shape, feedback, and what the service says of itself."""

from __future__ import annotations

import logging
import re
import time

from fastapi import Request
from fastapi.responses import Response

from slm_assets import tracing
from slm_assets.canonical import Json
from slm_assets.domain.outcomes import SIGNALS
from slm_assets.serving import openai, turns
from slm_assets.serving.body import read_json
from slm_assets.serving.capture.recorder import Recorder
from slm_assets.serving.capture.records import OutcomeRecord, TurnRecord
from slm_assets.serving.engines import Engines
from slm_assets.serving.metrics import Metrics
from slm_assets.serving.openapi import describe
from slm_assets.serving.problems import Problem, json_response, shown
from slm_assets.serving.rolling_back import roll_back
from slm_assets.serving.shadow.beside import Beside
from slm_assets.serving.snapshot import Snapshot
from slm_assets.serving.tokens import OPERATOR
from slm_assets.stages.traffic.records import Scope

LOG = logging.getLogger("slm.turns")
_TURN_ID = re.compile(r"([a-z][a-z0-9_]{0,62})-([0-9a-f]{11})-[0-9a-f]{6}-[0-9a-f]{12}")


class Paths:
    """The handlers of one service."""

    def __init__(
        self, engines: Engines, recorder: Recorder | None, metrics: Metrics, beside: Beside | None = None
    ) -> None:
        self._engines, self._recorder, self._metrics, self._beside = engines, recorder, metrics, beside

    async def health(self, _request: Request) -> Response:
        """The process answers."""
        return json_response({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """Every domain was looked at and one at least can be answered for."""
        engines = self._engines
        able = sum(bool(snapshot.engines) for snapshot in engines.snapshots())
        body = {
            "ready": engines.ready and able > 0,
            "domains": len(engines.names),
            "serving": able,
            "refused_releases": len(engines.refused),
            "registry_reachable": not engines.registry_fault,
        }
        return json_response(body, 200 if body["ready"] else 503)

    async def prometheus(self, request: Request) -> Response:
        """Prometheus' exposition format; of all tenants, so for the operator."""
        if _tenant(request) != OPERATOR:
            raise Problem(403, "operator", "metrics are of all tenants: they need the operator's token")
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4")

    async def openapi(self, request: Request) -> Response:
        """This service as OpenAPI 3.1, with the contracts of the caller's domains."""
        return json_response(describe(self._visible(request)))

    async def models(self, request: Request) -> Response:
        """Every role that can be asked, in OpenAI's shape."""
        return json_response(openai.models(self._visible(request)))

    async def chat(self, request: Request) -> Response:
        """A role's answer in OpenAI's shape."""
        body, size = await read_json(request)
        domain, role = openai.model_of(body)
        with self._engines.lease(domain, _tenant(request)) as snapshot:
            value = openai.input_of(body, snapshot.engine(role), role)
            turn = await turns.answer_role(snapshot, role, value, size)
            self._answered(request, snapshot, turn, size, user=str(body.get("user") or ""))
        if body.get("stream"):
            return Response(openai.stream(turn, body["model"]), media_type="text/event-stream")
        return json_response(openai.completion(turn, body["model"]))

    async def engine(self, request: Request) -> Response:
        """Which engine a role has, in the words of the playbooks that ask."""
        with self._engines.lease(request.path_params["domain"], _tenant(request)) as snapshot:
            serving = snapshot.engine(request.path_params["role"])
        name = "deterministic" if serving.engine == "oracle" else "slm"
        return json_response({"engine": name, "version": serving.version, "release": serving.release})

    async def one(self, request: Request) -> Response:
        """A role's answer; the body is the role's input."""
        value, size = await read_json(request)
        with self._engines.lease(request.path_params["domain"], _tenant(request)) as snapshot:
            turn = await turns.answer_role(snapshot, request.path_params["role"], value, size)
            self._answered(request, snapshot, turn, size)
        return json_response(turns.shown(turn))

    async def whole(self, request: Request) -> Response:
        """The answers of every role; the body is the turn."""
        value, size = await read_json(request)
        with self._engines.lease(request.path_params["domain"], _tenant(request)) as snapshot:
            turn = await turns.answer_turn(snapshot, value, size)
            self._answered(request, snapshot, turn, size)
        return json_response(turns.shown(turn))

    async def feedback(self, request: Request) -> Response:
        """What became of a turn."""
        body, size = await read_json(request)
        turn_id = request.path_params["turn_id"]
        found = _TURN_ID.fullmatch(turn_id)
        if found is None:
            raise Problem(404, "turn", f"{shown(turn_id)} is no turn id")
        with self._engines.lease(found[1], _tenant(request)) as snapshot:
            record = _outcome(turn_id, body, snapshot, size)
            capture = snapshot.domain.config.improvement.capture
        if self._recorder is None or capture is None:
            return json_response({"turn_id": turn_id, "recorded": False, "reason": "this domain keeps no traffic"}, 202)
        if not self._recorder.offer(record):
            raise Problem(503, "full", "too much at once: try again", headers={"retry-after": "1"})
        return json_response({"turn_id": turn_id, "recorded": True}, 202)

    async def rollback(self, request: Request) -> Response:
        """Flip roles back, as a caller who has a token may; the engines follow within a second."""
        if not request.scope["state"]["authenticated"]:
            raise Problem(
                403, "token", "a rollback needs a token, also from this machine",
                cure="start the service with --token TENANT=ALIAS",
            )  # fmt: skip
        body, _size = await read_json(request)
        name = request.path_params["domain"]
        with self._engines.lease(name, _tenant(request)):
            registry = self._engines.registries()[name]
        result = await roll_back(registry, name, body, actor=f"service, token of {_tenant(request)}")
        return json_response(result)

    def _answered(self, request: Request, snapshot: Snapshot, turn: turns.Turn, size: int, user: str = "") -> None:
        """Count a turn, and offer it to the capture: neither waits for anything."""
        self._metrics.turn(turn)
        tracing.mark({"slm.domain": turn.domain, "slm.turn_id": turn.id})
        for role, answer in turn.answers.items():
            if answer.error:  # what an engine threw may quote the input: it is not repeated
                told = {"turn_id": turn.id, "domain": turn.domain, "role": role, "engine": answer.engine}
                LOG.warning("an engine failed", extra={"fields": told})
        capture = snapshot.domain.config.improvement.capture
        if self._recorder is not None and capture is not None:
            scope = Scope(snapshot.tenant, snapshot.project, turn.domain)
            conversation = request.headers.get("x-conversation-id", "")
            user = request.headers.get("x-user-id", user)
            trace = tracing.trace_id()
            self._recorder.offer(TurnRecord(scope, turn, conversation, user, capture.sample_rate, size, trace))
            if self._beside is not None:
                self._beside.offer(scope, turn, conversation, capture.sample_rate, size)

    def _visible(self, request: Request) -> list[Snapshot]:
        tenant = _tenant(request)
        return [snapshot for snapshot in self._engines.snapshots() if tenant in (OPERATOR, snapshot.tenant)]


def _tenant(request: Request) -> str:
    tenant: str = request.scope["state"]["tenant"]
    return tenant


def _outcome(turn_id: str, body: Json, snapshot: Snapshot, size: int) -> OutcomeRecord:
    """Feedback that means something. Problem 422 with the JSON path."""
    if not isinstance(body, dict):
        raise Problem(422, "shape", "expected an object with signal", path="$")
    unknown = sorted(set(body) - {"signal", "role", "detail"})
    if unknown:
        raise Problem(422, "key", f"unknown key {shown(unknown[0])}", path="$", cure="signal, role, detail")
    capture = snapshot.domain.config.improvement.capture
    signals = SIGNALS | set(capture.outcome_signals if capture else ())
    signal, role = body.get("signal"), body.get("role")
    if not isinstance(signal, str) or signal not in signals:
        raise Problem(422, "signal", "unknown signal", path="$.signal", cure=f"one of {', '.join(sorted(signals))}")
    if role is not None and role not in [each.id for each in snapshot.roles]:
        names = ", ".join(each.id for each in snapshot.roles)
        raise Problem(422, "role", f"domain {snapshot.domain.name} has no such role", path="$.role", cure=names)
    scope = Scope(snapshot.tenant, snapshot.project, snapshot.domain.name)
    return OutcomeRecord(scope, turn_id, signal, role, body.get("detail"), time.time(), size)
