"""Parts of the labelling on several processes, none of which can stop the others.

A worker that dies or does not answer in time is replaced, and its part is cut in two until the one row
that does it is found; only that row goes without the oracle.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import orjson

from slm_assets.errors import SlmError
from slm_assets.stages.rows.label_worker import READY, Part, request
from slm_assets.stages.rows.labelling import Tally

WORKER = ["-m", "slm_assets.stages.rows.label_worker"]


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    part: Part
    until: float
    answer: bytearray = field(default_factory=bytearray)


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def label_parts(
    parts: Sequence[Part], bundle: Path, workers: int, seconds: Callable[[Part], float]
) -> Iterator[tuple[Part, Tally | str]]:
    """Yield each part with its tally, in the order of their ends; a single row that ends or holds up its
    worker comes with the reason instead. `seconds` bounds the time of a part.

    Errors: SlmError when workers cannot start at all.
    """
    waiting = deque(parts)
    selector = selectors.DefaultSelector()
    running: dict[int, _Worker] = {}
    idle = [_start(bundle) for _ in range(min(workers, len(parts)))]
    try:
        for process in idle:
            _await(process)
        while waiting or running:
            while waiting and len(running) < workers:
                process = idle.pop() if idle else _await(_start(bundle))
                part = waiting.popleft()
                worker = _Worker(process, part, time.monotonic() + seconds(part))
                running[process.pid] = worker
                selector.register(_output(process), selectors.EVENT_READ, worker)
                _send(process, request(part))
            for worker, gone in _ready(selector, running):
                del running[worker.process.pid]
                selector.unregister(_output(worker.process))
                if not gone:
                    idle.append(worker.process)
                    yield worker.part, Tally.from_json(orjson.loads(worker.answer))
                    continue
                _end(worker.process)
                if worker.part.count > 1:
                    waiting.extendleft(reversed(worker.part.halves()))
                else:
                    yield worker.part, gone
    finally:
        selector.close()
        for process in [*idle, *(worker.process for worker in running.values())]:
            _end(process)


def _ready(selector: selectors.BaseSelector, running: dict[int, _Worker]) -> list[tuple[_Worker, str]]:
    """Workers that are done, and those that never will be, with the reason."""
    found: list[tuple[_Worker, str]] = []
    patience = max(0.0, min(worker.until for worker in running.values()) - time.monotonic())
    for key, _ in selector.select(patience):
        worker: _Worker = key.data
        data = os.read(key.fd, 1 << 20)
        worker.answer += data
        if not data:
            status = worker.process.wait()
            found.append((worker, f"the oracle ended its process (status {status})"))
        elif worker.answer.endswith(b"\n"):
            found.append((worker, ""))
    done = {worker.process.pid for worker, _ in found}
    for worker in running.values():
        if worker.process.pid not in done and time.monotonic() >= worker.until:
            found.append((worker, "the oracle did not answer in time"))
    return found


def _start(bundle: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, *WORKER]
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)  # noqa: S603
    except OSError as error:
        raise SlmError(f"a label worker cannot start: {error}", cure="free memory, then run again") from error
    _send(process, orjson.dumps({"bundle": str(bundle)}) + b"\n")
    return process


def _await(process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    if _output(process).readline() != READY:
        raise SlmError(
            f"a label worker ended while starting (status {process.wait()})",
            cure="free memory, then run again; its own message stands above",
        )
    return process


def _output(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None
    return process.stdout


def _send(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(line)
        process.stdin.flush()
    except BrokenPipeError:
        return  # its end of output says the same


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:
                continue
    process.wait()
