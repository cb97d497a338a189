"""One version made three ways, and NoETL alone as conductor: the same digests, one lineage."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.event_api import PartitionKeyFilter
from fake_slm import DEPLOY

from slm_assets.automation.instance import instance_for, prepare
from slm_assets.automation.partitions import key_of
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry
from slm_assets.stages.standing import checks_of
from slm_assets.stages.table import STAGES
from tests.conftest import FIXTURES, Workplace

pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent


def place_in(folder: Path) -> Workplace:
    shutil.copytree(FIXTURES / "domains", folder / "domains")
    return Workplace(folder / "home", folder / "domains")


def conduct(place: Workplace, name: str, **values: str) -> dict[str, Any]:
    """`noetl run`, as an operator types it; what its last step said."""
    sets = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    done = subprocess.run(
        [BIN / "noetl", "run", DEPLOY / "slm" / f"{name}.yaml", "-r", "local", "--json", *sets],
        env={**place.env, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "RUST_BACKTRACE": "0"},
        cwd=place.home.parent,
        capture_output=True,
        text=True,
        timeout=300,
    )
    logs = "".join(path.read_text() for path in place.home.rglob("*.err"))
    assert done.returncode == 0, done.stderr + logs
    return json.loads(json.loads(done.stdout)["final_result"])


def digests(place: Workplace) -> dict[str, tuple[str, dict[str, str]]]:
    """Stage → request and output digests."""
    cells = Registry(Home.from_env(place.home)).cells("tiny", 1)
    return {
        c["stage"]: (c["request"], {k: a["sha256"] for k, a in c["receipt"]["outputs"].items()})
        for c in cells
        if c["status"] == "succeeded"
    }


def engines(place: Workplace) -> set[str]:
    return {cell["engine"] for cell in Registry(Home.from_env(place.home)).cells("tiny", 1)}


@pytest.fixture(scope="module")
def in_process(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    place = place_in(tmp_path_factory.mktemp("in_process"))
    assert place.json("run", "tiny")["outcome"] == "promoted"
    return place


@pytest.fixture(scope="module")
def conducted(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """By NoETL alone, in a home that has a Dagster instance."""
    place = place_in(tmp_path_factory.mktemp("conducted"))
    prepare(Home.from_env(place.home))
    assert conduct(place, "pipeline", domain="tiny", version="v1") == {"outcome": "promoted", "version": "v1"}
    return place


Told = dict[Any, Any]


def told(place: Workplace) -> Told:
    """What Dagster knows of v1: per asset and per check, how often, and what of it must not differ."""
    found: Told = {}
    partition = key_of("tiny", "v1")
    with instance_for(Home.from_env(place.home)) as instance:
        assert instance.get_dynamic_partitions("version") == ["v1"]
        for stage in STAGES:
            asset = dg.AssetKey(stage.asset)
            records = instance.fetch_materializations(
                dg.AssetRecordsFilter(asset_key=asset, asset_partitions=[partition]), limit=9
            ).records
            made = records[0].asset_materialization
            tags = {k: v for k, v in (made.tags or {}).items() if "event_pointer" not in k}
            plain = {k: v.value for k, v in made.metadata.items() if k in ("sha256", "urn", "request", "code version")}
            kinds = {k: type(v).__name__ for k, v in made.metadata.items()}
            found[stage.asset] = len(records), made.partition, tags, plain, kinds
            for check in checks_of(stage):
                history = instance.event_log_storage.get_asset_check_execution_history(
                    dg.AssetCheckKey(asset, check), limit=9, partition_filter=PartitionKeyFilter(key=partition)
                )
                evaluation = history[0].evaluation
                assert isinstance(evaluation, dg.AssetCheckEvaluation)
                target = evaluation.target_materialization_data
                assert target is not None and target.storage_id == records[0].storage_id
                same = evaluation.passed, evaluation.blocking, evaluation.partition, sorted(evaluation.metadata)
                found[stage.asset, check] = len(history), same
    return found


def test_dagster_handing_every_stage_to_noetl_gives_the_same_digests(in_process: Workplace, tmp_path: Path) -> None:
    place = place_in(tmp_path)
    done = place.json("run", "tiny", "--engine", "noetl")
    assert done["outcome"] == "promoted"
    assert digests(place) == digests(in_process)
    assert engines(place) == {"noetl"}
    with instance_for(Home.from_env(place.home)) as instance:
        made = instance.fetch_materializations(dg.AssetRecordsFilter(asset_key=dg.AssetKey("labels")), limit=1).records[
            0
        ]
        run = instance.get_run_by_id(done["run_id"])
    assert run is not None and run.tags["slm/engine"] == "noetl"
    metadata = made.asset_materialization.metadata
    assert metadata["engine"].value == "noetl"
    assert metadata["execution"].value == f"{done['run_id']}/label"


def test_noetl_alone_gives_the_same_digests(in_process: Workplace, conducted: Workplace) -> None:
    assert digests(conducted) == digests(in_process)
    assert engines(conducted) == {"noetl"} and engines(in_process) == {"in_process"}


def test_what_noetl_conducted_is_in_dagster_as_if_it_had_run_there(in_process: Workplace, conducted: Workplace) -> None:
    assert told(conducted) == told(in_process)


def test_a_run_of_dagster_after_the_conductor_is_all_cache_hits(conducted: Workplace, tmp_path: Path) -> None:
    place = Workplace(tmp_path / "home", conducted.domains)
    shutil.copytree(conducted.home, place.home)
    done = place.json("run", "tiny")
    assert done["version"] == "v1" and all(line["cached"] for line in done["stages"])
    assert place.json("report", "tiny", "v1")["reported"] == []


def test_a_home_without_dagster_is_reported_to_nobody(in_process: Workplace, tmp_path: Path) -> None:
    place = Workplace(tmp_path / "home", in_process.domains)
    shutil.copytree(in_process.home, place.home)
    shutil.rmtree(place.home / "dagster")
    assert place.json("report", "tiny", "v1") == {"domain": "tiny", "version": "v1", "instance": False, "reported": []}
    assert not (place.home / "dagster").exists()
    prepare(Home.from_env(place.home))
    assert place.json("report", "tiny", "v1")["reported"] == [stage.asset for stage in STAGES]
    assert told(place) == told(in_process), "and later it can be"


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Workplace]:
    place = place_in(tmp_path)
    place.edit(
        "tiny",
        lambda text: text.replace("eval:\n", "eval:\n    slices: [{id: none, path: /input/none, critical: true}]\n"),
    )
    prepare(Home.from_env(place.home))
    yield place


def test_a_version_that_is_held_ends_there_and_says_so(held: Workplace) -> None:
    assert conduct(held, "pipeline", domain="tiny") == {"outcome": "held", "version": "v1"}
    assert set(digests(held)) == {"dataset"}
    with instance_for(Home.from_env(held.home)) as instance:
        (record,) = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(dg.AssetKey("dataset"), "coverage"), limit=9,
            partition_filter=PartitionKeyFilter(key=key_of("tiny", "v1")),
        )  # fmt: skip
    assert record.status.value == "FAILED"
    direct = held.slm("stage", "run", "label", "--domain", "tiny", "--version", "v1", "--run-dir", "out")
    assert direct.returncode == 3 and "is held" in direct.stderr, "nor is there a way around by hand"


def test_rollback_and_the_engine_by_playbook(in_process: Workplace, tmp_path: Path) -> None:
    place = Workplace(tmp_path / "home", in_process.domains)
    shutil.copytree(in_process.home, place.home)
    assert conduct(place, "resolve_engine", domain="tiny", role="triage") == {"engine": "slm"}
    assert conduct(place, "resolve_engine", domain="tiny", role="other") == {"engine": "deterministic"}
    assert conduct(place, "rollback", domain="tiny")["changes"]["triage"]["to"]["engine"] == "oracle"
    assert conduct(place, "resolve_engine", domain="tiny", role="triage") == {"engine": "deterministic"}
    assert conduct(place, "rollback", domain="tiny", to="v1")["action"] == "redeploy"
    assert conduct(place, "resolve_engine", domain="tiny", role="triage") == {"engine": "slm"}


def test_what_a_step_without_a_run_folder_said_is_kept(tmp_path: Path) -> None:
    place = place_in(tmp_path)
    with pytest.raises(AssertionError, match="no domain 'nosuch'"):
        conduct(place, "pipeline", domain="nosuch")
    assert "domains there: tiny" in (place.home / "noetl.err").read_text()
