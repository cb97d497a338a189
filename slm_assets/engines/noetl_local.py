"""Hand a stage to NoETL's local runtime: its emitted playbook, in a process group of its own.

What NoETL reports is not evidence: a tool that it skips in silence is "ok" too. The receipt decides, and
whoever launched re-hashes what it names. The envelope and the request lie in the run folder, which is the
process's working folder: no path crosses a shell.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slm_assets import canonical
from slm_assets.engines.handed_over import WATCHED_FD, hand_over
from slm_assets.errors import SlmError
from slm_assets.noetl.emit import stage_playbook
from slm_assets.noetl.stage_book import ENGINE
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry
from slm_assets.stages.contract import Envelope, StageReceipt, StageRequest
from slm_assets.stages.runner import disk_error, proof_of, read_receipt
from slm_assets.stages.runtime import Progress

PLAYBOOK = "playbook.yaml"
OUTCOME = "noetl.json"
LOG = "noetl.log"
TAIL = 2_000
"""Bytes of a log that an error quotes."""


def launch(
    request: StageRequest,
    envelope: Envelope,
    registry: Registry,
    run_dir: Path,
    progress: Progress,
    *,
    timeout_s: float,
) -> StageReceipt:
    """Run the stage's playbook and return the receipt that it left.

    A receipt of the same request that succeeded is returned as it is. SlmError where there is none after the
    run, or no end within `timeout_s`; then, as on any interruption, the whole process group is killed.
    """
    there = proof_of(request, run_dir)
    if there is not None:
        return there
    hand_over(request, envelope, run_dir)
    try:
        canonical.write_bytes(run_dir / PLAYBOOK, stage_playbook(request.stage)[1].encode())
    except OSError as error:
        raise disk_error(error, run_dir) from error
    progress(0.0, "noetl")
    code = _run(request, registry.home, run_dir, timeout_s)
    receipt = read_receipt(run_dir)
    if receipt is None:
        raise SlmError(
            f"{request.stage} of {request.domain} {request.version}: NoETL ended with exit code {code} and left no "
            f"receipt in {run_dir}{_told(request, run_dir)}",
            cure=f"read {LOG}, {OUTCOME} and {request.stage}.err there, then run it again",
        )
    return receipt


def command(request: StageRequest) -> list[str]:
    """The command line: ids that the request's own types have checked, and nothing else."""
    values = {
        "runtime": "local",
        "driver": ENGINE,
        "domain": request.domain,
        "version": request.version,
        "run_dir": ".",
    }
    sets = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    return [_program("noetl"), "run", PLAYBOOK, "--runtime", "local", "--json", *sets]


def environment(home: Home) -> dict[str, str]:
    """This process's, with the same home from any folder, the same `slm` first, and no Rust backtraces."""
    path = os.pathsep.join([str(Path(_program("slm")).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, **home.environment(), "PATH": path, "RUST_BACKTRACE": "0"}


def _run(request: StageRequest, home: Home, run_dir: Path, timeout_s: float) -> int:
    reading, writing = os.pipe()
    try:
        with (
            (run_dir / OUTCOME).open("wb") as out,
            (run_dir / LOG).open("ab") as log,
            _group(
                subprocess.Popen(  # noqa: S603 - a fixed command and checked ids
                    command(request),
                    cwd=run_dir,
                    env={**environment(home), WATCHED_FD: str(reading)},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=(reading,),
                )
            ) as process,
        ):
            return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        raise SlmError(
            f"{request.stage} of {request.domain} {request.version} had not ended after {timeout_s:g} s under NoETL; "
            "it was stopped",
            cure=f"raise stages.{request.stage}.timeout_s in the domain's config, or look into {run_dir}",
        ) from None
    except OSError as error:
        raise disk_error(error, run_dir) from error
    finally:
        os.close(reading)
        os.close(writing)


@contextmanager
def _group(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """However the block ends, nothing of the process's group outlives it."""
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _program(name: str) -> str:
    """The program beside this interpreter, else the one on PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise SlmError(f"the program {name} is not installed", cure="pip install 'slm-assets[noetl]'")
    return found


def _told(request: StageRequest, run_dir: Path) -> str:
    """The ends of what the stage and NoETL said, where they said something."""
    said = []
    for name in (f"{request.stage}.err", LOG):
        with contextlib.suppress(OSError):
            text = (run_dir / name).read_bytes()[-TAIL:].decode(errors="replace").strip()
            said += [f"\n{name}: {text}"] if text else []
    return "".join(said)
