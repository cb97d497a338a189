"""The linear rung: any contract from pairs of input and output, in seconds; predicts with numpy alone.

The output is taken apart into its shape (keys, lengths, listed values), which linear classifiers choose,
and holes, which are filled with copies of the input, parts of them, and pieces of its texts.
"""

from slm_assets.models.linear.augment import AUGMENT, augmented, with_added
from slm_assets.models.linear.checkpoint import load, save
from slm_assets.models.linear.features import Embedder, find_texts, texts_of
from slm_assets.models.linear.model import LinearModel
from slm_assets.models.linear.settings import LinearSettings, from_hyperparams
from slm_assets.models.linear.train import train

__all__ = [
    "AUGMENT",
    "Embedder",
    "LinearModel",
    "LinearSettings",
    "augmented",
    "find_texts",
    "from_hyperparams",
    "load",
    "save",
    "texts_of",
    "train",
    "with_added",
]
