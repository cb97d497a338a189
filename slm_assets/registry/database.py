"""One database, one way of writing to it: short transactions that concurrent writers cannot break."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from slm_assets.errors import SlmError
from slm_assets.registry.tables import METADATA

BUSY_SECONDS = 60


def now() -> str:
    """The current time in UTC, ISO 8601 to the microsecond: text that sorts by time."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@lru_cache(maxsize=8)
def connect(url: str) -> Engine:
    """The engine of a registry URL, its tables created where they are missing."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        engine = create_engine(parsed, isolation_level="SERIALIZABLE", pool_pre_ping=True)
    else:
        if parsed.database:
            try:
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise SlmError(
                    f"registry folder {Path(parsed.database).parent}: {error.strerror}",
                    cure="point SLM_HOME at a folder that can be written",
                ) from error
        engine = create_engine(parsed, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False})
        event.listen(engine, "connect", _sqlite_pragmas)
    with transaction(engine, url) as connection:
        METADATA.create_all(connection)
    return engine


@contextmanager
def transaction(engine: Engine, url: str) -> Iterator[Connection]:
    """One write transaction: all of it or nothing. On SQLite writers queue; on Postgres the loser of
    a race gets a serialisation failure (40001), which the caller retries."""
    with _named(url), engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection


@contextmanager
def _named(url: str) -> Iterator[None]:
    """Turn a driver's complaint into one that names the database and the cure."""
    try:
        yield
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", None) == "40001":
            raise
        place = make_url(url).render_as_string(hide_password=True)
        raise SlmError(
            f"registry {place}: {error.orig}",
            cure="check that the disk is not full, that the folder can be written and the server is up",
        ) from error


def _sqlite_pragmas(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver must not open transactions of its own
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()
