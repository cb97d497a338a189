"""The rungs of the model ladder behind one door: train a role, save all roles, load one.

A checkpoint is a folder: `checkpoint.json` {"format", "recipe", "roles"} and one folder per role.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.config import Recipe
from slm_assets.errors import ArtifactError, BadInputError
from slm_assets.models.base import Predictor

CHECKPOINT = "checkpoint.json"
FORMAT = 1
AVAILABLE: tuple[Recipe, ...] = ("linear",)


class TrainedModel(Predictor, Protocol):
    """A predictor fresh from training. `report`: what training found, as flat JSON."""

    @property
    def report(self) -> dict[str, Any]:
        """Counts, accuracies, uncovered leaves."""
        ...


def train(
    recipe: Recipe,
    pairs: Sequence[tuple[Json, Json]],
    schema: dict[str, Any],
    *,
    validation: Sequence[tuple[Json, Json]],
    groups: Sequence[str],
    hyperparams: dict[str, Any],
    seed: int,
    progress: Callable[[float, str], None] | None = None,
) -> TrainedModel:
    """Train one role on (input, output) pairs. BadInputError for a recipe that does not run here."""
    if recipe not in AVAILABLE:
        raise BadInputError(
            f"model.recipe {recipe!r} cannot be trained by this release",
            cure=f"choose one of: {', '.join(AVAILABLE)}",
        )
    from slm_assets.models import linear

    return linear.train(
        pairs,
        schema,
        validation=validation,
        groups=groups,
        settings=linear.from_hyperparams(hyperparams),
        seed=seed,
        progress=progress,
    )


def save_role(folder: Path, recipe: Recipe, model: TrainedModel) -> None:
    """Write one role's files into its folder; equal models give equal bytes."""
    from slm_assets.models import linear

    assert recipe == "linear" and isinstance(model, linear.LinearModel)
    linear.save(model, folder)


def seal(folder: Path, recipe: Recipe, roles: Sequence[str]) -> None:
    """Write the head of a checkpoint whose roles are all there."""
    canonical.write_json(folder / CHECKPOINT, {"format": FORMAT, "recipe": recipe, "roles": sorted(roles)})


def load(folder: Path, role: str, schema: dict[str, Any]) -> Predictor:
    """Load one role of a checkpoint. ArtifactError where it is none, or of a format not known here."""
    try:
        head = canonical.read_json(folder / CHECKPOINT)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{folder.name} is no checkpoint: {error}") from error
    if head.get("format") != FORMAT or head.get("recipe") not in AVAILABLE or role not in head["roles"]:
        raise ArtifactError(
            f"checkpoint holds format {head.get('format')}, recipe {head.get('recipe')}, roles "
            f"{head.get('roles')}; expected format {FORMAT}, a recipe of {AVAILABLE} and role {role}"
        )
    from slm_assets.models import linear

    return linear.load(folder / role, schema)
