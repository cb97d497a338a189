"""`slm bench` on a benchmark of a few rows: another rung, and the learning curve."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from slm_assets import bench, bench_curve
from slm_assets.errors import BadInputError

CONFIG = """
slm_domain:
  name: mail
  description: What a mail is about.
  roles: [{id: kind, output_schema: kind.schema.json}]
  data:
    seed_corpus: data/train.jsonl
    fields: {input: {text: /text}, labels: {kind: {about: /about}}}
    split: {kind: fixed, validation_ratio: 0, group_by: [/text]}
  model: {recipe: linear, hyperparams: {char_ngrams: 3}}
  eval:
    floor: majority
    eval_sets: {holdout: data/test.jsonl}
    metrics: [{id: topic, role: kind, path: /about, target: 0.9, primary: true}]
"""
WORDS = {"pets": ["cat", "dog", "hen", "pony"], "food": ["soup", "rice", "plum", "fig"]}


@pytest.fixture
def benchmarks(tmp_path: Path) -> Path:
    """benchmarks/mail, and its data beside it; the test file is none that could be read."""
    rng = random.Random(0)
    folder, data = tmp_path / "benchmarks" / "mail", tmp_path / "data"
    folder.mkdir(parents=True)
    data.mkdir()
    (folder / "slm.config.yaml").write_text(CONFIG)
    (folder / "published.json").write_text("{}")
    schema = {"type": "object", "properties": {"about": {"enum": sorted(WORDS)}}, "required": ["about"]}
    (folder / "kind.schema.json").write_text(json.dumps(schema))
    rows = []
    for n in range(160):
        about = rng.choice(sorted(WORDS))
        rows.append(
            {"text": f"mail {n} on a {rng.choice(WORDS[about])} and a {rng.choice(WORDS[about])}", "about": about}
        )
    (data / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (data / "test.jsonl").write_text("not to be read")
    return tmp_path


def curve(place: Path, *recipes: str):
    return bench_curve.learning_curve("mail", recipes=recipes, data=place / "data", root=place / "benchmarks")


def test_the_curve_scores_growing_shares_of_train_and_reads_no_test_file(benchmarks, monkeypatch):
    monkeypatch.setenv("SLM_HOME", str(benchmarks / "home"))
    monkeypatch.setattr(bench_curve, "SHARES", (0.2, 1.0))
    result = curve(benchmarks, "linear:c=2")
    first, last = result["points"]
    assert (first["recipe"], first["share"], last["share"]) == ("linear:c=2", 0.2, 1.0)
    assert 0 < first["n_train"] < last["n_train"] <= 160 * 0.9
    for point in result["points"]:
        topic = point["metrics"]["topic"]
        assert 0 <= topic["low"] <= topic["value"] <= topic["high"] <= 1
        assert topic["n"] == first["metrics"]["topic"]["n"] >= 16, "every share is scored on the same rows"
    assert last["metrics"]["topic"]["value"] == 1.0


def test_a_recipe_replaces_that_of_the_config_with_its_hyperparameters(benchmarks):
    place, data = bench.places("mail", benchmarks / "data", benchmarks / "benchmarks")
    with bench.laid_out(place, data, "encoder:quantize=int8,c=0.25") as laid:
        model = bench.load_domain(laid).config.model
        assert model.recipe == "encoder"
        assert model.hyperparams == {"char_ngrams": 3, "quantize": "int8", "c": 0.25}
    with bench.laid_out(place, data) as laid:
        assert bench.named(laid, None) == "linear"


@pytest.mark.parametrize(
    ("recipe", "said"),
    [("magic", "no rung 'magic'"), ("linear:c", "cannot be set so"), ("linear:=1", "cannot be set so")],
)
def test_a_recipe_that_is_none_is_refused(benchmarks, recipe, said):
    with pytest.raises(BadInputError, match=said):
        curve(benchmarks, recipe)


@pytest.mark.parametrize("arguments", [("--curve", "--final"), ("--recipe", "linear", "--recipe", "encoder")])
def test_what_does_not_go_together_is_refused(workplace, arguments):
    done = workplace.slm("bench", "mail", *arguments)
    assert done.returncode == 2 and "curve" in done.stderr + done.stdout
