"""Reading a drift report back, and making its page of the inputs where it has none."""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from slm_assets.domain.loading import read_bundle
from slm_assets.errors import BadInputError
from slm_assets.registry import windows
from slm_assets.registry.registry import Registry
from slm_assets.stages.contract import StageReceipt
from slm_assets.stages.windows import window_of


def newest_report(registry: Registry, domain: str, name: str | None = None) -> tuple[StageReceipt, dict[str, Any]]:
    """The receipt and the report of a window, or of the newest that was judged. BadInputError where there is none."""
    window = window_of(registry, domain, name) if name else windows.latest(registry, domain)
    while window is not None:
        cell = registry.cell(domain, window.number, "drift")
        if cell is not None and cell["status"] == "succeeded":
            receipt = StageReceipt.model_validate(cell["receipt"])
            report: dict[str, Any] = orjson.loads(_read(registry, receipt, "report.json"))
            return receipt, report
        window = None if name else windows.window(registry, domain, window.number - 1)
    raise BadInputError(
        f"{domain}: {name or 'no window'} was not judged yet",
        cure=f"materialise drift_report of {domain}, or `slm watch {domain}`",
    )


def page_of(registry: Registry, receipt: StageReceipt) -> bytes:
    """Evidently's page of a report. BadInputError where nothing served or there are too few turns to compare."""
    from slm_assets.stages.drift import bounds_of, write_inputs_page
    from slm_assets.stages.watching.page import PAGE

    if PAGE in registry.store.describe(receipt.outputs["drift"].sha256).files:
        return _read(registry, receipt, PAGE)
    request = receipt.request
    with tempfile.TemporaryDirectory(prefix="slm-drift-") as scratch:
        folder = Path(scratch)
        for name in ("traffic", "reference"):
            if name in request.inputs:
                registry.store.get(request.inputs[name], folder / name)
        registry.store.get(request.config, folder / "config")
        domain = read_bundle(folder / "config")
        bounds = bounds_of(domain.triggers, datetime.fromisoformat(request.params["as_of"]), request.params["window"])
        inputs = {name: folder / name for name in request.inputs}
        if write_inputs_page(domain, inputs, bounds.judged, folder):
            return (folder / PAGE).read_bytes()
    raise BadInputError(
        f"{request.domain} {request.version}: there is nothing to compare",
        cure="it takes a promoted version and some captured turns of the judged days",
    )


def _read(registry: Registry, receipt: StageReceipt, name: str) -> bytes:
    return registry.store.read(receipt.outputs["drift"].sha256, name)
