"""A loaded domain: what it offers, its bundle, its data, and the checks across its parts."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import pytest
from rfc_domain import rfc_folder, write

from slm_assets.domain.checks import check_domain, rows_to_certify
from slm_assets.domain.cron import cron_fault
from slm_assets.domain.loading import (
    CONFIG_NAME,
    Domain,
    domain_folder,
    list_domains,
    load_domain,
    read_bundle,
    write_bundle,
)
from slm_assets.domain.secrets import credential_fault, url_fault
from slm_assets.errors import BadInputError, ConfigError

OUT = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"label": {"enum": ["red", "green", "blue"]}, "args": {"type": "object"}},
}
ROLE = "{id: r, output_schema: contracts/out.json, deterministic_oracle: {kind: rules, path: oracle.yaml}}"
RULES = "rules:\n  - {id: a, when: \"text == 'blue'\", then: {label: red}}\ndefault: {label: \"='gr' + 'green'\"}\n"


def config(**parts: str) -> str:
    """A config of one role with other parts than usual."""
    usual = {
        "roles": f"[{ROLE}]",
        "data": "{seed_corpus: rows.jsonl}",
        "eval": "{metrics: [{id: exact, target: 0.9}]}",
    }
    return "slm_domain:\n  name: tiny\n" + "".join(f"  {k}: {v}\n" for k, v in {**usual, **parts}.items())


def folder(tmp_path: Path, files: dict[str, Any] | None = None, **parts: str) -> Path:
    usual = {"contracts/out.json": OUT, "oracle.yaml": RULES, "rows.jsonl": "{}\n", CONFIG_NAME: config(**parts)}
    return write(tmp_path / "tiny", {**usual, **(files or {})})


def load(tmp_path: Path, files: dict[str, Any] | None = None, **parts: str) -> Domain:
    return load_domain(folder(tmp_path, files, **parts))


def errors(tmp_path: Path, files: dict[str, Any] | None = None, **parts: str) -> list[tuple[str, str]]:
    """(path under slm_domain, message) of each fault."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, files, **parts)
    return [(fault.path.removeprefix("$.slm_domain."), fault.message) for fault in caught.value.faults]


# Bundles ------------------------------------------------------------------------------------------


def test_a_bundle_is_the_same_domain(tmp_path: Path) -> None:
    source = rfc_folder(tmp_path)
    write(source, {"datasets/seed/rows.jsonl": "{}\n", "notes.txt": "not referenced"})
    domain = load_domain(source)
    write_bundle(domain, tmp_path / "one")
    write_bundle(domain, tmp_path / "two")
    bundled = read_bundle(tmp_path / "one")
    assert bundled.digest == domain.digest
    assert bundled.config == domain.config
    assert bundled.output_schema("render") == domain.output_schema("render")
    assert bundled.folder is None
    contents = [
        {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}
        for root in (tmp_path / "one", tmp_path / "two")
    ]
    assert contents[0] == contents[1] == dict(domain.files)
    assert "notes.txt" not in domain.files
    with pytest.raises(BadInputError, match="holds no data"):
        bundled.data_files()


def test_the_digest_follows_content_not_place(tmp_path: Path) -> None:
    first = load_domain(rfc_folder(tmp_path))
    moved = tmp_path / "elsewhere" / "travel"
    shutil.copytree(tmp_path / "travel", moved)
    assert load_domain(moved).digest == first.digest
    write(moved, {"datasets/seed/rows.jsonl": "{}\n"})
    assert load_domain(moved).digest == first.digest
    (moved / "prompts/extract.md").write_text("Other.\n")
    assert load_domain(moved).digest != first.digest


def test_an_id_reference_survives_the_bundle(tmp_path: Path) -> None:
    files = {
        "contracts/out.json": {"$ref": "https://example.com/colour"},
        "shared/colour.json": {"$id": "https://example.com/colour", "enum": ["red"]},
        "shared/other.json": {"$id": "https://example.com/other", "enum": ["x"]},
    }
    domain = load(tmp_path, files)
    write_bundle(domain, tmp_path / "bundle")
    assert "shared/colour.json" in domain.files
    assert "shared/other.json" not in domain.files
    assert read_bundle(tmp_path / "bundle").output_schema("r") == domain.output_schema("r")


def test_a_damaged_bundle_is_refused(tmp_path: Path) -> None:
    write_bundle(load(tmp_path), tmp_path / "bundle")
    (tmp_path / "bundle/contracts/out.json").unlink()
    with pytest.raises(ConfigError, match="no such file"):
        read_bundle(tmp_path / "bundle")


# What a domain offers -----------------------------------------------------------------------------


def test_domains_by_name(tmp_path: Path) -> None:
    folder(tmp_path)
    write(tmp_path, {"Upper/slm.config.yaml": "", "empty/readme.md": "", "file.txt": ""})
    assert list_domains(tmp_path) == ["tiny"]
    assert domain_folder(tmp_path, "tiny") == tmp_path / "tiny"
    for wrong in ("empty", "../tiny", "", "Upper"):
        with pytest.raises(BadInputError, match="tiny"):
            domain_folder(tmp_path, wrong)


def test_roles_rules_and_vocabularies(tmp_path: Path) -> None:
    files = {"words.json": {"words": [{"id": "red"}, {"id": "green"}, {"id": "blue"}]}}
    vocab = "{a: [x, y], b: words.json, c: {role: r, path: /label}, d: {role: r, path: /label, file: words.json}}"
    domain = load(tmp_path, files, vocab=vocab)
    assert domain.rules("r")["default"] == {"label": "='gr' + 'green'"}
    assert domain.vocabulary("a") == ["x", "y"]
    assert [domain.vocabulary(name) for name in "bcd"] == [["red", "green", "blue"]] * 3
    assert domain.input_schema("r") is None
    assert domain.prompt("r") is None
    assert domain.gates.confidence == 0.95
    with pytest.raises(BadInputError, match=r"no role 's'\n.*its roles are r"):
        domain.role("s")


def test_data_files_by_label(tmp_path: Path) -> None:
    files = {"rows/b.jsonl": "{}\n", "rows/a.jsonl": "{}\n", "rows/notes.md": "", "hard.jsonl": "{}\n"}
    domain = load(tmp_path, files, data="{seed_corpus: [rows/, rows.jsonl], adversarial: hard.jsonl}")
    assert list(domain.data_files()) == [
        "adversarial/hard.jsonl",
        "seed/a.jsonl",
        "seed/b.jsonl",
        "seed/rows.jsonl",
    ]
    assert domain.data_files()["seed/a.jsonl"].read_text() == "{}\n"
    (tmp_path / "tiny/hard.jsonl").unlink()
    with pytest.raises(BadInputError, match="adversarial: no such file"):
        domain.data_files()


def test_two_data_files_of_one_name(tmp_path: Path) -> None:
    files = {"one/a.jsonl": "{}\n", "two/a.jsonl": "{}\n"}
    with pytest.raises(BadInputError, match="two data files of one name"):
        load(tmp_path, files, data="{seed_corpus: [one, two]}").data_files()


# Checks across the parts --------------------------------------------------------------------------

SECOND = "output_schema: contracts/out.json"


@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        ({"roles": f"[{ROLE}, {{id: r, {SECOND}}}]"}, ("roles[1].id", "two roles of one id")),
        (
            {"roles": f"[{{id: a, {SECOND}, reads: [b]}}, {{id: b, {SECOND}}}]"},
            ("roles[0].reads[0]", "reads a role that is not earlier"),
        ),
        ({"roles": f"[{ROLE}, {{id: b, {SECOND}, reads: [rr]}}]"}, ("roles[1].reads[0]", "no such role")),
        ({"eval": "{metrics: [{id: m, role: x, path: /label}]}"}, ("eval.metrics[0].role", "no such role")),
        ({"eval": "{metrics: [{id: m, role: r, path: /labl}]}"}, ("eval.metrics[0].path", "leads nowhere")),
        ({"eval": "{metrics: [{id: exact}, {id: exact}]}"}, ("eval.metrics[1].id", "two metrics of one id")),
        (
            {"eval": "{metrics: [{id: exact, primary: true}, {id: turn_exact, primary: true}]}"},
            ("eval.metrics", "role r has more than one primary metric"),
        ),
        (
            {"eval": '{metrics: [{id: latency_p95_ms, target_relative: "<= ceiling"}]}'},
            ("eval.metrics[0].target_relative", "no ceiling to compare with"),
        ),
        ({"eval": "{ceiling: teacher.big, metrics: [{id: exact}]}"}, ("eval.ceiling", "no such teacher")),
        (
            {"eval": "{slices: [{id: s, path: /a}], metrics: [{id: exact}]}"},
            ("eval.slices[0].path", "leads nowhere"),
        ),
        ({"serving": "{engine_flags: {x: flag}}"}, ("serving.engine_flags.x", "no such role")),
        ({"improvement": '{schedule: "61 * * * *"}'}, ("improvement.schedule", "field 1 is not within 0-59")),
        (
            {"teachers": "[{id: t, role_prompts: {x: oracle.yaml}}]"},
            ("teachers[0].role_prompts.x", "no such role"),
        ),
        (
            {"data": "{seed_corpus: rows.jsonl, split: fixed}"},
            ("data.split", "a fixed split without eval rows"),
        ),
        (
            {"data": "{seed_corpus: rows.jsonl, split: {eval_ratio: 1.0}}"},
            ("data.split.eval_ratio", "leaves no rows to train or to judge on"),
        ),
        ({"data": "{seed_corpus: rows.jsonl, fields: {labels: {x: /y}}}"}, ("data.fields.labels.x", "no such role")),
        ({"data": "{seed_corpus: gone.jsonl}"}, ("data.seed_corpus", "no such file")),
        ({"data": "{seed_corpus: oracle.yaml}"}, ("data.seed_corpus", "not a data file")),
        ({"vocab": "{v: {role: x, path: /label}}"}, ("vocab.v.role", "no such role")),
        ({"vocab": "{v: {role: r, path: /lable}}"}, ("vocab.v.path", "leads nowhere")),
        ({"vocab": "{v: {role: r, path: /args}}"}, ("vocab.v.path", "the contract leaves this place open")),
        ({"vocab": "{v: contracts/out.json}"}, ("$", "no vocabulary")),
        ({"vocab": "{v: [a, a]}"}, ("vocab.v", "a value stands twice")),
        ({"model": "{hyperparams: rows.txt}"}, ("model.hyperparams", "no such file")),
    ],
)
def test_parts_that_do_not_fit(tmp_path: Path, parts: dict[str, str], fault: tuple[str, str]) -> None:
    assert errors(tmp_path, **parts) == [fault]


def test_a_vocabulary_must_equal_the_contract(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, {"v.json": ["red", "green", "pink"]}, vocab="{v: {role: r, path: /label, file: v.json}}")
    assert {(fault.message, fault.found) for fault in caught.value.faults} == {
        ("values that the contract does not allow", '["pink"]'),
        ("values of the contract that the file lacks", '["blue"]'),
    }


def test_values_that_the_rules_cannot_emit_are_named(tmp_path: Path) -> None:
    """`blue` stands in a condition only; `green` is built in an expression."""
    warnings = load(tmp_path, vocab="{v: {role: r, path: /label}}").warnings
    found = [fault.found for fault in warnings if fault.message == "values that no rule of the oracle can emit"]
    assert found == ['["blue"]']


def test_broken_files_do_not_hide_each_other(tmp_path: Path) -> None:
    files = {
        "contracts/out.json": {"type": "objct"},
        "oracle.yaml": "rules: [",
        "gates.yaml": "margn: 0.1\nlatency: fast\n",
        "v.json": {"a": 1},
    }
    with pytest.raises(ConfigError) as caught:
        load(
            tmp_path,
            files,
            improvement="{promotion_gates: gates.yaml, schedule: never}",
            vocab="{v: {role: r, path: /x, file: v.json}}",
            eval="{metrics: [{id: m, role: r, path: /x}]}",
        )
    assert {(fault.file, fault.path) for fault in caught.value.faults} == {
        ("contracts/out.json", "$.type"),
        ("oracle.yaml", "$"),
        ("gates.yaml", "$.margn"),
        ("gates.yaml", "$.latency"),
        ("v.json", "$"),
        (CONFIG_NAME, "$.slm_domain.improvement.schedule"),
    }
    cures = {fault.cure for fault in caught.value.faults}
    assert "did you mean margin?" in cures


def test_gates_for_a_role_that_is_not_there(tmp_path: Path) -> None:
    files = {"gates.yaml": "margin: 0.01\nper_role: {x: {margin: 0.05}}\n"}
    assert errors(tmp_path, files, improvement="{promotion_gates: gates.yaml}") == [("$.per_role.x", "no such role")]


@pytest.mark.parametrize(
    ("text", "message"),
    [("def predict(x:\n", "not Python"), ("(" * 5000, "not"), ("", None), ("def predict(x): return x\n", None)],
)
def test_a_python_oracle_is_parsed_and_never_run(tmp_path: Path, text: str, message: str | None) -> None:
    role = ROLE.replace("rules, path: oracle.yaml", "python, path: oracle.py")
    if message is None:
        assert load(tmp_path, {"oracle.py": text}, roles=f"[{role}]").files["oracle.py"] == text.encode()
    else:
        [(path, found)] = errors(tmp_path, {"oracle.py": text}, roles=f"[{role}]")
        assert (path, found[: len(message)]) == ("$", message)


def test_another_folder_name_is_a_warning(tmp_path: Path) -> None:
    folder(tmp_path).rename(tmp_path / "other")
    warnings = load_domain(tmp_path / "other").warnings
    assert [fault.message for fault in warnings] == ["folder of another name"]


# Targets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "confidence", "rows"),
    [(0.95, 0.95, 59), (0.98, 0.95, 149), (0.99, 0.95, 299), (0.5, 0.75, 2), (1.0, 0.95, 0), (0.0, 0.95, 0)],
)
def test_rows_to_certify(target: float, confidence: float, rows: int) -> None:
    """59 of 59 is the textbook number for 95/95."""
    assert rows_to_certify(target, confidence) == rows
    if rows:
        assert (1 - confidence) ** (1 / rows) >= target - 1e-12
        assert (1 - confidence) ** (1 / (rows - 1)) < target


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_a_target_the_eval_part_cannot_certify(tmp_path: Path, suffix: str) -> None:
    metrics = "metrics: [{id: exact, target: 0.98}, {id: output_validity, target: 1.0}, {id: turn_exact, target: 0.9}]"
    place = folder(tmp_path, data=f"{{seed_corpus: rows{suffix}}}", eval=f"{{{metrics}}}")
    rows = b"\n".join([b"{}"] * 500)
    (place / f"rows{suffix}").write_bytes(gzip.compress(rows) if suffix.endswith("gz") else rows)
    domain = load_domain(place)
    assert domain.warnings == ()
    [warning] = check_domain(domain, count_rows=True)
    assert warning.path == "$.slm_domain.eval.metrics[0].target"
    assert (warning.severity, warning.found, warning.expected) == (
        "warning",
        "about 100 eval rows",
        "at least 183",
    )


def test_strict_certification_is_a_fault(tmp_path: Path) -> None:
    domain = load(tmp_path, eval="{certify: strict, metrics: [{id: exact, target: 0.98}]}", data="{}")
    assert check_domain(domain, count_rows=True) == list(domain.warnings)
    write(tmp_path / "tiny", {"held.jsonl": "{}\n" * 10})
    evaluation = "{certify: strict, eval_sets: {holdout: held.jsonl}, metrics: [{id: exact, target: 0.98}]}"
    [fault] = check_domain(load(tmp_path, eval=evaluation), count_rows=True)
    assert (fault.severity, fault.found) == ("error", "about 10 eval rows")


def test_parquet_rows_are_counted_and_a_broken_file_is_named(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    place = folder(tmp_path, data="{seed_corpus: rows.parquet}", eval="{metrics: [{id: exact, target: 0.98}]}")
    parquet.write_table(pa.table({"a": list(range(200))}), place / "rows.parquet")
    [warning] = check_domain(load_domain(place), count_rows=True)
    assert warning.found == "about 40 eval rows"
    (place / "rows.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(BadInputError, match=r"rows\.parquet cannot be read"):
        check_domain(load_domain(place), count_rows=True)


# Small parsers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["0 3 * * 0", "*/5 0-6,22 1,15 JAN-mar MON", "59 23 31 12 7", "0 0 */2 * *"])
def test_cron(schedule: str) -> None:
    assert cron_fault(schedule) == ""


@pytest.mark.parametrize(
    "schedule", ["", "* * * *", "60 * * * *", "* 5-1 * * *", "*/0 * * * *", "a * * * *", "* * 0 * *", "1-2-3 * * * *"]
)
def test_not_cron(schedule: str) -> None:
    assert cron_fault(schedule)


@pytest.mark.parametrize("text", [None, "{{ teacher_token }}", "teacher_token", "vault/slm/teacher-key", "OPENAI_KEY"])
def test_an_alias(text: str | None) -> None:
    assert credential_fault(text) == {}


@pytest.mark.parametrize(
    "text",
    [
        "sk-proj-abcdEFGH1234ijkl5678",
        "ghp_abcdefghij0123456789ABCD",
        "AKIAIOSFODNN7EXAMPLE",
        "Bearer abcdefghijklmnop",
        "a3f9c81b77de40025be19c6d",
        "pass word!",
        "",
    ],
)
def test_a_secret_is_refused_and_not_repeated(text: str) -> None:
    parts = credential_fault(text)
    assert parts
    assert not text or text not in str(parts)


def test_addresses() -> None:
    assert url_fault("https://api.example.com/v1") == url_fault(None) == {}
    assert url_fault("https://me:pw@example.com")["message"] == "an address with credentials in it"
    assert url_fault("ftp://example.com")["message"] == url_fault("http://[")["message"] == "not an address"
