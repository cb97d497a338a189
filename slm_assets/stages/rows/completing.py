"""Labels of an earlier contract under the one of now: what they lack comes from the oracle, the rest stands."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.contracts import Validator
from slm_assets.domain.documents import Place

_ABSENT: Any = object()


def complete(contract: Validator, label: Json, answer: Json) -> tuple[Json, list[str]] | None:
    """The label with the required places that it lacks taken from an oracle's answer, and those places as
    pointers (`*` for each item). None where the answer does not have them, or they do not suffice.

    An item of an array is completed only by an item that says the same about all that the label's has.
    """
    found = deepcopy(label)
    pointers: dict[str, None] = {}
    while missing := contract.lacking(found):
        for place in missing:
            value = _at(answer, found, place)
            if value is _ABSENT:
                return None
            _put(found, place, deepcopy(value))
            steps = ("*" if isinstance(step, int) else step.replace("~", "~0").replace("/", "~1") for step in place)
            pointers["/" + "/".join(steps)] = None
    return None if missing is None else (found, sorted(pointers))


def _at(answer: Json, label: Json, place: Place) -> Json:
    """The answer's value at a place that the label lacks, or _ABSENT."""
    for step in place:
        if isinstance(step, int):
            same = isinstance(answer, list) and len(answer) == len(label) and _within(label[step], answer[step])
        else:
            same = isinstance(answer, dict) and step in answer
        if not same:
            return _ABSENT
        answer, label = answer[step], label.get(step) if isinstance(label, dict) else label[step]
    return answer


def _within(part: Json, whole: Json) -> bool:
    """Whether the whole says all that the part says."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and _within(value, whole[key]) for key, value in part.items())
    return canonical.dumps(part) == canonical.dumps(whole)


def _put(value: Json, place: Place, leaf: Json) -> None:
    for step in place[:-1]:
        value = value[step]
    value[place[-1]] = leaf
