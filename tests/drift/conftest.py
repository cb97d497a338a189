"""A promoted tiny version and live traffic of it, without a service."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest

from slm_assets.engines.in_process import make_cell
from slm_assets.registry.home import Home
from slm_assets.stages.plans import open_domain, open_version
from slm_assets.stages.table import STAGES
from tests.conftest import FIXTURES
from tests.traffic.conftest import Traffic, traffic

POLICY = "    retrain_triggers: policies/retrain_gates.yaml\n"
Rows = list[dict[str, Any]]
__all__ = ["traffic"]


def home_at(root: Path) -> Home:
    """The home of a copied workplace."""
    return Home(root / "home", root / "domains", f"sqlite:///{root}/home/registry.db", str(root / "home" / "artifacts"))


@pytest.fixture(scope="session")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny v1, promoted; its retrain policy is a file to be changed."""
    root = tmp_path_factory.mktemp("watched")
    shutil.copytree(FIXTURES / "domains", root / "domains")
    config = root / "domains" / "tiny" / "slm.config.yaml"
    config.write_text(config.read_text().replace("  improvement:\n", f"  improvement:\n{POLICY}"))
    (root / "domains" / "tiny" / "policies" / "retrain_gates.yaml").write_text("min_turns: 100\npage: demand\n")
    domain, registry = open_domain(home_at(root), "tiny")
    plan = open_version(domain, registry, actor="tester")
    for stage in STAGES:
        assert make_cell(registry, plan, stage.name, actor="tester").receipt.status == "succeeded"
    return root


@pytest.fixture
def watched(promoted: Path, tmp_path: Path) -> Traffic:
    """A copy of it, to be changed, without traffic yet."""
    shutil.copytree(promoted, tmp_path / "copy")
    home = home_at(tmp_path / "copy")
    return Traffic(home, *open_domain(home, "tiny"))


@pytest.fixture(scope="session")
def rows(promoted: Path) -> Rows:
    """The rows of its corpus: {"text", "label"}."""
    path = promoted / "domains" / "tiny" / "data" / "messages.jsonl"
    found = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    return [{"text": row["input"]["text"], "label": row["labels"]["triage"]} for row in found]


def drift_of(traffic: Traffic) -> dict[str, Any]:
    """Capture what there is, judge it, and read the report; `triggers` by name."""
    window, _ = traffic.capture()
    made = make_cell(traffic.registry, window, "drift", actor="tester")
    assert made.receipt.status == "succeeded", made.receipt.error
    report = orjson.loads(traffic.registry.store.read(made.receipt.outputs["drift"].sha256, "report.json"))
    return {**report, "triggers": {one["trigger"]: one for one in report["triggers"]}, "made": made, "number": window}
