"""How the domains stand, for Prometheus: stages, queue, budget, drift and what serves, as the registry has it.

A thread reads some grouped queries every few seconds; `/metrics` shows what it read last and waits for nothing. Every
replica shows the same numbers, so rules take their maximum.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import get_args

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from slm_assets.domain.budget import Period, window_start
from slm_assets.errors import SlmError
from slm_assets.registry import measures
from slm_assets.registry.registry import Registry
from slm_assets.stages.cadence.settings import settings_of

LOG = logging.getLogger("slm.standing")
READ_SECONDS = 15.0
Sample = tuple[Sequence[str], float]
FAMILIES: Mapping[str, tuple[str, Sequence[str]]] = {
    "slm_cells": ("Stages of versions and windows, by how they ended.", ("domain", "stage", "outcome")),
    "slm_cell_newest_timestamp_seconds": ("When the newest of them ended.", ("domain", "stage", "outcome")),
    "slm_jobs": ("Stages that run elsewhere.", ("namespace", "stage", "state")),
    "slm_job_oldest_timestamp_seconds": ("When the oldest of them was submitted.", ("namespace", "stage", "state")),
    "slm_handoffs": ("What a NoETL server was not told yet.", ("namespace", "state")),
    "slm_handoff_oldest_timestamp_seconds": ("When the oldest of it happened.", ("namespace", "state")),
    "slm_retrains": ("Retrains that were asked for and are not done.", ("domain", "state")),
    "slm_budget_limit": ("What may be spent in the window of the calendar.", ("domain", "resource")),
    "slm_budget_reserved": ("What is set aside of it.", ("domain", "resource")),
    "slm_budget_spent": ("What is spent of it.", ("domain", "resource")),
    "slm_trigger_fired": ("Whether a trigger fired in the newest judged window.", ("domain", "trigger")),
    "slm_trigger_bound": ("The confidence bound that it is judged by.", ("domain", "trigger")),
    "slm_trigger_threshold": ("What the bound is held against.", ("domain", "trigger")),
    "slm_serving_version": ("The version that answers; 0: the oracle.", ("domain", "role")),
    "slm_registry_read_timestamp_seconds": ("When these numbers were read.", ()),
}
"""Name → what it says, and its labels."""


class Standing(Collector):
    """The numbers as they were read last. `registries`: domain → its registry, of the domains that are served."""

    def __init__(self, registries: Callable[[], Mapping[str, Registry]], seconds: float = READ_SECONDS) -> None:
        self._registries, self._seconds = registries, seconds
        self._last: Mapping[str, list[Sample]] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Read in a thread, at once and then every few seconds."""
        self._thread = threading.Thread(target=self._run, name="slm-standing", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The families as they were read last."""
        last = self._last
        for name, (told, labels) in FAMILIES.items():
            family = GaugeMetricFamily(name, told, labels=labels)
            for values, number in last.get(name, ()):
                family.add_metric(list(values), number)
            yield family

    def read(self) -> None:
        """Read everything anew."""
        domains = dict(self._registries())
        found: dict[str, list[Sample]] = {name: [] for name in FAMILIES}
        for registry in {_scope(one): one for one in domains.values()}.values():
            mine = {name for name, one in domains.items() if _scope(one) == _scope(registry)}
            _read(registry, mine, found)
        if domains:
            found["slm_registry_read_timestamp_seconds"].append(((), time.time()))
        self._last = found

    def _run(self) -> None:
        while True:
            try:
                self.read()
            except Exception as error:  # the numbers of the last time stay, and their age says so
                LOG.warning("numbers not read", extra={"fields": {"error": str(error)[:300]}})
            # Until the domains are loaded there is nothing to read.
            if self._stop.wait(self._seconds if self._registries() else 0.5):
                return


def _scope(registry: Registry) -> tuple[str, str]:
    return registry.tenant, registry.project


def _read(registry: Registry, domains: set[str], found: dict[str, list[Sample]]) -> None:
    namespace = f"{registry.tenant}/{registry.project}"
    for row in measures.cells(registry):
        if row["domain"] in domains:
            cell = (row["domain"], row["stage"], row["outcome"])
            found["slm_cells"].append((cell, row["cells"]))
            found["slm_cell_newest_timestamp_seconds"].append((cell, _seconds(row["finished_at"])))
    for row in measures.jobs_in_flight(registry):
        job = (namespace, row["stage"], row["state"])
        found["slm_jobs"].append((job, row["jobs"]))
        found["slm_job_oldest_timestamp_seconds"].append((job, _seconds(row["oldest"])))
    for row in measures.waiting_handoffs(registry):
        found["slm_handoffs"].append(((namespace, row["state"]), row["handoffs"]))
        found["slm_handoff_oldest_timestamp_seconds"].append(((namespace, row["state"]), _seconds(row["oldest"])))
    for row in measures.unfinished_retrains(registry):
        if row["domain"] in domains:
            found["slm_retrains"].append(((row["domain"], row["state"]), row["retrains"]))
    for row in measures.newest_triggers(registry):
        if row["domain"] in domains:
            trigger = (row["domain"], row["trigger"])
            found["slm_trigger_fired"].append((trigger, row["verdict"] == "FIRED"))
            for name in ("bound", "threshold"):
                if row[name] is not None:
                    found[f"slm_trigger_{name}"].append((trigger, row[name]))
    for row in measures.flags(registry):
        if row["domain"] in domains:
            version = row["number"] if row["engine"] == "release" else 0
            found["slm_serving_version"].append(((row["domain"], row["role"]), version or 0))
    _budgets(registry, domains, found)


def _budgets(registry: Registry, domains: set[str], found: dict[str, list[Sample]]) -> None:
    limits = {}
    for name in domains:
        try:
            limits[name] = settings_of(registry.home, name).budget.limits()
        except SlmError:
            continue  # its fault is shown where it is used
    moment = datetime.now(UTC)
    for period in get_args(Period):
        asked = [(n, r, limit) for n, own in limits.items() for r, limit in own.items() if limit.window == period]
        if not asked:
            continue
        rows = {(row["domain"], row["resource"]): row for row in measures.spent(registry, window_start(period, moment))}
        for name, resource, limit in asked:
            row = rows.get((name, resource), {})
            found["slm_budget_limit"].append(((name, resource), limit.limit))
            found["slm_budget_reserved"].append(((name, resource), float(row.get("reserved") or 0)))
            found["slm_budget_spent"].append(((name, resource), float(row.get("spent") or 0)))


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()
