"""The one Dagster instance of a home, which `slm run` and the UI share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

import dagster as dg

from slm_assets import canonical
from slm_assets.automation.partitions import VERSIONS
from slm_assets.registry.home import Home
from slm_assets.stages.runner import disk_error

CONFIG_NAME = "dagster.yaml"
_QUIET = {
    "compute_logs": {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
}


def prepare(home: Home) -> None:
    """Make DAGSTER_HOME with the packaged dagster.yaml, renewed where it differs."""
    packaged = files("slm_assets.automation").joinpath(CONFIG_NAME).read_bytes()
    target = home.dagster / CONFIG_NAME
    try:
        if not target.is_file() or target.read_bytes() != packaged:
            canonical.write_bytes(target, packaged)
    except OSError as error:
        raise disk_error(error, home.dagster) from error


@contextmanager
def instance_for(home: Home) -> Iterator[dg.DagsterInstance]:
    """The home's instance, closed at the end of the block. It leaves stdout and stderr alone: a run in
    this process must not swallow what the command prints."""
    prepare(home)
    from dagster._core.instance.ref import InstanceRef

    ref = InstanceRef.from_dir(str(home.dagster), overrides=_QUIET)
    with dg.DagsterInstance.from_ref(ref) as instance:
        yield instance


def ensure_version_partition(instance: dg.DagsterInstance, version: str) -> None:
    """Add the version's partition where it is not there yet."""
    assert VERSIONS.name is not None
    if not instance.has_dynamic_partition(VERSIONS.name, version):
        instance.add_dynamic_partitions(VERSIONS.name, [version])
