"""What many tests share: a small domain in a folder of its own, and `slm` as a user runs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")  # how fast a machine is, is not what a test finds out

FIXTURES = Path(__file__).parent / "fixtures"
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Workplace:
    """A home and a domains folder of one test; `slm(...)` runs the command line in it."""

    home: Path
    domains: Path

    @property
    def env(self) -> dict[str, str]:
        own = {"SLM_HOME": str(self.home), "SLM_DOMAINS": str(self.domains)}
        return {**os.environ, **own, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

    def slm(self, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run `slm`; never raises for its exit code."""
        command = [sys.executable, "-m", "slm_assets.cli", *arguments]
        return subprocess.run(
            command, env=self.env, capture_output=True, text=True, timeout=timeout, cwd=self.home.parent
        )

    def json(self, *arguments: str, code: int = 0) -> Any:
        """Run `slm … --json`, check the exit code, and parse."""
        done = self.slm(*arguments, "--json")
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return json.loads(done.stdout)

    def config(self, domain: str) -> Path:
        return self.domains / domain / "slm.config.yaml"

    def edit(self, domain: str, change: Callable[[str], str]) -> None:
        """Rewrite a domain's config."""
        path = self.config(domain)
        before = path.read_text()
        after = change(before)
        assert after != before, "the edit changed nothing"
        path.write_text(after)


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    """The tiny domain, ready to run; nothing has run yet."""
    shutil.copytree(FIXTURES / "domains", tmp_path / "domains")
    return Workplace(tmp_path / "home", tmp_path / "domains")
