"""What may become of a turn: the signals of feedback."""

from __future__ import annotations

SIGNALS = frozenset({"correction", "retry", "tool_error", "abandonment", "success"})
"""What feedback may say of a turn; a domain's `outcome_signals` add to them."""
GOOD = frozenset({"success"})
"""Signals that do not keep a turn by themselves."""
