"""Cells that were made outside of Dagster, reported to it: once each, however often and in whatever order."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg
import fake_stages
import pytest
from dagster._core.event_api import PartitionKeyFilter
from fake_stages import opened

from slm_assets.assets.report import report_version
from slm_assets.automation.instance import instance_for
from slm_assets.automation.launch import run_version
from slm_assets.automation.partitions import key_of
from slm_assets.engines.conduct import conduct
from slm_assets.errors import BadInputError
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Plan, Registry
from slm_assets.stages.plans import open_domain
from slm_assets.stages.table import STAGES

Calls = list[tuple[str, str, str]]
NAMES = [stage.name for stage in STAGES]


def conducted(home: Home, fraction: float = fake_stages.GOOD) -> tuple[Registry, Plan]:
    """Every stage of a version as a conductor makes it, up to the first no."""
    plan = opened(home, "one", fraction)
    registry = open_domain(home, "one")[1]
    for name in NAMES:
        _receipt, outcome = conduct(registry, plan, name, home.root / "conducted", actor="noetl")
        if outcome.get("gate") != "go":
            break
    return registry, plan


def counts(home: Home) -> dict[str, int]:
    """How many materialisations Dagster has of each asset of one v1."""
    with instance_for(home) as instance:
        return {
            stage.asset: len(
                instance.fetch_materializations(
                    dg.AssetRecordsFilter(asset_key=dg.AssetKey(stage.asset), asset_partitions=[key_of("one", "v1")]),
                    limit=9,
                ).records
            )
            for stage in STAGES
        }


def answers(home: Home, asset: str, check: str) -> list[tuple[str, str | None]]:
    with instance_for(home) as instance:
        history = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(dg.AssetKey(asset), check),
            limit=9,
            partition_filter=PartitionKeyFilter(key=key_of("one", "v1")),
        )
    return [(record.status.value, record.partition) for record in history]


@pytest.mark.parametrize("order", [NAMES, NAMES[::-1], ["deploy", "dataset", "deploy", "label"]])
def test_once_each_in_any_order(home: Home, stages: Calls, order: Sequence[str]) -> None:
    registry, plan = conducted(home)
    for name in order:
        report_version(home, registry, plan, [name])
    assert set(report_version(home, registry, plan, NAMES)) == {s.asset for s in STAGES if s.name not in order}
    assert report_version(home, registry, plan, NAMES) == []
    assert counts(home) == {stage.asset: 1 for stage in STAGES}
    assert answers(home, "eval_report", "verdict") == [("SUCCEEDED", "one|v1")]


def test_a_late_report_after_a_run_of_dagster_changes_nothing(
    home: Home, stages: Calls, definitions: dg.Definitions
) -> None:
    registry, plan = conducted(home)
    assert run_version(home, plan, definitions, actor="ada").success
    before = counts(home), answers(home, "dataset", "leakage")
    assert report_version(home, registry, plan, NAMES) == []
    assert (counts(home), answers(home, "dataset", "leakage")) == before


def test_what_was_not_made_is_not_reported(home: Home, stages: Calls) -> None:
    registry, plan = conducted(home, fake_stages.LEAKS)
    assert report_version(home, registry, plan, NAMES) == ["dataset"]
    assert answers(home, "dataset", "leakage") == [("FAILED", "one|v1")]
    assert answers(home, "labels", "contract") == []


def test_an_answer_that_changed_is_reported_again(home: Home, stages: Calls) -> None:
    """An approval outweighs "not enough". Dagster takes one report without a run per check, and refuses a second."""
    registry, plan = conducted(home, fake_stages.UNDECIDED)
    report_version(home, registry, plan, NAMES)
    assert answers(home, "eval_report", "verdict") == [("FAILED", "one|v1")]
    cell = registry.cell("one", 1, "evaluate")
    assert cell is not None
    evidence = cell["receipt"]["outputs"]["eval"]["sha256"]
    registry.approve("one", 1, ["triage"], evidence=evidence, release=None, actor="ada", reason="seen")
    assert report_version(home, registry, plan, NAMES) == ["eval_report"]
    assert report_version(home, registry, plan, NAMES) == []
    assert answers(home, "eval_report", "verdict") == [("SUCCEEDED", "one|v1"), ("FAILED", "one|v1")]
    assert counts(home)["eval_report"] == 1


@pytest.mark.parametrize(
    ("fraction", "stage", "gate"),
    [
        (fake_stages.LEAKS, "dataset", "held"),
        (fake_stages.HELD, "evaluate", "held"),
        (fake_stages.UNDECIDED, "evaluate", "held"),
        (fake_stages.MISSING, "evaluate", "held"),
        (fake_stages.WAITS, "deploy", "deferred"),
    ],
)
def test_the_outcome_that_a_playbook_branches_on(
    home: Home, stages: Calls, fraction: float, stage: str, gate: str
) -> None:
    registry, plan = conducted(home, fraction)
    receipt, outcome = conduct(registry, plan, stage, home.root / "conducted", actor="noetl")
    assert receipt is not None and outcome["gate"] == gate
    assert {stage for stage, _, _ in stages} == set(NAMES[: NAMES.index(stage) + 1])
    if gate == "held":
        nothing, after = conduct(registry, plan, "deploy", home.root / "conducted", actor="noetl")
        assert nothing is None and after["gate"] == "held", "nothing runs behind a no"


def test_a_stage_that_breaks_leaves_no_outcome(home: Home, stages: Calls) -> None:
    registry, plan = conducted(home, fake_stages.BREAKS)
    receipt, outcome = conduct(registry, plan, "finetune", home.root / "conducted", actor="noetl")
    assert receipt is not None and receipt.error == "RuntimeError: the planted fault" and "gate" not in outcome
    assert not (home.root / "conducted" / "finetune.json").exists()


def test_an_engine_that_is_none_is_refused_before_anything_runs(
    home: Home, stages: Calls, definitions: dg.Definitions
) -> None:
    from slm_assets.engines.choose import engine_of

    with pytest.raises(BadInputError, match="is no engine"):
        engine_of("dataset", {}, "spark; rm -rf")
    result = run_version(home, opened(home, "one"), definitions, actor="ada", engine="spark")
    assert not result.success and "is no engine" in result.error
    assert stages == []
