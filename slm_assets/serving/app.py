"""The service as an ASGI application: the guard in front, the paths, one shape of errors, start and end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException

from slm_assets.serving.capture.recorder import Recorder
from slm_assets.serving.engines import RESERVED, Engines
from slm_assets.serving.guard import Guard
from slm_assets.serving.metrics import Metrics
from slm_assets.serving.pages.routes import Pages
from slm_assets.serving.paths import Paths
from slm_assets.serving.problems import Problem
from slm_assets.serving.reviewing import Reviewing
from slm_assets.serving.shadow.beside import Beside
from slm_assets.serving.standing import Standing
from slm_assets.serving.tokens import Tokens
from slm_assets.serving.traced import Traced


class _DomainName(StringConvertor):
    """A domain's name in a path, which the service's own paths are not."""

    regex = f"(?!(?:{'|'.join(sorted(RESERVED))})(?:/|$))[^/]+"


register_url_convertor("name", _DomainName())


def create_app(engines: Engines, recorder: Recorder | None, *, hosts: frozenset[str], tokens: Tokens) -> FastAPI:
    """The application. It starts and ends `engines` and `recorder`; None keeps nothing of the traffic."""
    metrics = Metrics()
    metrics.watch(lambda: _numbers(engines, recorder, beside))
    beside = Beside(engines.registries, recorder) if recorder is not None else None
    standing = Standing(engines.registries)
    metrics.add(standing)
    paths = Paths(engines, recorder, metrics, beside)
    reviewing = Reviewing(engines)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if recorder is not None:
            engines.on_erasure = recorder.forget
            recorder.start()
        engines.start()
        if beside is not None:
            beside.start()
        standing.start()
        yield
        standing.close()
        if beside is not None:
            beside.close()
        engines.close()
        if recorder is not None:
            recorder.close()

    # The OpenAPI document is made of the contracts that serve, which FastAPI does not know.
    app = FastAPI(lifespan=lifespan, openapi_url=None, telemetry={"tracing": False}, redirect_slashes=False)
    app.add_middleware(Guard, hosts=hosts, tokens=tokens)
    app.add_middleware(Traced)
    # Starlette's routes, the hot ones first: FastAPI's reading of parameters costs as much as an answer.
    for method, path, handler in (
        ("POST", "/v1/{domain:name}/{role}", paths.one),
        ("POST", "/v1/{domain:name}", paths.whole),
        ("POST", "/v1/chat/completions", paths.chat),
        ("POST", "/v1/feedback/{turn_id}", paths.feedback),
        ("POST", "/v1/rollback/{domain:name}", paths.rollback),
        ("GET", "/v1/{domain:name}/{role}/engine", paths.engine),
        ("GET", "/v1/models", paths.models),
        ("GET", "/v1/review/{domain}", reviewing.listed),
        ("POST", "/v1/review/{domain}/{item}", reviewing.change),
        ("GET", "/review/{domain}", reviewing.page),
        ("GET", "/review/static/{name}", reviewing.static),
        ("GET", "/healthz", paths.health),
        ("GET", "/readyz", paths.ready),
        ("GET", "/metrics", paths.prometheus),
        ("GET", "/openapi.json", paths.openapi),
    ):
        app.add_route(path, handler, [method], include_in_schema=False)
    for path, page in Pages(engines).routes():
        app.add_route(path, page, ["GET"], include_in_schema=False)
    _errors(app, metrics)
    return app


def _errors(app: FastAPI, metrics: Metrics) -> None:
    """One shape for everything that is no answer."""

    async def problem(_request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        metrics.problem(error.code)
        return error.response()

    async def http(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = {404: "path", 405: "method"}.get(error.status_code, "http")
        metrics.problem(code)
        return Problem(error.status_code, code, str(error.detail), headers=error.headers).response()

    async def fault(_request: Request, _error: Exception) -> Response:
        metrics.problem("fault")
        return Problem(500, "fault", "a fault of the service; its log has the reason").response()

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, fault)


def _numbers(
    engines: Engines, recorder: Recorder | None, beside: Beside | None
) -> Mapping[str, tuple[str, Mapping[str, float]]]:
    state = {"refused_releases": len(engines.refused), "faulty_domains": len(engines.faults)}
    found: dict[str, tuple[str, Mapping[str, float]]] = {
        "slm_engines": ("Releases refused and domains that cannot be served.", state),
    }
    if recorder is not None:
        found["slm_capture_kept_total"] = ("Records written, by why.", dict(recorder.kept))
        found["slm_capture_dropped_total"] = ("Records not kept, by why.", dict(recorder.dropped))
        found["slm_capture_memory"] = ("What waits in memory.", recorder.gauges())
    if beside is not None:
        found["slm_shadow_total"] = ("Turns offered to a challenger, by what became of them.", dict(beside.counts))
    return found
