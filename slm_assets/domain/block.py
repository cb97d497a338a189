"""What every block of the config is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


class Block(BaseModel):
    """Base of every block: immutable, nothing is coerced, and an unknown key is a fault."""

    # Built at the first config that is read: a process that reads none should not pay for seventy models.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)
