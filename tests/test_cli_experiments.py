"""`slm versions`, `metrics`, `compare` and `lineage` as a user meets them, over two real versions of tiny."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from slm_assets import api, canonical
from slm_assets.cli.commands import app
from slm_assets.engines.in_process import make_cell
from slm_assets.errors import BadInputError
from slm_assets.registry.home import Home
from slm_assets.stages.plans import open_domain, open_version
from slm_assets.stages.table import STAGES
from tests.conftest import FIXTURES, Workplace


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """v1 promoted; then one key of the config, one eval label, one train label and some rows change; v2."""
    root = tmp_path_factory.mktemp("experiments")
    shutil.copytree(FIXTURES / "domains", root / "domains")
    place = Workplace(root / "home", root / "domains")
    home = home_of(place)

    def make(fraction: float) -> None:
        domain, registry = open_domain(home, "tiny")
        plan = open_version(domain, registry, params={"train_fraction": fraction}, reason="a try", actor="ada")
        for stage in STAGES:
            assert make_cell(registry, plan, stage.name, actor="ada").receipt.status == "succeeded"

    make(0.6)
    place.edit("tiny", lambda text: text.replace("path: /urgent, target: 0.8", "path: /urgent, target: 0.7"))
    _, registry = open_domain(home, "tiny")
    dataset = registry.entry("dataset", "tiny", 1)["sha256"]
    splits = {name: ids(registry.store.read(dataset, f"{name}.jsonl")) for name in ("train", "eval")}
    path = place.domains / "tiny" / "data" / "messages.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        if row["id"] in (splits["train"][0], splits["eval"][0]):
            label = row["labels"]["triage"]
            label["urgent"] = not label["urgent"]
    rows = [row for row in rows if row["id"] != splits["train"][1]]
    path.write_bytes(b"".join(canonical.dumps(row) + b"\n" for row in rows))
    make(1.0)
    return place


def home_of(place: Workplace) -> Home:
    root = place.home
    return Home(root, place.domains, f"sqlite:///{root}/registry.db", str(root / "artifacts"))


def ids(data: bytes) -> list[str]:
    return [json.loads(line)["id"] for line in data.splitlines()]


def slm(place: Workplace, *arguments: str, code: int = 0) -> str:
    """Run a command in this process."""
    done = CliRunner().invoke(app, arguments, env=place.env, catch_exceptions=True)
    if code == 0:
        assert done.exit_code == 0, f"{arguments}: {done.output[-2000:]} {done.exception!r}"
    else:
        assert getattr(done.exception, "exit_code", None) == code, f"{done.exception!r}"
        return str(done.exception)
    return done.stdout


def as_json(place: Workplace, *arguments: str):
    return json.loads(slm(place, *arguments, "--json"))


def test_versions(place):
    (domain,) = as_json(place, "versions")["domains"]
    assert domain["serving"] == {"triage": "v2"}
    first, second = domain["versions"]
    assert (first["state"], second["state"], second["serves"]) == ("promoted", "serving", ["triage"])
    assert (second["parent"], second["incumbents"]) == ("v1", {"triage": "v1"})
    assert 0 < first["train_rows"] < second["train_rows"]
    (score,) = second["primary"]
    assert (score["role"], score["metric"]) == ("triage", "intent") and score["low"] <= score["value"] <= score["high"]
    shown = slm(place, "versions", "tiny")
    assert "serving triage" in shown and "a try" in shown and "triage v1" in shown


def test_metrics(place):
    found = as_json(place, "metrics", "tiny", "--metric", "exact", "--subject", "challenger", "--subject", "floor")
    assert [(s["subject"], [p["version"] for p in s["points"]]) for s in found["series"]] == [
        ("challenger", ["v1", "v2"]), ("floor", ["v1", "v2"]),
    ]  # fmt: skip
    assert {"intent", "exact", "turn_exact"} <= set(found["metrics"])
    point = found["series"][0]["points"][0]
    assert point["n"] > 50 and point["low"] <= point["value"] <= point["high"]
    assert [p["version"] for p in as_json(place, "metrics", "tiny", "--since", "v2")["series"][0]["points"]] == ["v2"]
    shown = slm(place, "metrics", "tiny")
    assert "triage intent challenger" in shown and "--metric:" in shown
    assert "intent" in slm(place, "metrics", "tiny", "--metric", "intnet", code=2)


def test_compare(place):
    found = as_json(place, "compare", "tiny", "v1", "v2")
    assert found["roles_in_both"] == ["triage"] and found["notes"] == []
    (role,) = found["paired"]["roles"]
    rows = found["paired"]["rows"]
    assert role["relabelled"] == 1 and role["judged"] == rows["common"] - 1
    metrics = {m["metric"]: m for m in found["paired"]["metrics"]}
    for m in metrics.values():
        assert m["low"] <= m["difference"] <= m["high"]
        assert m["better"] - m["worse"] == round(m["difference"] * m["n"])
    assert (metrics["intent"]["better"], metrics["intent"]["worse"]) == (len(role["better"]), len(role["worse"]))

    assert [(c["file"], c["path"], c["before"], c["after"]) for c in found["config"]] == [
        ("slm.config.yaml", "$.slm_domain.eval.metrics.urgent.target", 0.8, 0.7)
    ]
    plan = {c["path"]: (c["before"], c["after"]) for c in found["plan"]}
    assert plan["$.params.train_fraction"] == (0.6, 1.0)
    assert {"$.config", "$.seed", "$.parent", "$.incumbents.triage"} <= set(plan)
    splits = {s["split"]: s for s in found["data"]["splits"]}
    assert splits["train"]["added"] > 0 and splits["eval"]["removed"] == 0
    for split in splits.values():
        assert split["before"] - split["removed"] + split["added"] == split["after"]
    labels = {one["split"]: one for one in found["data"]["labels"]}
    assert labels["eval"]["changed"] == 1 and labels["train"]["changed"] == 1
    assert set(found["sources"]) == {"v1", "v2"}

    shown = slm(place, "compare", "tiny", "v1", "v2")
    assert "eval rows in both" in shown and "0.8 → 0.7" in shown and "1 relabelled" in shown
    assert "itself" in slm(place, "compare", "tiny", "v1", "v1", code=2)
    assert "v1 to v2" in slm(place, "compare", "tiny", "v1", "v7", code=2)


def test_compare_is_the_same_twice(place):
    assert slm(place, "compare", "tiny", "v1", "v2", "--json") == slm(place, "compare", "tiny", "v1", "v2", "--json")


def test_a_version_that_is_not_evaluated_is_compared_as_far_as_it_goes(place):
    home = home_of(place)
    domain, registry = open_domain(home, "tiny")
    plan = open_version(domain, registry, reason="not run yet", actor="ada")
    try:
        found = api.compare("tiny", "v2", plan.version, home=home)
        assert found.paired is None and found.data is None and len(found.notes) == 2
        make_cell(registry, plan, "dataset", actor="ada")
        make_cell(registry, plan, "label", actor="ada")
        found = api.compare("tiny", "v2", plan.version, home=home)
        assert found.paired is None and found.data is not None
        assert found.notes == ["v3 has no eval_report: no answers to compare"]
    finally:
        shutil.rmtree(home.locks, ignore_errors=True)


def test_lineage(place):
    found = as_json(place, "lineage", "tiny@v2", "--depth", "20")
    assert found["root"] == "registry://local/default/deployment/tiny/2" and found["direction"] == "up"
    urns = set(found["artifacts"])
    for kind in ("config", "seed", "dataset", "labels", "model", "eval", "release"):
        assert {f"registry://local/default/{kind}/tiny/{n}" for n in (1, 2)} <= urns
    assert ["registry://local/default/release/tiny/1", "registry://local/default/eval/tiny/2"] in found["edges"]
    for artifact in found["artifacts"].values():
        assert len(artifact["sha256"]) == 64
    down = as_json(place, "lineage", "registry://local/default/dataset/tiny/1", "--down")
    assert "registry://local/default/deployment/tiny/2" in down["artifacts"]
    shown = slm(place, "lineage", "tiny@v2")
    assert "└── release tiny@v2" in shown and "see above" in shown
    assert "nearest" in slm(place, "lineage", "model/tiny@v9", code=2)
    assert "no URN" in slm(place, "lineage", "???", code=2)


def test_the_python_api_gives_what_json_prints(place, monkeypatch):
    home = home_of(place)
    answers = {
        ("versions", "tiny"): {"domains": [asdict(one) for one in api.versions("tiny", home=home)]},
        ("metrics", "tiny"): asdict(api.metrics("tiny", home=home)),
        ("compare", "tiny", "v1", "v2"): asdict(api.compare("tiny", "v1", "v2", home=home)),
        ("lineage", "tiny@v1"): asdict(api.lineage("tiny@v1", home=home)),
    }
    for arguments, answer in answers.items():
        assert orjson.loads(orjson.dumps(answer)) == as_json(place, *arguments)
    with pytest.raises(BadInputError):
        api.lineage("0" * 64, home=home)


def test_questions_import_no_orchestrator_and_no_training_library(place):
    code = (
        "import sys; from slm_assets import api; api.versions('tiny'); api.metrics('tiny'); api.lineage('tiny@v1');"
        "print([m for m in ('dagster', 'sklearn', 'pandas', 'daft', 'scipy', 'numpy') if m in sys.modules]);"
        "api.compare('tiny', 'v1', 'v2');"
        "print([m for m in ('dagster', 'sklearn', 'pandas', 'daft') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=place.env, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]


def test_a_broken_config_stops_no_question(place):
    path = place.config("tiny")
    good = path.read_text()
    try:
        path.write_text("slm_domain: [unclosed")
        assert as_json(place, "versions", "tiny")["domains"][0]["versions"][0]["primary"]
        assert as_json(place, "compare", "tiny", "v1", "v2")["paired"]
    finally:
        path.write_text(good)


def test_an_altered_artifact_is_refused_by_its_digest(place, tmp_path):
    shutil.copytree(place.home, tmp_path / "home")
    copy = Workplace(tmp_path / "home", place.domains)
    sha = api.lineage("eval/tiny@v1", home=home_of(copy)).artifacts["registry://local/default/eval/tiny/1"].sha256
    _, registry = open_domain(home_of(copy), "tiny")
    blob = registry.store.describe(sha).files["predictions.jsonl"]
    path = Path(tmp_path, "home", "artifacts", "local", "default", "blobs", blob[:2], blob)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b" ")
    done = CliRunner().invoke(app, ["compare", "tiny", "v1", "v2"], env=copy.env)
    assert "does not match its digest" in str(done.exception)
