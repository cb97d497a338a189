"""The real stages under the graph: a small domain from config to deployed model, and one that is held."""

from __future__ import annotations

import dagster as dg
import pytest
from fake_stages import opened

from slm_assets.automation import tags
from slm_assets.automation.instance import ensure_version_partition
from slm_assets.automation.partitions import key_of
from slm_assets.registry.home import Home
from slm_assets.stages.plans import open_domain
from slm_assets.stages.table import BY_NAME, STAGES


def run(definitions: dg.Definitions, instance: dg.DagsterInstance, version: str) -> dg.ExecuteInProcessResult:
    ensure_version_partition(instance, version)
    return definitions.resolve_job_def("retrain").execute_in_process(
        instance=instance, partition_key=key_of("one", version), raise_on_error=False
    )


@pytest.mark.slow
def test_the_chain_promotes_what_is_good_and_holds_what_is_not(home: Home, definitions: dg.Definitions) -> None:
    opened(home, "one")
    with dg.DagsterInstance.ephemeral() as instance:
        good = run(definitions, instance, "v1")
        assert good.success
        opened(home, "one", 0.02)
        poor = run(definitions, instance, "v2")
        assert not poor.success
        outcomes = [instance.get_run_by_id(r.run_id).tags[tags.OUTCOME] for r in (good, poor)]  # type: ignore[union-attr]
    assert outcomes == [tags.PROMOTED, tags.HELD]
    _, registry = open_domain(home, "one")
    assert registry.flags("one")["triage"].number == 1

    # What the stages answer is what the table declares: no gate unseen by the graph, none unanswered.
    verdicts = registry.verdicts("one", 1)
    assert {(v["stage"], v["gate"]) for v in verdicts} == {(s.name, g) for s in STAGES for g in s.gates}
    assert {c.check_name for c in poor.get_asset_check_evaluations() if not c.passed} >= {"target", "verdict"}

    materialised = {e.asset_key.to_user_string(): e.materialization for e in good.get_asset_materialization_events()}
    assert set(materialised) == {stage.asset for stage in STAGES}
    shown = materialised[BY_NAME["evaluate"].asset].metadata
    assert isinstance(shown["triage.intent"], dg.FloatMetadataValue)
    for name in ("confusion triage /intent", "calibration triage"):
        assert str(shown[name].value).startswith(f"![{name}](data:image/svg+xml;base64,")
    later = {e.asset_key.to_user_string(): e.materialization for e in poor.get_asset_materialization_events()}
    against = str(later[BY_NAME["evaluate"].asset].metadata["against v1, which served"].value)
    assert "| triage | intent |" in against and "120 common eval rows" in against
