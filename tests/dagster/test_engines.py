"""Which engine runs a stage: what the run asks for, else the domain's config as it is now, else this process."""

from __future__ import annotations

import dagster as dg
import pytest
from fake_stages import opened

from slm_assets.automation import tags
from slm_assets.automation.instance import ensure_version_partition
from slm_assets.automation.partitions import key_of
from slm_assets.domain.compute import StageRun
from slm_assets.engines import choose, noetl_local
from slm_assets.registry.home import Home
from slm_assets.stages import runner
from slm_assets.stages.table import STAGES
from slm_assets.stages.validate import validate_domain

Calls = list[tuple[str, str, str]]
RUNS = {"label": StageRun(engine="noetl", timeout_s=60)}


@pytest.mark.parametrize(
    ("stage", "asked", "name"),
    [
        ("label", None, "noetl"),
        ("label", "in_process", "in_process"),
        ("dataset", None, "in_process"),
        ("dataset", "noetl", "noetl"),
    ],
)
def test_the_run_comes_before_the_config(stage: str, asked: str | None, name: str) -> None:
    assert choose.engine_of(stage, RUNS, asked).name == name


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """The stages handed to NoETL, with their timeouts; they are executed here."""
    found: list[tuple[str, float]] = []

    def launch(request, envelope, registry, run_dir, progress, *, timeout_s):  # type: ignore[no-untyped-def]
        found.append((request.stage, timeout_s))
        return runner.execute(request, envelope, registry, run_dir, progress)

    monkeypatch.setattr(noetl_local, "launch", launch)
    return found


def test_a_stage_runs_where_the_config_says_and_its_materialisation_tells(
    home: Home, stages: Calls, definitions: dg.Definitions, handed: list[tuple[str, float]]
) -> None:
    config = home.domains / "one" / "slm.config.yaml"
    text = config.read_text()
    config.write_text(text + "  stages: {label: {engine: noetl, timeout_s: 60}}\n")
    assert [fault for fault in validate_domain(home, "one") if fault.severity == "error"] == []
    opened(home, "one")
    with dg.DagsterInstance.ephemeral() as instance:
        ensure_version_partition(instance, "v1")
        job, partition = definitions.resolve_job_def("retrain"), key_of("one", "v1")
        result = job.execute_in_process(instance=instance, partition_key=partition, raise_on_error=False)
        assert result.success and handed == [("label", 60)]
        made = {e.asset_key.to_user_string(): e.materialization for e in result.get_asset_materialization_events()}
        told = {asset: made[asset].metadata["engine"].value for asset in ("dataset", "labels")}
        assert told == {"dataset": "in_process", "labels": "noetl"}
        assert made["labels"].metadata["execution"].value == f"{result.run_id}/label"

        config.write_text(text)
        opened(home, "one")
        ensure_version_partition(instance, "v2")
        handed.clear()
        asked = job.execute_in_process(
            instance=instance, partition_key=key_of("one", "v2"), tags={tags.ENGINE: "noetl"}, raise_on_error=False
        )
        assert asked.success and [stage for stage, _ in handed] == [stage for stage, _, _ in stages[-len(STAGES) :]]


def test_settings_for_a_stage_that_is_none_are_a_fault(home: Home) -> None:
    config = home.domains / "one" / "slm.config.yaml"
    config.write_text(config.read_text() + "  stages: {train: {engine: noetl}}\n")
    (fault,) = [fault for fault in validate_domain(home, "one") if fault.severity == "error"]
    assert (fault.path, fault.found) == ("$.slm_domain.stages.train", "train") and "finetune" in fault.expected


@pytest.mark.parametrize("block", ["{engine: spark}", "{timeout_s: 0}", "{container: {image: '$(id)'}}", "{shell: x}"])
def test_a_stage_block_that_is_wrong_is_a_fault_with_its_place(home: Home, block: str) -> None:
    config = home.domains / "one" / "slm.config.yaml"
    config.write_text(config.read_text() + f"  stages: {{label: {block}}}\n")
    faults = [fault for fault in validate_domain(home, "one") if fault.severity == "error"]
    assert faults and all(fault.path.startswith("$.slm_domain.stages.label") for fault in faults)
