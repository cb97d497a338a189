"""What a stage function is given. It holds no orchestrator and no path outside of its own folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from slm_assets.domain.loading import Domain
from slm_assets.registry.registry import Registry
from slm_assets.stages.contract import Envelope, StageRequest

Progress = Callable[[float, str], None]
"""Called with the share done in [0, 1] and a few words."""


def silent(_share: float, _note: str) -> None:
    """Progress for nobody."""


@dataclass(frozen=True)
class StageContext:
    """A stage's whole world.

    `inputs`: verified folders by input name. `out`: an empty folder per output name; what lies there
    when the function returns is the output. `scratch`: thrown away. `registry` is for the stages that
    change what serves (deploy, rollback); the others are functions of their inputs.
    """

    request: StageRequest
    domain: Domain
    inputs: Mapping[str, Path]
    out: Mapping[str, Path]
    scratch: Path
    registry: Registry
    envelope: Envelope
    progress: Progress = silent
