"""Load a checkpoint in a process of its own and let it answer: proof that nothing is missing from it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from slm_assets import canonical
from slm_assets.domain.loading import Domain, read_bundle
from slm_assets.errors import SlmError
from slm_assets.models import ladder
from slm_assets.models.base import Predictor
from slm_assets.models.chain import answer_turns
from slm_assets.models.oracle import load_oracle

TIMEOUT_S = 600
TURN_S = 30
"""More for each turn, where a language model answers on a CPU."""
_HEAVY = ("sklearn", "pandas", "dagster", "daft", "torch")
_KEPT = (
    "PATH",
    "LANG",
    "LC_ALL",
    "HOME",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "VIRTUAL_ENV",
    "PYTHONPATH",
    "SYSTEMROOT",
    "SLM_HOME",
    "SLM_MODELS",
    "CUDA_VISIBLE_DEVICES",
)


@dataclass(frozen=True)
class CleanAnswers:
    """What the clean process gave: outputs per turn (role → output), its load time in seconds, and which
    training libraries it had to import (none should be)."""

    outputs: list[dict[str, Any]]
    load_seconds: float
    imported: list[str]


def clean_environment() -> dict[str, str]:
    """The environment of a child process: nothing secret, one thread."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return kept | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def load_engines(domain: Domain, checkpoint: Path) -> dict[str, Predictor]:
    """Every role of a checkpoint, ready to answer."""
    return {
        role.id: ladder.load(checkpoint, role.id, domain.output_schema(role.id), partial(load_oracle, domain, role.id))
        for role in domain.config.roles
    }


def answers_in_clean_process(config: Path, checkpoint: Path, turns: Path, scratch: Path) -> CleanAnswers:
    """Answer every turn of a JSON Lines file end to end, in a fresh interpreter without secrets.

    SlmError with the child's last words where it cannot load or answer.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    out, note = scratch / "answers.jsonl", scratch / "note.json"
    arguments = [str(p) for p in (config, checkpoint, turns, out, note)]
    timeout = TIMEOUT_S + (
        TURN_S * sum(1 for _ in canonical.read_jsonl(turns)) if ladder.has_language_model(checkpoint) else 0
    )
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "slm_assets.stages.clean_process", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=clean_environment(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SlmError(f"the model did not answer in a clean process within {timeout} s") from None
    if done.returncode != 0:
        raise SlmError(f"the model does not load in a clean process:\n{done.stderr[-2000:]}")
    told = canonical.read_json(note)
    return CleanAnswers(list(canonical.read_jsonl(out)), told["load_seconds"], told["imported"])


def _child(config: Path, checkpoint: Path, turns: Path, out: Path, note: Path) -> None:
    started = time.perf_counter()
    domain = read_bundle(config)
    engines = load_engines(domain, checkpoint)
    load_seconds = time.perf_counter() - started
    answers = answer_turns(domain.config.roles, engines, list(canonical.read_jsonl(turns)))
    columns = ([prediction.output for prediction in own] for own in answers.values())
    canonical.write_jsonl(out, (dict(zip(answers, row, strict=True)) for row in zip(*columns, strict=True)))
    imported = sorted(name for name in _HEAVY if name in sys.modules)
    canonical.write_json(note, {"load_seconds": round(load_seconds, 4), "imported": imported})


if __name__ == "__main__":
    _child(*(Path(argument) for argument in sys.argv[1:]))
