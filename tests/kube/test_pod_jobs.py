"""Pods and Dagster: long steps hold no run, the sensor goes on when they have ended, short ones stream their log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from fake_cluster import HANG, FakeCluster, refused
from fake_stages import install, opened
from kube_kit import works_here

from slm_assets.automation import tags
from slm_assets.automation.instance import ensure_version_partition
from slm_assets.automation.partitions import key_of
from slm_assets.automation.sensors import watch_jobs
from slm_assets.definitions import build
from slm_assets.engines import kubernetes
from slm_assets.registry import jobs
from slm_assets.stages.reports import domain_status
from slm_assets.stages.table import STAGES
from tests.conftest import Workplace

SHORT = "  stages: {dataset: {engine: kubernetes, wait: true}}\n"


@pytest.fixture(autouse=True)
def _kubeconfig(fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster as a user names it."""
    cluster, context = {"server": fake.url}, {"cluster": "fake", "user": "u"}
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "fake",
        "clusters": [{"name": "fake", "cluster": cluster}], "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "fake", "context": context}],
    }  # fmt: skip
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


@pytest.fixture
def quick(fake: FakeCluster, home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch.setattr)
    works_here(fake, home)


def tick(instance: dg.DagsterInstance, definitions: dg.Definitions) -> list[dg.RunRequest]:
    context = dg.build_sensor_context(instance=instance, repository_def=definitions.get_repository_def())
    return list(watch_jobs(context).run_requests or [])


def tick_says(instance: dg.DagsterInstance) -> str:
    return str(watch_jobs(dg.build_sensor_context(instance=instance)).skip_message)


def test_fifty_pods_in_flight_hold_no_run_and_are_watched_by_one_question(fake, registry, make, quick, home, api):
    fake.fate = lambda _pod: HANG
    plans = [opened(home, "tiny") for _ in range(50)]
    for plan in plans:
        assert make(plan, wait=False, run_id=f"r{plan.number}").receipt.error_kind == "submitted"
    fake.until(lambda: all(pod["status"]["phase"] == "Running" for pod in fake.pods().values()))
    assert len(fake.pods()) == 50
    fake.calls.clear()
    definitions = build(home)
    with dg.DagsterInstance.ephemeral() as instance:
        assert tick(instance, definitions) == [] and instance.get_runs() == []
        assert fake.calls == {"list": 1}, "one page for all that run"
        for name in list(fake.pods())[:7]:
            fake.finish(name, {"phase": "Succeeded"})
        fake.remove(list(fake.pods())[7])
        found = tick(instance, definitions)
        assert len({request.run_key for request in found}) == 8
        fake.fault = lambda _request: refused(503)
        assert "the server is away: could not list the pods of namespace slm: 503" in tick_says(instance)


def test_dagster_submits_ends_and_goes_on_from_the_receipt(fake, registry, quick, home):
    """The whole chain, a stage per run: each run ends with the submission, the sensor asks for the next."""
    work = fake.work
    fake.fate = lambda _pod: HANG
    definitions = build(home)
    plan = opened(home, "tiny")
    job: Any = definitions.resolve_job_def("retrain")
    with dg.DagsterInstance.ephemeral() as instance:
        ensure_version_partition(instance, plan.version)
        asked: dict[str, Any] = {
            "partition_key": key_of("tiny", "v1"), "tags": {tags.ACTOR: "ada", tags.ENGINE: "kubernetes"}
        }  # fmt: skip
        for _ in STAGES:
            done = job.execute_in_process(instance=instance, **asked)
            assert done.success and instance.get_run_by_id(done.run_id).tags[tags.OUTCOME] == tags.SUBMITTED
            (name,) = fake.pods()
            fake.until(lambda name=name: fake.pods()[name]["status"]["phase"] == "Running")
            assert tick(instance, definitions) == [], "it runs, and no run is held"
            work(fake.pods()[name])
            fake.finish(name, {"phase": "Failed", "reason": "Evicted"})
            (request,) = tick(instance, definitions)
            asked = {"partition_key": request.partition_key, "tags": request.tags}
        assert job.execute_in_process(instance=instance, **asked).success
        made = instance.get_latest_materialization_event(dg.AssetKey("deployment")).asset_materialization.metadata
        assert made["pod"].value == f"slm/{fake.seen[-1]['metadata']['name']}" and made["node"].value == "node-7"
        assert made["exit reason"].value == "Evicted" and made["engine"].value == "kubernetes"
        assert tick_says(instance) == "no job is in flight"
    assert len(fake.seen) == len(STAGES) and fake.pods() == {}
    assert domain_status(registry, "tiny")["versions"][0]["outcome"] == "promoted"


def test_an_evicted_pod_is_started_again_by_the_sensors_run(fake, registry, make, quick, home, plan):
    fake.fate = lambda _pod: HANG
    make(plan, wait=False)
    (name,) = fake.pods()
    fake.until(lambda: fake.pods()[name]["status"]["phase"] == "Running")
    fake.evict(name)
    with dg.DagsterInstance.ephemeral() as instance:
        (request,) = tick(instance, build(home))
        assert make(plan, wait=False).receipt.error_kind == "submitted" and len(fake.seen) == 2
        (job,) = jobs.in_flight(registry)
        assert job["detail"]["attempt"] == 2 and tick(instance, build(home)) == []
        assert request.tags[tags.JOB] != job["dedup"]


def test_a_run_that_waits_has_the_pods_log_and_its_end(fake, registry, home, workplace: Workplace):
    """A real stage in a process of its own; its records and its progress are the run's, and stdout is not touched."""
    workplace.edit("tiny", lambda text: text.rstrip("\n") + "\n" + SHORT)
    plan = opened(home, "tiny")
    job: Any = build(home).resolve_job_def("retrain")
    with dg.DagsterInstance.ephemeral() as instance:
        ensure_version_partition(instance, plan.version)
        only = [dg.AssetKey("dataset")]
        done = job.execute_in_process(
            instance=instance, partition_key=key_of("tiny", "v1"), asset_selection=only, raise_on_error=False
        )
        said = [record.user_message for record in instance.all_logs(done.run_id)]
        assert done.success, said
        (event,) = done.get_asset_materialization_events()
    (pod,) = fake.seen
    name = pod["metadata"]["name"]
    log = b"\n".join(fake.logs[name]).decode()
    assert '"method": "opened"' in log and '"method": "closed"' in log and "slm_progress" in log
    assert "[pipes] external process successfully opened dagster pipes." in said
    assert f"pod slm/{name}: kubectl -n slm logs -f {name}" in said
    assert "90% writing" in said, "its progress, a line per quarter"
    found = {key: event.materialization.metadata[key].value for key in ("pod", "node", "exit reason", "pod attempt")}
    exit_reason = "Completed (exit code 0)"
    assert found == {"pod": f"slm/{name}", "node": "node-7", "exit reason": exit_reason, "pod attempt": "1"}


def test_a_command_that_is_interrupted_deletes_the_pod_and_one_that_is_killed_finds_it_again(
    fake, home, workplace: Workplace
):
    fake.fate = lambda _pod: HANG
    command = [sys.executable, "-m", "slm_assets.cli", "run", "tiny", "--engine", "kubernetes", "--json"]
    env = {**workplace.env, "SLM_ARTIFACTS": os.environ["SLM_ARTIFACTS"]}

    def begin() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=home.root.parent,
            # A shell starts what it runs in the background with SIGINT ignored, and that is inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )  # fmt: skip

    killed = begin()
    fake.until(fake.pods, 120)
    killed.kill()
    killed.communicate(timeout=60)
    (name,) = fake.pods()
    again = begin()
    fake.until(lambda: fake.log_streams > 1, 120)
    assert list(fake.pods()) == [name] and len(fake.seen) == 1, "attached to the pod that runs"
    again.send_signal(signal.SIGINT)
    fake.until(lambda: name in fake.deleted)
    again.communicate(timeout=60)
    assert again.returncode != 0 and len(fake.seen) == 1


def test_a_stage_in_flight_is_cancelled_by_the_command(fake, registry, make, quick, workplace: Workplace, plan):
    fake.fate = lambda _pod: HANG
    make(plan, wait=False)
    (name,) = fake.pods()
    env = {**workplace.env, "SLM_ARTIFACTS": os.environ["SLM_ARTIFACTS"]}

    def cancel() -> subprocess.CompletedProcess[str]:
        words = ["stage", "cancel", "dataset", "tiny", "v1", "--by", "ada", "--json"]
        command = [sys.executable, "-m", "slm_assets.cli", *words]
        return subprocess.run(command, env=env, capture_output=True, text=True, cwd=workplace.home.parent)

    done = cancel()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["error"] == "cancelled by ada" and fake.deleted == [name]
    assert jobs.in_flight(registry) == [] and registry.cell("tiny", 1, "dataset")["status"] == "failed"
    again = cancel()
    assert again.returncode == 2 and "is not in flight" in again.stdout + again.stderr
    assert registry.cell("tiny", 1, "dataset")["engine"] == kubernetes.ENGINE
    works_here(fake, registry.home)
    assert make(plan).receipt.status == "succeeded", "it can be made again"
