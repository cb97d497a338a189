"""The documentation says what the code does."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml
from pages import FENCE

from slm_assets.domain.budget import Budget
from slm_assets.domain.cluster import Cluster
from slm_assets.domain.config import ConfigFile
from slm_assets.domain.ladder import Auto, Cascade
from slm_assets.domain.policies import PromotionGates
from slm_assets.domain.redaction import RedactionPolicy
from slm_assets.domain.simulation import Simulation
from slm_assets.domain.triggers import RetrainTriggers

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"


def _generator():
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATED = _generator().pages()


@pytest.mark.parametrize("path", sorted(GENERATED), ids=str)
def test_a_generated_page_is_what_the_code_says(path):
    assert (DOCS / path).read_text() == GENERATED[path], "stale: run `python docs/generate.py`"


def test_every_key_and_every_command_has_its_place():
    from typer.main import get_command

    from slm_assets.cli.commands import app
    from slm_assets.domain.config import DomainConfig
    from slm_assets.domain.keys import walk

    config = "".join(text for path, text in GENERATED.items() if path.parts[0] == "config")
    for key, _ in walk(DomainConfig):
        assert f"| `{key.rpartition('.')[2]}` |" in config, key
    for name in get_command(app).commands:
        assert f"`slm {name}" in GENERATED[Path("cli.md")], name


def test_the_examples_of_the_config_pages_are_a_config():
    blocks: dict = {}
    for path in sorted(DOCS.glob("config/*.md")):
        if path.name == "rules.md":
            continue
        for _, _, text in FENCE.findall(path.read_text()):
            example = yaml.safe_load(text)
            if path.name == "policies.md":
                PromotionGates.model_validate(example)
            elif path.name == "triggers.md":
                RetrainTriggers.model_validate(example)
            elif path.name == "budget.md":
                Budget.model_validate(example)
            elif path.name == "cluster.md":
                Cluster.model_validate(example)
            elif path.name == "simulation.md":
                Simulation.model_validate(example)
            elif path.name == "redaction.md":
                RedactionPolicy.model_validate(example)
            elif path.name == "ladder.md":
                Cascade.model_validate(example["cascade"])
                Auto.model_validate(example["auto"])
            elif path.name == "index.md":
                ConfigFile.model_validate(example)
            else:
                blocks |= example
    ConfigFile.model_validate({"slm_domain": {"name": "desk", **blocks}})
    assert len(blocks) == 9


def test_the_example_of_the_rules_page_is_an_oracle():
    from slm_assets.models.rules import RulesOracle

    _, _, example = FENCE.findall((DOCS / "config" / "rules.md").read_text())[0]
    oracle = RulesOracle(yaml.safe_load(example))
    assert oracle.predict({"text": "urgent: lt-1234"}).output == {
        "topic": "hardware",
        "urgent": True,
        "asset": "lt-1234",
    }
    assert oracle.predict({"text": "hello"}).output["topic"] == "software"


def test_the_table_of_groups_is_what_the_gates_ask_for():
    from slm_assets.gates.intervals import n_to_certify
    from slm_assets.gates.verdicts import confidence_at_look

    page = (DOCS / "gates.md").read_text()
    looks = [int(k) for k in re.findall(r"look (\d+) \|", page)]
    rows = re.findall(r"^\| (\d+) points \| (.*) \|$", page, re.MULTILINE)
    assert len(rows) == 5 and looks == [1, 2, 3, 5]
    for points, cells in rows:
        asked = [n_to_certify(1 - int(points) / 100, confidence_at_look(0.95, k)) for k in looks]
        assert [int(cell) for cell in cells.split(" | ")] == asked


def test_every_link_of_the_readme_leads_somewhere():
    for page in ROOT.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_of_the_docs_is_in_the_menu():
    menu = (ROOT / "mkdocs.yml").read_text()
    for page in DOCS.rglob("*.md"):
        assert page.relative_to(DOCS).as_posix() in menu


def test_make_help_describes_every_target():
    text = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z]+):", text, re.MULTILINE)
    described = re.findall(r"^([a-z]+):.*##", text, re.MULTILINE)
    assert targets == described and {"demo", "test", "ui", "lint", "bench", "docs", "help"} <= set(targets)


def test_locks_carry_hashes_and_no_address():
    for lock in (ROOT / "requirements").glob("*.txt"):
        text = lock.read_text()
        assert "--hash=sha256:" in text
        assert not re.search(r"https?://|--index-url|--find-links", text), lock.name
