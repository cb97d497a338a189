"""What a bounded contract is made of: a finite tree in which every text, list and number has an end.

Every value that the tree can write meets the contract as far as its lints say; its longest text is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Listed:
    """One of some values, each as its JSON text."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class Text:
    """A string of `low` to `high` characters; with patterns or a format of which the contract speaks."""

    low: int
    high: int
    patterns: tuple[str, ...] = ()
    format: str = ""


@dataclass(frozen=True)
class Number:
    """A number in [low, high], both given in units of 10^-decimals, with at most so many decimals."""

    low: int
    high: int
    decimals: int = 0


@dataclass(frozen=True)
class Items:
    """A list: the first ones each with a node of its own, then more of `each` (None: no more)."""

    first: tuple[Node, ...]
    each: Node | None
    low: int
    high: int


@dataclass(frozen=True)
class Field:
    """A key of an object."""

    key: str
    node: Node
    required: bool


@dataclass(frozen=True)
class Fields:
    """An object with its keys in the order in which they are written; `low`: 1 where it may not be empty."""

    fields: tuple[Field, ...]
    low: int = 0


@dataclass(frozen=True)
class Either:
    """Any of some nodes."""

    branches: tuple[Node, ...]


Node: TypeAlias = Listed | Text | Number | Items | Fields | Either
