"""From pairs of input and output to tokens; rows that cannot be learned are left out, and counted."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.models.ladder import Training
from slm_assets.models.lm.chat import Chat
from slm_assets.models.lm.decoding import Constraint
from slm_assets.models.lm.tuning import Example, Score

_HELD_OUT = 10
Pair = tuple[Json, Json]


@dataclass
class Rows:
    """A role's rows. `unwritable`: outputs that decoding could not write; `too_long`: beyond the tokens of a row."""

    examples: list[Example] = field(default_factory=list)
    looked_at: list[Pair] = field(default_factory=list)
    unwritable: int = 0
    too_long: int = 0


def split(training: Training, most: int) -> tuple[list[Pair], list[Pair]]:
    """Pairs to learn from and pairs to look at, `most` of them: the validation part, or a tenth of the groups."""
    pairs = list(training.pairs)
    if training.validation:
        return pairs, _some(training.validation, most)
    groups = training.groups or [canonical.digest(value) for value, _ in pairs]
    held = {group for group in set(groups) if int(hashlib.sha256(str(group).encode()).hexdigest(), 16) % _HELD_OUT == 0}
    if not held or len(held) == len(set(groups)):
        return pairs, []
    kept = [pair for pair, group in zip(pairs, groups, strict=True) if group not in held]
    looked = [pair for pair, group in zip(pairs, groups, strict=True) if group in held]
    return kept, _some(looked, most)


def tokens(training: Training, chat: Chat, constraint: Constraint, most_tokens: int, most_rows: int) -> Rows:
    """A role's rows as tokens."""
    pairs, looked_at = split(training, most_rows)
    rows = Rows(looked_at=looked_at)
    prefix = chat.prefix()
    for value, output in pairs:
        text = constraint.write(value, output)
        if text is None:
            rows.unwritable += 1
            continue
        example = Example([*prefix, *chat.rest(value)], chat.answer(text))
        if len(example.prompt) + len(example.answer) > most_tokens:
            rows.too_long += 1
        else:
            rows.examples.append(example)
    return rows


def score(found: Sequence[Json], wanted: Sequence[Json]) -> Score:
    """Share that is exactly right, and mean share of leaves."""
    if not wanted:
        return Score(0.0, 0.0)
    exact = [canonical.dumps(one) == canonical.dumps(other) for one, other in zip(found, wanted, strict=True)]
    parts = [_part(one, other) for one, other in zip(found, wanted, strict=True)]
    return Score(sum(exact) / len(wanted), sum(parts) / len(wanted))


def _some(pairs: Sequence[Pair], most: int) -> list[Pair]:
    """Evenly spread ones, at most so many."""
    step = max(1.0, len(pairs) / most)
    return [pairs[int(index * step)] for index in range(min(most, len(pairs)))]


def _part(found: Json, wanted: Json) -> float:
    one, other = _leaves(found, ""), _leaves(wanted, "")
    return len(one & other) / max(1, len(one | other))


def _leaves(value: Json, at: str) -> set[tuple[str, str]]:
    if isinstance(value, dict) and value:
        return {leaf for key, child in value.items() for leaf in _leaves(child, f"{at}/{key}")}
    if isinstance(value, list) and value:
        return {leaf for index, child in enumerate(value) for leaf in _leaves(child, f"{at}/{index}")}
    return {(at, canonical.text(value))}
