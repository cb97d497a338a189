"""A language model through the whole chain, as a user runs it: trained, judged, bundled, served, and gone on from."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.conftest import Workplace
from tests.lora.tiny import tiny_base

pytest.importorskip("torch", reason="language models need slm-assets[lora]: make test-lora")

HYPER = "{rank: 4, alpha: 8, batch: 4, max_steps: 5, eval_every: 5, eval_rows: 4, learning_rate: 3.0e-3}"
GATES = "margin: 1.0\nconfidence: 0.8\ntarget_by: point\nlatency: budget\nlatency_p95_ms: 60000\n"


def language_model(recipe: str) -> Callable[[str], str]:
    """The tiny domain with a language model in place of its rung, and gates that any valid answer passes."""

    def change(config: str) -> str:
        model = f"model: {{recipe: {recipe}, base_family: tiny, hyperparams: {HYPER}}}"
        return config.replace("model: {recipe: linear}", model).replace("target: 0.8", "target: 0.0, margin: 1.0")

    return change


@pytest.fixture
def place(workplace: Workplace) -> Workplace:
    tiny_base(workplace.home / "models")
    (workplace.domains / "tiny" / "policies" / "promotion_gates.yaml").write_text(GATES)
    workplace.edit("tiny", language_model("lora"))
    rows = workplace.domains / "tiny" / "data" / "messages.jsonl"
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:80]))
    return workplace


def test_the_chain(place: Workplace) -> None:
    done = place.slm("run", "tiny", "--json", timeout=1500)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    first = json.loads(done.stdout)
    assert first["outcome"] == "promoted"
