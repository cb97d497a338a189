"""Names of the sources of rows, which are folders of a plan's frozen rows."""

from __future__ import annotations

CAPTURED = "captured"
"""Turns of live traffic, redacted: no folder, they come with the plan's window."""

AUDITED = "audited"
"""Live turns that were drawn at random and decided by a person: held out, as any frozen eval row."""
REVIEWED = "reviewed"
"""Live turns that a person decided because something was wrong with them: regression cases, which say nothing
about how good a version is on the whole."""

OWN_SHAPE = frozenset({AUDITED, REVIEWED, CAPTURED})
"""Sources whose rows have one form in every domain, whatever `data.fields` says of the given ones."""
ALWAYS_EVAL = frozenset({"holdout", "golden", AUDITED, REVIEWED})
REPLAYED = frozenset({"golden", AUDITED, REVIEWED})
"""The golden-replay set: reviewed real turns, given as files or decided here."""

SOURCES = ("holdout", "golden", AUDITED, REVIEWED, "seed", "adversarial")
"""In reading order: what is always eval first, so that a repeated id stays with it."""

OUTSIDE = "invalid_under_contract.jsonl"
"""File of a dataset: held-out rows that a changed contract refuses."""
