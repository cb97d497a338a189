"""/metrics says how the domains stand, and the alerts ask for what is there."""

from __future__ import annotations

import re

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from slm_assets.registry import budget, jobs, retrains
from slm_assets.registry.registry import Flip
from slm_assets.serving.metrics import Metrics
from slm_assets.serving.standing import FAMILIES, Standing
from tests.conftest import ROOT

ALERTS = ROOT / "deploy" / "helm" / "slm-service" / "alerts.yaml"


def numbers(registry):
    """name → values of the labels, in the order of their names → value, as the service shows them."""
    metrics, standing = Metrics(), Standing(lambda: {"tiny": registry})
    metrics.add(standing)
    standing.read()
    found = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def test_stages_queue_budget_and_what_serves_are_numbers(home, registry):
    (home.domains / "tiny" / "budgets").mkdir()
    (home.domains / "tiny" / "budgets" / "tiny.yaml").write_text("cpu_minutes: {limit: 60, window: day}\n")
    config = home.domains / "tiny" / "slm.config.yaml"
    text = config.read_text()
    block = "  improvement:\n    governance: {cost_budget: budgets/tiny.yaml}\n"
    config.write_text(text.replace("  improvement:\n", block, 1))
    from slm_assets.stages.cadence.settings import settings_of

    limits = settings_of(home, "tiny").budget
    assert budget.reserve(registry, "tiny", {"v2 label": {"cpu_minutes": 5.0}}, limits, actor="t") == []
    retrains.ask(registry, "tiny", "w1", triggers=["outcome"], reason="it fired", actor="t")
    jobs.begin(registry, "tiny", 2, "finetune", request="a" * 64, run_id="r", playbook="p")
    flag = registry.flags("tiny")["triage"]
    found = numbers(registry)
    assert found["slm_cells"]["tiny", "succeeded", "deploy"] == 1
    assert found["slm_cell_newest_timestamp_seconds"]["tiny", "succeeded", "deploy"] > 1.7e9
    assert found["slm_jobs"] == {("local/default", "finetune", "submitting"): 1}
    assert found["slm_retrains"] == {("tiny", "asked"): 1}
    assert found["slm_budget_limit"] == {("tiny", "cpu_minutes"): 60}
    assert found["slm_budget_reserved"] == {("tiny", "cpu_minutes"): 5}
    assert found["slm_serving_version"] == {("tiny", "triage"): 1}
    registry.flip("tiny", [Flip("triage", "oracle", None, None, flag.event)], action="rollback", actor="t", reason="r")
    assert numbers(registry)["slm_serving_version"] == {("tiny", "triage"): 0}


def test_another_tenants_domain_is_not_shown(home, registry):
    standing = Standing(lambda: {"other": registry})
    standing.read()
    shown = {name for family in standing.collect() for sample in family.samples for name in sample.labels.values()}
    assert "tiny" not in shown


def test_the_service_reads_them_in_a_thread_and_shows_them_to_the_operator(home, serve):
    service = serve(home)
    text = service.get("/metrics").text
    assert "# TYPE slm_serving_version gauge" in text


@pytest.fixture(scope="module")
def rules():
    return yaml.safe_load(ALERTS.read_text())["groups"]


def test_every_alert_asks_for_metrics_that_are_there_and_says_what_to_do(rules, home, serve):
    service = serve(home)
    service.post("/v1/tiny/triage", {"text": "where is my parcel"})
    kinds = dict(re.findall(r"^# TYPE (\S+) (\w+)", service.get("/metrics").text, re.MULTILINE))
    assert set(FAMILIES) <= set(kinds)
    histograms = {name for name, kind in kinds.items() if kind == "histogram"}
    shown = {"up", *kinds, *(f"{name}_bucket" for name in histograms)}
    page = (ROOT / "docs" / "operations.md").read_text()
    alerts = [rule for group in rules for rule in group["rules"]]
    assert len({rule["alert"] for rule in alerts}) == len(alerts) >= 8
    for rule in alerts:
        asked = set(re.findall(r"\b(slm_[a-z_]+|process_[a-z_]+|up)\b", rule["expr"]))
        assert asked and asked <= shown, (rule["alert"], asked - shown)
        assert rule["expr"].count("(") == rule["expr"].count(")")
        assert rule["labels"]["severity"] in {"page", "ticket"} and re.fullmatch(r"\d+[mh]", rule["for"])
        assert {"summary", "runbook"} <= set(rule["annotations"])
        assert f"`{rule['alert']}`" in page, f"{rule['alert']} is not in docs/operations.md"
