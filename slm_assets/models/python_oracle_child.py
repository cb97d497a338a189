"""The child process of a python oracle: standard library only, started as `python -I -S` on this file.

It reads one JSON line with the source and the limits, then answers one JSON line per input. The oracle's
own standard output goes nowhere; answers leave on a descriptor that it is not told of.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
from typing import Any


def _limit(kind: int, soft: int, hard: int | None = None) -> None:
    ceiling = resource.getrlimit(kind)[1]
    hard = ceiling if hard is None else hard
    if ceiling != resource.RLIM_INFINITY:
        hard = ceiling if hard == resource.RLIM_INFINITY else min(hard, ceiling)
        soft = min(soft, ceiling)
    resource.setrlimit(kind, (soft, hard))


def _reason(error: BaseException, file: str) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    place = f" (line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {str(error)[:500]}{place}"


def main() -> None:
    """Serve until the input ends."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    lines = os.fdopen(os.dup(0), "rb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    def say(answer: dict[str, Any]) -> None:
        data = json.dumps(answer, allow_nan=False).encode() + b"\n"
        while data:
            data = data[answers.write(data) :]

    setup = json.loads(lines.readline())
    _limit(resource.RLIMIT_CORE, 0, 0)
    _limit(resource.RLIMIT_FSIZE, 0, 0)
    _limit(resource.RLIMIT_NOFILE, 32, 32)
    _limit(resource.RLIMIT_AS, setup["memory_bytes"], setup["memory_bytes"])
    file = setup["file"]
    scope: dict[str, Any] = {"__name__": "oracle", "__file__": file}
    try:
        exec(compile(setup["source"], file, "exec"), scope)  # noqa: S102 - the deployment allowed it
        function = scope[setup["function"]]
    except BaseException as error:
        say({"fatal": _reason(error, file)})
        return
    say({"ready": True})
    for line in lines:
        used = resource.getrusage(resource.RUSAGE_SELF)
        # A new allowance for each input: an orphan that spins ends by itself, a long life does not.
        _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + setup["cpu_seconds"]) + 1)
        try:
            say({"output": function(json.loads(line))})
        except BaseException as error:
            say({"error": _reason(error, file)})


if __name__ == "__main__":
    sys.setrecursionlimit(5_000)
    main()
