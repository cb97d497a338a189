"""One database, one way of writing to it: short transactions that concurrent writers cannot break.

Writers of one namespace queue, on both databases and in every process: on SQLite behind its one write
lock, on Postgres behind an advisory lock that ends with the transaction. So a transaction runs once,
reads what those before it wrote, and needs no retry. Readers never wait. A server that goes away while a
process works with it is waited for; only a transaction whose commit went unanswered is an error then.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from sqlalchemy import Connection, Engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from slm_assets.errors import SlmError
from slm_assets.registry import address, drivers
from slm_assets.registry.drivers import BUSY_SECONDS

T = TypeVar("T")
PATIENCE_SECONDS = 60.0
"""How long a server that this process has worked with before may be away."""

_SERVER_CURE = "check that the server is up, and address, user, password and database in SLM_REGISTRY"
_BUSY_CURE = f"another process has been writing for {BUSY_SECONDS} seconds; wait for it or stop it"
_CURES = {  # by SQLSTATE
    "55P03": _BUSY_CURE,
    "42501": "grant the user of SLM_REGISTRY what it needs on this database",
    "42P01": "see `slm db check`: the tables are not those of this code",
    "42703": "see `slm db check`: the tables are not those of this code",
}


class ServerAwayError(SlmError):
    """The database server was shut down, or never answered."""


def now() -> str:
    """The current time in UTC, ISO 8601 to the microsecond: text that sorts by time."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Database:
    """The connections of one process to one registry. `place` is its URL without anything secret."""

    url: URL
    engine: Engine
    place: str
    schema: str | None = None
    _turn: threading.RLock = field(default_factory=threading.RLock, repr=False)
    _reached: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def embedded(self) -> bool:
        """Whether it is a file of this machine, which nobody else looks after."""
        return self.url.get_backend_name() == address.SQLITE

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for queries."""
        with self._named(), self._patiently(self.engine.connect) as connection:
            yield connection

    def fetch(self, query: Any) -> list[dict[str, Any]]:
        """Every row of a query; asked again where the server goes away in the middle."""

        def once() -> list[dict[str, Any]]:
            with self.engine.connect() as connection:
                return [dict(row) for row in connection.execute(query).mappings()]

        with self._named():
            return self._patiently(once)

    @contextmanager
    def write(self, namespace: str) -> Iterator[Connection]:
        """One write transaction, all of it or nothing, alone in its namespace."""
        # An upgrade waits for every writer, and every writer for an upgrade.
        turns = "SELECT pg_advisory_xact_lock_shared(:all), pg_advisory_xact_lock(:own)"
        with self._begun(turns, all=_lock_number(""), own=_lock_number(namespace)) as connection:
            yield connection

    def run(self, namespace: str, work: Callable[[Connection], T]) -> T:
        """`work` in one write transaction; once more where the server went away before the commit was asked for."""
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            worked = False
            try:
                with self.write(namespace) as connection:
                    result = work(connection)
                    worked = True
                return result
            except ServerAwayError:
                # An unanswered commit may have been one: doing it twice could be worse than saying so.
                if worked or time.monotonic() > until:
                    raise

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
                    with suppress(OperationalError, InterfaceError):  # a server that went away let go of it
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
        with self._begun("SELECT pg_advisory_xact_lock(:all)", all=_lock_number("")) as connection:
            yield connection

    @contextmanager
    def _begun(self, turn: str, **locks: int) -> Iterator[Connection]:
        def begin() -> Connection:
            connection = self.engine.connect()
            try:
                if self.embedded:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                else:
                    # A server never waits for long: neither for those before, nor for a client that is gone.
                    connection.exec_driver_sql(
                        f"SET LOCAL lock_timeout = '{BUSY_SECONDS}s'; "
                        f"SET LOCAL idle_in_transaction_session_timeout = '{BUSY_SECONDS}s'"
                    )
                    connection.execute(text(turn), locks)
            except BaseException:
                connection.close()
                raise
            return connection

        # The threads of a process queue here, so that those who wait do not hold the pool's connections.
        with self._turn, self._named(), self._patiently(begin) as connection:
            yield connection
            connection.commit()

    def _patiently(self, work: Callable[[], T]) -> T:
        """Do it, and again while a server that this process has reached before is away."""
        from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

        if self.embedded:
            return work()
        tries = Retrying(
            stop=stop_after_delay(PATIENCE_SECONDS),
            wait=wait_random_exponential(multiplier=0.1, max=2),
            retry=retry_if_exception(lambda error: self._reached.is_set() and drivers.away(error)),
            reraise=True,
        )
        result = tries(work)
        self._reached.set()
        return result

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
            kind = ServerAwayError if not self.embedded and drivers.away(error) else SlmError
            raise kind(f"registry {self.place}: {said}", cure=self._cure(error)) from None

    def _cure(self, error: StatementError) -> str:
        code = getattr(error.orig, "pgcode", None)
        if not isinstance(error, DBAPIError):
            return "leave out what is not valid text or no number of 64 bits"
        if self.embedded:
            return "check that the disk is not full and that the folder can be written"
        return _CURES.get(code or "", _SERVER_CURE)


def open_database(url: str) -> Database:
    """The database of a registry URL; nothing is made, connected to or looked at yet."""
    parsed, schema = address.parse(url)
    return Database(parsed, drivers.engine_of(parsed, schema), address.shown(parsed, schema), schema)


def _lock_number(namespace: str) -> int:
    """The advisory lock of a namespace, a signed 64-bit number; "" is that of the whole database."""
    digest = hashlib.sha256(f"slm-assets registry {namespace}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
