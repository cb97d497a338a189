"""`recipe: auto` and `recipe: cascade` from the config to a verdict, an answer, and the table of rungs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from slm_assets.registry.home import Home
from slm_assets.stages.climbing.climb import choose
from slm_assets.stages.validate import validate_domain
from tests.conftest import FIXTURES

BLOCKS = """
    hyperparams:
      auto: {rungs: [blunt, linear, cascade], stop: STOP}
      cascade: {rungs: [blunt, linear], max_loss: 0.3}
""".replace("blunt", "{recipe: linear, name: blunt, hyperparams: {max_features: 5, char_weight: 0, path_weight: 1}}")


def with_blocks(config: str, recipe: str, stop: str = "bound") -> str:
    return config.replace("model: {recipe: linear}", f"model:\n    recipe: {recipe}{BLOCKS.replace('STOP', stop)}")


def line(rung: str, verdict: str, primary: float, *, by_point: bool = True) -> dict[str, Any]:
    return {"rung": rung, "verdict": verdict, "primary": primary, "by_point": by_point}


@pytest.mark.parametrize(
    ("tried", "kept", "why"),
    [
        ([line("a", "fail", 0.5, by_point=False), line("b", "pass", 0.9)], 1, "passes every gate"),
        ([line("a", "insufficient", 0.92), line("b", "pass", 0.93)], 1, "passes every gate"),
        ([line("a", "insufficient", 0.92), line("b", "insufficient", 0.93)], 0, "none is certain"),
        ([line("a", "insufficient", 0.80), line("b", "insufficient", 0.93)], 1, "none is certain"),
        ([line("a", "insufficient", 0.92, by_point=False), line("b", "insufficient", 0.9)], 1, "none is certain"),
        ([line("a", "fail", 0.5, by_point=False), line("b", "fail", 0.7, by_point=False)], 1, "none passes"),
        ([line("a", "fail", 0.7, by_point=False), line("b", "fail", 0.7, by_point=False)], 0, "none passes"),
    ],
)
def test_the_cheapest_rung_that_is_good_enough_is_kept(tried, kept, why) -> None:
    chosen, reason = choose(tried, 0.02)
    assert chosen == kept and why in reason


@pytest.fixture
def home(tmp_path: Path) -> Home:
    shutil.copytree(FIXTURES / "domains", tmp_path / "domains")
    return Home(tmp_path / "home", tmp_path / "domains", f"sqlite:///{tmp_path}/r.db", str(tmp_path / "a"))


def faults(home: Home, model: str, *, oracle: bool = True) -> list[tuple[str, str, int | None]]:
    path = home.domains / "tiny" / "slm.config.yaml"
    text = path.read_text().replace("model: {recipe: linear}", model)
    if not oracle:
        text = text.replace("      deterministic_oracle: {kind: rules, path: oracle/triage.rules.yaml}\n", "")
    path.write_text(text)
    found = [fault for fault in validate_domain(home, "tiny") if fault.severity == "error"]
    return [(fault.path.removeprefix("$.slm_domain.model."), fault.message, fault.line) for fault in found]


@pytest.mark.parametrize("recipe", ["auto", "cascade"])
def test_blocks_of_the_ladder_are_valid(home, recipe) -> None:
    path = home.domains / "tiny" / "slm.config.yaml"
    path.write_text(with_blocks(path.read_text(), recipe))
    assert [fault for fault in validate_domain(home, "tiny") if fault.severity == "error"] == []


@pytest.mark.parametrize(
    ("block", "fault"),
    [
        ("auto: {rungs: [linear, liner]}", ("hyperparams.auto.rungs[1]", "'liner' is no rung of this release")),
        ("auto: {rungs: [linear, linear]}", ("hyperparams.auto.rungs[1]", "two rungs are named 'linear'")),
        ("auto: {rungs: [linear, auto]}", ("hyperparams.auto.rungs[1]", "'auto' is no rung of this release")),
        ("auto: {stop: soon}", ("hyperparams.auto.stop", "wrong value")),
        ("auto: {rungs: [{recipe: linear, nme: b}]}", ("hyperparams.auto.rungs[0].nme", "unknown key")),
        ("cascade: {rungs: [linear]}", ("hyperparams.cascade.rungs", "1 of at least 2 rungs")),
        ("cascade: {max_loss: 0}", ("hyperparams.cascade.max_loss", "wrong value")),
    ],
)
def test_a_wrong_block_is_an_error_with_its_place_and_line(home, block, fault) -> None:
    model = f"model:\n    recipe: auto\n    hyperparams:\n      auto: {{rungs: [linear]}}\n      {block}"
    if block.startswith("auto"):
        model = f"model:\n    recipe: auto\n    hyperparams:\n      {block}"
    (found,) = faults(home, model)
    assert found[:2] == fault
    assert found[2] == (home.domains / "tiny" / "slm.config.yaml").read_text().split(block)[0].count("\n") + 1


def test_a_cascade_cannot_end_in_an_oracle_that_is_not_there(home) -> None:
    block = "{rungs: [linear, {recipe: linear, name: b}], then: oracle}"
    model = f"model:\n    recipe: cascade\n    hyperparams: {{cascade: {block}}}"
    (found,) = faults(home, model, oracle=False)
    assert found[:2] == ("hyperparams.cascade.then", "no oracle can answer at the end")


def test_hyperparameters_in_a_file_are_faulted_there(home) -> None:
    (home.domains / "tiny" / "ladder.yaml").write_text("linear: {c: 2}\nauto:\n  rungs: [linear, liner]\n")
    path = home.domains / "tiny" / "slm.config.yaml"
    path.write_text(path.read_text().replace("{recipe: linear}", "{recipe: auto, hyperparams: ladder.yaml}"))
    (found,) = [fault for fault in validate_domain(home, "tiny") if fault.severity == "error"]
    assert (found.file, found.path, found.line) == ("ladder.yaml", "$.auto.rungs[1]", 3)
