"""Live traffic without a service: segments as it would have written them, for the tiny domain."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from slm_assets.domain.loading import Domain
from slm_assets.engines.in_process import Outcome, make_cell
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry
from slm_assets.registry.windows import Window
from slm_assets.stages.plans import open_domain
from slm_assets.stages.traffic.intake import capture_folder, drop_folder
from slm_assets.stages.traffic.segments import SegmentWriter
from slm_assets.stages.traffic.store import turns
from slm_assets.stages.windows import next_window
from tests.conftest import FIXTURES, Workplace

NOW = datetime.now(UTC)


def at(days_ago: float = 0.0) -> str:
    """A time as the service writes it."""
    return (NOW - timedelta(days=days_ago)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def turn(name: str, text: str = "hello", *, days_ago: float = 0.0, output: Any = None, **more: Any) -> dict[str, Any]:
    """A turn as a segment holds it."""
    answer = {
        "output": output or {"intent": "greet", "urgent": False},
        "engine": "release",
        "version": "v1",
        "confidence": 0.9,
    }
    record = {
        "kind": "turn", "turn_id": name, "at": at(days_ago), "tenant": "local", "project": "default",
        "domain": "tiny", "role": None, "conversation": "c-" + name, "user": "u", "input": {"text": text},
        "answers": {"triage": {**answer, "valid": True, "fallback": None, "error": ""}}, "seconds": 0.001,
        "sampled": True, "rate": 0.5, "kept": "sampled", "probability": 0.5,
    }  # fmt: skip
    return {**record, **more}


def outcome(name: str, signal: str = "correction", **more: Any) -> dict[str, Any]:
    """An outcome as a segment holds it."""
    return {
        "kind": "outcome", "turn_id": name, "at": at(), "role": "triage", "signal": signal, "detail": None, **more,
    }  # fmt: skip


@dataclass
class Traffic:
    """A domain's live traffic in a home."""

    home: Home
    domain: Domain
    registry: Registry
    writers: dict[str, SegmentWriter] = field(default_factory=dict)

    def write(self, name: str, records: Iterable[dict[str, Any]], *, seal: bool = True) -> None:
        """Append records to the segments of one service process."""
        folder = capture_folder(self.home, self.registry, self.domain.name)
        writer = self.writers.setdefault(name, SegmentWriter(folder, name))
        for record in records:
            writer.append(json.dumps(record).encode(), 0.0)
        if seal:
            writer.seal()

    def drop(self, name: str, text: str) -> Path:
        """Leave a file in the drop folder."""
        path = drop_folder(self.home, self.registry, self.domain.name) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def capture(self) -> tuple[Window, Outcome]:
        """Open the next window and take its traffic in."""
        window = next_window(self.domain, self.registry, actor="tester")
        return window, make_cell(self.registry, window, "capture", actor="tester")

    def turns(self, outcome: Outcome, tmp_path: Path) -> list[dict[str, Any]]:
        """What was captured so far."""
        folder = tmp_path / f"read-{outcome.receipt.request_digest[:8]}"
        self.registry.store.get(outcome.receipt.outputs["traffic"].sha256, folder)
        return list(turns(folder))


@pytest.fixture
def workplace_of() -> Callable[[Traffic], Workplace]:
    """`slm` as a user runs it, over the same home."""
    return lambda traffic: Workplace(traffic.home.root, traffic.home.domains)


@pytest.fixture
def traffic(tmp_path: Path) -> Traffic:
    """The tiny domain, nothing promoted, no traffic yet."""
    shutil.copytree(FIXTURES / "domains", tmp_path / "domains")
    root = tmp_path / "home"
    home = Home(root, tmp_path / "domains", f"sqlite:///{root}/registry.db", str(root / "artifacts"))
    domain, registry = open_domain(home, "tiny")
    return Traffic(home, domain, registry)
