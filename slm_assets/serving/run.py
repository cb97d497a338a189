"""Run the service under uvicorn: one process and event loop, a thread that follows the flags, one that writes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

import uvicorn

from slm_assets import tracing
from slm_assets.canonical import Json
from slm_assets.domain import redaction
from slm_assets.domain.domain import Domain
from slm_assets.domain.loading import domain_folder
from slm_assets.errors import BadInputError, SlmError
from slm_assets.logs import log_json
from slm_assets.registry.home import Home
from slm_assets.serving import guard
from slm_assets.serving.app import create_app
from slm_assets.serving.capture.recorder import Recorder
from slm_assets.serving.capture.records import Redactor
from slm_assets.serving.engines import Engines
from slm_assets.serving.tokens import read_tokens
from slm_assets.serving.turns import INSTANCE

GRACE_SECONDS = 20
CONCURRENT = 512
"""Requests in flight; more are told to come again (503) and not queued without end."""
SWITCH_SECONDS = 0.001
"""How long a thread may hold the interpreter while another waits. A thread that loads a release or redacts
must not keep the event loop waiting for Python's default of 5 ms at each turn."""


def run(
    domains: Sequence[str],
    *,
    host: str,
    port: int,
    tokens: Sequence[str],
    allow_hosts: Sequence[str],
    redact: Redactor | None = None,
) -> None:
    """Serve until a signal ends it. `redact`: what the traffic is redacted by before it is kept; default: each
    domain's own policy."""
    known = read_tokens(tokens, os.environ)
    hosts = guard.allowed_hosts(host, allow_hosts, known)
    home = Home.from_env()
    for name in domains:
        domain_folder(home.domains, name)  # a name that is none is told now and not to every caller
    engines = Engines(home, domains)
    if not engines.names:
        raise BadInputError(f"no domain in {home.domains}", cure="set SLM_DOMAINS, or write domains/<name>/")
    log_json()
    tracing.enabled()  # a collector that cannot be used is told now and not at the first request
    redact = redact or by_policy(engines)
    recorder = Recorder(home.root / "capture", redact, f"{int(time.time() * 1000):011x}-{INSTANCE}")
    sys.setswitchinterval(SWITCH_SECONDS)
    config = uvicorn.Config(
        create_app(engines, recorder, hosts=hosts, tokens=known),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # what a proxy claims is not needed, and cannot be believed from everybody
        ws="none",
        limit_concurrency=CONCURRENT,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    try:
        uvicorn.Server(config).run()
    except SystemExit:
        # Its exit code is uvicorn's own: 3 would say here that a gate said no.
        raise SlmError(
            f"the service could not start on {host}:{port}; its log has the reason",
            cure="choose another --port, or stop what has this one",
        ) from None


def by_policy(engines: Engines) -> Redactor:
    """Redaction by the policy of a domain's config as it serves. KeyError for a domain that is not served."""
    made: dict[str, tuple[Domain, redaction.Redactor]] = {}

    def redact(name: str, value: Json) -> Json:
        domain = {snapshot.domain.name: snapshot.domain for snapshot in engines.snapshots()}[name]
        if name not in made or made[name][0] is not domain:
            made[name] = domain, redaction.Redactor(domain.redaction)
        return made[name][1].redact(value)[0]

    return redact
