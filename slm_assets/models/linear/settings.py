"""What may be set about the linear rung; the defaults were chosen by cross-validation on train rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Any, Final

from slm_assets.errors import BadInputError

BALANCES: Final = ((0.5, 1.0), (2.0, 0.5))
"""(path_weight, char_weight) that training tries beside the default: few phrasings want the structured part
heavy, many want the n-grams."""


@dataclass(frozen=True)
class LinearSettings:
    """Hyperparameters. Weights scale a feature block before the classifier; 0 leaves the block out.

    `tune`: folds by which training chooses among BALANCES of structured part and character n-grams; 1
    keeps `path_weight` and `char_weight` as they are, which is also what setting one of them does.
    `c`: inverse regularisation of the SVMs. `word_ngrams`, `char_ngrams`: longest n-gram (characters from
    2 on, inside words). `min_df`: rows that a feature must occur in (halved to 1 under 200 rows).
    `max_shapes`: a factor with more output shapes is split. `folds`: for calibration where no validation
    rows are given. `max_iter`: of one SVM.
    """

    tune: int = 2
    c: float = 1.0
    path_weight: float = 1.0
    tree_weight: float = 0.2
    word_weight: float = 1.0
    char_weight: float = 0.5
    word_ngrams: int = 2
    char_ngrams: int = 4
    min_df: int = 2
    max_features: int = 60_000
    max_shapes: int = 50
    folds: int = 3
    tolerance: float = 1e-2
    max_iter: int = 20_000


def from_hyperparams(values: Mapping[str, Any], *, recipe: str = "linear", also: Sequence[str] = ()) -> LinearSettings:
    """Settings from a config's `hyperparams`; an unknown key or a wrong value is a BadInputError.

    `recipe`, `also`: the rung that asks, and the settings that it has of its own, for what the error says.
    """
    kinds: dict[str, type] = {field.name: type(field.default) for field in fields(LinearSettings)}
    clean: dict[str, Any] = {}
    for key, value in values.items():
        if key not in kinds:
            near = get_close_matches(key, [*kinds, *also], 1)
            cure = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted([*kinds, *also]))}"
            raise BadInputError(f"hyperparams.{key}: no such setting of recipe {recipe}", cure=cure)
        wanted = kinds[key]
        fits = isinstance(value, int if wanted is int else (int, float)) and not isinstance(value, bool)
        low = 0.0 if key.endswith("_weight") else 1e-9
        if not fits or not low <= value < 1e9:
            raise BadInputError(
                f"hyperparams.{key}: found {value!r}, expected a positive {wanted.__name__}",
                cure=f"leave it out for the default {asdict(LinearSettings())[key]}",
            )
        clean[key] = wanted(value)
    if "tune" not in clean and ("path_weight" in clean or "char_weight" in clean):
        clean["tune"] = 1
    return LinearSettings(**clean)
