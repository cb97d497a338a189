"""The pages behind their paths. Reading the registry takes milliseconds: it is done in a thread, off the answers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool

from slm_assets.errors import ArtifactError
from slm_assets.registry import queries
from slm_assets.registry.registry import Registry
from slm_assets.serving.engines import Engines
from slm_assets.serving.openapi import describe
from slm_assets.serving.pages import charts
from slm_assets.serving.pages.facts import Chart, age, facts
from slm_assets.serving.problems import Problem, shown
from slm_assets.serving.tokens import OPERATOR

PAGE = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""No script, nothing from elsewhere."""
REPORT = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; font-src data:"
)
"""A report may run the scripts that it brings, in an origin of its own and without any network."""
MAX_REPORT = 32 * 1024 * 1024
_KINDS = {".html": "text/html", ".md": "text/plain", ".json": "application/json"}
_TONES = {
    "PASS": "good", "pass": "good", "QUIET": "good", "serving": "good", "promoted": "good",
    "FIRED": "warn", "INSUFFICIENT": "warn", "insufficient": "warn", "deferred": "warn", "running": "warn",
    "FAIL": "bad", "fail": "bad", "held": "bad", "failed": "bad",
}  # fmt: skip
COUNTS = frozenset({"turns", "new turns"})


class Pages:
    """The handlers of the pages of one service."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines

    def routes(self) -> list[tuple[str, Callable[[Request], Any]]]:
        """(path, handler) of each; all are read with GET."""
        return [
            ("/", self.index),
            ("/domains/{domain}", self.domain),
            ("/reports/{domain}/{sha256}/{file:path}", self.report),
            ("/docs", self.api),
            ("/static/page.css", self.style),
        ]

    async def index(self, request: Request) -> Response:
        """Every domain that the caller may see, a line each."""
        tenant = request.scope["state"]["tenant"]
        visible = self._engines.visible(tenant)

        def read() -> list[Any]:
            return [facts(registry, config) for config, registry in visible]

        faults = sorted(self._engines.faults.items()) if tenant == OPERATOR else []
        return _page("index.html", domains=await run_in_threadpool(read), faults=faults)

    async def domain(self, request: Request) -> Response:
        """All about one domain."""
        config, registry = self._own(request)
        found = await run_in_threadpool(facts, registry, config)
        return _page("domain.html", d=found, line=_line, bars=_bars, counts=COUNTS)

    async def report(self, request: Request) -> Response:
        """A file of a registered report of the domain, in a sandbox. Problem 404 for anything else."""
        config, registry = self._own(request)
        sha256, file = request.path_params["sha256"], request.path_params["file"]
        media = next((kind for ending, kind in _KINDS.items() if file.endswith(ending)), None)
        there = await run_in_threadpool(_report, registry, config.name, sha256, file) if media else None
        if there is None:
            raise Problem(404, "report", f"{config.name} has no such report: {shown(file)}")
        return Response(there, media_type=f"{media}; charset=utf-8", headers={"content-security-policy": REPORT})

    async def api(self, request: Request) -> Response:
        """The service's paths with the contracts that serve, for people; /openapi.json is for programs."""
        tenant = request.scope["state"]["tenant"]
        visible = [one for one in self._engines.snapshots() if tenant in (OPERATOR, one.tenant)]
        return _page("api.html", api=describe(visible))

    async def style(self, _request: Request) -> Response:
        """The stylesheet."""
        return Response(_static("page.css"), media_type="text/css")

    def _own(self, request: Request) -> tuple[Any, Registry]:
        name = request.path_params["domain"]
        for config, registry in self._engines.visible(request.scope["state"]["tenant"]):
            if config.name == name:
                return config, registry
        raise Problem(404, "domain", f"there is no domain {shown(name)} for this token")


def _report(registry: Registry, domain: str, sha256: str, file: str) -> bytes | None:
    if not any(row["name"] == domain and row["sha256"] == sha256 for row in queries.with_digest(registry, sha256)):
        return None
    try:
        tree = registry.store.describe(sha256)
        return registry.store.read(sha256, file) if file in tree.files and tree.bytes <= MAX_REPORT else None
    except ArtifactError:
        return None


def _page(template: str, **values: Any) -> Response:
    text = _templates().get_template(template).render(**values)
    return Response(text, media_type="text/html; charset=utf-8", headers={"content-security-policy": PAGE})


@cache
def _templates() -> Environment:
    """Everything that a template prints is escaped, and what it misnames fails."""
    found = Environment(
        loader=PackageLoader("slm_assets.serving.pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    found.filters |= {"age": age, "number": charts.number, "tone": lambda word: _TONES.get(word, "")}
    return found


@cache
def _static(name: str) -> bytes:
    return files("slm_assets.serving.pages").joinpath("static", name).read_bytes()


def _line(chart: Chart) -> Markup:
    return charts.line(chart.title, chart.points, chart.reference)


def _bars(chart: Chart) -> Markup:
    return charts.bars(chart.title, chart.points)
