"""A kill in any stage costs that stage's work, nothing else: the next run ends with the same digests."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry
from tests.conftest import FIXTURES, Workplace

CHILD = Path(__file__).with_name("chain_child.py")
STAGES = ["dataset", "label", "finetune", "evaluate", "package", "shadow", "deploy"]


def place_in(folder: Path) -> Workplace:
    shutil.copytree(FIXTURES / "domains", folder / "domains")
    return Workplace(folder / "home", folder / "domains")


def child(place: Workplace) -> subprocess.Popen[str]:
    command = [sys.executable, str(CHILD)]
    return subprocess.Popen(command, env=place.env, stdout=subprocess.PIPE, text=True, start_new_session=True)


def complete(place: Workplace) -> list[str]:
    process = child(place)
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out
    return out.splitlines()


def digests(place: Workplace) -> dict[str, str]:
    registry = Registry(Home.from_env(place.home))
    return {
        kind: artifact["sha256"]
        for cell in registry.cells("tiny", 1)
        for kind, artifact in cell["receipt"]["outputs"].items()
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    place = place_in(tmp_path_factory.mktemp("undisturbed"))
    assert [line for line in complete(place) if line.startswith("end")] == [
        f"end {stage} succeeded False" for stage in STAGES
    ]
    return place


def test_killed_in_every_stage_in_turn_the_digests_are_those_of_an_undisturbed_run(undisturbed, tmp_path):
    place = place_in(tmp_path)
    for stage in STAGES:
        process = child(place)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(f"begin {stage}"):
                break
        # Once the stage's work has begun: its run folder, or its first word of progress.
        for line in process.stdout:
            if line.startswith((f"at {stage}", f"end {stage}")):
                break
        import os

        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    complete(place)
    assert digests(place) == digests(undisturbed)
    left = {path.name for path in place.home.rglob("*")} & {"in", "out", "scratch"}
    assert not left, "the folders of the killed stages are gone"
    assert not list((place.home / "runs").rglob("*.tmp"))
    registry = Registry(Home.from_env(place.home))
    assert [plan.number for plan in registry.plans("tiny")] == [1]
    assert len(registry.flag_events("tiny")) == 1, "flipped once, however often it was killed"


def test_a_second_run_is_all_cache_hits(undisturbed):
    assert [line for line in complete(undisturbed) if line.startswith("end")] == [
        f"end {stage} succeeded True" for stage in STAGES
    ]


def test_two_homes_give_the_same_digests(undisturbed, tmp_path):
    place = place_in(tmp_path)
    complete(place)
    assert digests(place) == digests(undisturbed)


def test_a_lost_artifact_is_made_again_with_the_same_digest(undisturbed, tmp_path):
    place = Workplace(tmp_path / "home", undisturbed.domains)
    shutil.copytree(undisturbed.home, place.home)
    before = digests(place)
    registry = Registry(Home.from_env(place.home))
    tree = registry.store.describe(before["model"])
    name = next(n for n in tree.files if n.endswith("training.json"))
    blob = Path(registry.store._blob(tree.files[name]))
    blob.unlink()
    lines = complete(place)
    assert "end finetune succeeded False" in lines and "end label succeeded True" in lines
    assert digests(place) == before
    registry.store.verify(before["model"])
