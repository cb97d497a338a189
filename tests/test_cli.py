"""The command line as a user meets it: one domain from config to rollback, and what bad input gets."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from tests.conftest import FIXTURES, Workplace

STAGES = ["dataset", "label", "finetune", "evaluate", "package", "shadow", "deploy"]


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """tiny v1 promoted by approval, v2 trained on next to nothing and held, v3 promoted by itself."""
    root = tmp_path_factory.mktemp("promoted")
    shutil.copytree(FIXTURES / "domains", root / "domains")
    place = Workplace(root / "home", root / "domains")
    place.edit("tiny", lambda text: text.replace("auto_promote: true", "auto_promote: null"))
    first = place.json("run", "tiny", "--train-fraction", "0.6", code=4)
    assert first["outcome"] == "deferred" and first["version"] == "v1"
    place.json("approve", "tiny", "v1", "--by", "Ada")
    assert place.json("run", "tiny", "--version", "v1")["outcome"] == "promoted"
    held = place.json("run", "tiny", "--train-fraction", "0.02", code=3)
    assert held["outcome"] == "held" and held["version"] == "v2"
    assert place.json("run", "tiny")["version"] == "v3"
    return place


def test_the_run_json_has_what_scripts_rely_on(promoted):
    result = promoted.json("run", "tiny")
    assert (result["domain"], result["version"], result["outcome"]) == ("tiny", "v3", "promoted")
    assert result["roles"] == {"triage": "promoted"}
    assert [line["stage"] for line in result["stages"]] == STAGES
    for line in result["stages"]:
        assert line["cached"] is True and line["seconds"] == 0
        for output in line["outputs"].values():
            assert output["urn"].startswith("registry://local/default/") and len(output["sha256"]) == 64
    assert {"gate", "role", "verdict", "value", "low", "high", "threshold", "n"} <= set(result["gates"][0])
    assert {g["gate"] for g in result["gates"]} >= {"leakage", "floor", "target", "incumbent", "validity", "drill"}


def test_status_lists_every_version_and_what_serves(promoted):
    (domain,) = promoted.json("status", "tiny")["domains"]
    assert domain["serving"]["triage"]["version"] == "v3"
    assert [(v["version"], v["outcome"]) for v in domain["versions"]] == [
        ("v1", "promoted"), ("v2", "held"), ("v3", "promoted"),
    ]  # fmt: skip
    assert promoted.slm("status").returncode == 0


def test_a_version_is_held_back_and_let_go_by_name_and_what_cannot_be_is_said(promoted):
    held = promoted.json("hold", "tiny", "v2", "--reason", "not yet", "--by", "Ada")
    assert held == {"domain": "tiny", "version": "v2", "held": True, "by": "Ada", "reason": "not yet"}
    assert promoted.slm("hold", "tiny", "v2", "--off", "--reason", "now").returncode == 0
    why = promoted.json("why", "tiny")
    assert [e["action"] for e in why["events"] if e["version"] == "v2"][-2:] == ["hold", "release"]
    assert why["waiting"] == [], "v3 serves: v2 waits for nothing any more"
    assert "serves" in promoted.json("hold", "tiny", "v3", "--reason", "no", code=2)["error"]
    assert "package has not succeeded" in promoted.json("shadow", "tiny", "v2", code=2)["error"]
    assert promoted.json("shadow", "tiny", "--off")["was"] is None
    assert promoted.slm("shadow", "tiny").returncode == 2
    assert promoted.json("watch-promotion", "tiny") == {"domain": "tiny", "roles": []}
    refused = promoted.json(
        "approve", "tiny", "v2", "--by", "Ada", "--override", "leakage", "--reason", "x" * 12, code=2
    )
    assert "never overridden" in refused["error"]


def test_why_says_who_what_since_when_and_by_which_gates(promoted):
    role = promoted.json("why", "tiny", "--role", "triage")["roles"]["triage"]
    assert role["version"] == "v3" and role["replaced"] == "v1" and role["action"] == "promote"
    assert role["trained_on"]["rows"] > 100
    assert {g["gate"]: g["verdict"] for g in role["gates"]}["floor"] == "PASS"
    assert [e["to"] for e in role["history"]] == ["v1", "v3"]
    shown = promoted.slm("why", "tiny").stdout
    assert "answered by v3" in shown and "in place of v1" in shown


def test_a_held_version_cannot_be_approved_against_a_failed_gate(promoted):
    refused = promoted.slm("approve", "tiny", "v2", "--by", "Eve")
    assert refused.returncode == 2 and "cannot be approved" in refused.stderr


def test_an_opened_version_refuses_other_parameters(promoted):
    refused = promoted.slm("run", "tiny", "--version", "v1", "--train-fraction", "0.9")
    assert refused.returncode == 2 and "train_fraction" in refused.stderr


def test_rollback_and_forward_again_within_two_seconds_each(promoted):
    back = promoted.json("rollback", "tiny", "--reason", "drill")
    assert back["action"] == "rollback" and back["changes"]["triage"]["to"]["number"] == 1
    assert back["seconds"] <= 2
    forward = promoted.json("rollback", "tiny", "--to", "v3")
    assert forward["action"] == "redeploy" and forward["changes"]["triage"]["to"]["number"] == 3
    again = promoted.json("rollback", "tiny", "--to", "v3")
    assert again["changes"] == {}
    refused = promoted.slm("rollback", "tiny", "--to", "v2")
    assert refused.returncode == 2 and "never deployed" in refused.stderr


def test_rollback_works_while_the_config_is_broken(promoted):
    path = promoted.config("tiny")
    good = path.read_text()
    try:
        path.write_text("slm_domain: [unclosed")
        assert promoted.json("rollback", "tiny", "--to", "oracle")["changes"]["triage"]["to"]["engine"] == "oracle"
    finally:
        path.write_text(good)
    assert promoted.json("rollback", "tiny", "--to", "v3")["changes"]["triage"]["to"]["number"] == 3


def test_ask_is_answered_by_what_serves(promoted):
    turn = json.dumps({"text": "please refund the blue lamp"})
    answer = promoted.json("ask", "tiny", turn)["roles"]["triage"]
    assert (answer["engine"], answer["version"], answer["valid"]) == ("release", "v3", True)
    assert answer["output"]["intent"] == "refund" and 0 < answer["confidence"] <= 1
    promoted.json("rollback", "tiny", "--to", "oracle")
    try:
        oracle = promoted.json("ask", "tiny", turn, "--role", "triage")["roles"]["triage"]
        assert (oracle["engine"], oracle["version"], oracle["release"]) == ("oracle", None, None)
    finally:
        promoted.json("rollback", "tiny", "--to", "v3")
    for bad, said in (('{"text": 3}', "$.text"), ("{text", "not JSON")):
        refused = promoted.slm("ask", "tiny", bad)
        assert refused.returncode == 2 and said in refused.stderr
    assert "no role 'none'" in promoted.slm("ask", "tiny", turn, "--role", "none").stderr


def test_a_stage_by_request_file_is_a_cache_hit_with_the_same_receipt(promoted, tmp_path):
    request = promoted.slm("stage", "request", "label", "tiny", "v3")
    (tmp_path / "request.json").write_text(request.stdout)
    out = tmp_path / "out"
    arguments = ("stage", "run", "label", "--request", str(tmp_path / "request.json"), "--run-dir", str(out))
    result = promoted.json(*arguments)
    receipt = json.loads((out / "receipt.json").read_text())
    assert result["cached"] and receipt["status"] == "succeeded"
    assert result["outputs"] == {"labels": receipt["outputs"]["labels"]["sha256"]}


def test_a_changed_request_is_refused_with_the_cure(promoted, tmp_path):
    request = json.loads(promoted.slm("stage", "request", "dataset", "tiny", "v3").stdout)
    request["params"]["train_fraction"] = 0.123
    path = tmp_path / "request.json"
    path.write_text(json.dumps(request))
    refused = promoted.slm("stage", "run", "dataset", "--request", str(path), "--run-dir", str(tmp_path / "out"))
    assert refused.returncode == 2
    assert "not the one" in refused.stderr and "cure" in refused.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "no stage request"),
        ('{"stage": "dataset", "domain": "../x", "version": "v1", "config": "%s"}' % ("a" * 64), "domain"),
        ('{"stage": "label", "domain": "tiny", "version": "v1", "config": "%s"}' % ("a" * 64), "request for label"),
        ('{"stage": "dataset", "domain": "tiny", "version": "v9", "config": "%s"}' % ("a" * 64), "never opened"),
    ],
)
def test_a_request_file_that_is_none_names_the_place(workplace, tmp_path, content, said):
    path = tmp_path / "request.json"
    path.write_text(content)
    done = workplace.slm("stage", "run", "dataset", "--request", str(path), "--run-dir", str(tmp_path / "out"))
    assert done.returncode == 2 and said in done.stderr
    assert not (tmp_path / "out").exists()


def test_validate_shows_every_fault_at_once_and_writes_nothing(workplace):
    workplace.edit(
        "tiny",
        lambda text: text.replace("eval_ratio", "eval_ration").replace("triage.schema.json", "missing.schema.json"),
    )
    done = workplace.slm("validate", "tiny")
    assert done.returncode == 2
    assert "eval_ration" in done.stdout and "eval_ratio" in done.stdout and "missing.schema.json" in done.stdout
    assert workplace.slm("run", "tiny").returncode == 2
    assert not (workplace.home / "registry.db").exists()


def test_an_unknown_domain_and_an_unknown_version_name_the_cure(workplace):
    missing = workplace.slm("run", "nowhere")
    assert missing.returncode == 2 and "nowhere" in missing.stderr
    assert workplace.slm("run", "tiny", "--version", "latest").returncode == 2
    traversal = workplace.slm("run", "../tiny")
    assert traversal.returncode == 2


def test_schema_is_a_json_schema_with_the_seven_blocks(workplace):
    schema = json.loads(workplace.slm("schema").stdout)
    assert schema["$schema"].startswith("https://json-schema.org/")
    shown = json.dumps(schema)
    assert all(block in shown for block in ("roles", "data", "teachers", "model", "eval", "serving", "improvement"))


def test_every_command_has_help_with_an_example(workplace):
    from typer.main import get_command

    from slm_assets.cli.commands import app

    def walk(command, path):
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, [*path, name])
        if not hasattr(command, "commands"):
            yield path, command

    commands = list(walk(get_command(app), []))
    assert len(commands) >= 10
    for path, command in commands:
        assert f"`slm {' '.join(path)}" in (command.help or ""), f"slm {' '.join(path)} has no example"
        if path != ["serve"]:  # it ends when it is told to, and logs JSON all the time
            assert any("--json" in p.opts for p in command.params), f"slm {' '.join(path)} has no --json"


def test_a_read_only_home_names_the_folder_and_the_cure(workplace):
    workplace.home.parent.chmod(0o755)
    blocker = workplace.home
    blocker.write_text("a file where the home should be")
    done = workplace.slm("run", "tiny")
    assert done.returncode == 1
    assert str(workplace.home) in done.stderr.replace("\n", "") and "cure" in done.stderr


def test_two_runs_of_one_version_at_once_one_is_refused(workplace):
    from filelock import FileLock

    workplace.json("run", "tiny")
    lock = workplace.home / "locks" / "local" / "default" / "tiny" / "v1.lock"
    with FileLock(lock):
        done = workplace.slm("run", "tiny", "--json")
    assert done.returncode == 1
    assert "being worked on" in done.stdout
    assert workplace.json("run", "tiny")["outcome"] == "promoted"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["nonsense"]])
def test_a_group_alone_says_what_it_says_among_all_commands(arguments, monkeypatch):
    """`slm stage run` builds no other command's parser; that must not be seen."""
    from typer.testing import CliRunner

    from slm_assets import cli
    from slm_assets.cli.commands import app as everything

    monkeypatch.setenv("COLUMNS", "120")
    for name in cli.GROUPS:
        alone, among = (
            CliRunner().invoke(app, [name, *arguments], prog_name="slm") for app in (cli.asked([name]), everything)
        )
        assert (alone.exit_code, alone.output) == (among.exit_code, among.output)
        assert f"slm {name}" in alone.output
    assert cli.asked(["run"]) is everything and cli.asked([]) is everything


def test_help_answers_at_once(workplace):
    started = time.monotonic()
    assert workplace.slm("--help").returncode == 0
    assert time.monotonic() - started < 30, "the help must not import the engine room"
    heavy = ("dagster", "pandas", "sklearn", "daft")
    code = f"import sys, slm_assets.cli.commands; print([m for m in {heavy} if m in sys.modules])"
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=workplace.env)
    assert done.stdout.strip() == "[]"


def test_data_paths_are_not_followed_out_of_the_domain(workplace, tmp_path):
    outside = tmp_path / "secret.jsonl"
    outside.write_text('{"id": "x", "input": {"text": "secret"}}\n')
    link = workplace.domains / "tiny" / "data" / "link.jsonl"
    link.symlink_to(outside)
    done = workplace.slm("run", "tiny")
    assert done.returncode == 2 and "link.jsonl" in done.stderr.replace("\n", "")
    assert not Path(workplace.home / "registry.db").exists()
