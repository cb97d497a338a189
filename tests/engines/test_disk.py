"""A disk that takes no more: the place and the cure are named, nothing is half-written, and a resume works."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry
from tests.conftest import FIXTURES, Workplace


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    shutil.copytree(FIXTURES / "domains", tmp_path / "domains")
    return Workplace(tmp_path / "home", tmp_path / "domains")


def slm(place: Workplace, *arguments: str, largest_file: int | None = None) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))

    command = [sys.executable, "-m", "slm_assets.cli", *arguments]
    return subprocess.run(
        command, env=place.env, capture_output=True, text=True, timeout=240, preexec_fn=limit, cwd=place.home.parent
    )


def test_a_full_disk_is_named_and_the_next_run_goes_on(place):
    assert slm(place, "run", "tiny", "--version", "v1").returncode == 0
    registry = Registry(Home.from_env(place.home))
    before = {c["stage"]: c["receipt"]["outputs"] for c in registry.cells("tiny", 1)}
    model = before["finetune"]["model"]["sha256"]
    for name in registry.store.describe(model).files.values():
        Path(registry.store._blob(name)).unlink(missing_ok=True)
    shutil.rmtree(place.home / "runs")

    plan, request = place.home.parent / "request.json", slm(place, "stage", "request", "finetune", "tiny", "v1")
    plan.write_text(request.stdout)
    out = place.home.parent / "out"
    arguments = ("stage", "run", "finetune", "--request", str(plan), "--run-dir", str(out))
    full = slm(place, *arguments, largest_file=4_096)
    assert full.returncode == 1
    said = (full.stdout + full.stderr).replace("\n", " ")
    assert "File too large" in said or "disk" in said, said
    assert "cure" in said and "Traceback" not in said
    assert not list(place.home.rglob("*.tmp")), "nothing half-written is left behind"

    again = slm(place, *arguments)
    assert again.returncode == 0, again.stderr
    after = {c["stage"]: c["receipt"]["outputs"] for c in registry.cells("tiny", 1)}
    assert after == before


def test_a_home_that_cannot_be_written_is_named(place):
    place.home.mkdir()
    (place.home / "runs").write_text("a file where a folder should be")
    done = slm(place, "run", "tiny")
    said = (done.stdout + done.stderr).replace("\n", "")
    assert done.returncode == 1 and str(place.home / "runs") in said.replace(" ", "") and "cure" in said
