"""Parts of the labelling on several processes, none of which can stop the others.

A worker that dies or does not answer in time is replaced, and its part is cut in two until the one row
that does it is found; only that row goes without the oracle.
"""

from __future__ import annotations

import os
import selectors
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from slm_assets.stages import line_worker
from slm_assets.stages.rows.label_worker import Part, request
from slm_assets.stages.rows.labelling import Tally

WORKER = ["-m", "slm_assets.stages.rows.label_worker"]


@dataclass
class _Worker:
    process: line_worker.Process
    part: Part
    until: float
    answer: bytearray = field(default_factory=bytearray)


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
    hello = {"bundle": str(bundle)}
    idle = [line_worker.start(WORKER, hello) for _ in range(min(workers, len(parts)))]
    try:
        for process in idle:
            line_worker.ready(process)
        while waiting or running:
            while waiting and len(running) < workers:
                process = idle.pop() if idle else line_worker.ready(line_worker.start(WORKER, hello))
                part = waiting.popleft()
                worker = _Worker(process, part, time.monotonic() + seconds(part))
                running[process.pid] = worker
                selector.register(line_worker.output(process), selectors.EVENT_READ, worker)
                line_worker.send(process, request(part))
            for worker, gone in _ready(selector, running):
                del running[worker.process.pid]
                selector.unregister(line_worker.output(worker.process))
                if not gone:
                    idle.append(worker.process)
                    yield worker.part, Tally.from_json(orjson.loads(worker.answer))
                    continue
                line_worker.end(worker.process)
                if worker.part.count > 1:
                    waiting.extendleft(reversed(worker.part.halves()))
                else:
                    yield worker.part, gone
    finally:
        selector.close()
        for process in [*idle, *(worker.process for worker in running.values())]:
            line_worker.end(process)


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
