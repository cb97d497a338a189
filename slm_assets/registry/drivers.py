"""How SQLite and Postgres are connected to, and when a server is away."""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError

from slm_assets.registry import address

BUSY_SECONDS = 60
"""How long a writer waits for those before it."""
CONNECT_SECONDS = 10
_POOL = {"pool_size": 5, "max_overflow": 5, "pool_timeout": BUSY_SECONDS, "pool_pre_ping": True}


def engine_of(url: URL, schema: str | None) -> Engine:
    """The engine of a database; of Postgres in a schema of its own where one is named."""
    return _postgres(url, schema) if url.get_backend_name() == address.POSTGRES else _sqlite(url)


def _postgres(url: URL, schema: str | None) -> Engine:
    defaults = {"connect_timeout": str(CONNECT_SECONDS), "fallback_application_name": "slm"}
    own = {"options": f"{url.query.get('options', '')} -csearch_path={schema}".strip()} if schema else {}
    return create_engine(
        url.set(drivername="postgresql+psycopg2", query={**defaults, **url.query, **own}),
        isolation_level="READ COMMITTED",  # each statement sees what earlier turns committed
        json_serializer=_json,
        **_POOL,
    )


def away(error: BaseException) -> bool:
    """Whether the server cannot be reached, is starting or stopping, or has no connection left for now."""
    if not isinstance(error, OperationalError | InterfaceError | InternalError):
        return False
    code = getattr(error.orig, "pgcode", None)
    return code.startswith(("08", "57P")) or code == "53300" if code else True


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
