"""The Dagster code location: assembles assets, checks, jobs and sensors; nothing else."""

from __future__ import annotations

import dagster as dg

from slm_assets.assets.checks import checks
from slm_assets.assets.graph import assets
from slm_assets.automation.alerts import note_failed_runs, send_alerts
from slm_assets.automation.jobs import monitor, open_version, retrain
from slm_assets.automation.partitions import domains, partitions
from slm_assets.automation.promotions import approve_version, continue_shadows, rollback_roles, watch_promotions
from slm_assets.automation.retraining import retrain_on_drift, schedules
from slm_assets.automation.sensors import deliver_handoffs, watch_jobs
from slm_assets.automation.watching import watch_contracts, watch_traffic
from slm_assets.registry.home import Home


def build(home: Home) -> dg.Definitions:
    """The definitions for a home's domains. Steps are light, so they run in the run's own process."""
    by_domain = domains(home)
    cells = partitions(by_domain)
    return dg.Definitions(
        assets=assets(cells, by_domain),
        asset_checks=checks(cells, by_domain),
        jobs=[retrain(), monitor(), open_version, approve_version, rollback_roles],
        sensors=[
            watch_traffic,
            watch_contracts,
            retrain_on_drift,
            send_alerts,
            note_failed_runs,
            deliver_handoffs,
            watch_jobs,
            watch_promotions,
            continue_shadows,
        ],
        schedules=schedules(home, by_domain.get_partition_keys()),
        executor=dg.in_process_executor,
    )


defs = build(Home.from_env())
