"""Domains with a promoted version and windows that were judged, without a stage having run."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "dagster"))
import fake_stages

from slm_assets.registry import windows
from slm_assets.registry.home import Home
from slm_assets.registry.registry import CellRecord, Flip, Plan, Registry
from slm_assets.registry.windows import Window
from slm_assets.stages.plans import frozen_config, open_domain, registry_of

TINY = Path(__file__).parents[1] / "fixtures" / "domains" / "tiny"


@dataclass(frozen=True)
class Loop:
    """A home, and what happens to its domains."""

    home: Home

    def registry(self, domain: str = "one") -> Registry:
        return registry_of(self.home, domain)

    def add(self, name: str) -> None:
        """A copy of the tiny domain."""
        folder = self.home.domains / name
        shutil.copytree(TINY, folder)
        config = folder / "slm.config.yaml"
        config.write_text(config.read_text().replace("name: tiny", f"name: {name}"))

    def edit(self, name: str, change: Callable[[str], str], file: str = "slm.config.yaml") -> None:
        """Rewrite a file of a domain."""
        path = self.home.domains / name / file
        before = path.read_text() if path.exists() else ""
        path.parent.mkdir(exist_ok=True)
        path.write_text(change(before))
        assert path.read_text() != before

    def improve(self, name: str, *lines: str) -> None:
        """Add keys to the `improvement` block."""
        added = "".join(f"    {line}\n" for line in lines)
        self.edit(name, lambda text: text.replace("  improvement:\n", f"  improvement:\n{added}"))

    def policy(self, name: str, text: str) -> None:
        """Give the domain a policy of its triggers."""
        if not (self.home.domains / name / "policies" / "retrain_gates.yaml").exists():
            self.improve(name, "retrain_triggers: policies/retrain_gates.yaml")
        self.edit(name, lambda _before: text, "policies/retrain_gates.yaml")

    def budget(self, name: str, text: str) -> None:
        """Give the domain a budget, or another one."""
        if not (self.home.domains / name / "budgets" / f"{name}.yaml").exists():
            self.improve(name, "governance: {cost_budget: budgets/<domain>.yaml}")
        self.edit(name, lambda _before: text, f"budgets/{name}.yaml")

    def promoted(self, domain: str = "one") -> Plan:
        """The next version, which serves from now on."""
        plan = fake_stages.opened(self.home, domain)
        self.serve(plan)
        return plan

    def serve(self, plan: Plan) -> None:
        """Flip the role to a version."""
        registry = self.registry(plan.domain)
        flag = registry.flags(plan.domain).get("triage")
        made = self.artifact(plan.domain)
        registry.commit(cell(plan.domain, plan.number, "dataset", output="dataset", sha256=made, summary={"epoch": 1}))
        flip = Flip("triage", "release", plan.number, made, flag.event if flag else 0)
        registry.flip(plan.domain, [flip], action="promote", actor="ada", reason="it passed")

    def artifact(self, domain: str) -> str:
        """Some artifact of the domain's store: what fake stages read is there."""
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "any.json").write_text("{}")
            return self.registry(domain).store.put(Path(folder)).sha256

    def window(self, *fired: str, domain: str = "one", judged: bool = True, taken: Any = ()) -> Window:
        """A window whose triggers said this."""
        loaded, registry = open_domain(self.home, domain)
        flags = registry.flags(domain)
        serving = {
            role: {"number": flag.number, "release": flag.release}
            for role, flag in sorted(flags.items())
            if flag.number
        }
        columns = {
            "config": frozen_config(loaded, registry), "previous": None, "incoming": None, "taken": list(taken),
            "serving": serving, "as_of": "2026-11-23T00:00:00.000+00:00", "reason": "test",
        }  # fmt: skip
        window = windows.open_window(registry, domain, actor="test", make=lambda _number: columns)
        if judged:
            made = self.artifact(domain)
            registry.commit(cell(domain, window.number, "capture", output="traffic", sha256=made))
            triggers = [
                {
                    "trigger": name, "verdict": "FIRED" if name in fired else "QUIET", "value": 0.1, "bound": 0.08,
                    "threshold": 0.05, "n": 300, "sentence": f"{name} is up in {window.version}",
                }
                for name in ("distribution", "outcome", "contract")
            ]  # fmt: skip
            registry.commit(cell(domain, window.number, "drift", output="drift", triggers=triggers))
        return window


def cell(
    domain: str, number: int, stage: str, *, output: str, seconds: float = 6.0, status: str = "succeeded",
    sha256: str = "a" * 64, summary: Any = None, triggers: Any = (), kind: str = "",
) -> CellRecord:  # fmt: skip
    """A finished cell that nobody made."""
    receipt = {
        "request": {"stage": stage}, "seconds": seconds, "error": "", "error_kind": kind,
        "outputs": {output: {"sha256": sha256, "bytes": 2_000_000}},
        "result": {"measured": {}, "summary": summary or {}, "rows": {}, "roles": {}},
    }  # fmt: skip
    return CellRecord(
        domain=domain, number=number, stage=stage, request="r" * 64, status=status, receipt=receipt, run_id="r",
        engine="in_process", actor="test", triggers=list(triggers),
    )  # fmt: skip
