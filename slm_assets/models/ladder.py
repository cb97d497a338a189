"""The rungs of the model ladder behind one door: train a role, save all roles, load one.

A checkpoint is a folder: `checkpoint.json` {"format", "roles": {role: rung}} and one folder per role.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.errors import ArtifactError, BadInputError
from slm_assets.models.base import Predictor

CHECKPOINT = "checkpoint.json"
FORMAT = 2
RUNGS = {"linear": "slm_assets.models.linear.rung", "encoder": "slm_assets.models.encoder.rung"}
"""Rung → the module that offers it, cheapest first; imported when it is used."""


class TrainedModel(Predictor, Protocol):
    """A predictor fresh from training. `report`: what training found, as flat JSON."""

    @property
    def report(self) -> dict[str, Any]:
        """Counts, accuracies, uncovered leaves."""
        ...


@dataclass(frozen=True)
class Training:
    """What a role is trained on: pairs of input and output with the groups that the rows belong to, the contract,
    validation pairs, and the recipe's own hyperparameters."""

    pairs: Sequence[tuple[Json, Json]]
    schema: dict[str, Any]
    validation: Sequence[tuple[Json, Json]] = ()
    groups: Sequence[str] | None = None
    hyperparams: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    progress: Callable[[float, str], None] | None = None


class Rung(Protocol):
    """What the module of a rung offers. Equal training gives equal files; `load` imports no training library."""

    def train(self, training: Training) -> TrainedModel:
        """Learn one role. BadInputError for hyperparameters that are none of this rung's."""
        ...

    def save(self, model: Any, folder: Path) -> None:
        """Write the role's files into its folder."""
        ...

    def load(self, folder: Path, schema: dict[str, Any]) -> Predictor:
        """What was saved, ready to answer. ArtifactError for a format not known here."""
        ...


def rung(name: str) -> Rung:
    """The rung's module. BadInputError for a recipe that does not run here."""
    if name not in RUNGS:
        raise BadInputError(
            f"model.recipe {name!r} cannot be trained by this release", cure=f"choose one of: {', '.join(RUNGS)}"
        )
    return cast(Rung, import_module(RUNGS[name]))


def seal(folder: Path, roles: Mapping[str, str]) -> None:
    """Write the head of a checkpoint whose roles (role → rung) are all there."""
    canonical.write_json(folder / CHECKPOINT, {"format": FORMAT, "roles": dict(sorted(roles.items()))})


def load(folder: Path, role: str, schema: dict[str, Any]) -> Predictor:
    """Load one role of a checkpoint. ArtifactError where it is none, or of a format not known here."""
    try:
        head = canonical.read_json(folder / CHECKPOINT)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{folder.name} is no checkpoint: {error}") from error
    if head.get("format") != FORMAT or head["roles"].get(role) not in RUNGS:
        raise ArtifactError(
            f"checkpoint holds format {head.get('format')} and roles {head.get('roles')}; expected format {FORMAT} "
            f"and role {role} by one of {', '.join(RUNGS)}"
        )
    return rung(head["roles"][role]).load(folder / role, schema)
