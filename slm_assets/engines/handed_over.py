"""The other end of an engine that runs stages elsewhere: execute a request that was handed over, and no more.

The engine holds the version's lock, verifies the receipt and commits the cell; here nothing is committed. So
that nobody gets a stage executed by writing files, the request must be the one that the registry has for
that cell. A second execution in the same folder is refused, and one whose engine is gone ends itself.

What crosses a machine's border goes through the artifact store, under the name of the pod that it is for.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from slm_assets import canonical
from slm_assets.engines.in_process import plans_request
from slm_assets.errors import BadInputError, BusyError
from slm_assets.registry.artifacts import ArtifactStore
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry
from slm_assets.stages.contract import Envelope, StageReceipt, StageRequest
from slm_assets.stages.requests import subject_of
from slm_assets.stages.runner import LOG, RECEIPT, disk_error, execute
from slm_assets.stages.runtime import Progress, silent

REQUEST = "request.json"
ENVELOPE = "envelope.json"
WATCHED_FD = "SLM_ENGINE_FD"
"""Variable with the number of a pipe's reading end; the engine holds the other, so that its death is seen."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Handed:
    """Where in the artifact store a request lies that was handed over, and later what came of it."""

    tenant: str
    project: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Handed:
        """From `tenant/project/name`. BadInputError for anything else."""
        parts = text.split("/")
        if len(parts) != 3 or not all(_NAME.fullmatch(part) for part in parts):
            raise BadInputError(f"{text!r} is no place in the store", cure="expected TENANT/PROJECT/NAME")
        return cls(*parts)

    def __str__(self) -> str:
        return f"{self.tenant}/{self.project}/{self.name}"

    def key(self, file: str) -> str:
        """The name of one of its documents."""
        return f"handed/{self.name}/{file}"


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


def hand_to_store(request: StageRequest, envelope: Envelope, store: ArtifactStore, handed: Handed) -> None:
    """What `execute_from_store` reads, wherever it runs."""
    store.write_note(handed.key(REQUEST), canonical.dumps(request.model_dump(mode="json")))
    store.write_note(handed.key(ENVELOPE), canonical.dumps(envelope.model_dump(mode="json")))


def execute_from_store(
    home: Home, stage: str, domain: str, version: str, handed: Handed, run_dir: Path, progress: Progress = silent
) -> StageReceipt:
    """Execute what was handed over through the artifact store; log and receipt go there, the receipt last.

    BadInputError where nothing was, or something else.
    """
    store = ArtifactStore(home.artifacts_url, handed.tenant, handed.project)
    run_dir.mkdir(parents=True, exist_ok=True)
    for file in (REQUEST, ENVELOPE):
        data = store.read_note(handed.key(file))
        if data is None:
            raise BadInputError(
                f"the artifact store holds no {file} for {handed}",
                cure="give this process the same SLM_ARTIFACTS as the engine that handed it over",
            )
        canonical.write_bytes(run_dir / file, data)
    envelope = read_model(Envelope, run_dir / ENVELOPE, "envelope")
    if (envelope.tenant, envelope.project) != (handed.tenant, handed.project):
        raise BadInputError(f"{handed} holds an envelope of {envelope.tenant}/{envelope.project}; it is refused")
    receipt = execute_handed_over(home, stage, domain, version, run_dir, progress)
    with suppress(FileNotFoundError):  # a stage that said nothing
        store.write_note(handed.key(LOG), (run_dir / LOG).read_bytes())
    store.write_note(handed.key(RECEIPT), (run_dir / RECEIPT).read_bytes())
    return receipt


def receipt_in_store(request: StageRequest, store: ArtifactStore, handed: Handed, run_dir: Path) -> StageReceipt | None:
    """The receipt that `execute_from_store` left for this very request, copied to `run_dir` with its log."""
    data = store.read_note(handed.key(RECEIPT))
    if data is None:
        return None
    try:
        receipt = StageReceipt.model_validate_json(data)
    except ValidationError:
        return None
    if receipt.request != request:
        return None
    try:
        log = store.read_note(handed.key(LOG))
        if log is not None:
            canonical.write_bytes(run_dir / LOG, log)
        canonical.write_bytes(run_dir / RECEIPT, data)
    except OSError as error:
        raise disk_error(error, run_dir) from error
    return receipt


def execute_handed_over(
    home: Home, stage: str, domain: str, version: str, run_dir: Path, progress: Progress = silent
) -> StageReceipt:
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
            return execute(request, envelope, registry, run_dir, progress)
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
