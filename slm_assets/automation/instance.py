"""The one Dagster instance of a home, which `slm run` and the UI share."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import dagster as dg
from sqlalchemy import Engine, event

from slm_assets import canonical
from slm_assets.automation.partitions import VERSIONS
from slm_assets.registry.home import Home
from slm_assets.stages.runner import disk_error

CONFIG_NAME = "dagster.yaml"
_QUIET = {
    "compute_logs": {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
}


def prepare(home: Home) -> None:
    """Make DAGSTER_HOME with the packaged dagster.yaml, renewed where it differs."""
    packaged = files("slm_assets.automation").joinpath(CONFIG_NAME).read_bytes()
    target = home.dagster / CONFIG_NAME
    try:
        if not target.is_file() or target.read_bytes() != packaged:
            canonical.write_bytes(target, packaged)
    except OSError as error:
        raise disk_error(error, home.dagster) from error


@contextmanager
def instance_for(home: Home) -> Iterator[dg.DagsterInstance]:
    """The home's instance, closed at the end of the block; where DAGSTER_HOME names another one, such as a
    cluster's, that. It leaves stdout and stderr alone: a run in this process must not swallow what the command
    prints."""
    other = os.environ.get("DAGSTER_HOME")
    if other and Path(other).resolve() != home.dagster.resolve():
        with dg.DagsterInstance.get() as instance:
            yield instance
        return
    prepare(home)
    from dagster._core.instance.ref import InstanceRef

    ref = InstanceRef.from_dir(str(home.dagster), overrides=_QUIET)
    with _unhurried_disk(home.dagster), dg.DagsterInstance.from_ref(ref) as instance:
        yield instance


@contextmanager
def _unhurried_disk(folder: Path) -> Iterator[None]:
    """Let the SQLite files under `folder` reach the disk at the end of the block, not at every statement.

    Dagster opens a connection per statement, and closing a file's last one writes its log back and waits
    for the disk: some 400 times a run, 7 of 11 seconds on a plain disk. One connection held open per
    file, and synchronous=NORMAL, end that. A killed process loses nothing; a power cut loses the last
    lines of the UI's history, never the file, and never the registry, which is the authority.
    """
    held: dict[str, sqlite3.Connection] = {}
    root = folder.resolve()

    def relax(connection: Any, _record: Any) -> None:
        if not isinstance(connection, sqlite3.Connection):
            return
        path = connection.execute("PRAGMA database_list").fetchone()[2]
        if not path or not Path(path).resolve().is_relative_to(root):
            return
        connection.execute("PRAGMA synchronous=NORMAL")
        if path not in held:
            held[path] = sqlite3.connect(path, check_same_thread=False)
        # Reading is what attaches the held connection to a log that was begun after it was opened.
        held[path].execute("SELECT count(*) FROM sqlite_master").fetchone()

    event.listen(Engine, "connect", relax)
    try:
        yield
    finally:
        event.remove(Engine, "connect", relax)
        for connection in held.values():
            connection.close()


def ensure_version_partition(instance: dg.DagsterInstance, version: str) -> None:
    """Add the version's partition where it is not there yet."""
    assert VERSIONS.name is not None
    if not instance.has_dynamic_partition(VERSIONS.name, version):
        instance.add_dynamic_partitions(VERSIONS.name, [version])
