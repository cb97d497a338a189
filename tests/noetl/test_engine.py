"""A real chain whose every stage a NoETL server runs, in processes of its worker: the digests are the same."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from fake_server import FakeServer
from worker import Worker

from slm_assets.domain.compute import StageRun
from slm_assets.engines import noetl_server
from slm_assets.engines.in_process import make_cell
from slm_assets.noetl.address import Address
from slm_assets.noetl.server import Server
from slm_assets.registry import jobs
from slm_assets.registry.home import Home
from slm_assets.stages.plans import open_domain, open_version
from slm_assets.stages.table import BY_NAME
from tests.conftest import Workplace

CHILD = Path(__file__).with_name("handed_over.py")
STAGES = ("dataset", "label")


def book(stage: str, _run: StageRun) -> tuple[str, str]:
    return (
        BY_NAME[stage].playbook,
        f"""\
metadata: {{name: {stage}, path: {BY_NAME[stage].playbook}}}
workload: {{run_dir: .}}
workflow:
  - {{step: start, tool: {{kind: noop}}, next: {{arcs: [{{step: run_stage}}]}}}}
  - step: run_stage
    tool: {{kind: shell, command: "'{sys.executable}' '{CHILD}' '{{{{ workload.run_dir }}}}'"}}
    next: {{arcs: [{{step: end, when: "{{{{ run_stage.exit_code == 0 }}}}"}}]}}
  - {{step: end, tool: {{kind: noop}}}}
""",
    )


def test_stages_on_a_server_give_the_digests_of_stages_in_this_process(workplace: Workplace, monkeypatch) -> None:
    monkeypatch.setenv("SLM_DOMAINS", str(workplace.domains))
    here, there = Home.from_env(workplace.home), Home.from_env(workplace.home.with_name("other"))
    digests = []
    with FakeServer(hidden=1) as fake:
        worker = Worker(fake, workplace.home.parent, workplace.env | {"SLM_HOME": str(there.root)})
        for home in (here, there):
            domain, registry = open_domain(home, "tiny")
            plan = open_version(domain, registry, actor="a")
            for stage in STAGES:
                if home is there:
                    with Server(Address(fake.url)) as server:
                        how = partial(
                            noetl_server.launch, server=server, playbook=book, run=StageRun(timeout_s=200), wait=True
                        )
                        outcome = make_cell(registry, plan, stage, actor="a", launch=how, engine="noetl")
                else:
                    outcome = make_cell(registry, plan, stage, actor="a")
                assert outcome.receipt.status == "succeeded", outcome.receipt.error
                digests.append({kind: artifact.sha256 for kind, artifact in outcome.receipt.outputs.items()})
        worker.join()
        assert jobs.in_flight(registry) == [] and registry.cell("tiny", 1, "label")["engine"] == "noetl"
        assert len(fake.state.executions) == len(STAGES)
    assert digests[:2] == digests[2:]


def test_a_worker_whose_stage_dies_is_completed_and_no_success(workplace: Workplace, monkeypatch) -> None:
    monkeypatch.setenv("SLM_DOMAINS", str(workplace.domains))
    domain, registry = open_domain(Home.from_env(workplace.home), "tiny")
    plan = open_version(domain, registry, actor="a")
    with FakeServer() as fake, Server(Address(fake.url)) as server:
        worker = Worker(fake, workplace.home.parent, {"SLM_HOME": "/dev/null/no"})
        how = partial(noetl_server.launch, server=server, playbook=book, run=StageRun(timeout_s=200), wait=True)
        receipt = make_cell(registry, plan, "dataset", actor="a", launch=how, engine="noetl").receipt
        worker.join()
        (execution,) = fake.state.executions.values()
    assert execution["status"] == "COMPLETED"
    assert receipt.status == "failed" and "step run_stage failed: exit code 1" in receipt.error
    assert "left no receipt" in receipt.error
