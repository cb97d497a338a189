"""From the response path to the segments: a bounded queue, and one thread that redacts, keeps and writes.

`offer` never waits: what finds the queue full is dropped and counted. Nothing is stored that was not redacted;
where the redactor fails the record is dropped and counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson

from slm_assets.domain.outcomes import GOOD
from slm_assets.serving.capture.records import (
    OutcomeRecord,
    Record,
    Redactor,
    ShadowRecord,
    TurnRecord,
    outcome_line,
    redacted,
    shadow_line,
    turn_line,
    why_kept,
)
from slm_assets.serving.capture.waiting import MAX_BYTES, WAIT_SECONDS, WaitingRoom
from slm_assets.stages.traffic.records import Scope
from slm_assets.stages.traffic.segments import SegmentWriter, bytes_under, recover

LOG = logging.getLogger("slm.capture")


@dataclass(frozen=True)
class Limits:
    """Of the queue, the waiting room and the disk; seconds and bytes."""

    queue_records: int = 20_000
    queue_bytes: int = 64 * 1024 * 1024
    wait_seconds: float = WAIT_SECONDS
    wait_bytes: int = MAX_BYTES
    fsync_seconds: float = 1.0
    pump_seconds: float = 0.05
    disk_bytes: int = 8 * 1024**3
    """Of a domain's segments that nothing has read so far; what comes after is dropped and counted."""


DEFAULT = Limits()


class Recorder:
    """The capture of one service. `clock` gives seconds of the epoch."""

    def __init__(
        self, folder: Path, redact: Redactor, name: str, *,
        limits: Limits = Limits(), clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._folder, self._redact, self._name = folder, redact, name
        self._limits, self._clock = limits, clock
        self._queue: deque[Record] = deque()
        self._queued_bytes = 0
        self._to_forget: deque[tuple[Scope, str]] = deque()
        self._lock = threading.Lock()
        self._waiting = WaitingRoom(limits.wait_seconds, limits.wait_bytes)
        self._writers: dict[Scope, SegmentWriter] = {}
        self._synced = clock()
        self._room: dict[Scope, int] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.kept: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()

    def start(self) -> None:
        """Repair what a killed process left, then write in a thread."""
        cut = recover(self._folder)
        if cut:
            LOG.warning("torn tails cut off", extra={"fields": {"bytes": cut}})
        self._thread = threading.Thread(target=self._run, name="slm-capture", daemon=True)
        self._thread.start()

    def offer(self, record: Record) -> bool:
        """Queue a record; False where it was dropped because the queue is full."""
        with self._lock:
            full = (
                len(self._queue) >= self._limits.queue_records
                or self._queued_bytes + record.size > self._limits.queue_bytes
            )
            if full:
                self.dropped["queue_full"] += 1
                return False
            self._queue.append(record)
            self._queued_bytes += record.size
        return True

    def forget(self, scope: Scope, pseudonym: str) -> None:
        """Let go of what waits of a user or conversation, and seal the segment, so that it can be read and erased."""
        self._to_forget.append((scope, pseudonym))

    def close(self) -> None:
        """Write what is queued and seal every segment."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.pump()
        for writer in self._writers.values():
            self._guarded(writer.seal)

    def gauges(self) -> dict[str, float]:
        """How much is held in memory now."""
        return {
            "queued_records": len(self._queue),
            "queued_bytes": self._queued_bytes,
            "waiting_turns": len(self._waiting),
            "waiting_bytes": self._waiting.bytes,
        }

    def _run(self) -> None:
        while not self._stop.wait(self._limits.pump_seconds):
            try:
                self.pump()
            except Exception:
                # Whatever it is, the next record may be fine; the traceback names our code, not the record.
                self.dropped["fault"] += 1
                LOG.exception("capture")

    def pump(self) -> None:
        """Do all there is to do now: empty the queue, let go of who waited long enough, fsync when due."""
        now = self._clock()
        while self._queue:
            with self._lock:
                record = self._queue.popleft()
                self._queued_bytes -= record.size
            self._take(record, now)
        self.dropped["expired"] += self._waiting.expire(now)
        while self._to_forget:
            scope, pseudonym = self._to_forget.popleft()
            self.dropped["erased"] += self._waiting.forget(f'"{pseudonym}"'.encode())
            if scope in self._writers:
                self._guarded(self._writers[scope].seal)
        if now - self._synced >= self._limits.fsync_seconds:
            self._synced = now
            for writer in self._writers.values():
                self._guarded(writer.seal if writer.old(now) else writer.sync)
            self._room.clear()

    def _take(self, record: Record, now: float) -> None:
        try:
            words = redacted(record, self._redact)
            if isinstance(record, TurnRecord):
                kept = why_kept(record)
                line = orjson.dumps(turn_line(record, words, kept or "outcome"))
            elif isinstance(record, ShadowRecord):
                line = orjson.dumps(shadow_line(record, words))
            else:
                line = orjson.dumps(outcome_line(record, words))
        except Exception as error:
            # The message may quote what must not be kept: its type says enough.
            self.dropped["redaction"] += 1
            LOG.error("not redacted, not kept", extra={"fields": {"error": type(error).__name__}})
            return
        if isinstance(record, OutcomeRecord):
            self._outcome(record, line, now)
        elif isinstance(record, ShadowRecord):
            self._write(record.scope, line, "shadow", now)
        elif kept is None:
            self.dropped["waiting_room_full"] += self._waiting.put(record.turn.id, line, now)
        else:
            self._write(record.scope, line, kept, now)

    def _outcome(self, record: OutcomeRecord, line: bytes, now: float) -> None:
        if record.signal in GOOD and self._waiting.has(record.turn_id):
            return  # of a turn that nothing has kept so far
        turn = self._waiting.take(record.turn_id)
        if turn is not None:
            self._write(record.scope, turn, "outcome", now)
        self._write(record.scope, line, "feedback", now)

    def _write(self, scope: Scope, line: bytes, kind: str, now: float) -> None:
        folder = self._folder / scope.tenant / scope.project / scope.domain
        writer = self._writers.get(scope)
        if writer is None:
            writer = self._writers[scope] = SegmentWriter(folder, self._name)
        if scope not in self._room:  # measured anew after each fsync: readers take segments away
            self._room[scope] = self._limits.disk_bytes - bytes_under(folder)
        if self._room[scope] < len(line):
            self.dropped["disk_limit"] += 1
            return
        try:
            writer.append(line, now)
            self._room[scope] -= len(line)
        except OSError as error:
            self.dropped["disk"] += 1
            LOG.error("not written", extra={"fields": {"domain": scope.domain, "error": error.strerror}})
        else:
            self.kept[kind] += 1

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except OSError as error:
            self.dropped["fsync"] += 1
            LOG.error("not on disk", extra={"fields": {"error": error.strerror}})
