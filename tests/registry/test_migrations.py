"""The tables and their revisions: migrated and freshly made are equal, data is kept, and a wrong revision says so."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import writers
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, inspect, text

from slm_assets.errors import SlmError
from slm_assets.registry import schema
from slm_assets.registry.database import Database, open_database
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry
from slm_assets.registry.tables import METADATA

HEAD = schema.revisions()[-1]


def at_first(
    database: Database, *, marked: bool = True, revision: str = schema.FIRST
) -> dict[str, list[dict[str, Any]]]:
    """Make the tables of the first revision, or a later one, with two rows each; returns what they hold."""
    with database.alter() as connection:
        schema.migrate(connection, None, revision)
        tables = MetaData()
        tables.reflect(connection)
        for table in tables.tables.values():
            if table.name != "alembic_version":
                connection.execute(table.insert(), [a_row(table, number) for number in (1, 2)])
        if not marked:
            connection.execute(text("DROP TABLE alembic_version"))
    return held(database)


def a_row(table: Any, number: int) -> dict[str, Any]:
    """A row with a value in every column."""
    scope = {"tenant": "local", "project": "default", "domain": "d"}
    kinds = {str: lambda name: f"{name} é {number}", int: lambda _: number, float: lambda _: number / 3}
    kinds |= {bool: lambda _: True, dict: lambda name: {name: [number, None]}}
    return {c.name: scope.get(c.name) or kinds[c.type.python_type](c.name) for c in table.columns}


def held(database: Database) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table."""
    with database.read() as connection:
        queries = {t.name: t.select().order_by(*t.columns[:6]) for t in _reflected(connection)}
        return {name: [dict(row) for row in connection.execute(q).mappings()] for name, q in queries.items()}


def _reflected(connection: Connection) -> list[Any]:
    tables = MetaData()
    tables.reflect(connection, only=lambda name, _: name in METADATA.tables)
    return tables.sorted_tables


def shape(database: Database) -> dict[str, Any]:
    """What the database itself says of its tables."""
    with database.read() as connection:
        found = inspect(connection)
        return {
            name: {
                "columns": {c["name"]: (str(c["type"]), c["nullable"]) for c in found.get_columns(name)},
                "key": found.get_pk_constraint(name)["constrained_columns"],
                "indices": sorted((i["name"], i["column_names"], bool(i["unique"])) for i in found.get_indexes(name)),
                "unique": sorted(u["column_names"] for u in found.get_unique_constraints(name)),
            }
            for name in METADATA.tables
            if found.has_table(name)
        }


def differences(database: Database) -> list[str]:
    with database.read() as connection:
        return schema.differences(connection)


def test_the_revisions_are_those_of_alembic_and_one_line():
    config = Config()
    config.set_main_option("script_location", "slm_assets:registry/migrations")
    walked = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(walked)) == schema.revisions() and schema.revisions()[0] == schema.FIRST


def test_an_empty_database_migrated_is_one_freshly_made(empty):
    with empty.alter() as connection:
        METADATA.create_all(connection)
    fresh = shape(empty)
    assert differences(empty) == []
    with empty.alter() as connection:
        METADATA.drop_all(connection)
        schema.migrate(connection, None, HEAD)
    assert differences(empty) == []
    assert shape(empty) == fresh
    assert schema.revision_of(empty) == HEAD


def test_differences_are_told(empty):
    schema.upgrade(empty)
    with empty.alter() as connection:
        connection.execute(text("ALTER TABLE plans ADD COLUMN extra INTEGER"))
        connection.execute(text("DROP INDEX edges_by_child"))
        connection.execute(text("DROP TABLE audit"))
        connection.execute(text("CREATE TABLE somebody_elses (id INTEGER)"))
    told = "\n".join(differences(empty))
    assert all(word in told for word in ("remove column: plans extra", "edges_by_child", "add table: audit")), told
    assert "somebody_elses" not in told


@pytest.mark.parametrize("marked", [True, False], ids=["marked", "from before revisions"])
def test_a_database_of_the_first_revision_is_upgraded_and_keeps_its_data(empty, empty_url, tmp_path, marked):
    before = at_first(empty, marked=marked)
    assert set(before) <= set(METADATA.tables) and all(len(rows) == 2 for rows in before.values())
    home = replace(Home.from_env(tmp_path / "home"), registry_url=empty_url)
    if not empty.embedded:
        with pytest.raises(SlmError, match=r"revision 0001, this code needs.*\n.*slm db upgrade"):
            Registry(home)
        assert schema.upgrade(empty) == (schema.FIRST, HEAD)
    registry = Registry(home)
    assert held(empty) == before | {name: [] for name in METADATA.tables if name not in before}
    assert differences(empty) == [] and schema.upgrade(empty) == (HEAD, HEAD)
    if not empty.embedded:  # ids of a server come from a sequence, which these rows did not draw
        with empty.alter() as connection:
            connection.execute(text("SELECT setval('audit_id_seq', 2)"))
    assert writers.opening(registry, 0) == 3


@pytest.mark.parametrize("revision", schema.revisions())
def test_a_database_of_every_revision_is_upgraded_and_read(empty, empty_url, tmp_path, revision):
    before = at_first(empty, revision=revision)
    assert before and all(len(rows) == 2 for rows in before.values())
    assert schema.upgrade(empty) == (revision, HEAD) and schema.revision_of(empty) == HEAD
    after = held(empty)
    for name, rows in before.items():
        assert [{key: row[key] for key in rows[0]} for row in after[name]] == rows, name
    assert all(after[name] == [] for name in METADATA.tables if name not in before)
    assert differences(empty) == []
    registry = Registry(replace(Home.from_env(tmp_path / "home"), registry_url=empty_url))
    assert [plan.number for plan in registry.plans("d")] == [1, 2] and len(registry.audit("d")) == 2
    assert registry.flags("d") and registry.approvals("d", 1) and registry.verdicts("d", 2) and registry.edges()


def test_an_upgrade_that_fails_leaves_all_as_it_was(empty):
    before = at_first(empty)
    with empty.alter() as connection:
        connection.execute(text("CREATE INDEX metrics_by_metric ON metrics (n)"))
    old = shape(empty)
    with pytest.raises(SlmError, match=r"metrics_by_metric.*already exists"):
        schema.upgrade(empty)
    assert (shape(empty), held(empty), schema.revision_of(empty)) == (old, before, schema.FIRST)
    with empty.alter() as connection:
        connection.execute(text("DROP INDEX metrics_by_metric"))
    assert schema.upgrade(empty) == (schema.FIRST, HEAD)


@pytest.mark.parametrize("start", ["empty", "first"])
def test_many_who_upgrade_at_once_do_it_once(empty, empty_url, start):
    if start == "first":
        at_first(empty)

    def one(_number: int) -> tuple[str | None, str]:
        return schema.upgrade(open_database(empty_url))

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(one, range(16)))
    assert sorted(before or "" for before, _ in done).count(HEAD) == 15
    assert differences(empty) == []


def test_a_fresh_home_opened_by_many_at_once_is_made_once(tmp_path):
    homes = [replace(Home.from_env(tmp_path), registry_url=f"sqlite:///{tmp_path}/{n}/registry.db") for n in range(8)]

    def one(home: Home) -> int:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: schema.revision_of(_opened(home.registry_url)), range(4)))
        return found.count(HEAD)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, homes)) == [4] * 8


def _opened(url: str) -> Database:
    database = open_database(url)
    schema.upgrade(database)
    return database


def test_an_empty_server_names_the_command_that_makes_its_tables(postgres_url, tmp_path):
    home = replace(Home.from_env(tmp_path), registry_url=postgres_url)
    with pytest.raises(SlmError, match=r"has no tables yet\n.*slm db upgrade"):
        Registry(home)
    assert schema.revision_of(open_database(postgres_url)) is None, "looking makes nothing"


def test_a_database_newer_than_the_code_is_refused_and_left_alone(home, empty):
    with empty.alter() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for use in (lambda: Registry(home), lambda: schema.upgrade(empty)):
        with pytest.raises(SlmError, match=rf"revision 9999, newer than this code, which knows {HEAD}\n.*install"):
            use()
    assert schema.revision_of(empty) == "9999"


@pytest.mark.parametrize("query", [
    "SELECT parent FROM edges WHERE tenant='a' AND project='b' AND child='c'",
    "SELECT number, value FROM metrics WHERE tenant='a' AND project='b' AND domain='d' AND metric='exact' "
    "AND number > 3",
])  # fmt: skip
def test_questions_about_lineage_and_metrics_have_an_index(home, query):
    if home.registry_url.startswith("sqlite"):
        with open_database(home.registry_url).read() as connection:
            plan = str(connection.execute(text(f"EXPLAIN QUERY PLAN {query}")).all())
    else:
        with open_database(home.registry_url).alter() as connection:
            connection.execute(text("SET LOCAL enable_seqscan = off"))  # tables this small are just read
            plan = str(connection.execute(text(f"EXPLAIN {query}")).all())
    assert "edges_by_child" in plan or "metrics_by_metric" in plan, plan
