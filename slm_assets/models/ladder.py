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
from slm_assets.domain.ladder import DEFAULT_RUNGS, Step, place_of
from slm_assets.errors import ArtifactError, BadInputError
from slm_assets.models.base import Predictor

CHECKPOINT = "checkpoint.json"
FORMAT = 2
_LM = "slm_assets.models.lm.rung"
RUNGS = {
    "linear": "slm_assets.models.linear.rung",
    "encoder": "slm_assets.models.encoder.rung",
    "cascade": "slm_assets.models.cascade.rung",
    "lora": _LM,
    "qlora": _LM,
    "full": _LM,
}
"""Rung → the module that offers it, cheapest first; imported when it is used."""
LANGUAGE_MODELS = frozenset({"lora", "qlora", "full"})
"""Rungs whose roles may share one model, which are trained one after another and may go on from the incumbent."""

Oracle = Callable[[], Predictor | None]
"""Makes a role's oracle; None for one that has none."""


class TrainedModel(Predictor, Protocol):
    """A predictor fresh from training. `report`: what training found, as flat JSON."""

    @property
    def report(self) -> dict[str, Any]:
        """Counts, accuracies, uncovered leaves."""
        ...


class TogetherRung(Protocol):
    """What the module of a rung offers besides, whose roles may share one model."""

    def train_together(self, trainings: Mapping[str, Training]) -> Mapping[str, TrainedModel]:
        """Learn several roles at once: role → its model."""
        ...


@dataclass(frozen=True)
class Training:
    """What a role is trained on: pairs of input and output with the groups that the rows belong to, the contract,
    validation pairs with theirs, and the recipe's own hyperparameters. `independent`: whether the label of each
    validation row is not the oracle's own; `oracle` makes that.

    For language models: `base`, family and size of the base model; `prompt`, the role's system prompt; `incumbent`,
    the checkpoint folder of the role that serves; `state`, where a killed training left its state.
    """

    pairs: Sequence[tuple[Json, Json]]
    schema: dict[str, Any]
    validation: Sequence[tuple[Json, Json]] = ()
    groups: Sequence[str] | None = None
    hyperparams: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    progress: Callable[[float, str], None] | None = None
    validation_groups: Sequence[str] | None = None
    independent: Sequence[bool] = ()
    oracle: Oracle | None = None
    recipe: str = "linear"
    role: str = ""
    base: tuple[str | None, str | None] = (None, None)
    prompt: str | None = None
    incumbent: Path | None = None
    state: Path | None = None


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


def steps(recipe: str, given: Sequence[Step]) -> list[Step]:
    """The rungs of a cascade or a climb as they are to be trained, the default where none are given. BadInputError,
    with the place, for one that cannot be, two of one name, or too few."""
    faults = step_faults(recipe, given)
    if faults:
        where, message, cure = faults[0]
        raise BadInputError(f"{place_of(recipe, where)}: {message}", cure=cure)
    return list(given) or [Step(recipe=name) for name in DEFAULT_RUNGS if name in RUNGS]


def step_faults(recipe: str, given: Sequence[Step]) -> list[tuple[tuple[int | str, ...], str, str]]:
    """(place inside of the recipe's block, message, cure) of everything wrong with these rungs."""
    known = [name for name in RUNGS if name != recipe]
    titles = [step.title for step in given]
    found: list[tuple[tuple[int | str, ...], str, str]] = []
    for index, step in enumerate(given):
        at = ("rungs", index)
        if step.recipe not in known:
            found.append((at, f"{step.recipe!r} is no rung of this release", f"choose among: {', '.join(known)}"))
        if step.title in titles[:index]:
            found.append((at, f"two rungs are named {step.title!r}", "give one of them a name"))
    least = 2 if recipe == "cascade" else 1
    there = len(given) or sum(name in RUNGS for name in DEFAULT_RUNGS)
    if there < least:
        found.append((("rungs",), f"{there} of at least {least} rungs", "name the rungs, cheapest first"))
    return found


def recipes(folder: Path) -> dict[str, str]:
    """Role → rung of a checkpoint. ArtifactError where it is none, or of a format not known here."""
    try:
        head = canonical.read_json(folder / CHECKPOINT)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{folder.name} is no checkpoint: {error}") from error
    if head.get("format") != FORMAT:
        raise ArtifactError(f"checkpoint holds format {head.get('format')}; expected format {FORMAT}")
    return dict(head["roles"])


def has_language_model(folder: Path) -> bool:
    """Whether a language model answers in a checkpoint, for a role or in a cascade."""
    rungs = set(recipes(folder).values())
    for head in folder.glob("*/cascade.json"):
        rungs |= {one["recipe"] for one in canonical.read_json(head)["rungs"]}
    return not LANGUAGE_MODELS.isdisjoint(rungs)


def load(folder: Path, role: str, schema: dict[str, Any], oracle: Oracle | None = None) -> Predictor:
    """Load one role of a checkpoint; `oracle` for a cascade that ends in it. ArtifactError where it is none, or of a
    format not known here."""
    roles = recipes(folder)
    if role not in roles:
        raise ArtifactError(f"checkpoint holds roles {', '.join(sorted(roles))}; expected {role} among them")
    return load_rung(roles[role], folder / role, schema, oracle)


def load_rung(name: str, folder: Path, schema: dict[str, Any], oracle: Oracle | None = None) -> Predictor:
    """Load what a rung saved in a folder. ArtifactError for a rung not known here."""
    if name not in RUNGS:
        raise ArtifactError(
            f"checkpoint of a rung {name!r}; expected one of {', '.join(RUNGS)}", cure="load it with a newer release"
        )
    if name == "cascade":
        from slm_assets.models.cascade.rung import load as load_cascade

        return load_cascade(folder, schema, oracle)
    return rung(name).load(folder, schema)
