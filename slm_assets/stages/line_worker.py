"""A child process that is told lines and answers lines, for work that is spread over processors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

import orjson

from slm_assets.canonical import Json
from slm_assets.errors import SlmError

READY = b"ready\n"
Process = subprocess.Popen[bytes]


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start(arguments: Sequence[str], hello: Json) -> Process:
    """Start this interpreter with the arguments and tell it its first line; SlmError where it cannot be."""
    command = [sys.executable, *arguments]
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)  # noqa: S603
    except OSError as error:
        raise SlmError(f"a worker process cannot start: {error}", cure="free memory, then run again") from error
    send(process, orjson.dumps(hello) + b"\n")
    return process


def ready(process: Process) -> Process:
    """Wait until the process can work; SlmError where it ended instead."""
    if answer(process) != READY:
        raise SlmError(
            f"a worker process ended while starting (status {process.wait()})",
            cure="free memory, then run again; its own message stands above",
        )
    return process


def output(process: Process) -> IO[bytes]:
    """What the process answers."""
    assert process.stdout is not None
    return process.stdout


def answer(process: Process) -> bytes:
    """The one line that it answers; what there was of it where the process ended instead."""
    line = bytearray()
    while not line.endswith(b"\n"):
        data = os.read(output(process).fileno(), 1 << 20)
        if not data:
            break
        line += data
    return bytes(line)


def send(process: Process, line: bytes) -> None:
    """Tell it a line; that it is gone shows when its answer is read."""
    assert process.stdin is not None
    try:
        _write_all(process.stdin, line)
    except BrokenPipeError:
        return


def end(process: Process) -> None:
    """Stop it at once, whatever it does."""
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:
                continue
    process.wait()


@contextmanager
def served() -> Iterator[tuple[Iterator[bytes], IO[bytes]]]:
    """The child's side: the lines that it is told and where to answer. What anything prints on the way
    goes to stderr, not among the answers."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with answers:
        yield iter(sys.stdin.buffer.readline, b""), answers


def _write_all(pipe: IO[bytes], data: bytes) -> None:
    """An unbuffered pipe takes what fits."""
    rest = memoryview(data)
    while rest:
        rest = rest[pipe.write(rest) :]
