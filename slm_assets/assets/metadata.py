"""What a person wants to see on a materialisation: numbers that plot over versions, tables, pictures."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import dagster as dg
import orjson

from slm_assets.assets import experiments, pictures, tables
from slm_assets.engines.choose import KUBERNETES
from slm_assets.engines.in_process import Outcome
from slm_assets.errors import ArtifactError, BadInputError
from slm_assets.noetl.address import address_from_env
from slm_assets.registry import jobs
from slm_assets.registry.registry import Registry
from slm_assets.registry.windows import Window
from slm_assets.stages.contract import StageReceipt
from slm_assets.stages.requests import Subject
from slm_assets.stages.table import BY_NAME

Metadata = dict[str, dg.MetadataValue[Any]]


def of_outcome(registry: Registry, plan: Subject, outcome: Outcome) -> Metadata:
    """The metadata of a cell that was made, what decides first: verdicts and numbers, pictures, the
    stage's summary, the version among the others, provenance."""
    receipt = outcome.receipt
    kind = BY_NAME[receipt.request.stage].kind
    artifact = receipt.outputs[kind]
    report = _report(registry, receipt)
    drawn = report.keys() & {"confusion", "calibration", "rungs"}
    found = _verdicts(receipt, report) | _watched(receipt) | _numbers(receipt) | _pictures(report)
    found |= _summary({k: v for k, v in receipt.result.summary.items() if k not in drawn | found.keys()})
    if artifact.rows is not None:
        found["rows"] = dg.MetadataValue.int(artifact.rows)
    among = {} if isinstance(plan, Window) else experiments.of_stage(registry, plan, receipt.request.stage)
    found |= {name: dg.MetadataValue.md(text) for name, text in among.items()}
    found |= {f"measured.{name}": dg.MetadataValue.float(v) for name, v in receipt.result.measured.items()}
    return found | {
        "bytes": dg.MetadataValue.int(artifact.bytes),
        "urn": dg.MetadataValue.text(registry.urn(kind, plan.domain, plan.number)),
        "sha256": dg.MetadataValue.text(artifact.sha256),
        "cached": dg.MetadataValue.bool(outcome.cached),
        **of_run(outcome),
        **of_execution(registry, plan, receipt),
    }


def of_run(outcome: Outcome) -> Metadata:
    """Where and with which code the stage ran, also when it failed."""
    receipt = outcome.receipt
    return {
        "engine": dg.MetadataValue.text(outcome.engine),
        "execution": dg.MetadataValue.text(f"{outcome.run_id}/{receipt.request.stage}"),
        "request": dg.MetadataValue.text(receipt.request_digest),
        "code version": dg.MetadataValue.text(receipt.code_version),
        "seconds": dg.MetadataValue.float(receipt.seconds),
        "run folder": dg.MetadataValue.path(outcome.run_dir),
        "log": dg.MetadataValue.path(outcome.run_dir / receipt.log),
    }


def of_execution(registry: Registry, plan: Subject, receipt: StageReceipt) -> Metadata:
    """The NoETL execution that made the cell and its page, where a server did; or the pod, its node and its end."""
    job = jobs.of_cell(registry, plan.domain, plan.number, receipt.request.stage)
    if job is None or job["request"] != receipt.request_digest or job["execution"] is None:
        return {}
    if job["engine"] == KUBERNETES:
        return of_pod(job)
    found: Metadata = {"execution": dg.MetadataValue.text(job["execution"])}
    with contextlib.suppress(BadInputError):  # an address that is none by now
        if server := address_from_env():
            found["execution page"] = dg.MetadataValue.url(server.page(job["execution"]))
    return found


def of_pod(job: jobs.Row) -> Metadata:
    """The pod of a job, as far as it is known."""
    detail = job["detail"]
    named = {
        "pod": f"{detail['namespace']}/{detail['pod']}",
        "pod attempt": str(detail["attempt"]),
        "node": detail.get("node", ""),
        "exit reason": detail.get("reason", ""),
    }
    return {name: dg.MetadataValue.text(value) for name, value in named.items() if value}


def _verdicts(receipt: StageReceipt, report: Mapping[str, Any]) -> Metadata:
    found: Metadata = {}
    if receipt.result.roles:
        pairs = sorted(receipt.result.roles.items())
        found["roles"] = dg.MetadataValue.md(tables.table(["role", "outcome"], pairs))
    if receipt.result.verdicts:
        rows = [verdict.model_dump() for verdict in receipt.result.verdicts]
        found["gates"] = dg.MetadataValue.md(tables.verdicts(rows))
    if report.get("details"):
        found["gates in detail"] = dg.MetadataValue.md(tables.verdicts(report["details"]))
    return found


def _watched(receipt: StageReceipt) -> Metadata:
    """What a window of traffic says: the triggers as a table, each live number as a float that Dagster plots."""
    found: Metadata = {}
    if receipt.result.triggers:
        rows = [trigger.model_dump() for trigger in receipt.result.triggers]
        head = ["trigger", "verdict", "value", "bound", "threshold", "n", "sentence"]
        found["triggers"] = dg.MetadataValue.md(tables.table(head, [[row[key] for key in head] for row in rows]))
    for metric in receipt.result.live:
        if metric.value is not None:
            found[f"live.{metric.role or 'turn'}.{metric.metric}"] = dg.MetadataValue.float(metric.value)
    return found


def _numbers(receipt: StageReceipt) -> Metadata:
    """The config's and the built-in challenger metrics as a float each, which Dagster plots over
    versions; those of single fields and classes (`recall:/intent=refund`) stay in tables."""
    found: Metadata = {}
    values = [metric.model_dump() for metric in receipt.result.metrics]
    whole = [value for value in values if ":" not in value["metric"]]
    for value in whole:
        plotted = value["subject"] == "challenger" and not value["slice"] and value["mode"] != "reference"
        if plotted and value["value"] is not None:
            found[f"{value['role'] or 'turn'}.{value['metric']}"] = dg.MetadataValue.float(value["value"])
    for name, text in (
        ("metrics", tables.metrics(whole)),
        ("metrics by field and class", tables.metrics([v for v in values if ":" in v["metric"]])),
        ("slices", tables.slices(whole)),
    ):
        if text:
            found[name] = dg.MetadataValue.md(text)
    return found


def _summary(summary: Mapping[str, Any]) -> Metadata:
    """A stage's summary by the form of each value; nested ones become tables or JSON."""
    found: Metadata = {}
    for name, value in summary.items():
        if isinstance(value, bool):
            found[name] = dg.MetadataValue.bool(value)
        elif isinstance(value, int):
            found[name] = dg.MetadataValue.int(value)
        elif isinstance(value, float):
            found[name] = dg.MetadataValue.float(value)
        elif isinstance(value, str):
            found[name] = dg.MetadataValue.md(value) if "\n" in value else dg.MetadataValue.text(value)
        elif isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
            head = list(dict.fromkeys(key for row in value for key in row))
            found[name] = dg.MetadataValue.md(tables.table(head, [[r.get(k) for k in head] for r in value]))
        elif isinstance(value, dict) and value and not any(isinstance(v, dict | list) for v in value.values()):
            found[name] = dg.MetadataValue.md(tables.table([name, "value"], value.items()))
        elif value:
            found[name] = dg.MetadataValue.json(value)
    return found


def _report(registry: Registry, receipt: StageReceipt) -> dict[str, Any]:
    artifact = receipt.outputs.get("eval")
    if artifact is None:
        return {}
    try:
        report: dict[str, Any] = orjson.loads(registry.store.read(artifact.sha256, "report.json"))
    except ArtifactError:
        return {}
    return report


def _pictures(report: Mapping[str, Any]) -> Metadata:
    found: Metadata = {}
    for role, by_metric in sorted(report.get("confusion", {}).items()):
        for metric, matrix in sorted(by_metric.items()):
            title = f"confusion {role} {metric}"
            found[title] = dg.MetadataValue.md(pictures.confusion(title, matrix["classes"], matrix["counts"]))
    for role, curve in sorted(report.get("calibration", {}).items()):
        title = f"calibration {role}"
        found[title] = dg.MetadataValue.md(pictures.calibration(title, curve["bins"], curve.get("ece")))
    return found
