"""When an override outweighs a gate's no: the same gate and role, the same evidence, and an answer no worse.

What would make a version's numbers meaningless or its answers unusable is never overridden: leakage, trained-on
turns, contracts, vocabulary, personal data, a bundle that differs, validity.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from slm_assets.registry.registry import Row

OVERRIDABLE = ("floor", "target", "incumbent", "slices", "latency", "shadow")
NOES = ("INSUFFICIENT", "FAIL")
"""From the lesser to the worse: an override of a FAIL is one of an INSUFFICIENT too."""


def is_overridden(verdict: Row, overrides: Sequence[Row]) -> bool:
    """Whether somebody overrode this very answer."""
    return verdict["gate"] in OVERRIDABLE and any(
        all(verdict[key] == row[key] for key in ("gate", "role", "evidence"))
        and NOES.index(verdict["verdict"]) <= NOES.index(row["verdict"])
        for row in overrides
    )


def overridden(verdicts: Sequence[Row], overrides: Sequence[Row], approved: Collection[str]) -> set[str]:
    """Roles with a FAIL, each of which is overridden; what is only undecided may be approved as well."""
    noes = [row for row in verdicts if row["blocking"] and row["verdict"] in NOES and row["role"]]
    standing = {
        row["role"]
        for row in noes
        if not is_overridden(row, overrides) and (row["verdict"] == "FAIL" or row["role"] not in approved)
    }
    return {row["role"] for row in noes if row["verdict"] == "FAIL"} - standing
