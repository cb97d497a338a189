"""The code location: what it holds, what importing it costs, and what a broken domain does to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from slm_assets.definitions import build
from slm_assets.registry.home import Home
from slm_assets.stages.table import BY_NAME

SNAPSHOT = Path(__file__).with_name("definitions.json")
ROOT = Path(__file__).parents[2]
HEAVY = ("pandas", "sklearn", "scipy", "evidently", "kubernetes", "daft", "pyarrow", "torch")


def described(definitions: dg.Definitions) -> dict[str, Any]:
    """Everything of the definitions that a user sees, the code version aside."""
    repository = definitions.get_repository_def()
    graph = repository.asset_graph
    assets = {}
    for key in sorted(graph.get_all_asset_keys()):
        node = graph.get(key)
        spec = node.assets_def.specs_by_key[key]
        checks = {}
        for check_key in sorted(graph.get_check_keys_for_assets({key})):
            check = graph.get(check_key)
            checks[check_key.name] = {
                "blocking": check.blocking,
                "description": check.description,
                "partitions": dimensions(check.partitions_def),
            }
        assets[key.to_user_string()] = {
            "deps": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
            "description": spec.description,
            "group": spec.group_name,
            "owners": list(spec.owners),
            "kinds": sorted(spec.kinds),
            "tags": {name: value for name, value in spec.tags.items() if not name.startswith("dagster/kind")},
            "playbook": spec.metadata["playbook"],
            "partitions": dimensions(node.partitions_def),
            "backfill_policy": repr(node.backfill_policy) if node.backfill_policy else None,
            "retry_policy": repr(node.assets_def.op.retry_policy) if node.assets_def.op.retry_policy else None,
            "checks": checks,
        }
    jobs = {
        job.name: {
            "description": job.description,
            "partitions": dimensions(job.partitions_def),
            "steps": sorted(job.graph.node_dict),
            "executor": job.executor_def.name,
        }
        for job in repository.get_all_jobs()
        if not job.name.startswith("__")
    }
    return {"assets": assets, "jobs": jobs}


def dimensions(partitions: dg.PartitionsDefinition | None) -> dict[str, str] | None:
    if partitions is None:
        return None
    if isinstance(partitions, dg.StaticPartitionsDefinition):
        return {"domain": type(partitions).__name__}
    assert isinstance(partitions, dg.MultiPartitionsDefinition)
    return {d.name: type(d.partitions_def).__name__ for d in partitions.partitions_defs}


def test_the_definitions_are_the_ones_in_the_snapshot(definitions: dg.Definitions) -> None:
    """A change here changes what users see: look at the difference, then UPDATE_SNAPSHOTS=1 pytest."""
    found = described(definitions)
    if os.environ.get("UPDATE_SNAPSHOTS"):
        SNAPSHOT.write_text(json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    assert found == json.loads(SNAPSHOT.read_text())


def test_edges_and_checks_come_from_the_stage_table(definitions: dg.Definitions) -> None:
    found = described(definitions)["assets"]
    assert sorted(found) == sorted(stage.asset for stage in BY_NAME.values())
    for stage in BY_NAME.values():
        assert found[stage.asset]["deps"] == sorted(BY_NAME[name].asset for name in (*stage.needs, *stage.reads))
        assert set(stage.gates) <= set(found[stage.asset]["checks"])
        assert all(check["blocking"] for check in found[stage.asset]["checks"].values())


def test_code_version_is_set(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    assert all(graph.get(key).code_version for key in graph.get_all_asset_keys())


def test_import_is_light_and_reads_folder_names_only(home: Home) -> None:
    """A domain whose config is garbage is a partition like any other: its error comes when it is used."""
    (home.domains / "garbage").mkdir()
    (home.domains / "garbage" / "slm.config.yaml").write_text("{ not: [yaml")
    (home.domains / "no_domain").mkdir()
    script = (
        "import sys, slm_assets.definitions as d\n"
        f"print([m for m in {HEAVY} if m in sys.modules])\n"
        "print(d.defs.resolve_job_def('retrain').partitions_def.partitions_defs[0].partitions_def.get_partition_keys())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=home.domains)
    heavy, domains = done.stdout.splitlines()
    assert heavy == "[]"
    assert domains == "['garbage', 'one', 'two']"
    assert done.stderr == ""
    assert not home.root.exists()


def test_loading_many_domains_opens_no_file_of_any(home: Home) -> None:
    """What 500 domains cost at load is one listing of their folder: counted, not timed."""
    names = [f"domain{number:03d}" for number in range(200)]
    for name in names:
        (home.domains / name).mkdir()
        (home.domains / name / "slm.config.yaml").write_text("{ not: [yaml")
    script = (
        "import os, sys\n"
        "seen = []\n"
        "def watch(event, arguments):\n"
        "    file = event in ('open', 'os.scandir', 'os.listdir') and arguments[0]\n"
        "    named = isinstance(file, (str, bytes, os.PathLike))\n"
        "    if named and os.fsdecode(arguments[0]).startswith(os.environ['SLM_DOMAINS']):\n"
        "        seen.append((event, os.fsdecode(arguments[0])))\n"
        "sys.addaudithook(watch)\n"
        "from slm_assets.definitions import defs\n"
        "partitions = defs.get_repository_def().get_job('retrain').partitions_def.partitions_defs[0].partitions_def\n"
        "import json; print(json.dumps([partitions.get_partition_keys(), seen]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    found, seen = json.loads(done.stdout)
    assert found == [*names, "one", "two"]
    assert [place for event, place in seen if event == "open"] == []
    assert {place for _, place in seen} == {str(home.domains)}
    assert len(seen) == 1


def test_no_domain_folder_is_an_empty_graph_not_a_crash(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLM_DOMAINS", str(home.domains / "absent"))
    assert len(described(build(Home.from_env()))["assets"]) == len(BY_NAME)


def test_workspace_and_instance_files_name_what_exists() -> None:
    workspace = yaml.safe_load((ROOT / "workspace.yaml").read_text())
    assert workspace == {
        "load_from": [{"python_module": {"module_name": "slm_assets.definitions", "location_name": "slm_assets"}}]
    }
    packaged = ROOT / "slm_assets" / "automation" / "dagster.yaml"
    assert (ROOT / "dagster.yaml").resolve() == packaged.resolve()
    config = yaml.safe_load(packaged.read_text())
    assert config["telemetry"] == {"enabled": False}
    assert config["nux"] == {"enabled": False}
    assert config["run_retries"]["retry_on_asset_or_op_failure"] is False
