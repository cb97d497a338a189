"""What a rule, a hit and a finding are; the list of all rules and checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from slm_assets.noetl.lint_rules.book import Book

Severity = Literal["error", "warning"]
Concern = Literal["local", "server", "any", "dual"]
"""Who minds: one runtime, either of them, or only a playbook that is meant for both."""
Runtime = Literal["local", "server", "both"]
Place = tuple[str | int, ...]
"""Keys and indices from the document's root."""


@dataclass(frozen=True)
class Rule:
    """One thing that can be wrong. `id` is stable. An error is refused, skipped or does something else than it
    says; a warning works today but is fragile."""

    id: str
    severity: Severity
    concern: Concern
    why: str
    mend: str

    def at(self, place: Place, found: str = "", *, step: str | None = None, mend: str = "") -> Hit:
        """This rule, broken at a place."""
        return Hit(self, place, found, step, mend or self.mend)

    def applies(self, runtime: Runtime) -> bool:
        """Whether a playbook for these runtimes is held to the rule."""
        return self.concern in ("any", runtime) or runtime == "both"


@dataclass(frozen=True)
class Hit:
    """A broken rule, before the document's lines are known."""

    rule: Rule
    place: Place
    found: str
    step: str | None
    mend: str


@dataclass(frozen=True)
class Finding:
    """What a user reads. `line` is 1-based; `concern` names the runtimes that mind."""

    file: str
    line: int
    step: str | None
    rule: str
    severity: Severity
    concern: Concern
    found: str
    why: str
    mend: str

    def __str__(self) -> str:
        step = f" step {self.step}" if self.step else ""
        found = f"{self.found}: " if self.found else ""
        return f"{self.file}:{self.line}{step} [{self.rule}] {found}{self.why}; {self.mend}"


Check = Callable[["Book"], Iterator[Hit]]
RULES: dict[str, Rule] = {}
CHECKS: list[Check] = []


def rule(id_: str, severity: Severity, concern: Concern, why: str, mend: str) -> Rule:
    """Define a rule; its id must be new."""
    if id_ in RULES:
        raise ValueError(f"two rules are named {id_}")
    RULES[id_] = Rule(id_, severity, concern, why, mend)
    return RULES[id_]


def check(function: Check) -> Check:
    """Add a function to those that every playbook goes through."""
    CHECKS.append(function)
    return function


def show(value: object, limit: int = 60) -> str:
    """A value as one short line."""
    text = " ".join((value if isinstance(value, str) else repr(value)).split())
    return f"`{text if len(text) <= limit else text[: limit - 1] + '…'}`"


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())
