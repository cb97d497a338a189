"""Old versions leave the grid when no domain needs them, and lose nothing by it."""

from __future__ import annotations

import dagster as dg
import pytest
from fake_stages import opened

from slm_assets.automation.grid import prunable, prune
from slm_assets.automation.instance import ensure_version_partition, instance_for
from slm_assets.automation.launch import run_version
from slm_assets.automation.partitions import VERSIONS
from slm_assets.registry import jobs, retrains
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Flip
from slm_assets.stages.plans import registry_of


@pytest.fixture
def grown(home: Home) -> Home:
    """Ten versions of `one`, three of `two`, all of them columns; and one that nobody opened."""
    for _ in range(10):
        opened(home, "one")
    for _ in range(3):
        opened(home, "two")
    with instance_for(home) as instance:
        for number in range(1, 11):
            ensure_version_partition(instance, f"v{number}")
        ensure_version_partition(instance, "v77")
    return home


def left(home: Home, keep: int) -> list[str]:
    with instance_for(home) as instance:
        return prunable(home, instance, keep=keep)


def promote(home: Home, number: int, action: str = "promote") -> None:
    registry = registry_of(home, "one")
    flag = registry.flags("one").get("triage")
    flip = Flip("triage", "release", number, "a" * 64, flag.event if flag else 0)
    registry.flip("one", [flip], action=action, actor="t", reason="r")


def test_what_is_new_in_any_domain_stays(grown: Home) -> None:
    assert left(grown, keep=10) == []
    assert left(grown, keep=3) == ["v4", "v5", "v6", "v7"], "v1 to v3 are new in `two`"
    assert left(grown, keep=1) == ["v1", "v2", *(f"v{n}" for n in range(4, 10))]


def test_what_serves_and_what_a_rollback_goes_back_to_stays(grown: Home) -> None:
    promote(grown, 4)
    promote(grown, 6)
    assert left(grown, keep=1) == ["v1", "v2", "v5", "v7", "v8", "v9"]
    promote(grown, 8)
    assert left(grown, keep=1) == ["v1", "v2", "v4", "v5", "v7", "v9"], "v4 is two promotions ago"
    promote(grown, 6, action="rollback")
    assert "v4" not in left(grown, keep=1), "from v6 one would go back to v4"


def test_what_is_at_work_or_waits_stays(grown: Home) -> None:
    registry = registry_of(grown, "one")
    jobs.begin(registry, "one", 5, "finetune", request="a" * 64, run_id="r", playbook="p")
    row = retrains.ask(registry, "one", "w1", triggers=[], reason="r", actor="t")
    retrains.move(registry, row, retrains.LAUNCHED, number=7)
    assert left(grown, keep=1) == ["v1", "v2", "v4", "v6", "v8", "v9"]


def test_a_pruned_version_keeps_its_past_and_can_come_back(
    grown: Home, definitions: dg.Definitions, stages: list[tuple[str, str, str]]
) -> None:
    registry = registry_of(grown, "one")
    plan = registry.plan("one", 5)
    assert plan is not None and run_version(grown, plan, definitions, actor="ada").success
    promote(grown, 10)
    edges = registry.edges()
    with instance_for(grown) as instance:
        prune(instance, prunable(grown, instance, keep=1))
        assert "v5" not in instance.get_dynamic_partitions(str(VERSIONS.name))
        assert "v77" in instance.get_dynamic_partitions(str(VERSIONS.name)), "it is nobody's to take away"
        event = instance.get_latest_materialization_event(dg.AssetKey("release"))
        assert event is not None and event.asset_materialization is not None
        assert event.asset_materialization.partition == "one|v5"
    assert registry.edges() == edges and registry.plan("one", 5) == plan and edges
    ran = len(stages)
    assert run_version(grown, plan, definitions, actor="ada").success and len(stages) == ran, "all cache hits"
    with instance_for(grown) as instance:
        assert instance.has_dynamic_partition(str(VERSIONS.name), "v5")


def test_a_deployments_own_instance_is_the_one_that_is_used(
    home: Home, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "cluster"
    other.mkdir()
    (other / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(other))
    with instance_for(home) as instance:
        ensure_version_partition(instance, "v1")
    monkeypatch.delenv("DAGSTER_HOME")
    with instance_for(home) as instance:
        assert not instance.has_dynamic_partition(str(VERSIONS.name), "v1")
    with dg.DagsterInstance.from_config(str(other)) as instance:
        assert instance.has_dynamic_partition(str(VERSIONS.name), "v1")


def test_prune_grid_shows_before_it_does(grown: Home) -> None:
    from typer.testing import CliRunner

    from slm_assets.cli.commands import app

    shown = CliRunner().invoke(app, ["prune-grid", "--keep", "3", "--json"])
    assert shown.exit_code == 0 and '"deleted":false' in shown.stdout.replace(" ", "")
    assert left(grown, keep=3) == ["v4", "v5", "v6", "v7"]
    assert "4 versions taken out" in CliRunner().invoke(app, ["prune-grid", "--keep", "3", "--delete"]).stdout
    assert left(grown, keep=3) == []
