"""A backfill through a real daemon and webserver: every check lands on its own partition."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.error import URLError

import dagster as dg
import fake_stages
import pytest
import yaml
from fake_stages import opened

from slm_assets.automation import tags
from slm_assets.automation.instance import ensure_version_partition, instance_for
from slm_assets.automation.launch import run_version
from slm_assets.registry.home import Home
from slm_assets.stages.table import STAGES

HERE = Path(__file__).parent
DEADLINE_S = 900  # for a machine that is busy with other work; a minute or two otherwise

BACKFILL = """
mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}"""
STATUS = "query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"
CHECKS = """
query ($asset: String!, $check: String!) {
  assetCheckExecutions(assetKey: {path: [$asset]}, checkName: $check, limit: 50) {
    status partition evaluation { success partition }
  }
}"""
RUNS = """{ runsOrError { ... on Runs {
  results { runId status jobName startTime endTime tags { key value } }
} } }"""
READY = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } } } } }"


class Server:
    """The webserver's GraphQL, and patience."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.url, self.process, self.log = f"http://127.0.0.1:{port}/graphql", process, log
        self.until = time.monotonic() + DEADLINE_S

    def query(self, text: str, **variables: Any) -> Any:
        body = json.dumps({"query": text, "variables": variables}).encode()
        request = urllib.request.Request(self.url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.load(answer)
        assert "errors" not in found, found
        return found["data"]

    def wait(self, ready: Callable[[], Any]) -> Any:
        """What `ready` gives once it is true; fails with the server's log after the deadline."""
        while time.monotonic() < self.until:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if found := ready():
                    return found
            except (URLError, ConnectionError, TimeoutError):
                pass
            time.sleep(0.25)
        raise AssertionError(f"not ready after {DEADLINE_S} s\n{self.log.read_text()[-6000:]}")


@contextmanager
def served(
    home: Home, folder: Path, location: str = "fake_location", where: Path = HERE, **env: str
) -> Iterator[Server]:
    """`dagster dev` on a free port of the loopback, with the fake stages."""
    workspace = folder / "workspace.yaml"
    module = {
        "module_name": location,
        "working_directory": str(where),
        "location_name": "slm_assets",
    }
    workspace.write_text(yaml.safe_dump({"load_from": [{"python_module": module}]}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(workspace), "-h", "127.0.0.1", "-p", str(port)]
    # Ten processes import the same modules: where nothing was compiled at install, do it once here.
    compiled_once = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    log = folder / "dagster.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "DAGSTER_HOME": str(home.dagster), **compiled_once, **env},
        )
        try:
            yield Server(port, process, log)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(30)


@pytest.mark.slow
def test_backfill_attaches_every_check_to_its_partition(
    home: Home, definitions: dg.Definitions, stages: list[tuple[str, str, str]], tmp_path: Path
) -> None:
    fractions = [fake_stages.GOOD, fake_stages.HELD, *[fake_stages.GOOD] * 8]
    plans = [opened(home, "one", fraction) for fraction in fractions]
    command_line = run_version(home, plans[0], definitions, actor="ada")
    with instance_for(home) as instance:
        for plan in plans:
            ensure_version_partition(instance, plan.version)

    # All that a click on a domain's row asks for: its ten versions; and a cell that was never opened.
    good = [f"one|v{number}" for number in range(3, 11)]
    keys = ["one|v1", "one|v2", *good, "two|v1"]
    with served(home, tmp_path) as server:
        server.wait(lambda: server.query(READY)["repositoriesOrError"].get("nodes"))
        assets = [{"path": [stage.asset]} for stage in STAGES]
        launched = server.query(BACKFILL, params={"assetSelection": assets, "partitionNames": keys})
        started = launched["launchPartitionBackfill"]
        assert started["__typename"] == "LaunchBackfillSuccess", started
        backfill = started["backfillId"]
        server.wait(
            lambda: (
                server.query(STATUS, id=backfill)["partitionBackfillOrError"]["status"]
                not in ("REQUESTED", "FAILING", "CANCELING")
            )
        )
        runs = server.wait(lambda: ended(server.query(RUNS)["runsOrError"]["results"]))
        floor = by_partition(server.query(CHECKS, asset="eval_report", check="floor"))
        verdict = by_partition(server.query(CHECKS, asset="eval_report", check="verdict"))
        smoke = by_partition(server.query(CHECKS, asset="deployment", check="smoke"))
        leakage = by_partition(server.query(CHECKS, asset="dataset", check="leakage"))

    once = {key: [True] for key in good}
    assert floor == verdict == {"one|v1": [True, True], "one|v2": [False], **once}
    assert leakage == {"one|v1": [True, True], "one|v2": [True], **once}
    assert smoke == {"one|v1": [True, True], **once}

    mine = next(run for run in runs if run["runId"] == command_line.run_id)
    assert (mine["jobName"], mine["status"]) == ("retrain", "SUCCESS")
    filled = [run for run in runs if run["tags"].get("dagster/backfill") == backfill]
    assert len(runs) == 1 + len(filled), "a gate's no was retried"
    assert {run["tags"]["dagster/partition"]: (run["status"], run["tags"][tags.OUTCOME]) for run in filled} == {
        "one|v1": ("SUCCESS", tags.PROMOTED),
        "one|v2": ("FAILURE", tags.HELD),
        "two|v1": ("FAILURE", tags.NOT_OPENED),
        **dict.fromkeys(good, ("SUCCESS", tags.PROMOTED)),
    }
    own = sorted((run for run in filled if run["tags"]["dagster/partition/domain"] == "one"), key=started_at)
    assert all(one["endTime"] <= other["startTime"] for one, other in pairwise(own)), "a domain has one run at a time"


def started_at(run: dict[str, Any]) -> float:
    return float(run["startTime"])


def ended(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs with their tags as a dict, once all of them have ended."""
    if any(run["status"] not in ("SUCCESS", "FAILURE", "CANCELED") for run in runs):
        return []
    return [{**run, "tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in runs]


def by_partition(found: dict[str, Any]) -> dict[str, list[bool]]:
    """Partition → whether the check passed, oldest first; what was planned and never ran is left out."""
    passed: dict[str, list[bool]] = {}
    for execution in reversed(found["assetCheckExecutions"]):
        evaluation = execution["evaluation"]
        if evaluation is not None:
            assert evaluation["partition"] == execution["partition"]
            passed.setdefault(execution["partition"], []).append(evaluation["success"])
    return passed
