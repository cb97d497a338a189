"""A challenger's process as its parent sees it: asked with a deadline, and ended where it does not keep it."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from slm_assets.stages.clean_process import clean_environment
from slm_assets.stages.line_worker import READY, end

CHILD = ["-m", "slm_assets.serving.shadow.child"]
START_SECONDS = 120.0
ANSWER_SECONDS = 20.0
"""Generous: on a machine that is busy with what serves, a process of low priority waits for its turn."""
PIPE_BYTES = 48 * 1024
"""Of a batch: less than a pipe holds, so that a child that reads nothing cannot make its parent wait."""


class GoneError(Exception):
    """The process ended, answered nonsense, or did not answer in time."""


class Challenger:
    """One release in one process."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, *CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=clean_environment(),
        )
        try:
            self._send(orjson.dumps({"bundle": str(folder)}))
            if self._line(START_SECONDS) != READY:
                raise GoneError("it could not be loaded")
        except GoneError:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def ask(self, turns: Sequence[bytes]) -> list[dict[str, Any]]:
        """The answers to a batch of turns, each {"role", "value"} as JSON: role → answer. GoneError."""
        self._send(b"[" + b",".join(turns) + b"]")
        try:
            found: list[dict[str, Any]] = orjson.loads(self._line(ANSWER_SECONDS))
        except orjson.JSONDecodeError as error:
            raise GoneError("it answered nonsense") from error
        if len(found) != len(turns):
            raise GoneError("it left a turn out")
        return found

    def close(self) -> None:
        """End it at once."""
        end(self._process)

    def _send(self, line: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + b"\n")
        except OSError as error:
            raise GoneError("it ended") from error

    def _line(self, seconds: float) -> bytes:
        assert self._process.stdout is not None
        out, line, until = self._process.stdout.fileno(), bytearray(), time.monotonic() + seconds
        waiting = select.poll()  # a service may have more than the 1,024 files that select() knows
        waiting.register(out, select.POLLIN | select.POLLHUP)
        while not line.endswith(b"\n"):
            if not waiting.poll(max(until - time.monotonic(), 0.0) * 1e3):
                raise GoneError(f"it did not answer within {seconds:g} s")
            data = os.read(out, 1 << 20)
            if not data:
                raise GoneError("it ended")
            line += data
        return bytes(line)
