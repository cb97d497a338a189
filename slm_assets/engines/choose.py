"""Which engine runs a stage: what the run asks for, else what the domain's config says, else this process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import get_args

from slm_assets.domain.compute import EngineName, StageRun, settings
from slm_assets.engines.in_process import Launch
from slm_assets.errors import BadInputError
from slm_assets.stages.runner import execute

ENGINES: tuple[str, ...] = get_args(EngineName)
IN_PROCESS, NOETL, KUBERNETES = ENGINES


@dataclass(frozen=True)
class Engine:
    """An engine's name, and how it turns a request into a receipt."""

    name: str
    launch: Launch


def engine_of(stage: str, runs: Mapping[str, StageRun], asked: str | None = None, *, wait: bool = True) -> Engine:
    """The engine of a stage; NoETL's is the server that the deployment names, else the local runtime.

    Without `wait`, here or in the config, an engine that goes on by itself is handed the stage and not waited
    for. BadInputError for a name that is none.
    """
    run = settings(runs, stage)
    name, wait = asked or run.engine, wait or run.wait
    if name == IN_PROCESS:
        return Engine(name, execute)
    if name == NOETL:
        from slm_assets.engines import noetl_local, noetl_server
        from slm_assets.noetl.emit import stage_playbook

        server = noetl_server.launcher(stage_playbook, run=run, wait=wait)
        return Engine(name, server or partial(noetl_local.launch, timeout_s=run.timeout_s))
    if name == KUBERNETES:
        from slm_assets.engines import kubernetes

        return Engine(name, kubernetes.launcher(run, wait=wait))
    raise BadInputError(f"{name!r} is no engine", cure=f"engines: {', '.join(ENGINES)}")
