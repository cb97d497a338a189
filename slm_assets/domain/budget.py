"""What a domain may spend: `budgets/<domain>.yaml`, a limit per resource and window of the calendar (UTC)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field

from slm_assets.domain.block import Block

Period = Literal["day", "week", "month"]
Resource = Literal["tokens", "gpu_minutes", "cpu_minutes", "storage_gb", "usd"]


class Limit(Block):
    """How much of a resource, and in which window of the calendar."""

    limit: float = Field(ge=0, description="Most that may be spent in one window; 0 allows nothing.")
    window: Period = Field(default="week", description="day, week (from Monday) or month, in UTC.")


class Prices(Block):
    """What a minute costs, in US dollars; the ladder's table shows costs by it. What has no price has no cost there."""

    cpu_minute: float | None = Field(default=None, ge=0, description="US dollars for a minute of one core.")
    gpu_minute: float | None = Field(default=None, ge=0, description="US dollars for a minute of one GPU.")


class Budget(Block):
    """Limits by resource; what has no limit is not counted. Reserved before a stage, settled after it."""

    tokens: Limit | None = Field(default=None, description="Tokens that teachers read and write.")
    gpu_minutes: Limit | None = Field(
        default=None, description="Minutes of stages whose container asks for GPUs, times the GPUs."
    )
    cpu_minutes: Limit | None = Field(default=None, description="Minutes of all other stages, by the clock.")
    storage_gb: Limit | None = Field(default=None, description="Gigabytes of artifacts that stages write.")
    usd: Limit | None = Field(default=None, description="What teachers cost.")
    prices: Prices | None = Field(default=None, description="Of a minute of computing; nothing is limited by it.")

    def limits(self) -> dict[str, Limit]:
        """The resources that have a limit."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: limit for name, limit in given.items() if isinstance(limit, Limit)}


def window_start(period: Period, at: datetime) -> datetime:
    """When the window that `at` lies in began."""
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        return day
    return day - timedelta(days=day.weekday()) if period == "week" else day.replace(day=1)


def next_window(period: Period, at: datetime) -> datetime:
    """When the window after that of `at` begins."""
    long_enough = {"day": 1, "week": 7, "month": 31}[period]
    return window_start(period, window_start(period, at) + timedelta(days=long_enough))
