"""Block `improvement.relabel`: which live turns join the next dataset, and which a person looks at first."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from slm_assets.domain.block import Block, Identifier


class Relabel(Block):
    """What of the captured traffic the next version learns from."""

    status: Literal["enabled", "disabled"] = Field(
        default="enabled", description="disabled: no captured turn joins a dataset."
    )
    teacher: Identifier | None = Field(
        default=None,
        description="The teacher that is asked about captured turns without a label; default: none, live traffic stays "
        "here. Whose answer is the label is said by labels.order.",
    )
    audit_share: float = Field(
        default=0.2, ge=0, le=1, description="Share of the uniform sample that joins whatever became of it."
    )
    review_share: float = Field(
        default=0.01, ge=0, le=1, description="Share of the uniform sample that a person is asked about."
    )
    confidence_below: float = Field(
        default=0.6, ge=0, le=1, description="Turns that were answered less surely than this matter."
    )
    max_share: float = Field(
        default=0.5, ge=0, lt=1, description="Most that captured turns may be of all rows, where there are others."
    )
    max_turns: int = Field(default=10_000, ge=0, description="Most captured turns of one dataset.")
    per_user: int = Field(default=50, ge=1, description="Most turns of one user.")
    per_conversation: int = Field(default=10, ge=1, description="Most turns of one conversation.")
    min_users: int = Field(
        default=3, ge=1, description="A rare word that comes with one label needs so many users to be learned."
    )
    max_lift: float = Field(
        default=10.0, gt=1, description="So many times more frequent than in the given rows is conspicuous."
    )
    review_items: int = Field(default=200, ge=0, description="Most new review items of one version.")
