"""What may be set about a language model: a recipe's file, overridden by the config's hyperparams."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from slm_assets.domain.block import Block
from slm_assets.errors import BadInputError
from slm_assets.models.lm.bounding import Bounds

Projection = Literal[
    "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "qkv_proj", "gate_up_proj"
]
_LLAMA: list[Projection] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Settings(Block):
    """Hyperparameters of a language model."""

    rank: int = Field(ge=0, le=512, description="Of the adapter; 0 with recipe full.")
    alpha: float = Field(ge=0, description="The adapter's weight is alpha / rank.")
    dropout: Annotated[float, Field(ge=0, lt=1)]
    targets: list[Projection] = Field(
        default=_LLAMA, description="Projections with an adapter, where the model has them."
    )
    learning_rate: float = Field(gt=0)
    warmup_share: float = Field(
        ge=0, le=1, description="Share of the steps in which the rate rises; it then falls to 0."
    )
    weight_decay: float = Field(ge=0)
    clip: float = Field(default=1.0, gt=0, description="Longest gradient.")
    batch: int = Field(ge=1, description="Rows of one step, on each device.")
    accumulate: int = Field(ge=1, description="Parts of a step that are read one after another.")
    epochs: float = Field(gt=0)
    max_steps: int = Field(default=0, ge=0, description="Fewer steps than the epochs have; 0: all.")
    max_tokens: int = Field(ge=16, description="Longer rows are left out, and counted.")
    eval_every: int = Field(ge=1, description="Steps between two looks at the validation rows, and two saved states.")
    eval_rows: int = Field(ge=1, description="Validation rows that are answered at a look.")
    patience: int = Field(ge=1, description="Looks without a better exact match after which training ends.")
    precision: Literal["auto", "fp32", "bf16"] = Field(default="auto", description="auto: bf16 on a GPU that has it.")
    threads: int = Field(default=1, ge=0, description="Of a CPU; 0: all. More than one may change last bits.")
    processes: int = Field(default=1, ge=1, description="GPUs that train together, through accelerate.")
    warm_start: bool = Field(default=True, description="Go on from the incumbent's adapter, where it fits.")
    constrained: bool = Field(default=True, description="Answers are held to the contract while they are written.")
    key_order: Literal["contract", "sorted"] = Field(default="contract", description="Of keys, learned and decoded.")
    text: int = Field(default=256, ge=1, description="Characters of a text to which the contract puts no end.")
    items: int = Field(default=8, ge=1, description="Items of a list to which the contract puts no end.")
    depth: int = Field(default=2, ge=0, description="How often a definition may stand inside itself.")
    decimals: int = Field(default=6, ge=0, le=12, description="Of a number.")

    def bounds(self) -> Bounds:
        """The ends that decoding puts to open contracts."""
        return Bounds(self.text, self.items, self.depth, self.decimals, self.key_order)


def settings_of(recipe: str, given: Mapping[str, Any]) -> Settings:
    """The recipe's settings with the config's own. BadInputError names every one that is wrong."""
    import yaml

    defaults = yaml.safe_load((files("slm_assets") / "recipes" / f"{recipe}.yaml").read_text(encoding="utf-8"))
    whole = {key: float(value) if key in _FLOATS and isinstance(value, int) else value for key, value in given.items()}
    try:
        found = Settings.model_validate({**defaults, **whole})
    except ValidationError as error:
        said = "; ".join(f"hyperparams.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        known = ", ".join(sorted(Settings.model_fields))
        raise BadInputError(f"recipe {recipe}: {said}", cure=f"known: {known}") from None
    if (recipe == "full") != (found.rank == 0):
        raise BadInputError(
            f"recipe {recipe} with rank {found.rank}", cure="rank is 0 with recipe full, and only there"
        )
    return found


_FLOATS = {"alpha", "dropout", "learning_rate", "warmup_share", "weight_decay", "clip", "epochs"}
