"""What a yes, a no, a "not enough", a wait and a fault do to a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import fake_stages
import pytest
from fake_stages import opened
from filelock import FileLock

from slm_assets.assets.checks import DESCRIPTIONS
from slm_assets.automation import tags
from slm_assets.automation.instance import ensure_version_partition
from slm_assets.automation.partitions import key_of
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Plan
from slm_assets.stages.plans import open_domain
from slm_assets.stages.standing import checks_of
from slm_assets.stages.table import BY_NAME, STAGES

Calls = list[tuple[str, str, str]]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as there:
        yield there


def materialise(
    definitions: dg.Definitions, instance: dg.DagsterInstance, domain: str, version: str, *assets: str
) -> dg.ExecuteInProcessResult:
    ensure_version_partition(instance, version)
    return definitions.resolve_job_def("retrain").execute_in_process(
        instance=instance,
        partition_key=key_of(domain, version),
        asset_selection=[dg.AssetKey(asset) for asset in assets] or None,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        raise_on_error=False,
    )


def made(result: dg.ExecuteInProcessResult) -> list[str]:
    return [event.asset_key.to_user_string() for event in result.get_asset_materialization_events()]


def noes(result: dg.ExecuteInProcessResult) -> dict[str, str | None]:
    """Failed check → its partition."""
    return {e.check_name: e.partition for e in result.get_asset_check_evaluations() if not e.passed}


def outcome(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> str | None:
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    return run.tags.get(tags.OUTCOME)


def failure(result: dg.ExecuteInProcessResult, step: str) -> str:
    data = result.failure_data_for_node(step)
    assert data is not None
    assert data.user_failure_data is not None
    return data.user_failure_data.description or ""


def test_a_good_version_goes_all_the_way(
    home: Home, definitions: dg.Definitions, instance: dg.DagsterInstance, stages: Calls
) -> None:
    opened(home, "one")
    result = materialise(definitions, instance, "one", "v1")
    assert result.success
    assert made(result) == [stage.asset for stage in STAGES]
    evaluations = result.get_asset_check_evaluations()
    assert len(evaluations) == sum(len(checks_of(stage)) for stage in STAGES)
    assert all(e.passed and e.partition == "one|v1" for e in evaluations)
    assert outcome(instance, result) == tags.PROMOTED
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert (run.tags[tags.DOMAIN], run.tags[tags.VERSION]) == ("one", "v1")


def test_again_is_all_cache_hits_with_the_same_data_versions(
    home: Home, definitions: dg.Definitions, instance: dg.DagsterInstance, stages: Calls
) -> None:
    opened(home, "one")
    first = materialise(definitions, instance, "one", "v1")
    ran = list(stages)
    second = materialise(definitions, instance, "one", "v1")
    assert second.success
    assert stages == ran

    def seen(result: dg.ExecuteInProcessResult) -> list[tuple[str, str]]:
        found = []
        for event in result.get_asset_materialization_events():
            materialization = event.materialization
            assert materialization.tags is not None
            version = materialization.tags["dagster/data_version"]
            assert version == materialization.metadata["sha256"].value
            found.append((str(materialization.metadata["cached"].value), version))
        return found

    assert {cached for cached, _ in seen(first)} == {"False"}
    assert {cached for cached, _ in seen(second)} == {"True"}
    assert [sha for _, sha in seen(first)] == [sha for _, sha in seen(second)]


@pytest.mark.parametrize(
    ("fraction", "failed", "last"),
    [
        (fake_stages.HELD, {"floor", "verdict"}, "eval_report"),
        (fake_stages.UNDECIDED, {"incumbent", "verdict"}, "eval_report"),
        (fake_stages.MISSING, {"validity"}, "eval_report"),
        (fake_stages.LEAKS, {"leakage"}, "dataset"),
    ],
)
def test_a_no_holds_the_version(
    home: Home,
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    stages: Calls,
    fraction: float,
    failed: set[str],
    last: str,
) -> None:
    opened(home, "one", fraction)
    result = materialise(definitions, instance, "one", "v1")
    assert not result.success
    assert noes(result) == dict.fromkeys(failed, "one|v1")
    assert made(result)[-1] == last
    assert outcome(instance, result) == tags.HELD
    assert {stage for stage, _, _ in stages} == {s.name for s in STAGES[: [t.asset for t in STAGES].index(last) + 1]}


@pytest.mark.parametrize("asset", ["release", "deployment"])
def test_no_way_around_a_gate(
    home: Home, definitions: dg.Definitions, instance: dg.DagsterInstance, stages: Calls, asset: str
) -> None:
    """Materialising what is downstream of a no by itself says why, and runs nothing."""
    opened(home, "one", fake_stages.HELD)
    materialise(definitions, instance, "one", "v1")
    stages.clear()
    result = materialise(definitions, instance, "one", "v1", asset)
    assert not result.success
    assert failure(result, asset).startswith(f"one v1 is held, {asset} is not made: eval_report, floor: triage: FAIL")
    assert outcome(instance, result) == tags.HELD
    assert stages == []


def approve(home: Home, plan: Plan) -> None:
    _, registry = open_domain(home, plan.domain)
    cell = registry.cell(plan.domain, plan.number, "evaluate")
    assert cell is not None
    evidence = cell["receipt"]["outputs"]["eval"]["sha256"]
    registry.approve(plan.domain, plan.number, ["triage"], evidence=evidence, release=None, actor="ada", reason="seen")


def test_an_approval_outweighs_not_enough(
    home: Home, definitions: dg.Definitions, instance: dg.DagsterInstance, stages: Calls
) -> None:
    plan = opened(home, "one", fake_stages.UNDECIDED)
    assert not materialise(definitions, instance, "one", "v1").success
    approve(home, plan)
    result = materialise(definitions, instance, "one", "v1")
    assert result.success
    assert made(result)[-1] == "deployment"


def test_an_approval_does_not_outweigh_a_fail(
    home: Home, definitions: dg.Definitions, instance: dg.DagsterInstance, stages: Calls
) -> None:
    plan = opened(home, "one", fake_stages.HELD)
    materialise(definitions, instance, "one", "v1")
    approve(home, plan)
    result = materialise(definitions, instance, "one", "v1")
    assert set(noes(result)) == {"floor", "verdict"}


def test_a_wait_is_a_run_that_succeeds_without_the_asset(
    home: Home, definitions: dg.Definitions, instance: dg.DagsterInstance, stages: Calls
) -> None:
    opened(home, "one", fake_stages.WAITS)
    result = materialise(definitions, instance, "one", "v1")
    assert result.success
    assert made(result)[-1] == "shadow_report"
    assert {e.check_name for e in result.get_asset_check_evaluations()}.isdisjoint(BY_NAME["deploy"].gates)
    assert outcome(instance, result) == tags.DEFERRED


def test_a_fault_is_a_fault_with_its_log(
    home: Home, definitions: dg.Definitions, instance: dg.DagsterInstance, stages: Calls
) -> None:
    opened(home, "one", fake_stages.BREAKS)
    result = materialise(definitions, instance, "one", "v1")
    assert failure(result, "challenger") == "RuntimeError: the planted fault"
    data = result.failure_data_for_node("challenger")
    assert data is not None
    assert data.user_failure_data is not None
    log = data.user_failure_data.metadata["log"].value
    assert "the planted fault" in Path(str(log)).read_text()
    assert outcome(instance, result) == tags.FAULT
    assert made(result) == ["dataset", "labels"]


def test_a_cell_that_was_not_opened_stops_at_once(
    home: Home, definitions: dg.Definitions, instance: dg.DagsterInstance, stages: Calls
) -> None:
    opened(home, "one")
    result = materialise(definitions, instance, "two", "v1")
    assert failure(result, "dataset") == (
        "two v1 was never opened, so nothing runs\n  cure: open it with `slm run two --new` or the job open_version"
    )
    assert stages == []
    assert outcome(instance, result) == tags.NOT_OPENED


def test_a_broken_domain_shows_its_error_on_itself_only(
    home: Home, definitions: dg.Definitions, instance: dg.DagsterInstance, stages: Calls
) -> None:
    opened(home, "one")
    opened(home, "two")
    config = home.domains / "two" / "slm.config.yaml"
    config.write_text(config.read_text().replace("roles:", "rolls:"))
    broken = materialise(definitions, instance, "two", "v1")
    assert "domain two: " in failure(broken, "dataset")
    assert "roles" in failure(broken, "dataset")
    assert materialise(definitions, instance, "one", "v1", "dataset").success


def test_two_domains_and_versions_keep_their_checks_apart(
    home: Home, definitions: dg.Definitions, instance: dg.DagsterInstance, stages: Calls
) -> None:
    opened(home, "one")
    opened(home, "one", fake_stages.LEAKS)
    opened(home, "two")
    cells = {"one|v1": True, "one|v2": False, "two|v1": True}
    for key, good in cells.items():
        assert materialise(definitions, instance, *key.split("|"), "dataset").success is good
    check = dg.AssetCheckKey(dg.AssetKey("dataset"), "leakage")
    history = instance.event_log_storage.get_asset_check_execution_history(check, limit=10)
    assert {record.partition: record.status.value == "SUCCEEDED" for record in history} == cells


def test_a_version_at_work_elsewhere_is_left_alone(
    home: Home, definitions: dg.Definitions, instance: dg.DagsterInstance, stages: Calls
) -> None:
    opened(home, "one")
    folder = home.locks / "local" / "default" / "one"
    folder.mkdir(parents=True)
    with FileLock(folder / "v1.lock"):
        result = materialise(definitions, instance, "one", "v1")
    assert failure(result, "dataset").startswith("one v1 is being worked on by")
    assert stages == []


def test_every_check_says_what_it_demands() -> None:
    assert {name for stage in BY_NAME.values() for name in checks_of(stage)} == set(DESCRIPTIONS)
