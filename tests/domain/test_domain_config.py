"""The config as an organisation writes it: the RFC's own, every fault at once, and each bad input."""

from __future__ import annotations

import json
import os
import string
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rfc_domain import RFC_CONFIG, rfc_folder, write

from slm_assets.domain.config import ConfigFile, config_schema
from slm_assets.domain.documents import MAX_CONFIG_BYTES, Document
from slm_assets.domain.faults import parse
from slm_assets.domain.loading import CONFIG_NAME, list_domains, load_domain
from slm_assets.errors import BadInputError, ConfigError, Fault

MINIMAL = """\
slm_domain:
  name: tiny
  roles:
    - id: classify
      output_schema: contracts/out.json
  data: {seed_corpus: rows.jsonl}
  eval:
    floor: majority
    metrics: [{id: exact, target: 0.9}]
"""
OUT = {"type": "object", "required": ["label"], "properties": {"label": {"enum": ["yes", "no"]}}}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    files = {CONFIG_NAME: MINIMAL, "contracts/out.json": OUT, "rows.jsonl": '{"id": "1"}\n'}
    return write(tmp_path / "tiny", files)


def refused(folder: Path) -> list[Fault]:
    with pytest.raises(ConfigError) as caught:
        load_domain(folder)
    assert caught.value.exit_code == 2
    return caught.value.faults


def edited(folder: Path, old: str, new: str) -> Path:
    text = (folder / CONFIG_NAME).read_text()
    assert old in text
    (folder / CONFIG_NAME).write_text(text.replace(old, new))
    return folder


# The public config --------------------------------------------------------------------------------


def test_the_rfc_config_validates_as_it_stands(tmp_path: Path) -> None:
    domain = load_domain(rfc_folder(tmp_path))
    assert [role.id for role in domain.config.roles] == ["extract", "render"]
    assert domain.config.teachers[0].credential == "{{ teacher_token }}"
    assert domain.vocabulary("tools") == ["places.search", "hotels.search"]
    assert domain.vocabulary("outputs") == ["place_list", "hotel_list"]
    assert domain.hyperparams() == {"rank": 16, "learning_rate": 1e-4}
    assert domain.gates.margin == 0.02
    assert domain.prompt("extract") == "Extract the tool call.\n"
    assert domain.data_files() == {}
    assert domain.files["budgets/travel.yaml"] == b"usd_per_month: 20\n"


def test_what_the_rfc_config_lacks_is_a_warning(tmp_path: Path) -> None:
    warnings = load_domain(rfc_folder(tmp_path)).warnings
    assert {(fault.path, fault.message) for fault in warnings} == {
        ("$.slm_domain.data.seed_corpus", "no rows yet"),
        ("$.slm_domain.data.adversarial", "no rows yet"),
        ("$.slm_domain.eval.eval_sets.holdout", "no rows yet"),
        ("$.slm_domain.eval.eval_sets.golden_replay", "no rows yet"),
        ("$.slm_domain.roles[0].deterministic_oracle", "answered by NoETL only"),
        ("$.slm_domain.roles[1]", "role render has no deterministic_oracle"),
        ("$.slm_domain.eval.metrics[0]", "nothing can measure tool_match"),
        ("$.slm_domain.eval.metrics[1]", "nothing can measure arg_fidelity"),
    }
    assert all(fault.line for fault in warnings)


def test_a_budget_file_may_have_the_placeholder_as_its_very_name(tmp_path: Path) -> None:
    folder = write(rfc_folder(tmp_path), {"budgets/<domain>.yaml": "usd_per_month: 1\n"})
    assert load_domain(folder).files["budgets/<domain>.yaml"] == b"usd_per_month: 1\n"


def test_the_config_s_own_schema_accepts_it_and_knows_every_key() -> None:
    schema = config_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    config = yaml.safe_load(RFC_CONFIG)
    assert list(validator.iter_errors(config)) == []
    config["slm_domain"]["data"]["split"] = "fixed"
    assert list(validator.iter_errors(config)) == []
    config["slm_domain"]["data"]["splitt"] = "fixed"
    assert len(list(validator.iter_errors(config))) == 1


# Every fault at once ------------------------------------------------------------------------------


def test_every_fault_at_once_with_place_and_cure(tmp_path: Path) -> None:
    folder = rfc_folder(tmp_path)
    for old, new in {
        "seed_corpus: d": "seed_corpos: d",
        "prompts/extract.md": "../../etc/passwd",
        "prompts/render.md": "prompts/rendr.md",
        "kind: http": "kind: htp",
        '"{{ teacher_token }}"': "sk-abcdefgh1234567890ABCDEFGH",
        "sample_rate: 0.1": "sample_rate: 7",
        "0 3 * * 0": "0 3 * *",
        "ceiling: teacher.primary": "ceiling: teacher.primry",
        "\n  model: ": "\n  dataset_build: {run_fn: run_turn}\n  model: ",
        "kind: playbook": "kind: python_module",
        "{tools: contracts/tool_catalog.json": "{tools: {rol: x, role: extract, path: /tool_requests/*/tol}",
    }.items():
        edited(folder, old, new)
    write(folder, {"contracts/widgets/hotel_list.json": {"type": "objct"}})
    faults = {(fault.file, fault.path): fault for fault in refused(folder)}
    at = {path.removeprefix("$.slm_domain."): fault for (_, path), fault in faults.items()}
    assert set(at) == {
        "data.seed_corpos",
        "roles[0].system_prompt",
        "roles[1].system_prompt",
        "roles[0].deterministic_oracle.kind",
        "teachers[0].kind",
        "teachers[0].credential",
        "improvement.capture.sample_rate",
        "improvement.schedule",
        "eval.ceiling",
        "dataset_build",
        "vocab.tools.rol",
        "vocab.tools.path",
        "$.type",
        '$.oneOf[1]["$ref"]',
    }
    assert all(fault.line for (file, _), fault in faults.items() if file == CONFIG_NAME)
    assert at["data.seed_corpos"].cure == "did you mean seed_corpus?"
    assert at["roles[1].system_prompt"].cure == "did you mean prompts/render.md?"
    assert at["eval.ceiling"].cure == "did you mean teacher.primary?"
    assert at["vocab.tools.path"].cure == "did you mean /tool_requests/*/tool?"
    assert at["teachers[0].kind"].expected == "'http' or 'openai'"
    assert "kind: python" in at["roles[0].deterministic_oracle.kind"].cure
    assert "deterministic_oracle" in at["dataset_build"].cure
    assert "sk-abc" not in str(faults)


def test_line_numbers_are_those_of_the_file(tiny: Path) -> None:
    edited(tiny, "floor: majority", "flor: majority")
    [fault] = refused(tiny)
    line = (tiny / CONFIG_NAME).read_text().splitlines()[(fault.line or 0) - 1]
    assert "flor" in line
    assert str(fault).startswith(f"{CONFIG_NAME}:{fault.line} $.slm_domain.eval.flor: unknown key")


@pytest.mark.parametrize(
    ("old", "new", "cure"),
    [
        ("name: tiny", "name: tiny\n  champion: {}", "the incumbent of each role"),
        ("- id: classify", "- id: classify\n      input: the text", "input_schema"),
        ("- id: classify", "- id: classify\n      widget_schema_dir: widgets", "$ref"),
        ("eval:", "improvement: {train: {mode: mlx}}\n  eval:", "model.recipe"),
        ("eval:", "teachers: [{id: a, api_key: sk-123}]\n  eval:", "credential"),
        ("seed_corpus: rows.jsonl", "seed_corpus: rows.jsonl, label_source: gold", "data.fields.label_source"),
        ("floor: majority", "quantization: gguf", "it belongs at slm_domain.serving.quantization"),
        ("floor: majority", "zzz: 1", "keys here: candidate, floor, ceiling"),
    ],
)
def test_a_key_of_another_system_is_named_with_its_replacement(tiny: Path, old: str, new: str, cure: str) -> None:
    faults = refused(edited(tiny, old, new))
    assert len(faults) == 1
    assert cure in faults[0].cure
    assert "sk-123" not in str(faults[0])


@pytest.mark.parametrize(
    ("old", "new", "path", "expected"),
    [
        ("name: tiny", "name: Tiny Domain", "name", "match pattern"),
        ("  name: tiny\n", "", "name", ""),
        ("{seed_corpus: rows.jsonl}", "{seed_corpus: 5}", "data.seed_corpus", "a valid string or a valid list"),
        ("{seed_corpus: rows.jsonl}", "{seed_corpus: [rows.jsonl, 5]}", "data.seed_corpus[1]", "string"),
        ("target: 0.9", 'target: "0.9"', "eval.metrics[0].target", "valid number"),
        ("target: 0.9", "target: true", "eval.metrics[0].target", "valid number"),
        ("eval:", "vocab: {a: {role: classify}}\n  eval:", "vocab.a.path", ""),
    ],
)
def test_wrong_values(tiny: Path, old: str, new: str, path: str, expected: str) -> None:
    [fault] = refused(edited(tiny, old, new))
    assert fault.path == f"$.slm_domain.{path}"
    assert expected in fault.expected


# Bad YAML -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("slm_domain:\n  name: tiny\n   roles: [\n", "not YAML", 3),
        ("slm_domain: {name: tiny\n", "not YAML", 2),
        ("slm_domain:\n  name: a\n  name: b\n", "duplicate key", 3),
        ("slm_domain:\n  1: a\n", "a key must be text", 2),
        ("slm_domain:\n  name: !!python/object:os.system x\n", "tags are refused", 2),
        ("slm_domain: .inf\n", "not a finite number", 1),
        ("slm_domain: 99999999999999999999999\n", "an integer beyond 64 bits", 1),
        ("slm_domain: &a [*a]\n", "aliases expand too far", 1),
        ("a: 1\n---\nb: 2\n", "not YAML", 2),
        ("", "the file is empty", None),
        ("- a\n- b\n", "wrong value", 1),
        ("[" * 5000, "nested too deep", None),
        ("slm_domain: " + "{a: " * 100 + "1" + "}" * 100, "nested too deep", None),
    ],
)
def test_yaml_that_cannot_be_used(tiny: Path, text: str, message: str, line: int | None) -> None:
    (tiny / CONFIG_NAME).write_text(text)
    fault = refused(tiny)[0]
    assert message in fault.message
    assert fault.line == line


def test_an_alias_bomb_is_refused_before_it_expands(tiny: Path) -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (tiny / CONFIG_NAME).write_text("\n".join(levels))
    assert "aliases expand too far" in refused(tiny)[0].message


def test_a_few_aliases_are_fine(tiny: Path) -> None:
    edited(tiny, "name: tiny", "name: tiny\n  owners: &team [ml]\n  description: *x".replace("*x", "a"))
    edited(tiny, "metrics: [{id: exact, target: 0.9}]", "metrics: [&m {id: exact, target: 0.9}]")
    assert load_domain(tiny).config.owners == ["ml"]


def test_large_and_binary_files(tiny: Path) -> None:
    (tiny / CONFIG_NAME).write_bytes(b"# " + b"x" * MAX_CONFIG_BYTES)
    assert refused(tiny)[0].message == "file too large"
    (tiny / CONFIG_NAME).write_bytes(b"slm_domain: \xff\xfe\n")
    assert refused(tiny)[0].message == "not UTF-8"


def test_words_stay_words(tiny: Path) -> None:
    edited(tiny, "name: tiny", "name: tiny\n  description: no\n  owners: [on, 2026-07-10, 0123]")
    config = load_domain(tiny).config
    assert (config.description, config.owners) == ("no", ["on", "2026-07-10", "0123"])


# Paths --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("../out.json", "leaves the domain's folder"),
        ("contracts/../../out.json", "leaves the domain's folder"),
        ("/etc/passwd", "absolute path"),
        ("~/out.json", "absolute path"),
        ("C:/out.json", "absolute path"),
        ("contracts", "no such file"),
        ("contracts/missing.json", "no such file"),
        ('"a\\\\b.json"', "unusable path"),
        ('"a\\0b.json"', "unusable path"),
        ("x" * 300, "cannot be read"),
    ],
)
def test_a_path_out_of_the_folder(tiny: Path, path: str, message: str) -> None:
    (tiny.parent / "out.json").write_text("{}")
    faults = refused(edited(tiny, "contracts/out.json", path))
    assert [(fault.path, fault.message) for fault in faults] == [("$.slm_domain.roles[0].output_schema", message)]


def test_a_symlink_may_stay_inside_but_not_lead_out(tiny: Path) -> None:
    (tiny / "inside.json").symlink_to("contracts/out.json")
    assert "inside.json" in load_domain(edited(tiny, "contracts/out.json", "inside.json")).files
    (tiny.parent / "secret.json").write_text(json.dumps(OUT))
    (tiny / "outside.json").symlink_to("../secret.json")
    [fault] = refused(edited(tiny, "inside.json", "outside.json"))
    assert fault.message == "leads out of the domain's folder"
    (tiny / "loop.json").symlink_to("loop.json")
    assert refused(edited(tiny, "outside.json", "loop.json"))


def test_a_symlinked_folder_of_data_may_not_lead_out(tiny: Path) -> None:
    write(tiny.parent / "elsewhere", {"a.jsonl": "{}\n"})
    (tiny / "rows").symlink_to("../elsewhere")
    [fault] = refused(edited(tiny, "rows.jsonl", "rows"))
    assert fault.message == "leads out of the domain's folder"
    (tiny / "rows").unlink()
    (tiny / "rows").mkdir()
    (tiny / "rows" / "a.jsonl").symlink_to("../../elsewhere/a.jsonl")
    assert refused(tiny)[0].message == "leads out of the domain's folder"


def test_a_pipe_is_not_waited_for(tiny: Path) -> None:
    os.mkfifo(tiny / "pipe.json")
    assert refused(edited(tiny, "contracts/out.json", "pipe.json"))[0].message == "no such file"


def test_paths_are_read_in_their_one_spelling(tiny: Path) -> None:
    domain = load_domain(edited(tiny, "contracts/out.json", ".//contracts/./out.json"))
    assert domain.config.roles[0].output_schema == "contracts/out.json"
    assert set(domain.files) == {CONFIG_NAME, "contracts/out.json"}


def test_no_folder_no_config(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no such folder"):
        load_domain(tmp_path / "nowhere")
    assert refused(tmp_path)[0].message == "no such file"
    assert list_domains(tmp_path / "nowhere") == []


# Whatever is written, an answer -------------------------------------------------------------------

WORDS = st.text(string.ascii_lowercase + "_.$[]\"' ", max_size=12)
HOSTILE = st.sampled_from(
    ["'; touch PWNED; '", '"', "$(touch PWNED)", "`touch PWNED`", "a\nb", "{{ 7*7 }}", "{% raw %}", ";", "..", "../..",
     "/etc/passwd", "file:///etc/passwd", "\0", "\x85", "\u202e", "x" * 1_000_000]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS | HOSTILE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
RFC = yaml.safe_load(RFC_CONFIG)


def spots(value: object, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(spot for key, child in inside for spot in spots(child, (*at, key)))]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(spots(RFC)), WORDS, VALUES)
def test_any_value_at_any_place_is_accepted_or_named(place: tuple[str | int, ...], key: str, value: object) -> None:
    config = json.loads(json.dumps(RFC))
    target = config
    for part in place[:-1]:
        target = target[part]
    if place and isinstance(target[place[-1]], dict):
        target[place[-1]][key] = value
    elif place:
        target[place[-1]] = value
    _, faults = parse(ConfigFile, Document(CONFIG_NAME, config))
    for fault in faults:
        assert fault.path.startswith("$")
        assert fault.message
    try:
        ConfigFile.model_validate(config)
    except ValueError:
        assert faults
    else:
        assert faults == []


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=200) | VALUES.map(yaml.safe_dump))
def test_any_text_is_a_fault_and_never_a_crash(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / CONFIG_NAME).write_text(text, encoding="utf-8")
    assert refused(folder)


def test_loading_stays_light() -> None:
    heavy = "{'pandas', 'numpy', 'scipy', 'sklearn', 'pyarrow', 'daft', 'dagster', 'evidently'}"
    code = f"import sys, slm_assets.domain.loading; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
