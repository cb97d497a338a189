"""Unsampled turns that wait, already redacted, for a bad outcome: so many bytes at most, so long at most."""

from __future__ import annotations

from collections import OrderedDict

WAIT_SECONDS = 1800.0
MAX_BYTES = 64 * 1024 * 1024


class WaitingRoom:
    """Lines by turn id, oldest first. Times are seconds of one clock, given by the caller."""

    def __init__(self, seconds: float = WAIT_SECONDS, max_bytes: int = MAX_BYTES) -> None:
        self._seconds, self._max_bytes = seconds, max_bytes
        self._lines: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._lines)

    def put(self, turn_id: str, line: bytes, now: float) -> int:
        """Let a turn wait; returns how many had to leave early for it."""
        self._lines[turn_id] = (now, line)
        self.bytes += len(line)
        evicted = 0
        while self.bytes > self._max_bytes:
            self._leave()
            evicted += 1
        return evicted

    def take(self, turn_id: str) -> bytes | None:
        """The line of a turn that waits, which then no longer does."""
        found = self._lines.pop(turn_id, None)
        if found is None:
            return None
        self.bytes -= len(found[1])
        return found[1]

    def forget(self, needle: bytes) -> int:
        """Drop every line that holds some bytes; returns how many."""
        gone = [turn_id for turn_id, (_, line) in self._lines.items() if needle in line]
        for turn_id in gone:
            self.take(turn_id)
        return len(gone)

    def has(self, turn_id: str) -> bool:
        """Whether the turn waits."""
        return turn_id in self._lines

    def expire(self, now: float) -> int:
        """Drop those that waited long enough; returns how many."""
        gone = 0
        while self._lines and next(iter(self._lines.values()))[0] <= now - self._seconds:
            self._leave()
            gone += 1
        return gone

    def _leave(self) -> None:
        _, (_, line) = self._lines.popitem(last=False)
        self.bytes -= len(line)
