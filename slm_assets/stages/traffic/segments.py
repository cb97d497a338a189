"""Segments of the capture log: JSON Lines, each with its checksum, sealed by a line with the file's digest.

    {"crc":"1c291ca3","data":{…}}
    {"seal":{"rows":2,"sha256":"…"}}

A file ends in `.open` while it is written and in `.jsonl` once it is sealed. Its writer holds a lock on it
that the kernel releases with the process; what nobody holds any more was left by a killed one: its torn
tail is cut off, and it is sealed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

OPEN, SEALED = ".open", ".jsonl"
_HEAD, _MIDDLE, _TAIL = b'{"crc":"', b'","data":', b"}\n"
_SEAL = b'{"seal":'
_DATA = len(_HEAD) + 8 + len(_MIDDLE)
MAX_BYTES = 64 * 1024 * 1024
MAX_SECONDS = 300.0


def encode(data: bytes) -> bytes:
    """A line from the JSON of a record."""
    return b"".join((_HEAD, b"%08x" % zlib.crc32(data), _MIDDLE, data, _TAIL))


def decode(line: bytes) -> bytes | None:
    """The JSON in a whole line, None where the line is torn or altered."""
    data = line[_DATA : -len(_TAIL)]
    return data if line == encode(data) else None


class SegmentWriter:
    """Appends records to segments of one folder; not shared between threads."""

    def __init__(self, folder: Path, name: str, max_bytes: int = MAX_BYTES, max_seconds: float = MAX_SECONDS) -> None:
        self._folder, self._name = folder, name
        self._max_bytes, self._max_seconds = max_bytes, max_seconds
        self._file: BinaryIO | None = None
        self._path = folder
        self._number = self._rows = self._bytes = 0
        self._since = 0.0
        self._sha = hashlib.sha256()
        self._dirty = False

    def append(self, data: bytes, now: float) -> None:
        """Hand a record's JSON to the system: from here on a kill of this process loses nothing of it. OSError,
        with the file as it was before, where the disk takes no more."""
        if self._file is not None and (self._bytes >= self._max_bytes or self.old(now)):
            self.seal()
        if self._file is None:
            self._begin(now)
        line = encode(data)
        self._write(line)
        self._sha.update(line)
        self._rows, self._bytes, self._dirty = self._rows + 1, self._bytes + len(line), True

    def sync(self) -> None:
        """Make what was appended survive the machine's death."""
        if self._dirty and self._file is not None:
            os.fsync(self._file.fileno())
            self._dirty = False

    def old(self, now: float) -> bool:
        """Whether the segment has been open for long enough to be sealed."""
        return self._file is not None and now - self._since >= self._max_seconds

    def seal(self) -> None:
        """End the segment: from here on no line can be lost or added without being noticed."""
        if self._file is None:
            return
        self._write(_seal(self._rows, self._sha.hexdigest()))
        _finish(self._path, self._file)
        self._file.close()
        self._file, self._dirty = None, False

    def _begin(self, now: float) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = self._folder / f"{self._name}-{self._number:06d}{OPEN}"
        file = self._path.open("xb", buffering=0)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _sync_folder(self._folder)
        self._file, self._number, self._since = file, self._number + 1, now
        self._rows = self._bytes = 0
        self._sha = hashlib.sha256()

    def _write(self, line: bytes) -> None:
        assert self._file is not None
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), self._bytes)
                os.lseek(self._file.fileno(), self._bytes, os.SEEK_SET)
            raise


def recover(folder: Path) -> int:
    """Seal the segments under a folder that a killed process left open; returns the bytes of torn tails cut
    off. Those that a living process writes are left alone."""
    cut = 0
    for path in sorted(folder.rglob(f"*{OPEN}")):
        with contextlib.suppress(FileNotFoundError, BlockingIOError), path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            cut += _recover(path, file)
    return cut


def _recover(path: Path, file: BinaryIO) -> int:
    """Keep all up to the last whole line: an altered one before it stays, for the reader to report."""
    offset = end = rows = 0
    sha, kept, sealed = hashlib.sha256(), "", False
    for line in file:
        offset += len(line)
        sha.update(line)
        if decode(line) is not None:
            rows, end, kept = rows + 1, offset, sha.hexdigest()
        elif line == _seal(rows, kept):
            end, sealed = offset, True  # killed between sealing and renaming
            break
    size = os.fstat(file.fileno()).st_size
    if not rows:
        path.unlink()
        return size
    file.truncate(end)
    if not sealed:
        file.seek(end)
        file.write(_seal(rows, kept))
        file.flush()
    _finish(path, file)
    return size - end


def bytes_under(folder: Path) -> int:
    """How much the segments of a folder take."""
    total = 0
    for path in folder.glob("*"):
        with contextlib.suppress(FileNotFoundError):  # sealed or read since it was listed
            total += path.stat().st_size
    return total


def read_segment(path: Path, damage: list[str]) -> Iterator[bytes]:
    """The JSON of each whole, unaltered record. What is torn or altered is left out and told in `damage`; the
    unfinished last line of a segment that is still written is neither."""
    sha, rows, sealed = hashlib.sha256(), 0, False
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            data = decode(line)
            if data is not None:
                rows += 1
                yield data
            is_seal = line == _seal(rows, sha.hexdigest()) if line.startswith(_SEAL) else False
            if data is None and not is_seal and (line.endswith(b"\n") or path.suffix == SEALED):
                damage.append(f"{path.name}:{number}: torn or altered")
            sealed = is_seal  # the last line, or none
            sha.update(line)
    if path.suffix == SEALED and not sealed:
        damage.append(f"{path.name}: is not what was sealed: lines are missing, added or altered")


def thin(source: Path, target: Path, unwanted: Callable[[bytes], bool]) -> None:
    """Copy a segment without the records that are unwanted, judged by their JSON; sealed where the source was. What
    is torn or altered is left behind: nobody could say whose it was."""
    sha, rows = hashlib.sha256(), 0
    with target.open("wb") as file:
        for data in read_segment(source, []):
            if not unwanted(data):
                line = encode(data)
                sha.update(line)
                file.write(line)
                rows += 1
        if source.suffix == SEALED:
            file.write(_seal(rows, sha.hexdigest()))


def _seal(rows: int, sha256: str) -> bytes:
    return b'%s{"rows":%d,"sha256":"%s"}}\n' % (_SEAL, rows, sha256.encode())


def _finish(path: Path, file: BinaryIO) -> None:
    os.fsync(file.fileno())
    path.rename(path.with_suffix(SEALED))
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
