"""Stages that a NoETL server runs: no run is held, nothing is started twice, and only receipts count."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "noetl"))
import fake_server
from fake_server import FakeServer, random_faults
from fake_stages import opened

from slm_assets import canonical
from slm_assets.assets import graph
from slm_assets.automation import tags
from slm_assets.automation.instance import ensure_version_partition
from slm_assets.automation.partitions import key_of
from slm_assets.automation.sensors import watch_jobs
from slm_assets.domain.compute import StageRun
from slm_assets.engines import noetl_server
from slm_assets.engines.in_process import Outcome, make_cell
from slm_assets.noetl import server as noetl_server_module
from slm_assets.noetl.address import Address
from slm_assets.noetl.protocol import NoetlError
from slm_assets.noetl.server import Server
from slm_assets.noetl.wire import Clock
from slm_assets.registry import jobs
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Plan, Registry
from slm_assets.stages.contract import Envelope, StageRequest
from slm_assets.stages.plans import open_domain
from slm_assets.stages.reports import domain_status
from slm_assets.stages.runner import execute
from slm_assets.stages.table import BY_NAME, STAGES

Calls = list[tuple[str, str, str]]


RUN = StageRun(timeout_s=60)


def book(stage: str, _run: StageRun) -> tuple[str, str]:
    path = BY_NAME[stage].playbook
    return path, f"metadata: {{name: {stage}, path: {path}}}\nworkload: {{run_dir: .}}\nworkflow: []\n"


@pytest.fixture
def registry(home: Home) -> Registry:
    return open_domain(home, "one")[1]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    with FakeServer() as server:
        monkeypatch.setenv("NOETL_SERVER_URL", server.url)
        yield server


@pytest.fixture
def server(fake: FakeServer) -> Iterator[Server]:
    with Server(Address(fake.url), clock=Clock(sleep=lambda _: None)) as found:
        yield found


@pytest.fixture
def make(registry: Registry, server: Server) -> Callable[..., Outcome]:
    """Make a cell on the server."""

    def make(plan: Plan, stage: str = "dataset", run_id: str = "run", wait: bool = False) -> Outcome:
        how = partial(noetl_server.launch, server=server, playbook=book, run=RUN, wait=wait)
        return make_cell(registry, plan, stage, actor="a", run_id=run_id, launch=how, engine="noetl")

    return make


def work(fake: FakeServer, registry: Registry, execution: str, status: str = "COMPLETED") -> None:
    """What a worker does: the stage by its files in the run folder, then the end of the playbook."""
    folder = Path(fake.state.executions[execution]["workload"]["run_dir"])
    request = StageRequest.model_validate(canonical.read_json(folder / "request.json"))
    envelope = Envelope.model_validate(canonical.read_json(folder / "envelope.json"))
    execute(request, envelope, registry, folder)
    fake.finish(execution, status)


def works_at_once(fake: FakeServer, registry: Registry) -> None:
    fake.on_execute = lambda execution: work(fake, registry, execution["execution_id"])


def test_the_environment_names_the_server(fake, registry, stages, home, monkeypatch):
    works_at_once(fake, registry)
    how = noetl_server.launcher(book, run=RUN, wait=True)
    assert make_cell(registry, opened(home, "one"), "dataset", actor="a", launch=how).receipt.status == "succeeded"
    monkeypatch.delenv("NOETL_SERVER_URL")
    assert noetl_server.launcher(book, run=RUN, wait=True) is None


def test_a_stage_is_submitted_let_go_and_found_done(fake, registry, make, stages, home):
    plan = opened(home, "one")
    submitted = make(plan)
    assert (submitted.receipt.status, submitted.receipt.error_kind) == ("deferred", "submitted")
    (execution,) = fake.state.executions.values()
    assert execution["execution_id"] in submitted.receipt.error
    assert execution["workload"].keys() == {"runtime", "driver", "domain", "version", "run_dir"}
    assert domain_status(registry, "one")["versions"][0]["outcome"] == "running"
    for number in range(3):
        assert make(plan, run_id=f"again{number}").receipt.error_kind == "submitted"
    assert len(fake.state.executions) == 1 and len(fake.state.catalog) == 1 and stages == []
    work(fake, registry, execution["execution_id"])
    done = make(plan, run_id="later")
    assert done.receipt.status == "succeeded" and not done.cached and make(plan).cached
    assert stages == [("dataset", "one", "v1")]
    assert registry.cell("one", 1, "dataset")["engine"] == "noetl"
    assert jobs.in_flight(registry) == []


@pytest.mark.parametrize("fault", [fake_server.LOSE, fake_server.CUT, fake_server.FAIL_AFTER])
def test_a_kill_or_a_lost_answer_while_submitting_starts_nothing_twice(fake, registry, make, stages, home, fault):
    plan = opened(home, "one")
    fake.faults = lambda _method, path: fault if path == "execute" else None
    assert "is away" in make(plan, run_id="first").receipt.error
    (job,) = jobs.in_flight(registry)
    assert job["state"] == jobs.SUBMITTING and len(fake.state.executions) == 1
    fake.faults = None
    assert make(plan, run_id="second").receipt.error_kind == "submitted"
    assert len(fake.state.executions) == 1, "the key of the first submission was used"


def test_a_server_that_is_away_defers_and_one_that_refuses_fails(fake, registry, make, stages, home):
    plan = opened(home, "one")
    fake.close()
    assert make(plan).receipt.error_kind == "submitted"
    fake._serve(fake.port)
    fake.raw["execute"] = (422, b'{"error": "case is not supported", "status": 422}', {})
    with pytest.raises(NoetlError, match="case is not supported"):
        make(plan)
    assert jobs.in_flight(registry) == []
    del fake.raw["execute"]
    assert make(plan).receipt.error_kind == "submitted" and len(jobs.in_flight(registry)) == 1


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda folder: None, "is COMPLETED, and left no receipt"),
        (lambda folder: (folder / "receipt.json").write_text("{{ 7*7 }}"), "left no receipt"),
    ],
)
def test_completed_without_a_receipt_is_a_failure(fake, registry, make, stages, home, break_it, said):
    plan = opened(home, "one")
    folder = make(plan).run_dir
    (execution,) = fake.state.executions
    fake.finish(execution)
    break_it(folder)
    found = make(plan).receipt
    assert (found.status, found.error_kind) == ("failed", "fault") and said in found.error
    assert make(plan).receipt.error_kind == "submitted" and len(fake.state.executions) == 2, "another try"


def test_somebody_elses_receipt_and_altered_outputs_are_refused(fake, registry, make, stages, home):
    plans = [opened(home, "one"), opened(home, "one", 0.9)]
    folders = [make(plan).run_dir for plan in plans]
    for execution in fake.state.executions:
        work(fake, registry, execution)
    (folders[0] / "receipt.json").write_bytes((folders[1] / "receipt.json").read_bytes())
    assert "a receipt of another request" in make(plans[0]).receipt.error
    receipt = canonical.read_json(folders[1] / "receipt.json")
    sha = receipt["outputs"]["dataset"]["sha256"]
    blob = Path(registry.store._blob(next(iter(registry.store.describe(sha).files.values()))))
    blob.chmod(0o644)
    blob.write_text("tampered")
    assert make(plans[1]).receipt.error_kind == "submitted", "what it claims does not hash: it is made again"
    assert len(fake.state.executions) == 3


def test_failed_cancelled_and_forgotten_executions(fake, registry, make, stages, home, monkeypatch):
    plan = opened(home, "one")
    for end, said in (("FAILED", "boom"), ("CANCELLED", "was cancelled")):
        make(plan)
        execution = list(fake.state.executions)[-1]
        fake.event(execution, "call.error", "run_stage", error="boom")
        fake.finish(execution, end)
        assert said in make(plan).receipt.error
    make(plan)
    del fake.state.executions[list(fake.state.executions)[-1]]
    assert make(plan).receipt.error_kind == "submitted", "it may only be late"
    monkeypatch.setattr(noetl_server, "UNKNOWN_FOR_S", -1.0)
    assert "does not know execution" in make(plan).receipt.error


def test_waiting_on_the_command_line(fake, registry, make, stages, home, server):
    plan = opened(home, "one")
    works_at_once(fake, registry)
    fake.faults = random_faults(0.2, seed=4, kinds=(fake_server.LOSE, fake_server.FAIL))
    for stage in STAGES:
        assert make(plan, stage.name, wait=True).receipt.status == "succeeded"
    assert len(fake.state.executions) == len(STAGES) == len(stages)
    fake.on_execute = fake.faults = None
    at = iter(range(0, 10_000, 30))
    server.clock = Clock(lambda: float(next(at)), lambda _: None)
    late = make(opened(home, "one", 0.9), wait=True).receipt
    assert late.status == "failed" and "was cancelled" in late.error


def later(server: Server, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """So much time has passed, for the engine and for the sensor."""
    clock = Clock(sleep=lambda _: None, utc=lambda: datetime.now(UTC) + timedelta(seconds=seconds))
    server.clock = clock
    monkeypatch.setattr(noetl_server_module, "server_from_env", lambda **_: Server(server.address, clock=clock))


def test_a_job_that_never_ends_is_cancelled_and_a_fault_and_not_started_again(
    fake, registry, server, make, stages, home, definitions, monkeypatch
):
    path = home.domains / "one" / "slm.config.yaml"
    path.write_text(path.read_text() + "  stages: {dataset: {timeout_s: 60}}\n")
    plan = opened(home, "one")
    make(plan)
    (execution,) = fake.state.executions
    with dg.DagsterInstance.ephemeral() as instance:
        later(server, monkeypatch, RUN.timeout_s + noetl_server.OVERDUE_BY_S - 30)
        assert tick(instance, definitions) == [] and make(plan).receipt.error_kind == "submitted"
        later(server, monkeypatch, RUN.timeout_s + noetl_server.OVERDUE_BY_S + 30)
        assert [request.partition_key for request in tick(instance, definitions)] == ["one|v1"]
        found = make(plan).receipt
        assert (found.status, found.error_kind) == ("failed", "fault")
        assert f"execution {execution} has not ended after 60 s and was cancelled" in found.error
        assert fake.state.executions[execution]["status"] == "CANCELLED"
        assert jobs.in_flight(registry) == [] and tick_says(instance) == "no job is in flight"
    assert domain_status(registry, "one")["versions"][0]["outcome"] == "failed"
    assert "has not ended after 60 s" in registry.cell("one", 1, "dataset")["receipt"]["error"]
    assert len(fake.state.executions) == 1 and stages == []
    # What its worker leaves all the same counts, without another start.
    work(fake, registry, execution, "CANCELLED")
    assert make(plan, run_id="asked").receipt.status == "succeeded" and len(fake.state.executions) == 1


@pytest.mark.parametrize("broken", ["cancel", "status"])
def test_a_server_that_cannot_tell_or_cancel_does_not_keep_an_overdue_stage_waiting(
    fake, registry, server, make, stages, home, monkeypatch, broken
):
    plan = opened(home, "one")
    make(plan)
    (execution,) = fake.state.executions
    fake.raw[f"executions/{execution}/{broken}"] = (500, b"boom", {})
    assert make(plan).receipt.error_kind == "submitted"
    later(server, monkeypatch, 1_000)
    found = make(plan).receipt
    assert found.error_kind == "fault" and "has not ended after 60 s" in found.error
    assert ("could not be cancelled" in found.error) is (broken == "cancel")
    assert jobs.in_flight(registry) == []


def test_a_job_that_ended_in_time_is_collected_however_late_and_an_away_server_is_waited_for(
    fake, registry, server, make, stages, home, monkeypatch
):
    plan = opened(home, "one")
    make(plan)
    (execution,) = fake.state.executions
    later(server, monkeypatch, 1_000_000)
    fake.close()
    assert "is away" in make(plan).receipt.error
    fake._serve(fake.port)
    work(fake, registry, execution)
    assert make(plan).receipt.status == "succeeded" and len(fake.state.executions) == 1


def test_the_time_of_a_job_runs_from_its_acceptance(fake, registry, make, stages, home):
    plan = opened(home, "one")
    fake.faults = lambda _method, path: fake_server.FAIL if path == "execute" else None
    make(plan)
    (waiting,) = jobs.in_flight(registry)
    fake.faults = None
    make(plan)
    (accepted,) = jobs.in_flight(registry)
    assert accepted["execution"] and accepted["submitted_at"] > waiting["submitted_at"]


@pytest.mark.parametrize("config", ["", "stages: {dataset: {timeout_s: 1}}", "nonsense: {{ 7*7 }}"])
def test_the_sensor_takes_the_timeout_from_the_domain_as_it_is_now(
    fake, registry, server, make, stages, home, definitions, monkeypatch, config
):
    """A broken domain's jobs are not forgotten: they have the default."""
    make(opened(home, "one"))
    path = home.domains / "one" / "slm.config.yaml"
    path.write_text(path.read_text() + f"  {config}\n")
    later(server, monkeypatch, 1 + noetl_server.OVERDUE_BY_S + 30)
    with dg.DagsterInstance.ephemeral() as instance:
        assert len(tick(instance, definitions)) == ("timeout_s" in config)
        later(server, monkeypatch, StageRun().timeout_s + noetl_server.OVERDUE_BY_S + 30)
        assert len(tick(instance, definitions)) == 1


def test_fifty_jobs_in_flight_hold_no_run_and_are_watched_by_one_question(
    fake, registry, make, stages, home, definitions
):
    plans = [opened(home, "one") for _ in range(50)]
    for plan in plans:
        assert make(plan, run_id=f"r{plan.number}").receipt.error_kind == "submitted"
    fake.state.calls.clear()
    with dg.DagsterInstance.ephemeral() as instance:
        assert tick(instance, definitions) == []
        assert sum(fake.state.calls.values()) == 1, "one page for all that run"
        for execution in list(fake.state.executions)[:7]:
            work(fake, registry, execution)
        fake.state.calls.clear()
        found = tick(instance, definitions)
    assert sorted(request.partition_key for request in found) == sorted(f"one|v{n}" for n in range(1, 8))
    assert sum(fake.state.calls.values()) == 8
    assert len({request.run_key for request in found}) == 7
    hidden = next(iter(fake.state.executions))
    fake.raw[f"executions/{hidden}/status"] = (200, b"<html>{{ 7*7 }}", {})
    with dg.DagsterInstance.ephemeral() as instance:
        assert len(tick(instance, definitions)) == 6, "one answer that is none hides no other"


def on_the_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The assets hand their stages over."""
    how = partial(noetl_server.launch, server=server, playbook=book, run=RUN)

    def make(*arguments: Any, **given: Any) -> Outcome:
        return make_cell(*arguments, **given | {"launch": how, "engine": "noetl"})

    monkeypatch.setattr(graph, "make_cell", make)


def tick(instance: dg.DagsterInstance, definitions: dg.Definitions) -> list[dg.RunRequest]:
    context = dg.build_sensor_context(instance=instance, repository_def=definitions.get_repository_def())
    return list(watch_jobs(context).run_requests or [])


def test_dagster_submits_ends_and_goes_on_from_the_receipt(
    fake, registry, server, stages, home, definitions, monkeypatch
):
    """The whole chain, a stage per run: each run ends with the submission, the sensor asks for the next."""
    on_the_server(server, monkeypatch)
    plan = opened(home, "one")
    job: Any = definitions.resolve_job_def("retrain")
    outcomes = []
    with dg.DagsterInstance.ephemeral() as instance:
        ensure_version_partition(instance, plan.version)
        asked: dict[str, Any] = {"partition_key": key_of("one", "v1"), "tags": {tags.ACTOR: "ada"}}
        for _ in STAGES:
            done = job.execute_in_process(instance=instance, **asked)
            assert done.success
            run = instance.get_run_by_id(done.run_id)
            outcomes.append(run.tags[tags.OUTCOME])
            assert tick(instance, definitions) == [], "it runs on the server, and no run is held"
            work(fake, registry, list(fake.state.executions)[-1])
            (request,) = tick(instance, definitions)
            assert request.asset_selection is None and request.tags[tags.ACTOR] == "ada"
            asked = {"partition_key": request.partition_key, "tags": request.tags}
        assert job.execute_in_process(instance=instance, **asked).success
        made = {s.asset for s in STAGES if instance.fetch_materializations(dg.AssetKey(s.asset), limit=1).records}
        last = instance.get_latest_materialization_event(dg.AssetKey("deployment")).asset_materialization.metadata
        assert last["execution"].value == list(fake.state.executions)[-1]
        assert last["execution page"].value.startswith(f"{fake.url}/api/executions/")
        assert tick_says(instance) == "no job is in flight"
    assert outcomes == [tags.SUBMITTED] * len(STAGES)
    assert [stage for stage, _, _ in stages] == [stage.name for stage in STAGES], "each ran once"
    assert made == {stage.asset for stage in STAGES}
    assert domain_status(registry, "one")["versions"][0]["outcome"] == "promoted"
    assert len(fake.state.executions) == len(STAGES)


def tick_says(instance: dg.DagsterInstance) -> str:
    found = watch_jobs(dg.build_sensor_context(instance=instance))
    return str(found.skip_message)


def test_one_asset_asked_for_is_one_asset_launched_again(
    fake, registry, server, stages, home, definitions, monkeypatch
):
    on_the_server(server, monkeypatch)
    plan = opened(home, "one")
    with dg.DagsterInstance.ephemeral() as instance:
        ensure_version_partition(instance, plan.version)
        only = [dg.AssetKey("dataset")]
        job: Any = definitions.resolve_job_def("retrain")
        key = key_of("one", "v1")
        submitted = job.execute_in_process(instance=instance, partition_key=key, asset_selection=only)
        execution = list(fake.state.executions)[-1]
        work(fake, registry, execution)
        (request,) = tick(instance, definitions)
        assert list(request.asset_selection) == only
        instance.create_run_for_job(job, tags=request.tags)  # queued: not asked for again
        assert tick(instance, definitions) == []
        fake.close()
        assert "the server is away" in tick_says(instance)
    assert submitted.success
