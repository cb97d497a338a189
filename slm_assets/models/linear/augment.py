"""More rows from those there are: values of texts exchanged for others that the same place of the output has."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, Final, NamedTuple

from slm_assets.canonical import Json
from slm_assets.errors import BadInputError
from slm_assets.models.ladder import Training
from slm_assets.models.linear.features import find_texts, split_parts
from slm_assets.models.linear.model import LinearModel
from slm_assets.models.linear.paths import Path, general, get, walk
from slm_assets.models.linear.schema import Contract

AUGMENT: Final = "augment"
SLOTS: Final = "slots"

Pair = tuple[Json, Json]


class _Slot(NamedTuple):
    """A value of the output, and where in the input's texts it stands."""

    path: Path
    place: Path
    start: int
    end: int


def augmented(training: Training) -> tuple[Training, int]:
    """The training with `augment` carried out and taken off its hyperparameters, and how many pairs that added.

    BadInputError for a value that is none of this setting's.
    """
    rest = dict(training.hyperparams)
    asked = rest.pop(AUGMENT, None)
    if asked not in (None, SLOTS):
        raise BadInputError(
            f"hyperparams.{AUGMENT}: found {str(asked)[:80]!r}, expected {SLOTS} or null", cure="leave it out for none"
        )
    training = replace(training, hyperparams=rest)
    if asked is None:
        return training, 0
    pairs, groups = substituted(training.pairs, training.groups, training.schema, training.seed)
    return replace(training, pairs=pairs, groups=groups), len(pairs) - len(training.pairs)


def with_added(model: LinearModel, added: int) -> LinearModel:
    """The model, its report with the rows that were given apart from those that were made of them."""
    if added:
        model.report |= {"n": int(str(model.report["n"])) - added, "augmented": added}
    return model


def substituted(
    pairs: Sequence[Pair], groups: Sequence[str] | None, schema: dict[str, Any], seed: int
) -> tuple[list[Pair], list[str]]:
    """The pairs, and for each that has such values another with all of them exchanged, in the group of its own.

    A value is exchanged that no list of the contract holds, that is one of its kind in the output, and that
    stands in the input's texts once, as a whole word; for one that another row has at the same place. What
    breaks the contract is left out. Equal arguments give equal pairs.
    """
    if groups is not None and len(groups) != len(pairs):
        raise BadInputError(f"{len(groups)} groups for {len(pairs)} rows", cure="give one group a row")
    contract = Contract(schema)
    text_names = find_texts([value for value, _ in pairs])
    slots = [_slots(value, output, text_names, contract) for value, output in pairs]
    known: dict[str, dict[str, None]] = {}
    for (_, output), own in zip(pairs, slots, strict=True):
        for slot in own:
            known.setdefault(general(slot.path), {})[get(output, slot.path)] = None
    values = {name: list(found) for name, found in known.items()}
    rng = random.Random(seed)  # noqa: S311 - a choice of rows, not a secret
    out, named = list(pairs), list(groups) if groups is not None else [f"row {k}" for k in range(len(pairs))]
    for k, ((value, output), own) in enumerate(zip(pairs, slots, strict=True)):
        others = [rng.choice(values[general(slot.path)]) for slot in own]
        made = _exchanged(value, output, own, others)
        if made[1] != output and contract.is_valid(made[1]):
            out.append(made)
            named.append(named[k])
    return out, named


def _slots(value: Json, output: Json, text_names: frozenset[str], contract: Contract) -> list[_Slot]:
    leaves = [(path, leaf) for path, leaf in walk(output) if isinstance(leaf, str) and leaf.strip()]
    times = Counter(leaf for _, leaf in leaves)
    texts = split_parts(value, text_names).texts
    found: list[_Slot] = []
    for path, leaf in leaves:
        if times[leaf] > 1 or contract.choices(path) is not None:
            continue
        word = re.compile(rf"(?<!\w){re.escape(leaf)}(?!\w)")
        places = [(place, m.start(), m.end()) for _, place, text in texts for m in word.finditer(text)]
        if len(places) == 1:
            found.append(_Slot(path, *places[0]))
    found.sort(key=lambda slot: (slot.place, slot.start, -slot.end))
    apart: list[_Slot] = []
    for slot in found:
        if not apart or apart[-1].place != slot.place or apart[-1].end <= slot.start:
            apart.append(slot)
    return apart


def _exchanged(value: Json, output: Json, slots: Sequence[_Slot], others: Sequence[str]) -> Pair:
    """A copy of a pair with other values in its slots."""
    value, output = deepcopy(value), deepcopy(output)
    for slot, other in reversed(list(zip(slots, others, strict=True))):
        text = get(value, slot.place)
        value = _with(value, slot.place, text[: slot.start] + other + text[slot.end :])
        output = _with(output, slot.path, other)
    return value, output


def _with(value: Any, path: Path, leaf: str) -> Json:
    """The value, changed in place, with another leaf at an existing path."""
    if not path:
        return leaf
    get(value, path[:-1])[path[-1]] = leaf
    return value
