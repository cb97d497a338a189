"""What a domain says about the labels of its rows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slm_assets.domain.block import Block, Identifier

Source = Literal["agreed", "teacher", "oracle"]

IncompleteLabels = Annotated[
    Literal["quarantine", "complete"],
    Field(description="Rows whose label only lacks what the contract requires: put aside, or completed by the oracle."),
]


class LabelPolicy(Block):
    """Whose answer becomes the label of a row that was given without one. A given label always stands first."""

    teacher: Identifier | None = Field(
        default=None,
        description="The teacher that is asked about rows; default: none. For captured turns see relabel.teacher.",
    )
    asked: Literal["unlabelled", "all"] = Field(
        default="unlabelled",
        description="Which rows it is asked about: those without a given label, or all, to compare it with those too.",
    )
    max_rows: int | None = Field(
        default=None, ge=1, description="Most rows that it is asked about, drawn by hash; default: no limit."
    )
    order: list[Source] = Field(
        default=["agreed", "oracle"],
        min_length=1,
        description="Whose answer is the label, the first that has one: `agreed` (teacher and oracle say the same), "
        "`oracle`, `teacher`. A teacher's answer is only a label where `teacher` is in the list.",
    )

    @property
    def by_teacher(self) -> bool:
        """Whether a teacher that contradicts the oracle wins: only then its labels can judge that oracle."""
        return "teacher" in self.order and (
            "oracle" not in self.order or self.order.index("teacher") < self.order.index("oracle")
        )
