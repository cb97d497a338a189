"""A python oracle: a function of the domain's own code, in a child process with limits.

Limits are address space, CPU time and wall time per input, no files written, no environment, an empty
working folder, no site packages. They stop accidents; against malice the deployment decides, which is
why these oracles are off unless SLM_ALLOW_PYTHON_ORACLES=1.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

import orjson

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.errors import BadInputError
from slm_assets.models import python_oracle_child
from slm_assets.models.rules import Answer

ALLOW = "SLM_ALLOW_PYTHON_ORACLES"
MAX_ANSWER = 4_000_000
START_SECONDS = 20.0


class PythonOracle:
    """Answers with a function of `source`. The child is kept between inputs.

    An input on which the function throws, hangs, dies or answers no JSON gets an error of its own; the
    next input gets a fresh child where the old one is gone. Raises BadInputError where the deployment does
    not allow python oracles, or where the file cannot be loaded.
    """

    def __init__(
        self, source: bytes, function: str, *, name: str, timeout_s: float = 5.0, memory_mb: int = 512
    ) -> None:
        if os.environ.get(ALLOW) != "1":
            raise BadInputError(
                f"oracle {name} is python code, which this deployment does not run",
                cure=f"write the oracle as kind rules, or set {ALLOW}=1 where you trust the domain's code",
            )
        self.name, self.timeout_s = name, timeout_s
        self._setup = canonical.dumps(
            {
                "source": source.decode(),
                "file": name,
                "function": function,
                "memory_bytes": memory_mb << 20,
                "cpu_seconds": timeout_s,
            }
        )
        self._child: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._rest = b""
        self._started()

    def answer(self, value: Json) -> Answer:
        """The function's output for one input, or None and what went wrong."""
        child = self._started()
        try:
            reply = self._exchange(child, canonical.dumps(value), self.timeout_s)
        except _ChildError as error:
            self.close()
            return Answer(None, f"oracle {self.name} {error}")
        if "error" in reply:
            return Answer(None, f"oracle {self.name} threw {reply['error']}")
        return Answer(reply.get("output"))

    def close(self) -> None:
        """End the child and everything it started."""
        child, self._child, self._rest = self._child, None, b""
        if child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> PythonOracle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_child", None) is not None:
            self.close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        self.close()
        self._folder = tempfile.TemporaryDirectory(prefix="slm-oracle-")
        child = subprocess.Popen(  # noqa: S603 - a fixed command, nothing of the user's in it
            [sys.executable, "-I", "-S", "-B", str(Path(python_oracle_child.__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder.name,
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            start_new_session=True,
            bufsize=0,
        )
        self._child = child
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
        try:
            reply = self._exchange(child, self._setup, START_SECONDS)
        except _ChildError as error:
            reply = {"fatal": str(error)}
        if "fatal" in reply:
            self.close()
            raise BadInputError(f"oracle {self.name} cannot be loaded: {reply['fatal']}", cure="mend the file")
        return child

    def _exchange(self, child: subprocess.Popen[bytes], line: bytes, seconds: float) -> dict[str, Json]:
        """Send one line, await one line; writes and reads take turns, so a child that never reads cannot
        block us."""
        if child.stdin is None or child.stdout is None:
            raise _ChildError("has no pipes")
        deadline = time.monotonic() + seconds
        pending = memoryview(line + b"\n")
        received = bytearray(self._rest)
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            selector.register(child.stdin, selectors.EVENT_WRITE)
            while (end := received.find(b"\n")) < 0:
                events = selector.select(max(0.0, deadline - time.monotonic()))
                if not events:
                    raise _ChildError(f"gave no answer within {seconds:g} s")
                for key, _ in events:
                    if key.fileobj is child.stdout:
                        data = child.stdout.read(1 << 16)
                        if data == b"":
                            raise _ChildError(f"died{_how(child)}")
                        received += data or b""
                    else:
                        try:
                            pending = pending[os.write(child.stdin.fileno(), pending) :]
                        except BrokenPipeError as error:
                            raise _ChildError(f"died{_how(child)}") from error
                        if not pending:
                            selector.unregister(child.stdin)
                if len(received) > MAX_ANSWER:
                    raise _ChildError(f"answered more than {MAX_ANSWER} bytes")
        self._rest = bytes(received[end + 1 :])
        try:
            reply = orjson.loads(bytes(received[:end]))
        except orjson.JSONDecodeError as error:
            raise _ChildError("wrote something that is not an answer") from error
        if not isinstance(reply, dict) or pending:
            raise _ChildError("wrote something that is not an answer")
        return reply


class _ChildError(Exception):
    """The child cannot be used any more."""


def _how(child: subprocess.Popen[bytes]) -> str:
    try:
        code = child.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return ""
    if code < 0:
        return f" of signal {signal.Signals(-code).name}: out of memory or CPU time?"
    return f" with exit code {code}"
