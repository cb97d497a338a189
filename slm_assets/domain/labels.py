"""What a domain says about the labels of its rows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

IncompleteLabels = Annotated[
    Literal["quarantine", "complete"],
    Field(description="Rows whose label only lacks what the contract requires: put aside, or completed by the oracle."),
]
