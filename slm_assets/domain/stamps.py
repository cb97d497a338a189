"""What changes with a file's content, without reading it: sensors ask all the time."""

from __future__ import annotations

from pathlib import Path


def stamp(path: Path) -> tuple[int, ...]:
    """What changes with a file's content, and with who may read it; empty for one that cannot be looked at."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
