"""From an answer back to the rows, labels and verdicts behind it."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from slm_assets.engines.in_process import make_cell
from slm_assets.errors import BadInputError
from slm_assets.registry.home import Home
from slm_assets.stages.experiments.turn import explain_turn
from slm_assets.stages.plans import open_domain, open_version
from slm_assets.stages.table import STAGES
from tests.conftest import FIXTURES
from tests.traffic.conftest import Traffic, outcome, turn

TEXT = "the green keyboard is broken and i expect to be reimbursed it cannot wait"


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Traffic:
    """tiny v1, promoted, with two captured turns that it answered and one of the oracle that is on its way."""
    root = tmp_path_factory.mktemp("why")
    shutil.copytree(FIXTURES / "domains", root / "domains")
    home = Home(root / "home", root / "domains", f"sqlite:///{root}/registry.db", str(root / "artifacts"))
    traffic = Traffic(home, *open_domain(home, "tiny"))
    plan = open_version(traffic.domain, traffic.registry, actor="ada")
    for stage in STAGES:
        assert make_cell(traffic.registry, plan, stage.name, actor="ada").receipt.status == "succeeded"
    answered = turn("t1", TEXT, output={"intent": "refund", "urgent": True})
    traffic.write("a", [answered, turn("t2", "hello"), outcome("t1")])
    traffic.capture()
    late = turn("t3", "hi")
    late["answers"]["triage"] |= {"engine": "oracle", "version": None}
    traffic.write("b", [late], seal=False)
    return traffic


def test_an_answer_is_walked_back_to_the_rows_that_are_like_it(served: Traffic):
    found = explain_turn(served.registry, "tiny", "t1")
    assert found.kept.endswith("/traffic/tiny/1") and found.outcomes[0]["signal"] == "correction"
    (trail,) = found.trails
    assert trail.release.endswith("/release/tiny/1") and trail.train_rows > 20
    alike = [row.similarity for row in trail.nearest]
    assert len(alike) == 5 and alike == sorted(alike, reverse=True) and alike[0] > 0.3
    assert all(row.label_source == "gold" and row.label["intent"] for row in trail.nearest)
    assert {gate["gate"] for gate in trail.gates} >= {"floor", "target", "validity", "leakage"}


def test_an_answer_of_the_oracle_was_learned_from_nothing(served: Traffic):
    found = explain_turn(served.registry, "tiny", "t3")
    assert "segment" in found.kept and found.trails[0].release is None and found.trails[0].nearest == ()


def test_a_turn_that_was_not_kept_is_told(served: Traffic):
    with pytest.raises(BadInputError, match="was not kept"):
        explain_turn(served.registry, "tiny", "t9")


def test_the_command_tells_it(served: Traffic, workplace_of):
    place = workplace_of(served)
    env = {**place.env, "SLM_REGISTRY": served.home.registry_url, "SLM_ARTIFACTS": served.home.artifacts_url}
    command = [sys.executable, "-m", "slm_assets.cli", "why", "tiny", "--turn", "t1"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and "registry://local/default/release/tiny/1" in done.stdout.replace("\n", "")
    assert "correction" in done.stdout and "gold" in done.stdout
