"""A home with two small domains, and stages that answer at once."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import dagster as dg
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import fake_stages

from slm_assets.definitions import build
from slm_assets.registry.home import Home

TINY = Path(__file__).parents[1] / "fixtures" / "domains" / "tiny"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """SLM_HOME and SLM_DOMAINS of one test, with the domains `one` and `two`."""
    for name in ("one", "two"):
        folder = tmp_path / "domains" / name
        shutil.copytree(TINY, folder)
        config = folder / "slm.config.yaml"
        config.write_text(config.read_text().replace("name: tiny", f"name: {name}"))
    monkeypatch.setenv("SLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SLM_DOMAINS", str(tmp_path / "domains"))
    for name in ("SLM_REGISTRY", "SLM_ARTIFACTS"):
        monkeypatch.delenv(name, raising=False)
    return Home.from_env()


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """Fake stages; the list of those that ran."""
    fake_stages.install(monkeypatch.setattr)
    fake_stages.CALLS.clear()
    return fake_stages.CALLS


@pytest.fixture
def definitions(home: Home) -> dg.Definitions:
    return build(home)
