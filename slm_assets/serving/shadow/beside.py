"""From the response path to a challenger and on to the capture: a bounded queue, one thread, a process per version.

`offer` never waits: what finds the queue full is dropped and counted. A challenger that is dead, slow or throws costs
its own answers and nothing else; it is started again after a pause.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson

from slm_assets.registry import decisions
from slm_assets.registry.registry import Registry
from slm_assets.serving.capture.recorder import Recorder
from slm_assets.serving.capture.records import ShadowRecord
from slm_assets.serving.shadow.process import PIPE_BYTES, Challenger, GoneError
from slm_assets.serving.turns import Turn
from slm_assets.stages.traffic.records import Scope, sampled

LOG = logging.getLogger("slm.shadow")
QUEUE = 1_000
"""Turns that wait for a challenger, of all domains together."""
BATCH = 32
LOOK_SECONDS = 0.5
PUMP_SECONDS = 0.05
JOIN_SECONDS = 5.0
PAUSE_SECONDS = 30.0
MOST_PROCESSES = 8
Registries = Callable[[], dict[str, Registry]]


@dataclass(frozen=True)
class Target:
    """The version that answers beside a domain's own, and the share of the turns that it sees."""

    number: int
    release: str
    sample: float


@dataclass(frozen=True, slots=True)
class _Waiting:
    target: Target
    scope: Scope
    turn: Turn


class Beside:
    """The live shadows of one service. `registries` gives those of the domains that are served."""

    def __init__(self, registries: Registries, recorder: Recorder) -> None:
        self._registries, self._recorder = registries, recorder
        self._targets: dict[str, Target] = {}
        self._seen: dict[tuple[str, str], int] = {}
        self._known = 0
        self._queue: deque[_Waiting] = deque()
        self._running: dict[str, Challenger] = {}
        self._not_before: dict[str, float] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._looked = 0.0
        self.counts: Counter[str] = Counter()

    @property
    def processes(self) -> dict[str, int]:
        """Release → process id of the challengers that run now."""
        return {release: process.pid for release, process in self._running.items()}

    def offer(self, scope: Scope, turn: Turn, conversation: str, rate: float, size: int) -> None:
        """Queue a turn where a version is to see it: one of the uniform sample of what is captured."""
        target = self._targets.get(scope.domain)
        if target is None or not sampled(scope, conversation or turn.id, min(target.sample, rate)):
            return
        if len(self._queue) >= QUEUE or size > PIPE_BYTES // 2:
            self.counts["dropped"] += 1
            return
        self._queue.append(_Waiting(target, scope, turn))

    def start(self) -> None:
        """Follow the flags and answer, in a thread."""
        self._thread = threading.Thread(target=self._run, name="slm-shadow", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the challengers; what still waits for one is not worth a longer shutdown."""
        self._stop.set()
        for process in list(self._running.values()):
            process.close()
        if self._thread is not None:
            self._thread.join(JOIN_SECONDS)
        for process in list(self._running.values()):
            process.close()

    def _run(self) -> None:
        with tempfile.TemporaryDirectory(prefix="slm-shadow-") as scratch:
            while not self._stop.wait(PUMP_SECONDS):
                try:
                    if self._due():
                        self.look(Path(scratch))
                    # A slow challenger has always more to do: the flag that ends it must be seen all the same.
                    while self._queue and not self._stop.is_set() and not self._due():
                        self.pump()
                except Exception:  # whatever it is, what serves does not depend on it
                    self.counts["fault"] += 1
                    LOG.exception("shadow")

    def _due(self) -> bool:
        return time.monotonic() - self._looked >= LOOK_SECONDS

    def look(self, scratch: Path) -> None:
        """Follow the flags; end what nobody wants any more and start what is wanted."""
        self._looked = time.monotonic()
        registries = self._registries()
        scopes = {(registry.tenant, registry.project): registry for registry in registries.values()}
        newest = {scope: decisions.last_shadow(registry) for scope, registry in scopes.items()}
        if newest != self._seen or len(registries) != self._known:
            found = {name: decisions.shadow_of(registry, name) for name, registry in registries.items()}
            self._targets = {
                name: Target(row["number"], row["release"], row["sample"]) for name, row in found.items() if row
            }
            self._seen, self._known = newest, len(registries)
            self._forget()
        wanted = {target.release: name for name, target in sorted(self._targets.items())[:MOST_PROCESSES]}
        for release in set(self._running) - set(wanted):
            self._running.pop(release).close()
        for release, name in wanted.items():
            self._begin(registries[name], release, scratch)

    def _forget(self) -> None:
        """Let go of turns that wait for a version that nobody wants any more."""
        for _ in range(len(self._queue)):
            waiting = self._queue.popleft()
            if self._targets.get(waiting.scope.domain) == waiting.target:
                self._queue.append(waiting)
            else:
                self.counts["not_answered"] += 1

    def _begin(self, registry: Registry, release: str, scratch: Path) -> None:
        if release in self._running or time.monotonic() < self._not_before.get(release, 0.0):
            return
        folder = scratch / f"{registry.tenant}-{registry.project}-{release}"
        try:
            if not folder.exists():
                registry.store.get(release, folder)
            self._running[release] = Challenger(folder)
        except Exception as error:
            self._gone(release, error)

    def pump(self) -> None:
        """Answer the oldest turns that wait for one version."""
        first = self._queue[0].target
        batch: list[_Waiting] = []
        lines: list[bytes] = []
        room = PIPE_BYTES
        while self._queue and self._queue[0].target == first and len(batch) < BATCH:
            turn = self._queue[0].turn
            line = orjson.dumps({"role": turn.role, "value": turn.value})
            room -= len(line) + 1
            if room < 0 and batch:
                break
            batch.append(self._queue.popleft())
            lines.append(line)
        process = self._running.get(first.release)
        if process is None or room < 0:
            self.counts["not_answered"] += len(batch)
            return
        try:
            answers = process.ask(lines)
        except GoneError as error:
            self._running.pop(first.release, None)
            process.close()
            self._gone(first.release, error)
            self.counts["not_answered"] += len(batch)
            return
        for waiting, own, line in zip(batch, answers, lines, strict=True):
            version = f"v{first.number}"
            record = ShadowRecord(waiting.scope, waiting.turn.id, waiting.turn.at, version, own, len(line))
            self.counts["answered" if self._recorder.offer(record) else "dropped"] += 1

    def _gone(self, release: str, error: Exception) -> None:
        self._not_before[release] = time.monotonic() + PAUSE_SECONDS
        self.counts["ended"] += 1
        if not self._stop.is_set():
            LOG.error("challenger gone", extra={"fields": {"release": release[:12], "error": str(error)[:200]}})
