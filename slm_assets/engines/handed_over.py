"""The other end of an engine that runs stages elsewhere: execute a request that was handed over, and no more.

The engine holds the version's lock, verifies the receipt and commits the cell; here nothing is committed. So
that nobody gets a stage executed by writing files, the request must be the one that the registry has for
that cell. A second execution in the same folder is refused, and one whose engine is gone ends itself.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from slm_assets import canonical
from slm_assets.engines.in_process import plans_request
from slm_assets.errors import BadInputError, BusyError
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry
from slm_assets.stages.contract import Envelope, StageReceipt, StageRequest
from slm_assets.stages.requests import subject_of
from slm_assets.stages.runner import RECEIPT, disk_error, execute

REQUEST = "request.json"
ENVELOPE = "envelope.json"
WATCHED_FD = "SLM_ENGINE_FD"
"""Variable with the number of a pipe's reading end; the engine holds the other, so that its death is seen."""

Model = TypeVar("Model", bound=BaseModel)


def hand_over(request: StageRequest, envelope: Envelope, run_dir: Path) -> None:
    """Write what `execute_handed_over` reads. SlmError where the folder cannot be written."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        # An earlier attempt's receipt must not be taken for this one's.
        (run_dir / RECEIPT).unlink(missing_ok=True)
        canonical.write_json(run_dir / REQUEST, request.model_dump(mode="json"))
        canonical.write_json(run_dir / ENVELOPE, envelope.model_dump(mode="json"))
    except OSError as error:
        raise disk_error(error, run_dir) from error


def execute_handed_over(home: Home, stage: str, domain: str, version: str, run_dir: Path) -> StageReceipt:
    """Execute `run_dir`/request.json under `run_dir`/envelope.json; the receipt lies in `run_dir` then.

    BadInputError where the files are not of this cell, BusyError where another process is at it.
    """
    _end_with_the_engine()
    request = read_model(StageRequest, run_dir / REQUEST, "stage request")
    envelope = read_model(Envelope, run_dir / ENVELOPE, "envelope")
    if (request.stage, request.domain, request.version) != (stage, domain, version):
        raise BadInputError(
            f"{run_dir / REQUEST} is for {request.stage} of {request.domain} {request.version}, "
            f"not for {stage} of {domain} {version}"
        )
    registry = Registry(home, envelope.tenant, envelope.project)
    plan = subject_of(registry, domain, stage, version)
    plans_request(registry, plan, request)
    try:
        with FileLock(run_dir / ".executing", timeout=0):
            return execute(request, envelope, registry, run_dir)
    except Timeout:
        raise BusyError(
            f"{stage} of {domain} {version} is being executed in {run_dir} by another process",
            cure="wait for it to end, or stop it; nothing of it is lost",
        ) from None


def read_model(model: type[Model], path: Path, what: str) -> Model:
    """A pydantic model from a JSON file; BadInputError with every fault, naming `what` it should be."""
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise BadInputError(f"{what} file {path} does not exist") from None
    except ValidationError as error:
        lines = [f"$.{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors()]
        raise BadInputError(f"{path} is no {what}\n  " + "\n  ".join(lines)) from None


def _end_with_the_engine() -> None:
    """Kill this process's group when the engine's end of the pipe closes: an engine that was killed cannot."""
    number = os.environ.pop(WATCHED_FD, "")
    if not number.isdecimal():
        return

    def watch() -> None:
        try:
            os.read(int(number), 1)
        except OSError:
            return  # no such pipe: whoever started this is no engine of ours
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, name="engine-watch", daemon=True).start()
