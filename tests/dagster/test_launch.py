"""`slm run` and the UI share one instance: runs, partitions, tags and checks are the same to both."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import fake_stages
import pytest
from fake_stages import opened

from slm_assets.automation import instance as instances
from slm_assets.automation import tags
from slm_assets.automation.instance import ensure_version_partition, instance_for
from slm_assets.automation.launch import run_version
from slm_assets.automation.local import Listener
from slm_assets.engines.in_process import Outcome
from slm_assets.registry.home import Home
from slm_assets.stages.plans import open_domain
from slm_assets.stages.table import STAGES

Calls = list[tuple[str, str, str]]


def test_a_run_is_told_step_by_step_and_kept_for_the_ui(
    home: Home, definitions: dg.Definitions, stages: Calls, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = opened(home, "one")
    heard: list[tuple[str, float]] = []
    ended: list[tuple[str, bool]] = []

    def on_end(stage: str, outcome: Outcome) -> None:
        ended.append((stage, outcome.cached))

    listener = Listener(lambda stage, share, _note: heard.append((stage, share)), on_end)
    result = run_version(home, plan, definitions, actor="ada", listener=listener)
    assert result.success
    assert result.outcome == tags.PROMOTED
    assert ended == [(stage.name, False) for stage in STAGES]
    assert ("finetune", 0.5) in heard
    assert capfd.readouterr() == ("", "")

    ended.clear()
    again = run_version(home, plan, definitions, actor="ada", listener=listener)
    assert ended == [(stage.name, True) for stage in STAGES]
    with instance_for(home) as instance:
        assert instance.get_dynamic_partitions("version") == ["v1"]
        runs = {run.run_id: run for run in instance.get_runs()}
        assert set(runs) == {result.run_id, again.run_id}
        run = runs[result.run_id]
        assert run.job_name == "retrain"
        assert run.status == dg.DagsterRunStatus.SUCCESS
        assert run.tags["dagster/partition"] == "one|v1"
        assert run.tags[tags.ACTOR] == "ada"
        assert run.tags[".dagster/repository"] == "__repository__@slm_assets"


def test_what_stopped_a_run_is_told(home: Home, definitions: dg.Definitions, stages: Calls) -> None:
    held = run_version(home, opened(home, "one", fake_stages.HELD), definitions, actor="ada")
    assert (held.success, held.outcome, held.failed_asset, held.failed_check) == (
        False,
        tags.HELD,
        "eval_report",
        "floor",
    )
    assert held.error.startswith("triage: FAIL")
    broken = run_version(home, opened(home, "one", fake_stages.BREAKS), definitions, actor="ada")
    assert (broken.outcome, broken.failed_asset, broken.error) == (
        tags.FAULT,
        "challenger",
        "RuntimeError: the planted fault",
    )


@pytest.mark.slow
def test_a_killed_run_is_ended_by_the_next(home: Home, definitions: dg.Definitions, stages: Calls) -> None:
    """A run whose process was killed would be "started" for ever."""
    plan = opened(home, "one")
    script = (
        "import os, signal, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import fake_stages; fake_stages.install()\n"
        "from slm_assets.automation.launch import run_version\n"
        "from slm_assets.automation.local import Listener\n"
        "from slm_assets.definitions import defs\n"
        "from slm_assets.registry.home import Home\n"
        "from slm_assets.stages.plans import open_domain\n"
        "home = Home.from_env()\n"
        "plan = open_domain(home, 'one')[1].plan('one', 1)\n"
        "def kill(stage, share, note):\n"
        "    if stage == 'label': os.kill(os.getpid(), signal.SIGKILL)\n"
        "run_version(home, plan, defs, actor='ada', listener=Listener(kill))\n"
    )
    killed = subprocess.run([sys.executable, "-c", script], check=False, env=os.environ)
    assert killed.returncode == -9
    result = run_version(home, plan, definitions, actor="ada")
    assert result.success
    with instance_for(home) as instance:
        status = {run.run_id: run.status for run in instance.get_runs()}
    assert status.pop(result.run_id) == dg.DagsterRunStatus.SUCCESS
    assert list(status.values()) == [dg.DagsterRunStatus.FAILURE]
    assert "dataset" not in {stage for stage, _, _ in stages}, "the finished stage was done twice"


def test_the_instance_file_is_the_packaged_one_and_is_renewed(home: Home) -> None:
    packaged = Path(instances.__file__).with_name("dagster.yaml").read_bytes()
    with instance_for(home) as instance:
        assert instance.root_directory == str(home.dagster)
        assert instance.run_retries_enabled
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
    target = home.dagster / "dagster.yaml"
    assert target.read_bytes() == packaged
    target.write_text("telemetry: {enabled: true}\n")
    instances.prepare(home)
    assert target.read_bytes() == packaged


def test_a_version_partition_is_added_once(home: Home) -> None:
    with instance_for(home) as instance:
        for version in ("v1", "v1", "v2"):
            ensure_version_partition(instance, version)
        assert sorted(instance.get_dynamic_partitions("version")) == ["v1", "v2"]


def test_open_version_from_the_ui(home: Home, definitions: dg.Definitions) -> None:
    job = definitions.resolve_job_def("open_version")
    config = {"domain": "two", "train_fraction": 0.5, "reason": "a try"}
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, run_config={"ops": {"open_a_version": {"config": config}}})
        assert instance.get_dynamic_partitions("version") == ["v1"]
        run = instance.get_run_by_id(result.run_id)
        assert run is not None
        assert (run.tags[tags.DOMAIN], run.tags[tags.VERSION]) == ("two", "v1")
    plan = open_domain(home, "two")[1].plan("two", 1)
    assert plan is not None
    assert (plan.params["train_fraction"], plan.reason, plan.opener) == (0.5, "a try", "dagster")


def test_open_version_of_an_unknown_domain(home: Home, definitions: dg.Definitions) -> None:
    job = definitions.resolve_job_def("open_version")
    result = job.execute_in_process(
        run_config={"ops": {"open_a_version": {"config": {"domain": "tow"}}}}, raise_on_error=False
    )
    data = result.failure_data_for_node("open_a_version")
    assert data is not None
    assert data.user_failure_data is not None
    assert "domains there: one, two" in str(data.user_failure_data.description)
