"""A home of one test, with a domain whose loop can be driven."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "dagster"))
sys.path.insert(0, str(Path(__file__).parent))
import fake_stages
from loops import Loop

from slm_assets.registry.home import Home


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loop:
    """SLM_HOME and SLM_DOMAINS of one test, with the domain `one`; stages answer at once."""
    monkeypatch.setenv("SLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SLM_DOMAINS", str(tmp_path / "domains"))
    for name in ("SLM_REGISTRY", "SLM_ARTIFACTS", "SLM_WATCH_SECONDS", "SLM_ALERT_WEBHOOK"):
        monkeypatch.delenv(name, raising=False)
    fake_stages.install(monkeypatch.setattr)
    fake_stages.CALLS.clear()
    found = Loop(Home.from_env())
    found.add("one")
    return found
