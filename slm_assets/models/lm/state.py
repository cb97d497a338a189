"""Training that survives a kill: one safetensors file with weights, moments and how far it came, replaced at once."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

FILE = "state.safetensors"


@dataclass
class Progressed:
    """How far training came. `curve`: a line per look; `best`: (exact, part) of the weights that are kept."""

    step: int = 0
    best: list[float] = field(default_factory=lambda: [-1.0, -1.0])
    since: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


def save(folder: Path, fingerprint: str, done: Progressed, tensors: dict[str, Any]) -> None:
    """Write the state beside the last one, then take its place."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{FILE}.tmp"
    metadata = {"fingerprint": fingerprint, "done": orjson.dumps(asdict(done)).decode()}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, beside, metadata=metadata)
    beside.replace(folder / FILE)


def load(folder: Path | None, fingerprint: str) -> tuple[Progressed, dict[str, Any]] | None:
    """The state of the very same training, or None. A file that cannot be read, or of another training, is none."""
    from safetensors import SafetensorError, safe_open

    path = None if folder is None else folder / FILE
    if path is None or not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("fingerprint") != fingerprint:
                return None
            done = Progressed(**orjson.loads(metadata["done"]))
            return done, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, KeyError, TypeError, ValueError):
        return None
