"""What an operator of a Postgres registry meets: the whole loop on it, restarts, wrong addresses, no secret shown."""

from __future__ import annotations

import json
import shutil
import threading
import traceback
from dataclasses import replace
from urllib.parse import quote

import psycopg2
import pytest
import writers
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from slm_assets.engines.in_process import make_cell, run_rollback
from slm_assets.errors import BadInputError, SlmError
from slm_assets.registry import address, database, schema
from slm_assets.registry.database import ServerAwayError, open_database
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry
from slm_assets.stages.plans import open_domain, open_version
from slm_assets.stages.reports import explain
from slm_assets.stages.rollback import rollback_request
from slm_assets.stages.table import STAGES
from tests.conftest import ROOT
from tests.registry.conftest import PASSWORD


def home_at(root, url: str) -> Home:
    return replace(Home.from_env(root), registry_url=url)


@pytest.fixture
def locked_url(postgres, postgres_url) -> str:
    """The same empty database, for the role that needs a password."""
    name = postgres_url.partition("@/")[2].partition("?")[0]
    postgres.sql("GRANT ALL ON SCHEMA public TO locked", database=name)
    return f"postgresql+psycopg2://locked:{quote(PASSWORD, safe='')}@/{name}?host={postgres.socket}"


def test_the_whole_chain_runs_on_postgres_to_a_promotion_and_back(workplace, locked_url, monkeypatch):
    for name, value in {**workplace.env, "SLM_REGISTRY": locked_url}.items():
        monkeypatch.setenv(name, value)
    home = Home.from_env()
    schema.upgrade(open_database(home.registry_url))
    domain, registry = open_domain(home, "tiny")
    plan = open_version(domain, registry, actor="Ada")
    for stage in STAGES:
        made = make_cell(registry, plan, stage.name, actor="Ada")
        assert made.receipt.status == "succeeded", made.receipt.error
    assert registry.flags("tiny")["triage"].number == 1
    assert all(make_cell(registry, plan, stage.name, actor="Ada").cached for stage in STAGES)
    request = rollback_request(registry, "tiny", roles=None, to="oracle", reason="drill")
    assert run_rollback(registry, request, workplace.home / "back", actor="Ada").receipt.status == "succeeded"
    assert [e["action"] for e in registry.flag_events("tiny")] == ["promote", "rollback"]
    assert explain(registry, "tiny")["roles"]["triage"]["engine"] == "oracle"
    assert not (workplace.home / "registry.db").exists()
    # And the command line, on the same registry.
    assert workplace.json("status", "tiny")["domains"][0]["versions"][0]["outcome"] == "promoted"


def test_slm_db_takes_an_empty_server_to_ready(workplace, locked_url, monkeypatch):
    monkeypatch.setenv("SLM_REGISTRY", locked_url)
    state = workplace.json("db", "current")
    assert (state["revision"], state["state"]) == (None, "empty")
    refused = workplace.slm("why", "tiny")
    assert refused.returncode == 1 and "slm db upgrade" in refused.stderr
    head = schema.revisions()[-1]
    assert workplace.json("db", "upgrade") == {"registry": state["registry"], "before": None, "after": head}
    assert workplace.json("db", "check") == {**state, "revision": head, "state": "ready", "differences": []}
    with open_database(locked_url).alter() as connection:
        connection.exec_driver_sql("ALTER TABLE plans DROP COLUMN reason")
    (difference,) = workplace.json("db", "check", code=1)["differences"]
    assert "plans" in difference and "reason" in difference


def test_a_server_that_was_restarted_is_used_again(postgres, postgres_url, tmp_path):
    schema.upgrade(open_database(postgres_url))
    registry = Registry(home_at(tmp_path, postgres_url))
    assert registry.look("d", 1, 7) == 1
    name = postgres_url.partition("@/")[2].partition("?")[0]
    gone = postgres.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    assert gone, "the registry kept a connection, and it was cut"
    assert registry.look("d", 1, 8) == 2


def cut(postgres, postgres_url: str) -> None:
    """End every connection to the database, as a server that goes down does."""
    name = postgres_url.partition("@/")[2].partition("?")[0]
    postgres.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")


def test_a_writer_that_is_cut_off_begins_anew_and_writes_once(postgres, postgres_url, tmp_path):
    schema.upgrade(open_database(postgres_url))
    registry, tried = Registry(home_at(tmp_path, postgres_url)), []

    def make(number: int) -> dict:
        tried.append(number)
        if len(tried) == 1:
            cut(postgres, postgres_url)
        return writers.plan_columns(number)

    assert registry.open_plan("d", number=None, actor="a", make=make).number == 1
    assert tried == [1, 1] and len(registry.plans("d")) == len(registry.audit("d")) == 1


def test_a_commit_that_went_unanswered_is_told_and_not_done_twice(postgres, postgres_url, tmp_path, monkeypatch):
    schema.upgrade(open_database(postgres_url))
    registry, commit, asked = Registry(home_at(tmp_path, postgres_url)), Connection.commit, []

    def lost(self: Connection) -> None:
        asked.append(1)
        commit(self)
        raise OperationalError("COMMIT", None, psycopg2.OperationalError("server closed the connection unexpectedly"))

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "commit", lost)
        with pytest.raises(ServerAwayError, match=r"closed the connection.*\n.*cure: check that the server is up"):
            registry.look("d", 1, 7)
    assert asked == [1] and registry.look("d", 1, 7) == 1 and registry.look("d", 1, 8) == 2


def test_a_server_that_stays_away_is_told_after_a_while(postgres, postgres_url, tmp_path, monkeypatch):
    schema.upgrade(open_database(postgres_url))
    registry = Registry(home_at(tmp_path, postgres_url))
    monkeypatch.setattr(database, "PATIENCE_SECONDS", 0.2)
    postgres.sql("SELECT 1")
    name = postgres_url.partition("@/")[2].partition("?")[0]
    postgres.sql(f"ALTER DATABASE {name} CONNECTION LIMIT 0", f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    cut(postgres, postgres_url)
    try:
        for use in (lambda: registry.plans("d"), lambda: registry.look("d", 1, 1)):
            with pytest.raises(SlmError, match=r"\n.*cure: check that the server is up"):
                use()
    finally:
        postgres.sql(f"ALTER DATABASE {name} CONNECTION LIMIT -1", f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    assert registry.look("d", 1, 1) == 1


def test_a_run_survives_a_server_that_crashes_and_comes_back(workplace, own_postgres, monkeypatch):
    url = own_postgres.url("postgres")
    monkeypatch.setenv("SLM_REGISTRY", url)
    schema.upgrade(open_database(url))
    ended, restarts = threading.Event(), []

    def restart() -> None:
        for cells in (1, 3, 5):
            while own_postgres.sql("SELECT count(*) FROM cells")[0][0] < cells:
                if ended.wait(0.05):
                    return
            own_postgres.restart()
            restarts.append(cells)

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        done = workplace.slm("run", "tiny", timeout=900)
    finally:
        ended.set()
        thread.join()
    assert done.returncode == 0, done.stderr[-2000:]
    assert restarts, "the run was over before the first crash"
    (version,) = workplace.json("status", "tiny")["domains"][0]["versions"]
    assert version["outcome"] == "promoted"
    flips = own_postgres.sql("SELECT action FROM flag_events")
    assert flips == [("promote",)], "nothing was done twice"


def test_the_registry_and_dagster_share_a_server_each_in_its_schema(postgres, postgres_url, tmp_path, monkeypatch):
    from dagster import DagsterInstance

    monkeypatch.setenv("DAGSTER_PG_URL", postgres_url)
    shutil.copyfile(ROOT / "deploy" / "dagster.yaml", tmp_path / "dagster.yaml")
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        assert "Postgres" in type(instance.run_storage).__name__ and instance.get_runs() == []
        assert {type(instance.event_log_storage).__name__, type(instance.schedule_storage).__name__} == {
            "PostgresEventLogStorage", "PostgresScheduleStorage",
        }  # fmt: skip
        beside = f"{postgres_url}&schema=slm"
        with pytest.raises(SlmError, match=r"schema=slm has no tables yet\n.*slm db upgrade"):
            Registry(home_at(tmp_path, beside))
        head = schema.revisions()[-1]
        assert (
            schema.upgrade(open_database(beside)) == (None, head) and schema.upgrade(open_database(beside))[0] == head
        )
        registry = Registry(home_at(tmp_path, beside))
        assert registry.look("d", 1, 1) == 1
        with open_database(beside).read() as connection:
            assert schema.differences(connection) == []
        instance.add_dynamic_partitions("version", ["v1"])
        assert instance.get_dynamic_partitions("version") == ["v1"]
    name = postgres_url.partition("@/")[2].partition("?")[0]
    where = dict(
        postgres.sql("SELECT tablename, schemaname FROM pg_tables WHERE tablename IN ('plans', 'runs')", database=name)
    )
    assert where == {"plans": "slm", "runs": "public"}
    with pytest.raises(SlmError, match="newer than this code"):  # Dagster's own revision, in its schema
        Registry(home_at(tmp_path, postgres_url))


def test_a_role_that_may_not_write_names_the_grant(postgres, locked_url, tmp_path):
    name = locked_url.partition("@/")[2].partition("?")[0]
    schema.upgrade(open_database(postgres.url(name)))
    with pytest.raises(SlmError, match=r"permission denied.*\n.*grant"):
        Registry(home_at(tmp_path, locked_url)).plans("d")


def nothing_secret(text: str, secret: str) -> bool:
    return secret not in text and quote(secret, safe="") not in text


def told(url: str, root) -> tuple[SlmError, str]:
    """What opening this registry says: the error, and the whole traceback that a log would hold."""
    with pytest.raises(SlmError) as caught:
        Registry(home_at(root, url))
    return caught.value, "".join(traceback.format_exception(caught.value))


def test_a_wrong_password_no_server_and_no_database_say_what_to_do_and_no_secret(locked_url, tmp_path):
    secret = quote(PASSWORD, safe="")
    wrong = "s3cr3t-and-wrong"
    socket = locked_url.partition("host=")[2]
    cases = {
        locked_url.replace(secret, wrong): "password authentication failed",
        locked_url.replace(socket, str(tmp_path)): "No such file",
        locked_url.replace("@/t", "@/nowhere"): "does not exist",
        f"postgresql://locked:{wrong}@127.0.0.1:1/registry": "refused",
        f"postgresql://locked@127.0.0.1:1/registry?password={wrong}": "refused",
        f"{locked_url}&sslmode={wrong}&sslpassword={wrong}": "sslmode",
    }
    for url, said in cases.items():
        error, log = told(url, tmp_path)
        assert said in error.message and "SLM_REGISTRY" in error.cure, error
        assert nothing_secret(log, wrong) and nothing_secret(log, PASSWORD), log
        assert nothing_secret(repr(home_at(tmp_path, url)), wrong)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3cr3t", "no database URL"),
        ("postgresql://me:pa@s3cr3t@host/db", "an @ in"),
        ("postgresql://me:pa@host:s3cr3t/db", "no database URL"),
        ("postgres://me:s3cr3t@host/db", "a postgres database"),
        ("mysql://me:s3cr3t@host/db", "a mysql database"),
        ("postgresql+asyncpg://me:s3cr3t@host/db", "a postgresql\\+asyncpg database"),
        ("sqlite://", "no file"),
        ("sqlite:///:memory:", "no file"),
        ("postgresql://me:s3cr3t@host/db?schema=a;b", "an option schema"),
        ("postgresql://me:s3cr3t@host/db?schema=a&schema=b", "an option schema"),
        ("sqlite:////tmp/s3cr3t.db?schema=a", "an option schema"),
    ],
)
def test_an_address_that_is_none_is_bad_input_and_not_repeated(url, said, tmp_path):
    with pytest.raises(BadInputError, match=f"{said}.*\n.*cure: "):
        Registry(home_at(tmp_path, url))
    _, log = told(url, tmp_path)
    assert "s3cr3t" not in log.replace(f"home_at(root, '{url}')", "")


def test_the_command_line_shows_no_password(workplace, locked_url, monkeypatch):
    monkeypatch.setenv("SLM_REGISTRY", locked_url.replace(quote(PASSWORD, safe=""), "s3cr3t"))
    for arguments in (("why", "tiny"), ("run", "tiny", "--json"), ("db", "upgrade", "--json")):
        done = workplace.slm(*arguments)
        said = " ".join((done.stdout + done.stderr).split())
        assert done.returncode == 1 and "failed for user" in said and "Traceback" not in said
        assert "s3cr3t" not in said.replace(" ", "")
        if "--json" in arguments:
            assert "SLM_REGISTRY" in json.loads(done.stdout)["cure"]
    logs = [path.read_text(errors="replace") for path in workplace.home.rglob("*") if path.is_file()]
    assert not any("s3cr3t" in log for log in logs)


def test_both_spellings_of_a_postgres_url_are_one_registry(postgres_url, tmp_path):
    schema.upgrade(open_database(postgres_url))
    Registry(home_at(tmp_path, postgres_url)).look("d", 1, 1)
    other = Registry(home_at(tmp_path, postgres_url.replace("postgresql://", "postgresql+psycopg2://")))
    assert other.look("d", 1, 2) == 2


def test_an_empty_variable_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("SLM_REGISTRY", "")
    assert Home.from_env(tmp_path).registry_url == f"sqlite:///{tmp_path}/registry.db"


def test_what_is_shown_of_a_url_is_where_it_leads():
    place = "postgresql://me:secret@db.example:5432/slm?sslmode=require&sslpassword=x&host=h2&schema=own"
    url, schema = address.parse(place)
    assert address.shown(url, schema) == "postgresql://me@db.example:5432/slm?host=h2&schema=own"
    assert address.redact("secret and x", url) == "*** and ***"
