"""The errors a user meets: each names the place, what was found, what was expected, and the cure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Fault:
    """One thing wrong in what a user wrote.

    `file` is relative to the domain's folder, `path` a JSON path ("$.roles[0].id"), `line` 1-based
    where known. `severity` is "error" or "warning"; only errors refuse the config.
    """

    file: str
    path: str
    message: str
    found: str = ""
    expected: str = ""
    cure: str = ""
    line: int | None = None
    severity: str = "error"

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        parts = [f"{place} {self.path}: {self.message}"]
        if self.found:
            parts.append(f"found {self.found}")
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.cure:
            parts.append(self.cure)
        return "; ".join(parts)


class SlmError(Exception):
    """Base of all errors that are reported without a traceback. `exit_code` is the command's."""

    exit_code = 1

    def __init__(self, message: str, *, cure: str = "") -> None:
        super().__init__(message if not cure else f"{message}\n  cure: {cure}")
        self.message = message
        self.cure = cure


class BadInputError(SlmError):
    """What the user gave is wrong: a config, a row, a request, a name."""

    exit_code = 2


class ConfigError(BadInputError):
    """A domain's config is refused; `faults` holds every reason, not only the first."""

    def __init__(self, domain: str, faults: list[Fault]) -> None:
        self.domain = domain
        self.faults = sorted(faults)
        lines = "\n".join(f"  {fault}" for fault in self.faults)
        count = len(self.faults)
        super().__init__(f"domain {domain}: {count} fault{'s' if count != 1 else ''}\n{lines}")


class ArtifactError(SlmError):
    """An artifact is missing or its bytes do not match its digest."""


class BusyError(SlmError):
    """Another process works on the same version."""


class HeldError(SlmError):
    """A gate said no."""

    exit_code = 3


class DeferredError(SlmError):
    """Nothing is wrong, but the step must wait (for an approval, for budget, for more traffic).

    `result`: what a stage found so far, which its receipt then shows.
    """

    exit_code = 4

    def __init__(self, message: str, *, cure: str = "", result: object = None) -> None:
        super().__init__(message, cure=cure)
        self.result = result
