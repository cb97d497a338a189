"""The tutorial does what it says: its files are written, its commands run, its output appears."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pages import missing, steps

PAGE = Path(__file__).parent.parent.parent / "docs" / "tutorial.md"


@pytest.mark.slow
def test_the_tutorial_as_written_ends_with_a_promoted_improved_and_rolled_back_model(tmp_path):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SLM_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = clean | {"PATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NO_COLOR": "1"}
    ran = 0
    for step in steps(PAGE.read_text()):
        if step.path:
            target = tmp_path / step.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(step.text)
            continue
        command = ["bash", "-euo", "pipefail", "-c", step.text]
        done = subprocess.run(command, cwd=tmp_path, env=env, text=True, capture_output=True, timeout=300)
        assert done.returncode == 0, f"{step.text}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        absent = missing(step.expected, done.stdout)
        assert not absent, f"{step.text}\nnot printed: {absent}\n{done.stdout[-6000:]}"
        ran += 1
    assert ran >= 10


def test_a_page_that_shows_what_is_not_printed_is_caught():
    printed = "│ floor │ PASS │ 0.9710 │ why │\nv2 promoted in 0.31 s\n"
    assert missing("floor PASS 0.5\nv2 promoted in …", printed) == []
    assert missing("floor FAIL …", printed) == ["floor FAIL …"]
    assert missing("v2 promoted\nfloor", printed) == ["floor"], "the order counts"


def test_every_command_of_the_tutorial_is_followed_by_the_output_that_it_prints():
    found = list(steps(PAGE.read_text()))
    assert all(step.expected for step in found if not step.path)
    assert {step.path for step in found} >= {"domains/it_desk/slm.config.yaml", "make_rows.py"}
