"""Which revision a database's tables have, and how they come to the one that this code is written for.

A revision is a module of `migrations/versions`, named after its number. An empty database gets the
newest tables as they stand in `tables.py`; one of an earlier revision is migrated; a test holds both
ways equal. An embedded database is looked after by whoever opens it, a server's by its operator.
"""

from __future__ import annotations

import os
import threading
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, MetaData, String, Table, insert, inspect, select
from sqlalchemy.schema import CreateSchema

from slm_assets.errors import SlmError
from slm_assets.registry.database import Database, open_database
from slm_assets.registry.tables import METADATA

FIRST = "0001"
_VERSION = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))
_OPEN: dict[str, Database] = {}
_OPENING = threading.Lock()


@cache
def revisions() -> tuple[str, ...]:
    """Every revision that this code knows, oldest first; the last one is what it is written for."""
    names = (entry.name for entry in files("slm_assets.registry.migrations").joinpath("versions").iterdir())
    return tuple(sorted(name[1:5] for name in names if name.startswith("r") and name.endswith(".py")))


def connect(url: str) -> Database:
    """The database of a registry URL, ready to use; one per process and URL.

    SlmError where its tables are not those of this code, or where it cannot be reached.
    """
    with _OPENING:
        if url not in _OPEN:
            database = open_database(url)
            try:
                _ensure(database)
            except BaseException:
                database.engine.dispose()
                raise
            _OPEN[url] = database
        return _OPEN[url]


def current(connection: Connection) -> str | None:
    """The revision of the tables; None where there are none yet."""
    tables = inspect(connection)
    if tables.has_table(_VERSION.name):
        found: str | None = connection.scalar(select(_VERSION.c.version_num))
        return found
    return FIRST if tables.has_table("plans") else None  # made before there were revisions


def revision_of(database: Database) -> str | None:
    """The revision of a database; None where it is empty. Makes nothing, not even a file."""
    if database.embedded and not _file(database).exists():
        return None
    with database.read() as connection:
        return current(connection)


def upgrade(database: Database) -> tuple[str | None, str]:
    """Bring the tables to this code's revision, in one transaction. Returns the revisions before and after."""
    head = revisions()[-1]
    if database.embedded:
        _make_folder(_file(database).parent)
    with database.alter() as connection:
        if database.schema is not None:
            connection.execute(CreateSchema(database.schema, if_not_exists=True))
        before = current(connection)
        _refuse_newer(database, before)
        if before is None:
            METADATA.create_all(connection)
            _VERSION.create(connection, checkfirst=True)
            connection.execute(insert(_VERSION).values(version_num=head))
        elif before != head:
            migrate(connection, before, head)
    return before, head


def migrate(connection: Connection, before: str | None, to: str) -> None:
    """Run the migrations from one revision to another on an open transaction."""
    from alembic import command

    config = _alembic(connection)
    if before is not None and not inspect(connection).has_table(_VERSION.name):
        command.stamp(config, before)
    command.upgrade(config, to)


def differences(connection: Connection) -> list[str]:
    """What sets the tables apart from those that this code is written for, a line each; [] where nothing does."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    def ours(_object: Any, name: str | None, kind: str, reflected: bool, _compared: Any) -> bool:
        return not (kind == "table" and reflected and name not in METADATA.tables)  # a database may be shared

    context = MigrationContext.configure(connection, opts={"compare_type": True, "include_object": ours})
    return [_told(line) for line in compare_metadata(context, METADATA)]


def _told(difference: Any) -> str:
    """One difference, as alembic's autogenerate gives it, in words."""
    parts = difference[0] if isinstance(difference, list) else difference
    names = [str(getattr(part, "name", part)) for part in parts[1:] if part is not None and not isinstance(part, dict)]
    return f"{parts[0].replace('_', ' ')}: {' '.join(names)}"


def _ensure(database: Database) -> None:
    found = revision_of(database)
    if found == revisions()[-1]:
        return
    _refuse_newer(database, found)
    if database.embedded:
        upgrade(database)
        return
    state = "has no tables yet" if found is None else f"is at revision {found}, this code needs {revisions()[-1]}"
    raise SlmError(f"registry {database.place} {state}", cure="run `slm db upgrade`")


def _refuse_newer(database: Database, found: str | None) -> None:
    if found is not None and found not in revisions():
        raise SlmError(
            f"registry {database.place} is at revision {found}, newer than this code, which knows {revisions()[-1]}",
            cure="install the version of slm-assets that upgraded it, or a later one",
        )


def _file(database: Database) -> Path:
    return Path(str(database.url.database)).absolute()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SlmError(
            f"registry folder {folder}: {error.strerror}",
            cure="point SLM_HOME at a folder that can be written",
        ) from error


def _alembic(connection: Connection) -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", os.fspath(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
