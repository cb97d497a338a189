"""The emitted playbooks in a folder, and a `slm` that only writes down what reached it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fake_slm import FakeSlm

# `home`: one whose registry is on SQLite, and one on the Postgres server that the session starts itself.
from tests.registry.conftest import empty, empty_url, home, postgres, postgres_url

__all__ = ["empty", "empty_url", "home", "postgres", "postgres_url", "slm"]


@pytest.fixture
def slm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlm:
    """First on PATH; every stage says go."""
    from slm_assets.stages.table import BY_NAME

    fake = FakeSlm.at(tmp_path / "fake")
    for stage in BY_NAME:
        fake.answers(stage, "go")
    monkeypatch.setenv("PATH", f"{fake.folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RUST_BACKTRACE", "0")
    monkeypatch.chdir(tmp_path)
    return fake
