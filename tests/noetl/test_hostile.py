"""Hostile values are refused or carried as data; nothing of them runs. On the real local runtime."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import noetl
import pytest
import yaml
from fake_slm import DEPLOY, FakeSlm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from slm_assets.domain.compute import StageRun
from slm_assets.domain.documents import Document
from slm_assets.domain.faults import parse
from slm_assets.domain.loading import domain_folder
from slm_assets.engines import noetl_local
from slm_assets.errors import SlmError
from slm_assets.noetl.emit import playbooks, stage_playbook
from slm_assets.noetl.lint import lint_text
from slm_assets.stages.contract import Envelope, StageRequest
from slm_assets.stages.plans import number_of

BOOKS = {name: yaml.safe_load(text) for name, text in playbooks().items()}
GOOD = {"domain": "tiny", "version": "v1", "role": "triage", "run_dir": "out", "to": "v1"}
PLANTED = [
    "'; touch PWNED; '", '"; touch PWNED; "', "$(touch PWNED)", "`touch PWNED`", "tiny\ntouch PWNED\n", 
    "tiny; touch PWNED",
    "tiny' || touch PWNED || '", "{{ 7*7 }}", "{{ workload.version }}", "{{workload.version|upper}}", "{% raw %}", "..",
    "../../etc/passwd", "tiny/../..", "-rf", "--help", "tiny == tiny", "tiny' == 'tiny", "", " ", "\t", "\x00", "\r\n",
    "tiny\n", "v1\n", "v1 ", 
    "w1", "w1\n", "w", "x1", "é", "𝓉iny", "null", "${PATH}", "$IFS", "a" * 64, "a" * 1_000_000, "'" * 1_000_000,
    "\\'; touch PWNED #", "%27; touch PWNED", "&& touch PWNED", "| touch PWNED", "> PWNED", "<(touch PWNED)", "*", "~",
    '"; throw "x', '"); shell("touch PWNED', "http://x/$(touch PWNED)", "http://127.0.0.1:1/'; touch PWNED; '",
]  # fmt: skip
PIECES = st.sampled_from(
    [
        "'",
        '"',
        "`",
        "$(",
        ")",
        ";",
        "\n",
        "{{ ",
        " }}",
        "touch PWNED",
        "..",
        "/",
        "\\",
        "&",
        "|",
        "#",
        " ",
        "tiny",
        "v1",
        "=",
    ]
)
VALUES = st.one_of(st.sampled_from(PLANTED), st.lists(PIECES, max_size=12).map("".join), st.text(max_size=40))
TARGETS = [
    (name, key) for name, book in BOOKS.items() for key in book["workload"] if key not in ("pb_prefix", "pb_suffix")
]


def run(slm: FakeSlm, name: str, values: dict[str, str]) -> bool:
    """Whether the playbook let the values through."""
    try:
        noetl.run(DEPLOY / name, variables=values)
    except (RuntimeError, ValueError):
        return False
    return True


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(target=st.sampled_from(TARGETS), value=VALUES)
def test_a_workload_value_is_refused_or_an_argument_as_it_is(
    slm: FakeSlm, tmp_path: Path, target: tuple[str, str], value: str
) -> None:
    name, key = target
    good = {k: v for k, v in GOOD.items() if k in BOOKS[name]["workload"]}
    slm.forget()
    passed = run(slm, name, {**good, key: value})
    assert not list(tmp_path.rglob("PWNED"))
    opened = {"tiny", "v3", str(slm.run_dir), "w1", str(slm.window_dir)}
    for call in slm.calls:
        for argument in call:
            known = argument in opened | {value} | set(good.values()) | set(BOOKS[name]["workload"].values())
            assert known or re.fullmatch(r"-{0,2}[a-z-]+|(drift, )?by NoETL", argument), argument
    if slm.calls and not passed:
        assert key in ("mode", "runtime"), f"refused, but {slm.calls} was called"


MAY_BE = {
    "domain": r"[a-z0-9_]{1,63}",
    "role": r"[a-z0-9_]{1,63}",
    "version": r"[vw][0-9]{1,9}",
    "opened": r"[vw][0-9]{1,9}",
    "to": r"[vw][0-9]{1,9}|oracle",
    "run_dir": r"(?![- ])(?!.*\.\.)(?!.* $)[A-Za-z0-9._/@+, -]{1,1000}",
    "opened_dir": r"(?![- ])(?!.*\.\.)(?!.* $)[A-Za-z0-9._/@+, -]{1,1000}",
    "service": r"https?://[A-Za-z0-9._/:@-]{1,390}",
}


@pytest.mark.parametrize(("name", "key"), [target for target in TARGETS if target[1] in MAY_BE])
def test_each_key_that_reaches_a_shell_is_checked_first(slm: FakeSlm, tmp_path: Path, name: str, key: str) -> None:
    """Every planted value at every key: one that the check forgot would show here."""
    good = {k: v for k, v in GOOD.items() if k in BOOKS[name]["workload"]}
    for value in PLANTED:
        slm.forget()
        passed = run(slm, name, {**good, key: value})
        if value != "":  # empty stands for "not given", which some keys may be
            assert passed == bool(re.fullmatch(MAY_BE[key], value)), value[:80]
        if key == "opened_dir":  # checked where it is used, after what comes before it in the chain
            assert passed or not any(value in call for call in slm.calls)
        else:
            assert passed or not slm.calls
    assert not list(tmp_path.rglob("PWNED"))


def test_bytes_that_are_no_text_are_refused(slm: FakeSlm) -> None:
    program = os.fsencode(Path(sys.executable).with_name("noetl"))
    book = os.fsencode(DEPLOY / "slm/pipeline.yaml")
    done = subprocess.run([program, b"run", book, b"-r", b"local", b"--set", b"domain=tin\xffy"], capture_output=True)
    assert done.returncode != 0
    assert slm.calls == []


IN_A_BLOCK = {
    **dict.fromkeys(("image", "namespace", "service_account", "cpu", "memory"), r"[A-Za-z0-9][A-Za-z0-9._/:@-]*"),
    **dict.fromkeys(("node", "taint", "claim"), r"[A-Za-z0-9._/-]+"),
    **dict.fromkeys(("node is", "taint is"), r"[A-Za-z0-9._-]*"),
    "mount": r"/(?!.*\.\.)[A-Za-z0-9._/-]+",
}


def a_run(place: str, value: Any) -> dict[str, Any]:
    """How a stage is run, with one odd value in it."""
    own = {"node": "pool", "node is": "gpu", "taint": "dedicated", "taint is": "ml", "claim": "c", "mount": "/m"}
    own |= {place: value}
    block = {
        "node_selector": {own["node"]: own["node is"]},
        "tolerations": [{"key": own["taint"], "operator": "Equal", "value": own["taint is"]}],
        "volumes": [{"claim": own["claim"], "mount": own["mount"]}, {"claim": "x", "mount": "/x"}],
    }
    plain = {name: own[name] for name in ("image", "namespace", "service_account", "cpu", "memory") if name in own}
    return {"engine": "noetl", "container": block | plain}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(place=st.sampled_from(sorted(IN_A_BLOCK)), value=VALUES)
def test_what_a_domain_says_of_its_containers_is_a_name_or_refused(place: str, value: str) -> None:
    """It becomes part of a playbook: no template, shell or second path may come of it."""
    run, faults = parse(StageRun, Document("slm.config.yaml", a_run(place, value), {}))
    if faults or run is None:
        assert faults and len("".join(map(str, faults))) < 5_000
        return
    assert re.fullmatch(IN_A_BLOCK[place], value), value
    path, text = stage_playbook("finetune", run)
    assert re.fullmatch(r"automation/mlops/slm/finetune/[0-9a-f]{12}", path)
    assert [finding for finding in lint_text(text, path) if finding.severity == "error"] == []
    assert value in str(yaml.safe_load(text))


@pytest.mark.parametrize("place", sorted(IN_A_BLOCK))
def test_no_planted_value_gets_into_a_container_block(place: str) -> None:
    named = {value for value in PLANTED if re.fullmatch(IN_A_BLOCK[place], value)}
    assert not [value for value in named if set(value) & set("'\"$`;{}|&<>*~ \n")]
    for value in set(PLANTED) - named:
        with pytest.raises(ValidationError):
            StageRun.model_validate(a_run(place, value))


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(value=VALUES)
def test_a_domain_name_names_a_folder_of_the_domains_and_a_version_is_a_number(tmp_path: Path, value: str) -> None:
    root = tmp_path / "domains"
    for place in (root / "tiny", root, tmp_path, root / "$(id)"):
        place.mkdir(parents=True, exist_ok=True)
        (place / "slm.config.yaml").touch()
    try:
        folder = domain_folder(root, value)
    except SlmError as error:
        assert len(str(error)) < 2_000 and value != "tiny"
    else:
        assert folder == root / "tiny" and value == "tiny"
    try:
        number = number_of(value)
    except SlmError:
        assert not re.fullmatch(r"v[1-9][0-9]{0,8}", value)
    else:
        assert value == f"v{number}"


JSON = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(VALUES, inner, max_size=3), max_leaves=5
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(domain=VALUES, version=VALUES)
def test_no_name_that_is_none_becomes_a_request(domain: str, version: str) -> None:
    try:
        request = StageRequest(stage="dataset", domain=domain, version=version, config="0" * 64)
    except ValidationError:
        return
    assert re.fullmatch(r"[a-z][a-z0-9_]*", request.domain) and re.fullmatch(r"[vw][1-9][0-9]{0,8}", request.version)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(params=st.dictionaries(VALUES, JSON, max_size=3), actor=VALUES, run_id=VALUES)
def test_what_a_config_or_a_person_says_is_in_no_command(params: dict[str, Any], actor: str, run_id: str) -> None:
    """Parameters, actor and run id travel in files: the command line is the same whatever they hold."""

    def made(**own: Any) -> StageRequest:
        return StageRequest(stage="dataset", domain="tiny", version="v1", config="0" * 64, **own)

    assert noetl_local.command(made(params=params)) == noetl_local.command(made())
    envelope = Envelope(run_id=run_id, actor=actor)
    assert Envelope.model_validate_json(envelope.model_dump_json()) == envelope
    assert StageRequest.model_validate(json.loads(made(params=params).model_dump_json())).params == params
