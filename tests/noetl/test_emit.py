"""What is emitted is what is committed, and what both runtimes and the linter take."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import yaml
from fake_slm import DEPLOY

from slm_assets.domain.compute import Container, StageRun, Toleration, Volume, pod
from slm_assets.noetl import emit
from slm_assets.noetl.lint import lint_text
from slm_assets.noetl.steps import FOLDER
from slm_assets.stages.table import BY_NAME, STAGES, WATCH, Stage
from tests.conftest import Workplace

NOETL = Path(sys.executable).with_name("noetl")
BOOKS = emit.playbooks()


@pytest.fixture(scope="module")
def schema() -> dict[str, object]:
    done = subprocess.run([NOETL, "schema"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_committed_playbooks_are_the_emitted_ones() -> None:
    assert emit.differences(DEPLOY, BOOKS) == {}, "run `slm playbooks emit`"


def test_emission_is_byte_stable_across_processes() -> None:
    script = "import hashlib; from slm_assets.noetl import emit; "
    script += "print(hashlib.sha256(repr(emit.playbooks()).encode()).hexdigest())"
    told = {
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed} | {k: v for k, v in __import__("os").environ.items() if k != "PYTHONHASHSEED"},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1


def test_one_playbook_per_stage_under_its_catalog_path_and_the_four_beside_them() -> None:
    paths = {yaml.safe_load(text)["metadata"]["path"] for text in BOOKS.values()}
    beside = {FOLDER + name for name in ("pipeline", "retrain_orchestrator", "rollback", "resolve_engine")}
    assert paths == {stage.playbook for stage in BY_NAME.values()} | beside


def test_each_asset_of_the_graph_has_its_playbook_with_its_inputs_ahead_of_it() -> None:
    """Against the snapshot of the Dagster definitions: the mirror has no list of stages of its own."""
    snapshot = Path(__file__).parents[1] / "dagster" / "definitions.json"
    assets = json.loads(snapshot.read_text())["assets"]
    by_path = {book["metadata"]["path"]: book for book in map(yaml.safe_load, BOOKS.values())}
    order = [step["step"] for step in by_path[FOLDER + "pipeline"]["workflow"]]
    watch = [step["step"] for step in by_path[FOLDER + "retrain_orchestrator"]["workflow"]]
    place = {stage.asset: watch.index(stage.name) for stage in WATCH}
    place |= {stage.asset: len(watch) + order.index(stage.name) for stage in STAGES}
    for asset, node in assets.items():
        assert by_path[node["playbook"]]["metadata"]["labels"]["slm/asset"] == asset
        assert all(place[dep] < place[asset] for dep in node["deps"])


@pytest.mark.parametrize("name", BOOKS)
def test_a_playbook_is_valid_clean_and_labelled(name: str, schema: dict[str, object]) -> None:
    text = BOOKS[name]
    book = yaml.safe_load(text)
    jsonschema.Draft202012Validator(schema).validate(book)
    assert lint_text(text, name) == []
    labels = book["metadata"]["labels"]
    assert labels["slm/code-version"]
    stage = next((s for s in BY_NAME.values() if s.playbook == book["metadata"]["path"]), None)
    if stage:
        assert (labels["slm/asset"], labels["slm/stage"]) == (stage.asset, stage.name)
        assert len(labels["slm/contract"]) == 32


def test_no_playbook_knows_a_domain() -> None:
    for text in BOOKS.values():
        assert yaml.safe_load(text)["workload"]["domain"] == ""


def test_the_contract_label_changes_with_the_contract() -> None:
    stage = BY_NAME["dataset"]
    other = replace(stage, gates=(*stage.gates, "another"))
    before, after = (
        yaml.safe_load(emit.playbooks([*WATCH, one])["slm/dataset_build.yaml"])["metadata"]["labels"]["slm/contract"]
        for one in (stage, other)
    )
    assert before != after


# The loop's stages that are still to come ------------------------------------------------------------


def later() -> list[Stage]:
    def made(name: str, playbook: str, needs: tuple[str, ...] = ()) -> Stage:
        return Stage(name, name, name, needs, (), FOLDER + playbook, name)  # type: ignore[arg-type]

    *before, deploy = STAGES
    return [*WATCH, *before, made("shadow", "shadow_eval", ("package",)), deploy]


def steps(text: str) -> dict[str, dict[str, object]]:
    return {step["step"]: step for step in yaml.safe_load(text)["workflow"]}


def arcs(step: dict[str, object]) -> list[str]:
    return [arc["step"] for arc in step["next"]["arcs"]]  # type: ignore[index]


def test_stages_to_come_join_with_branches_of_their_own() -> None:
    books = emit.playbooks(later())
    for name, text in books.items():
        assert lint_text(text, name) == [], name
    watch, chain = steps(books["slm/retrain_orchestrator.yaml"]), steps(books["slm/pipeline.yaml"])
    assert "open" in arcs(watch["gate_drift"]) and "not_due" in arcs(watch["gate_drift"])
    assert "drift" in arcs(watch["gate_capture"])
    assert not {"capture", "drift"} & set(chain)
    assert "shadow" in arcs(chain["gate_package"]) and "deploy" in arcs(chain["gate_shadow"])


# A deployment's own compute --------------------------------------------------------------------------

CLUSTER = """
timeout_s: 3600
container:
  image: registry.example/slm@sha256:00
  namespace: ml
  cpu: "8"
  memory: 64Gi
  gpus: 2
  node_selector: {pool: gpu}
  tolerations: [{key: dedicated, operator: Equal, value: ml}]
  volumes: [{claim: shared, mount: /mnt/slm}, {claim: cache, mount: /cache, read_only: true}]
"""


def test_a_deployment_emits_its_own_cluster(workplace: Workplace) -> None:
    folder = workplace.home.parent
    (folder / "cluster.yaml").write_text(CLUSTER)
    assert workplace.slm("playbooks", "emit", "--compute", "cluster.yaml", "--out", "made").returncode == 0
    assert workplace.slm("playbooks", "diff", "--compute", "cluster.yaml", "--out", "made").returncode == 0
    assert workplace.slm("playbooks", "lint", "made").returncode == 0
    book = yaml.safe_load((folder / "made/slm/finetune.yaml").read_text())
    tool = next(step for step in book["workflow"] if step["step"] == "run_container")["tool"]
    assert book["workload"]["image"] == "registry.example/slm@sha256:00"
    assert (book["workload"]["gpus"], book["workload"]["claim"], book["workload"]["home"]) == (
        "2",
        "shared",
        "/mnt/slm/slm",
    )
    assert tool["timeout_seconds"] == 3600
    assert tool["node_selector"]["pool"] == "gpu"
    assert tool["tolerations"] == [{"key": "dedicated", "operator": "Equal", "effect": "NoSchedule", "value": "ml"}]
    assert [v["persistent_volume_claim"]["claim_name"] for v in tool["volumes"]] == ["{{ workload.claim }}", "cache"]
    assert tool["resources"]["limits"] == {"memory": "{{ workload.memory }}", "nvidia.com/gpu": "{{ workload.gpus }}"}


def test_a_compute_file_with_faults_is_refused_with_all_of_them(workplace: Workplace) -> None:
    (workplace.home.parent / "cluster.yaml").write_text("container: {image: '$(id)', gpus: -1, imge: x}\n")
    done = workplace.slm("playbooks", "emit", "--compute", "cluster.yaml", "--out", "made")
    assert done.returncode == 2
    assert all(f"$.container.{name}" in done.stderr for name in ("image", "gpus", "imge"))
    assert not (workplace.home.parent / "made").exists()


def test_the_pod_of_a_block_asks_for_what_the_block_says() -> None:
    block = Container(gpus=0, tolerations=[Toleration(key="a")], volumes=[Volume(claim="c", mount="/m")])
    made = pod(block, 60)
    assert made.requests == {"cpu": "4", "memory": "16Gi"} and made.limits == {"memory": "16Gi"}
    assert made.timeout_seconds == 60
    assert made.mounts == [{"name": made.volumes[0]["name"], "mount_path": "/m", "read_only": False}]
    assert StageRun().container is None


# The commands ----------------------------------------------------------------------------------------


def test_diff_names_what_differs_and_emit_mends_it(workplace: Workplace) -> None:
    made = workplace.home.parent / "made"
    shutil.copytree(DEPLOY, made)
    assert workplace.slm("playbooks", "diff", "--out", "made").returncode == 0
    own = made / "slm" / "own.yaml"
    (made / "slm" / "label.yaml").unlink()
    (made / "slm" / "gone.yaml").write_text((made / "slm" / "eval.yaml").read_text())
    (made / "slm" / "eval.yaml").write_text("kind: Playbook\n")
    own.write_text("kind: Playbook\n")
    found = workplace.json("playbooks", "diff", "--out", "made", code=1)["differences"]
    assert found == {
        "slm/eval.yaml": "changed",
        "slm/gone.yaml": "not emitted",
        "slm/label.yaml": "missing",
        "slm/own.yaml": "not emitted",
    }
    assert workplace.slm("playbooks", "emit", "--out", "made").returncode == 0
    assert emit.differences(made, BOOKS) == {"slm/own.yaml": "not emitted"}, "what somebody else wrote stays"
