"""Names of the sources of rows, which are folders of a plan's frozen rows."""

from __future__ import annotations

CAPTURED = "captured"
"""Turns of live traffic, redacted: rows without labels, in a form of their own."""

SOURCES = ("holdout", "golden", "seed", "adversarial", CAPTURED)
"""In reading order: what is always eval first, so that a repeated id stays with it."""
