"""The rung on a network of random weights: it learns, survives a kill, goes on from an incumbent, answers alike."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slm_assets import canonical
from slm_assets.errors import ArtifactError, BadInputError
from slm_assets.models.ladder import Training, rung
from tests.lora.tiny import tiny_base

pytest.importorskip("torch", reason="language models need slm-assets[lora]: make test-lora")

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"kind": {"enum": ["red", "green"]}, "n": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["kind", "n"],
    "additionalProperties": False,
}
QUICK = {"rank": 4, "alpha": 8, "batch": 4, "eval_rows": 6, "learning_rate": 3e-3, "dropout": 0.1}


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLM_MODELS", str(tmp_path / "models"))
    tiny_base(tmp_path / "models")
    return tmp_path / "models"


def training(**changes: Any) -> Training:
    pairs = [({"text": f"{kind} {n}"}, {"kind": kind, "n": n}) for n in range(10) for kind in ("red", "green")]
    made = Training(
        pairs, SCHEMA, validation=pairs[:6], hyperparams={**QUICK, "max_steps": 5, "eval_every": 5}, recipe="lora",
        role="read", base=("tiny", None), prompt="Read the colour and the number.",
    )  # fmt: skip
    return replace(made, **changes)


def files(folder: Path) -> dict[str, str]:
    return {path.name: canonical.digest_file(path) for path in sorted(folder.iterdir())}


def test_five_steps_saved_and_loaded(models: Path, tmp_path: Path) -> None:
    lora = rung("lora")
    model = lora.train(training())
    lora.save(model, tmp_path / "a")
    assert set(files(tmp_path / "a")) == {
        "model.json", "config.json", "tokenizer.json", "model.safetensors", "adapter.safetensors", "grammar.lark"
    }  # fmt: skip
    assert model.report["steps"] == 5 and len(model.report["losses"]) == 5
    assert model.report["losses"][-1] < model.report["losses"][0]
    assert model.report["validation"]["constrained"]["valid"] == 1.0
    assert model.report["validation"]["unconstrained"]["valid"] < 1.0, "five steps teach no JSON: nothing was compared"
    asked = [{"text": "red 7"}, {"text": "nothing of it"}, {"other": [1, None]}]
    loaded = lora.load(tmp_path / "a", SCHEMA)
    assert loaded.predict_many(asked) == model.predict_many(asked) == [loaded.predict(value) for value in asked]
    assert all(one.valid and 0 <= one.confidence <= 1 for one in loaded.predict_many(asked))
    lora.save(lora.train(training()), tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b"), "equal training gives equal files"
    with pytest.raises(ArtifactError, match="another contract"):
        lora.load(tmp_path / "a", {**SCHEMA, "title": "changed"})


def test_it_learns(models: Path) -> None:
    """Enough steps by a full fine-tuning, and the answers are right: ended by its own exact match."""
    settings = {"rank": 0, "alpha": 0, "dropout": 0.0, "batch": 10, "epochs": 90.0, "eval_every": 30, "eval_rows": 20,
                "learning_rate": 5e-3, "patience": 3}  # fmt: skip
    own = training(recipe="full", hyperparams=settings)
    model = rung("full").train(replace(own, validation=own.pairs))
    assert model.report["validation"]["constrained"]["exact"] >= 0.9, model.report["curve"]
    assert model.predict({"text": "green 4"}).output == {"kind": "green", "n": 4}
    assert model.report["trainable"] == model.report["parameters"]


def test_killed_and_resumed_gives_the_same(models: Path, tmp_path: Path) -> None:
    hyper = {**QUICK, "max_steps": 8, "eval_every": 2}
    whole = rung("lora").train(training(hyperparams=hyper))
    rung("lora").save(whole, tmp_path / "whole")
    child = os.fork()
    if child == 0:  # a process of our own that has torch already: importing it anew takes longer than the test

        def tell(_share: float, note: str) -> None:
            if note.startswith("step 5 "):
                os.kill(os.getpid(), signal.SIGKILL)

        rung("lora").train(training(hyperparams=hyper, progress=tell, state=tmp_path / "state"))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    resumed = rung("lora").train(training(hyperparams=hyper, state=tmp_path / "state"))
    assert resumed.measured["resumed_at_step"] == 4.0
    rung("lora").save(resumed, tmp_path / "resumed")
    assert files(tmp_path / "whole") == files(tmp_path / "resumed")
    other = rung("lora").train(training(hyperparams={**hyper, "max_steps": 6}, state=tmp_path / "state"))
    assert other.measured["resumed_at_step"] == 0.0, "the state of another training is none"


def test_a_torn_state_is_none(models: Path, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "state.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{torn")
    model = rung("lora").train(training(state=tmp_path / "state"))
    assert model.measured["resumed_at_step"] == 0.0


def test_it_goes_on_from_the_incumbent(models: Path, tmp_path: Path) -> None:
    lora = rung("lora")
    first = lora.train(training(hyperparams={**QUICK, "max_steps": 20, "eval_every": 10}))
    lora.save(first, tmp_path / "first")
    warm = lora.train(training(incumbent=tmp_path / "first"))
    assert warm.report["warm_start"] == canonical.digest_file(tmp_path / "first" / "adapter.safetensors")
    cold = lora.train(training())
    assert warm.report["losses"][0] < cold.report["losses"][0]
    other = lora.train(training(incumbent=tmp_path / "first", hyperparams={**QUICK, "rank": 2, "max_steps": 1}))
    assert other.report["warm_start"] == "the incumbent's adapter has another shape"
    (tmp_path / "linear").mkdir()
    none = lora.train(training(incumbent=tmp_path / "linear", hyperparams={**QUICK, "max_steps": 1}))
    assert "no language model" in none.report["warm_start"]


def test_one_model_for_two_roles(models: Path, tmp_path: Path) -> None:
    from slm_assets.models.lm import rung as lm

    short = {"type": "array", "items": {"enum": ["x", "y"]}, "maxItems": 2}
    second = replace(training(), schema=short, pairs=[({"k": i}, ["x"]) for i in range(3)], validation=(), role="list")
    found = lm.train_together({"read": training(), "list": second})
    for role, model in found.items():
        lm.save(model, tmp_path / role)
    weights = {canonical.digest_file(tmp_path / role / "model.safetensors") for role in found}
    assert len(weights) == 1
    read, listed = (lm.load(tmp_path / role, s) for role, s in (("read", SCHEMA), ("list", short)))
    assert read.network is listed.network, "one network in memory"
    assert read.predict({"text": "red 1"}).valid and listed.predict({"k": 1}).valid
    assert isinstance(listed.predict({"k": 1}).output, list)


def test_roles_take_turns() -> None:
    from slm_assets.models.lm.settings import settings_of
    from slm_assets.models.lm.tuning import Example, _rows

    settings = settings_of("lora", {"batch": 4})
    many, few = [Example([1], [i]) for i in range(100)], [Example([2], [i]) for i in range(3)]
    seen = [row for step in range(30) for row in _rows([many, few], settings, step, 0, 0, seed=0)]
    assert sum(row.prompt == [1] for row in seen) == sum(row.prompt == [2] for row in seen) == 60
    assert len({row.answer[0] for row in seen if row.prompt == [1]}) == 60, "no row comes twice before all came once"


def test_a_long_answer_weighs_no_more_than_a_short_one(models: Path) -> None:
    import torch

    from slm_assets.models.lm import network
    from slm_assets.models.lm.tuning import Example, _loss

    net = network.load(models / "tiny", canonical.read_json(models / "tiny" / "config.json"))
    long, short = Example([1, 2], [5] * 40), Example([3, 4, 5], [7, 8])
    with torch.inference_mode():
        alone = [float(_loss(net, [row], "cpu")) for row in (long, short)]
        assert float(_loss(net, [long, short], "cpu")) == pytest.approx(sum(alone) / 2, rel=1e-4)
        shuffled = Example([9, 9], [5] * 40)
        assert float(_loss(net, [shuffled], "cpu")) != pytest.approx(alone[0], rel=1e-6), "the prompt is read"


def test_rows_that_cannot_be_learned_are_counted(models: Path) -> None:
    own = training()
    odd = [*own.pairs, ({"text": "x"}, {"kind": "blue", "n": 1}), ({"text": "long " * 500}, {"kind": "red", "n": 1})]
    model = rung("lora").train(replace(own, pairs=odd, hyperparams={**QUICK, "max_steps": 1, "max_tokens": 400}))
    assert (model.report["n"], model.report["unwritable"], model.report["too_long"]) == (22, 1, 1)
    with pytest.raises(BadInputError, match="none of 20 rows can be learned"):
        rung("lora").train(replace(own, hyperparams={**QUICK, "max_tokens": 16}))


def test_wrong_settings_are_named(models: Path) -> None:
    with pytest.raises(BadInputError, match=r"hyperparams\.rnak.*\n.*known: .*rank"):
        rung("lora").train(training(hyperparams={"rnak": 3}))
    with pytest.raises(BadInputError, match="rank is 0 with recipe full"):
        rung("full").train(training(recipe="full", hyperparams={"rank": 4}))
    with pytest.raises(BadInputError, match=r"config\.json.*not found"):
        rung("lora").train(training(base=("qwen2.5", "0.5B")))
    for outside in ("../tiny", "/etc", "~/x"):
        with pytest.raises(BadInputError):
            rung("lora").train(training(base=(outside, None)))
    with pytest.raises(BadInputError, match="qlora needs"):
        rung("qlora").train(training(recipe="qlora"))
