"""What decides an output beside weights and vocabulary: factors, templates, fills; and putting it together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

from slm_assets.canonical import Json
from slm_assets.models.linear.fills import Fill
from slm_assets.models.linear.items import Items
from slm_assets.models.linear.paths import ABSENT, Path, get
from slm_assets.models.linear.shapes import PRESENT, Unit, read_shape


@dataclass
class Factor:
    """Units that one classifier decides. `classes`: per class, one shape (index) per unit; `start`: its
    first column; `stage`: what it may know of the output; `label`: of what is there where the tagger finds
    it in a text, "" where a classifier decides."""

    units: list[int]
    classes: list[list[int]]
    start: int
    stage: int
    temperature: float = 0.5
    label: str = ""

    @property
    def scored(self) -> bool:
        """Whether a classifier decides."""
        return len(self.classes) > 1 and not self.label


@dataclass
class Template:
    """A shape, ready to be made: JSON bytes of the tree (None: absence), paths of its holes."""

    tree: bytes | None
    holes: list[Path]
    member: bool = False


@dataclass
class Structure:
    """Everything that decides an output beside weights and vocabulary. `fills`: per (unit, shape) one fill
    a hole; `calibration`: power and factor that turn the product of probabilities into a confidence;
    `mentions`: the stage from which on it is a feature what the tagger sees, −1 for none; `items`: how
    arrays are read from texts, by the extra of their source."""

    units: list[Unit]
    factors: list[Factor]
    stages: list[Path]
    templates: list[Template]
    fills: dict[tuple[int, int], list[Fill]]
    fallback: bytes
    fallback_valid: bool
    shape_keys: list[str]
    calibration: float = 1.0
    mentions: int = -1
    items: dict[str, Items] = field(default_factory=dict)


def holds(output: Any, unit: Unit) -> bool:
    """Whether the output made so far has the container that a unit stands in."""
    if unit.member:
        return isinstance(get(output, unit.path), list)
    holder = get(output, unit.path[:-1])
    step = unit.path[-1]
    if isinstance(step, int):
        return isinstance(holder, list) and step < len(holder)
    return isinstance(holder, dict)


def placed(output: Any, path: Path, value: Json) -> Any:
    """The output with a value at a path whose container exists."""
    if not path:
        return value
    get(output, path[:-1])[path[-1]] = value
    return output


def own_copy(output: Json) -> Any:
    """A copy that shares nothing with the input; ABSENT for what is no JSON (a number past 64 bits)."""
    try:
        return orjson.loads(orjson.dumps(output))
    except (TypeError, ValueError):
        return ABSENT


def template(key: str) -> Template:
    """The template of a shape key."""
    shape = read_shape(key)
    if shape is None:
        return Template(None, [], member=key == PRESENT)
    return Template(orjson.dumps(shape.tree, option=orjson.OPT_SORT_KEYS), list(shape.holes))
