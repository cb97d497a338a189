"""The linear rung as the ladder has it."""

from __future__ import annotations

from slm_assets.models import linear
from slm_assets.models.ladder import Training
from slm_assets.models.linear import LinearModel, load, save

__all__ = ["load", "save", "train"]


def train(training: Training) -> LinearModel:
    """Learn one role."""
    more, added = linear.augmented(training)
    model = linear.train(
        more.pairs,
        more.schema,
        validation=more.validation,
        groups=more.groups,
        settings=linear.from_hyperparams(more.hyperparams, also=(linear.AUGMENT,)),
        seed=more.seed,
        progress=more.progress,
    )
    return linear.with_added(model, added)
