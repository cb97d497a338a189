"""The linear rung as the ladder has it."""

from __future__ import annotations

from slm_assets.models import linear
from slm_assets.models.ladder import Training
from slm_assets.models.linear import LinearModel, load, save

__all__ = ["load", "save", "train"]


def train(training: Training) -> LinearModel:
    """Learn one role."""
    return linear.train(
        training.pairs,
        training.schema,
        validation=training.validation,
        groups=training.groups,
        settings=linear.from_hyperparams(training.hyperparams),
        seed=training.seed,
        progress=training.progress,
    )
