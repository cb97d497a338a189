"""What a config says of the ladder: the rungs of a cascade, the rungs that `auto` climbs, what each is trained with.

`model.hyperparams` may hold a block per recipe, by its name; what stands beside the blocks belongs to the config's
own recipe, and under `cascade` and `auto` to their first rung. So a config changes its recipe by one line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BeforeValidator, Field, ValidationError

from slm_assets.domain.block import Block, Identifier
from slm_assets.domain.config import Recipe
from slm_assets.errors import BadInputError

RECIPES: tuple[str, ...] = get_args(Recipe)
DEFAULT_RUNGS = ("linear", "encoder")
"""What is climbed, and cascaded, where the config does not say: what trains and answers on a processor."""


def _shorthand(value: Any) -> Any:
    return {"recipe": value} if isinstance(value, str) else value


class Step(Block):
    """One rung: a recipe, under a name of its own where the same recipe is there twice."""

    recipe: Identifier = Field(description="The recipe that trains it.")
    name: Identifier | None = Field(default=None, description="Its name in reports; default: the recipe's.")
    hyperparams: dict[str, Any] = Field(default={}, description="Over those of the recipe's own block.")

    @property
    def title(self) -> str:
        """Its name in reports and in the checkpoint."""
        return self.name or self.recipe


Steps = Annotated[
    list[Annotated[Step, BeforeValidator(_shorthand, json_schema_input_type=Step | str)]], Field(max_length=12)
]


class Cascade(Block):
    """Rungs that answer in turn: the next one where the one before is not sure enough."""

    rungs: Steps = Field(default=[], description="Cheapest first; default: linear, encoder.")
    then: Literal["none", "oracle"] = Field(
        default="none", description="oracle: below the last rung's threshold the role's oracle answers."
    )
    max_loss: float = Field(
        default=0.005, gt=0, lt=1, description="Most accuracy that the whole may lose against its last rung."
    )
    by: Literal["bound", "point"] = Field(
        default="bound", description="bound: the loss is proven on the validation part; point: as measured on it."
    )
    confidence: float = Field(default=0.95, ge=0.5, lt=1, description="Of that proof, one-sided.")


class Auto(Block):
    """Rungs that are tried from below until one is good enough on the validation part."""

    rungs: Steps = Field(default=[], description="Cheapest first; default: linear, encoder.")
    stop: Literal["bound", "point", "never"] = Field(
        default="bound",
        description="At the first rung that passes every gate by its bound, or by the points; never: try all.",
    )


B = TypeVar("B", Cascade, Auto)


def cascade_of(given: Mapping[str, Any]) -> Cascade:
    """The `cascade` block of hyperparameters. BadInputError with the place of what is wrong."""
    return _parsed(Cascade, "cascade", given)


def auto_of(given: Mapping[str, Any]) -> Auto:
    """The `auto` block of hyperparameters. BadInputError with the place of what is wrong."""
    return _parsed(Auto, "auto", given)


def _parsed(model: type[B], name: str, given: Mapping[str, Any]) -> B:
    try:
        return model.model_validate(given.get(name) or {})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadInputError(
            f"{place_of(name, first['loc'])}: {first['msg']}", cure="`slm validate` names every fault"
        ) from None


def place_of(name: str, path: Sequence[int | str] = ()) -> str:
    """A place in the hyperparameters as a JSON path."""
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return f"model.hyperparams.{name}{steps}"


def own_hyperparams(given: Mapping[str, Any], recipe: str) -> dict[str, Any]:
    """What a config of this recipe trains it with; a cascade takes all, for its rungs."""
    if recipe in ("cascade", "auto"):
        return dict(given)
    return {**_beside(given), **(given.get(recipe) or {})}


def of_step(given: Mapping[str, Any], step: Step, *, first: bool) -> dict[str, Any]:
    """What a rung of a cascade or of a climb is trained with. `first`: it gets what stands beside the blocks."""
    if step.recipe == "cascade":
        return {**given, "cascade": {**(given.get("cascade") or {}), **step.hyperparams}}
    return {**(_beside(given) if first else {}), **(given.get(step.recipe) or {}), **step.hyperparams}


def _beside(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if key not in RECIPES}
