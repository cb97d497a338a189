"""Package, deploy and rollback: what is refused, what is flipped, and that nothing goes around the gates."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from slm_assets import canonical
from slm_assets.engines.in_process import make_cell, run_rollback
from slm_assets.errors import ArtifactError, BadInputError
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Flip, Plan, Registry
from slm_assets.stages import bundle, line_worker
from slm_assets.stages.approvals import approve
from slm_assets.stages.contract import Envelope
from slm_assets.stages.evaluation import asking
from slm_assets.stages.plans import open_domain, open_version, output_of
from slm_assets.stages.requests import request_for
from slm_assets.stages.rollback import rollback_request
from slm_assets.stages.runner import execute
from slm_assets.stages.table import STAGES
from tests.conftest import FIXTURES

MOST = [stage.name for stage in STAGES if stage.name != "deploy"]


def make(registry: Registry, plan: Plan, *stages: str):
    for stage in stages:
        outcome = make_cell(registry, plan, stage, actor="tester")
    return outcome


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """tiny v1, packaged and not deployed; approvals are needed."""
    root = tmp_path_factory.mktemp("packaged")
    shutil.copytree(FIXTURES / "domains", root / "domains")
    config = root / "domains" / "tiny" / "slm.config.yaml"
    config.write_text(config.read_text().replace("auto_promote: true", "auto_promote: null"))
    home = Home(root / "home", root / "domains", f"sqlite:///{root}/home/registry.db", str(root / "home" / "artifacts"))
    domain, registry = open_domain(home, "tiny")
    plan = open_version(domain, registry, actor="tester")
    assert make(registry, plan, *MOST).receipt.status == "succeeded"
    return home


@pytest.fixture
def registry(packaged: Home, tmp_path: Path) -> Registry:
    """A registry of its own over a copy of the packaged home."""
    shutil.copytree(packaged.root, tmp_path / "home")
    root = tmp_path / "home"
    return Registry(Home(root, packaged.domains, f"sqlite:///{root}/registry.db", str(root / "artifacts")))


@pytest.fixture
def plan(registry: Registry) -> Plan:
    found = registry.plan("tiny", 1)
    assert found is not None
    return found


def test_a_first_promotion_waits_for_a_name_and_then_flips_once(registry, plan):
    waiting = make(registry, plan, "deploy")
    assert waiting.receipt.status == "deferred" and "slm approve tiny v1" in waiting.receipt.error
    assert registry.flags("tiny") == {}
    approve(registry, "tiny", "v1", roles=None, actor="Ada", reason="read it")
    done = make(registry, plan, "deploy")
    assert done.receipt.status == "succeeded"
    flag = registry.flags("tiny")["triage"]
    assert (flag.engine, flag.number, flag.release) == ("release", 1, output_of(registry, plan, "package"))
    assert make(registry, plan, "deploy").cached
    assert len(registry.flag_events("tiny")) == 1
    assert [a["action"] for a in registry.audit("tiny")].count("promote") == 1


def test_an_approval_does_not_carry_over_to_other_verdicts(registry, plan):
    registry.approve("tiny", 1, ["triage"], evidence="0" * 64, release=None, actor="Eve", reason="")
    assert make(registry, plan, "deploy").receipt.status == "deferred"


def test_a_version_judged_against_another_incumbent_is_not_promoted(registry, plan):
    approve(registry, "tiny", "v1", roles=None, actor="Ada", reason="")
    other = Flip("triage", "release", 7, "f" * 64, expected=0)
    registry.flip("tiny", [other], action="promote", actor="someone", reason="in between")
    held = make(registry, plan, "deploy")
    assert held.held and "judged against" in held.receipt.error
    assert registry.flags("tiny")["triage"].number == 7


def test_a_flipped_byte_in_the_stored_release_is_refused_by_deploy_and_nothing_flips(registry, plan):
    approve(registry, "tiny", "v1", roles=None, actor="Ada", reason="")
    tree = registry.store.describe(output_of(registry, plan, "package"))
    blob = Path(registry.store._blob(tree.files["model_card.md"]))
    data = bytearray(blob.read_bytes())
    data[3] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(data)
    refused = make(registry, plan, "deploy")
    assert refused.receipt.status == "failed" and "digest" in refused.receipt.error
    assert registry.flags("tiny") == {}


@pytest.mark.parametrize("name", ["model/checkpoint.json", "probes.jsonl", "config/slm.config.yaml", "manifest.json"])
def test_a_bundle_with_one_flipped_byte_does_not_load(registry, plan, tmp_path, name):
    folder = tmp_path / "bundle"
    registry.store.get(output_of(registry, plan, "package"), folder)
    assert bundle.open_bundle(folder).manifest["promotable"] == ["triage"]
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ArtifactError):
        bundle.open_bundle(folder)


def test_a_bundle_with_a_file_too_many_or_too_few_does_not_load(registry, plan, tmp_path):
    folder = tmp_path / "bundle"
    registry.store.get(output_of(registry, plan, "package"), folder)
    (folder / "extra.txt").write_text("x")
    with pytest.raises(ArtifactError, match=r"extra\.txt"):
        bundle.check(folder)
    (folder / "extra.txt").unlink()
    (folder / "probes.jsonl").unlink()
    with pytest.raises(ArtifactError, match=r"probes\.jsonl"):
        bundle.check(folder)


def test_package_refuses_a_version_in_which_no_role_passed(registry, plan):
    domain, _ = open_domain(registry.home, "tiny")
    weak = open_version(domain, registry, actor="tester", params={"train_fraction": 0.02})
    outcome = make(registry, weak, *MOST[: MOST.index("package") + 1])
    assert outcome.held and "no role of tiny v2 passed" in outcome.receipt.error
    with pytest.raises(BadInputError, match="package has not succeeded"):
        make(registry, weak, "deploy")
    assert registry.flags("tiny") == {}


def test_rollback_goes_back_to_the_oracle_and_a_repeated_request_does_nothing_twice(registry, plan, tmp_path):
    approve(registry, "tiny", "v1", roles=None, actor="Ada", reason="")
    make(registry, plan, "deploy")
    request = rollback_request(registry, "tiny")
    first = run_rollback(registry, request, tmp_path / "one", actor="op").receipt
    assert first.result.summary["changes"]["triage"]["to"]["engine"] == "oracle"
    assert first.result.measured["switch_seconds"] <= 2
    again = run_rollback(registry, request, tmp_path / "one", actor="op").receipt
    assert again.outputs == first.outputs
    elsewhere = run_rollback(registry, request, tmp_path / "two", actor="op").receipt
    assert elsewhere.result.summary["changes"] == {}
    assert [e["action"] for e in registry.flag_events("tiny")] == ["promote", "rollback"]
    with pytest.raises(BadInputError, match="nothing to roll back"):
        rollback_request(registry, "tiny")


def test_rollback_refuses_a_target_whose_bytes_changed(registry, plan, tmp_path):
    approve(registry, "tiny", "v1", roles=None, actor="Ada", reason="")
    make(registry, plan, "deploy")
    run_rollback(registry, rollback_request(registry, "tiny"), tmp_path / "one", actor="op")
    tree = registry.store.describe(output_of(registry, plan, "package"))
    blob = Path(registry.store._blob(tree.files["model/checkpoint.json"]))
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes() + b" ")
    request = rollback_request(registry, "tiny", to="v1")
    refused = run_rollback(registry, request, tmp_path / "two", actor="op").receipt
    assert refused.status == "failed" and "digest" in refused.error
    assert registry.flags("tiny")["triage"].engine == "oracle"


def test_lineage_leads_from_the_deployment_to_the_dataset(registry, plan):
    approve(registry, "tiny", "v1", roles=None, actor="Ada", reason="")
    make(registry, plan, "deploy")
    parents: dict[str, set[str]] = {}
    for parent, child in registry.edges():
        parents.setdefault(child, set()).add(parent)
    seen, todo = set(), [registry.urn("deployment", "tiny", 1)]
    while todo:
        for parent in parents.get(todo.pop(), ()):
            if parent not in seen:
                seen.add(parent)
                todo.append(parent)
    kinds = {urn.split("/")[4] for urn in seen}
    assert kinds == {"dataset", "labels", "model", "eval", "release", "shadow"}


def test_the_eval_report_has_an_interval_and_n_on_each_number(registry, plan, tmp_path):
    registry.store.get(output_of(registry, plan, "evaluate"), tmp_path / "eval")
    report = canonical.read_json(tmp_path / "eval" / "report.json")
    assert report["n"] == len(list(canonical.read_jsonl(tmp_path / "eval" / "predictions.jsonl")))
    for metric in report["metrics"]:
        assert metric["n"] > 0 and metric["low"] <= metric["value"] <= metric["high"], metric
    subjects = {m["subject"] for m in report["metrics"]}
    assert subjects == {"challenger", "incumbent", "floor", "majority"}
    assert any(m["metric"].startswith("recall:") for m in report["metrics"])
    assert report["confusion"]["triage"] and report["calibration"]["triage"]["ece"] is not None
    sure = {m["metric"]: m for m in report["metrics"] if m["metric"].startswith(("ece", "accuracy_at_coverage_"))}
    assert list(sure) == ["ece", *(f"accuracy_at_coverage_{share}" for share in (50, 70, 80, 90, 100))]
    assert sure["ece"]["value"] == report["calibration"]["triage"]["ece"]
    exact = next(m for m in report["metrics"] if m["metric"] == "exact" and m["subject"] == "challenger")
    assert sure["accuracy_at_coverage_100"]["value"] == exact["value"]
    assert sure["accuracy_at_coverage_50"]["value"] >= exact["value"], "the surest half is better than the whole"
    assert "latency" not in {g["gate"] for g in report["gates"]}, "what is measured is not in the artifact"


@pytest.fixture
def helpers(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Two more processes answer, however few the rows."""
    monkeypatch.setattr(line_worker, "cores", lambda: 3)
    monkeypatch.setattr(asking, "ALONE", 1)
    monkeypatch.setattr(asking, "SHARED", 3)
    return monkeypatch


def test_processes_that_help_to_evaluate_change_no_byte(registry, plan, tmp_path, helpers):
    receipt = execute(request_for(registry, plan, "evaluate"), Envelope(run_id="again"), registry, tmp_path / "run")
    assert receipt.outputs["eval"].sha256 == output_of(registry, plan, "evaluate")


def test_a_process_that_is_gone_while_it_helps_is_an_error_and_no_report(registry, plan, tmp_path, helpers):
    script = tmp_path / "worker.py"
    script.write_text(
        "import sys\nprint('ready', flush=True)\nsys.stdin.readline()\nsys.stdin.readline()\nsys.exit(9)\n"
    )
    helpers.setattr(asking, "WORKER", [str(script)])
    receipt = execute(request_for(registry, plan, "evaluate"), Envelope(run_id="again"), registry, tmp_path / "run")
    assert (receipt.status, receipt.outputs) == ("failed", {})
    assert "a process that evaluates ended (status 9)" in receipt.error
