"""A promoted tiny domain, and the service over it in this process."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from slm_assets.engines.in_process import make_cell
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry
from slm_assets.serving.app import create_app
from slm_assets.serving.capture.recorder import Limits, Recorder
from slm_assets.serving.engines import Engines
from slm_assets.serving.guard import LOOPBACK
from slm_assets.serving.tokens import Tokens, read_tokens
from slm_assets.stages.plans import open_domain, open_version
from slm_assets.stages.table import STAGES
from tests.conftest import FIXTURES

BELOW = 0.25
LIMITS = Limits()
TOKENS = {"ACME": "acme-0123456789abcdef", "LOCAL": "local-0123456789abcdef", "OPS": "ops-0123456789abcdef"}


@pytest.fixture(scope="session")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """tiny v1, promoted, its oracle behind it where it is unsure; every conversation is sampled."""
    root = tmp_path_factory.mktemp("promoted")
    shutil.copytree(FIXTURES / "domains", root / "domains")
    config = root / "domains" / "tiny" / "slm.config.yaml"
    text = config.read_text().replace("  improvement:\n", "  improvement:\n    capture: {sample_rate: 1.0}\n")
    config.write_text(f"{text}  serving: {{fallback_below: {BELOW}}}\n")
    home = Home(root / "home", root / "domains", f"sqlite:///{root}/home/registry.db", str(root / "home" / "artifacts"))
    domain, registry = open_domain(home, "tiny")
    plan = open_version(domain, registry, actor="tester")
    for stage in STAGES:
        assert make_cell(registry, plan, stage.name, actor="tester").receipt.status == "succeeded"
    return home


@pytest.fixture
def home(promoted: Home, tmp_path: Path) -> Home:
    """A copy of it, to be changed."""
    shutil.copytree(promoted.root.parent, tmp_path / "copy")
    root = tmp_path / "copy"
    return Home(root / "home", root / "domains", f"sqlite:///{root}/home/registry.db", str(root / "home" / "artifacts"))


@pytest.fixture
def registry(home: Home) -> Registry:
    return Registry(home)


class Clock:
    """Time that moves when told to."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def redact(value: Any) -> Any:
    """Takes the word `secret` out of every text and key."""
    if isinstance(value, str):
        return value.replace("secret", "<X>")
    if isinstance(value, list):
        return [redact(item) for item in value]
    if isinstance(value, dict):
        return {redact(key): redact(item) for key, item in value.items()}
    return value


@dataclass
class Service:
    """The application without a socket: `post` and `get` go through everything but the HTTP parser."""

    engines: Engines
    recorder: Recorder | None
    app: Any
    clock: Clock

    def call(self, method: str, path: str, *, headers: Mapping[str, str] = {}, **options: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return await client.request(method, path, headers=dict(headers), **options)

        return asyncio.run(ask())

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.call("GET", path, **options)

    def post(self, path: str, value: Any = None, **options: Any) -> httpx.Response:
        given = options if "content" in options else {"json": value, **options}
        return self.call("POST", path, **given)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Starts services over a home; the capture is pumped by hand, by a clock of its own."""
    started: list[Service] = []

    def start(home: Home, *, tokens: Mapping[str, str] = {}, keep: bool = True, limits: Limits = LIMITS) -> Service:
        engines = Engines(home)
        engines.load()
        clock = Clock()
        recorder = (
            Recorder(home.root / "capture", lambda _domain, value: redact(value), "test", limits=limits, clock=clock)
            if keep
            else None
        )
        known = read_tokens([f"{tenant}={alias}" for tenant, alias in tokens.items()], TOKENS) if tokens else Tokens()
        app = create_app(engines, recorder, hosts=LOOPBACK, tokens=known)
        started.append(Service(engines, recorder, app, clock))
        return started[-1]

    yield start
    for service in started:
        service.engines.close()
        if service.recorder is not None:
            service.recorder.close()
