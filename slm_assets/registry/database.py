"""One database, one way of writing to it: short transactions that concurrent writers cannot break.

Writers of one namespace queue, on both databases and in every process: on SQLite behind its one write
lock, on Postgres behind an advisory lock that ends with the transaction. So a transaction runs once,
reads what those before it wrote, and needs no retry. Readers never wait.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from filelock import FileLock, Timeout
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from slm_assets.errors import SlmError
from slm_assets.registry import address

BUSY_SECONDS = 60
"""How long a writer waits for those before it."""
CONNECT_SECONDS = 10
_POOL = {"pool_size": 5, "max_overflow": 5, "pool_timeout": BUSY_SECONDS, "pool_pre_ping": True}

_SERVER_CURE = "check that the server is up, and address, user, password and database in SLM_REGISTRY"
_BUSY_CURE = f"another process has been writing for {BUSY_SECONDS} seconds; wait for it or stop it"
_CURES = {  # by SQLSTATE
    "55P03": _BUSY_CURE,
    "42501": "grant the user of SLM_REGISTRY what it needs on this database",
    "42P01": "see `slm db check`: the tables are not those of this code",
    "42703": "see `slm db check`: the tables are not those of this code",
}


def now() -> str:
    """The current time in UTC, ISO 8601 to the microsecond: text that sorts by time."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Database:
    """The connections of one process to one registry. `place` is its URL without anything secret."""

    url: URL
    engine: Engine
    place: str
    _turn: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @property
    def embedded(self) -> bool:
        """Whether it is a file of this machine, which nobody else looks after."""
        return self.url.get_backend_name() == address.SQLITE

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for queries."""
        with self._named(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self, namespace: str) -> Iterator[Connection]:
        """One write transaction, all of it or nothing, alone in its namespace."""
        with self._begun() as connection:
            if not self.embedded:
                # An upgrade waits for every writer, and every writer for an upgrade.
                turns = text("SELECT pg_advisory_xact_lock_shared(:all), pg_advisory_xact_lock(:own)")
                connection.execute(turns, {"all": _lock_number(""), "own": _lock_number(namespace)})
            yield connection

    @contextmanager
    def alone(self, name: str) -> Iterator[bool]:
        """Whether this process alone does what `name` stands for, until the end of the block or of the
        process: locks of the kernel and of a session, which a kill releases."""
        if self.embedded:
            lock = FileLock(f"{self.url.database}.{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                yield False
                return
            try:
                yield True
            finally:
                lock.release()
            return
        with self._named(), self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            number = {"own": _lock_number(f"alone {name}")}
            mine = bool(connection.scalar(text("SELECT pg_try_advisory_lock(:own)"), number))
            try:
                yield mine
            finally:
                if mine:
                    connection.execute(text("SELECT pg_advisory_unlock(:own)"), number)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Wait until this thread alone does what `name` stands for, and do it: no transaction, and none of another
        name waits. SlmError where others hold it for too long."""
        if self.embedded:
            held = FileLock(f"{self.url.database}.{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock")
            try:
                held.acquire(timeout=BUSY_SECONDS)
            except Timeout:
                raise SlmError(f"registry {self.place}: {name} is held by another process", cure=_BUSY_CURE) from None
            try:
                yield
            finally:
                held.release()
            return
        number = {"own": _lock_number(f"lock {name}")}
        with self._named(), self.engine.begin() as connection:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{BUSY_SECONDS}s'")
            connection.execute(text("SELECT pg_advisory_xact_lock(:own)"), number)
            yield

    def forget_log(self) -> None:
        """Write an embedded database's log back and empty it, so that no deleted row is left in it."""
        if self.embedded:
            with self._turn, self._named(), self.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextmanager
    def alter(self) -> Iterator[Connection]:
        """One transaction alone in the whole database, for changes of its tables."""
        with self._begun() as connection:
            if not self.embedded:
                connection.execute(text("SELECT pg_advisory_xact_lock(:all)"), {"all": _lock_number("")})
            yield connection

    @contextmanager
    def _begun(self) -> Iterator[Connection]:
        # The threads of a process queue here, so that those who wait do not hold the pool's connections.
        with self._turn, self._named(), self.engine.begin() as connection:
            if self.embedded:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                # A server never waits for long: neither for those before, nor for a client that is gone.
                connection.exec_driver_sql(
                    f"SET LOCAL lock_timeout = '{BUSY_SECONDS}s'; "
                    f"SET LOCAL idle_in_transaction_session_timeout = '{BUSY_SECONDS}s'"
                )
            yield connection

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Turn a driver's complaint into one that names the database and the cure, and no secret."""
        try:
            yield
        except PoolTimeout:
            raise SlmError(
                f"registry {self.place}: every connection of this process has been in use for {BUSY_SECONDS} seconds",
                cure="run fewer things at once in this process",
            ) from None
        except StatementError as error:
            said = address.redact(" ".join(str(error.orig).split()), self.url)
            raise SlmError(f"registry {self.place}: {said}", cure=self._cure(error)) from None

    def _cure(self, error: StatementError) -> str:
        code = getattr(error.orig, "pgcode", None)
        if not isinstance(error, DBAPIError):
            return "leave out what is not valid text or no number of 64 bits"
        if self.embedded:
            return "check that the disk is not full and that the folder can be written"
        return _CURES.get(code or "", _SERVER_CURE)


def open_database(url: str) -> Database:
    """The database of a registry URL; nothing is made, connected to or looked at yet."""
    parsed = address.parse(url)
    engine = _postgres(parsed) if parsed.get_backend_name() == address.POSTGRES else _sqlite(parsed)
    return Database(parsed, engine, address.shown(parsed))


def _postgres(url: URL) -> Engine:
    defaults = {"connect_timeout": str(CONNECT_SECONDS), "fallback_application_name": "slm"}
    return create_engine(
        url.set(drivername="postgresql+psycopg2", query={**defaults, **url.query}),
        isolation_level="READ COMMITTED",  # each statement sees what earlier turns committed
        json_serializer=_json,
        **_POOL,
    )


def _sqlite(url: URL) -> Engine:
    engine = create_engine(
        url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False}, json_serializer=_json
    )
    event.listen(engine, "connect", _sqlite_pragmas)
    return engine


def _sqlite_pragmas(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver must not open transactions of its own
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA secure_delete=ON")  # what is deleted is overwritten: an erasure is of bytes
    cursor.close()


def _json(value: Any) -> str:
    """JSON that both databases take: not-a-number is null, as in a receipt's file."""
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()


def _lock_number(namespace: str) -> int:
    """The advisory lock of a namespace, a signed 64-bit number; "" is that of the whole database."""
    digest = hashlib.sha256(f"slm-assets registry {namespace}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
