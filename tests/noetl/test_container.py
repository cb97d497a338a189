"""A domain's own container block, from its config to the Job that a server would start."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import server_walk
import yaml
from fake_server import FakeServer

from slm_assets.domain.compute import Container, StageRun, Toleration, Volume
from slm_assets.engines import noetl_server
from slm_assets.engines.in_process import Outcome, make_cell
from slm_assets.noetl.address import Address
from slm_assets.noetl.emit import stage_playbook
from slm_assets.noetl.lint import lint_text
from slm_assets.noetl.server import Server
from slm_assets.registry.home import Home
from slm_assets.stages.plans import open_domain, open_version
from slm_assets.stages.table import BY_NAME
from tests.conftest import Workplace

BLOCK = Container(
    image="registry.example/slm@sha256:00",
    namespace="ml",
    memory="64Gi",
    gpus=2,
    node_selector={"pool": "gpu"},
    tolerations=[Toleration(key="dedicated", operator="Equal", value="ml")],
    volumes=[Volume(claim="shared", mount="/mnt/slm"), Volume(claim="cache", mount="/cache", read_only=True)],
)


class Cluster(server_walk.Server):
    """A server whose containers run: their command, as the user whose test it is."""

    jobs: list[dict[str, Any]]

    def _tool(self, tool: Mapping[str, Any], context: dict[str, Any]) -> Any:
        if tool["kind"] != "container":
            return super()._tool(tool, context)
        asked = self._rendered(dict(tool), context)
        self.jobs.append(asked)
        assert asked["command"] == ["slm"]
        done = subprocess.run([sys.executable, "-m", "slm_assets.cli", *asked["args"]], capture_output=True)
        return {"terminal_state": "failed" if done.returncode else "succeeded"}


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture
def hand_over(workplace: Workplace, fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the dataset of a new version on the server; what the cell came to, the steps, the Jobs."""
    for name, value in workplace.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{workplace.env['PATH']}")

    def hand_over(run: StageRun) -> tuple[Outcome, list[str], list[dict[str, Any]]]:
        domain, registry = open_domain(Home.from_env(), "tiny")
        plan = open_version(domain, registry, actor="a")
        with Server(Address(fake.url)) as server:
            how = partial(noetl_server.launch, server=server, playbook=stage_playbook, run=run)
            make = partial(make_cell, registry, plan, "dataset", actor="a", launch=how, engine="noetl")
            assert make().receipt.error_kind == "submitted"
            name, execution = list(fake.state.executions.items())[-1]
            book = next(b for b in fake.state.catalog if b["catalog_id"] == execution["catalog_id"])
            cluster = Cluster({book["path"]: book["content"]})
            cluster.jobs = []
            walk = cluster.execute(book["path"], execution["workload"])
            fake.finish(name)
            return make(), walk.steps, cluster.jobs

    return hand_over


def test_the_block_reaches_the_container_that_makes_the_stage(hand_over, fake, workplace):
    made, steps, (job,) = hand_over(StageRun(engine="noetl", timeout_s=900, container=BLOCK))
    assert made.receipt.status == "succeeded", made.receipt.error
    assert "run_container" in steps and "run_stage" not in steps and steps[-1] == "end"
    assert (job["image"], job["namespace"], job["service_account"]) == (BLOCK.image, "ml", "slm-stage")
    assert job["resources"]["limits"] == {"memory": "64Gi", "nvidia.com/gpu": "2"}
    assert job["resources"]["requests"]["cpu"] == "4"
    assert job["node_selector"] == {"pool": "gpu"}
    assert job["tolerations"] == [{"key": "dedicated", "operator": "Equal", "effect": "NoSchedule", "value": "ml"}]
    claims = [volume["persistent_volume_claim"]["claim_name"] for volume in job["volumes"]]
    mounts = [(mount["mount_path"], mount["read_only"]) for mount in job["volume_mounts"]]
    assert (claims, mounts) == (["shared", "cache"], [("/mnt/slm", False), ("/cache", True)])
    assert job["timeout_seconds"] == 900
    environment = {entry["name"]: entry.get("value") for entry in job["env"]}
    assert environment["SLM_HOME"] == "/mnt/slm/slm" and environment["SLM_REGISTRY"] is None
    assert str(workplace.home) in " ".join(job["args"])


def test_without_a_block_a_worker_runs_the_committed_playbook(hand_over, fake):
    made, steps, jobs = hand_over(StageRun(engine="noetl"))
    assert made.receipt.status == "succeeded", made.receipt.error
    assert "run_stage" in steps and jobs == []
    (entry,) = fake.state.catalog
    assert entry["path"] == BY_NAME["dataset"].playbook
    assert "mode" not in next(iter(fake.state.executions.values()))["workload"]


@pytest.mark.parametrize("stage", BY_NAME)
def test_another_block_is_another_playbook_that_lints_clean_and_leaves_the_deployments_alone(stage):
    committed = stage_playbook(stage)
    assert committed == stage_playbook(stage, StageRun(engine="noetl"))
    own = {stage_playbook(stage, run) for run in (StageRun(timeout_s=60), StageRun(container=BLOCK))}
    assert len({path for path, _ in own} | {committed[0]}) == 3
    for path, text in own:
        assert path.startswith(f"{BY_NAME[stage].playbook}/") and lint_text(text, path) == []
        assert yaml.safe_load(text)["metadata"]["path"] == path
