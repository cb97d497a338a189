"""A linter for NoETL playbooks: what the server's parser and both runtimes check late, or never.

`lint_text` is pure; `lint_paths` reads files and folders. Standard library and PyYAML only, so that this module
and `lint_rules/` can be lifted out.

A playbook is held to every runtime that would run it. The local runtime refuses `executor.profile: distributed`;
a server ignores `executor`. So the rules of both apply, or a server's alone where the profile is distributed;
`runtime` narrows that.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slm_assets.noetl.lint_rules import conditions, container, header, names, reading, routing, shell, templates, tools
from slm_assets.noetl.lint_rules.book import Book, mapping
from slm_assets.noetl.lint_rules.header import NO_PLAYBOOK
from slm_assets.noetl.lint_rules.reading import MAX_BYTES, YAML_BROKEN, YAML_TOO_LARGE, Source, read
from slm_assets.noetl.lint_rules.rule import CHECKS, RULES, Finding, Hit, Rule, Runtime, show

__all__ = ["RULES", "Finding", "Report", "Rule", "Runtime", "UnreadableError", "lint_paths", "lint_text", "rules_page"]

_GROUPS = {
    "YAML": "reading", "Head": "header", "Graph": "routing", "Steps and tools": "tools",
    "Templates": "templates", "Conditions": "conditions", "Names": "names", "Shell": "shell", "Container": "container",
}  # fmt: skip
_MODULES = (reading, header, routing, tools, templates, conditions, names, shell, container)
"""Importing them fills RULES and CHECKS, in the order of the page."""
_LOOKS = re.compile(r"^(?:kind:\s*['\"]?Playbook\b|workflow:)", re.MULTILINE)


@dataclass(frozen=True)
class Report:
    """The findings, sorted; the files that were linted; and those of folders that are no playbooks, with why."""

    findings: list[Finding]
    files: list[str]
    skipped: dict[str, str]

    @property
    def errors(self) -> int:
        """How many findings are errors."""
        return sum(finding.severity == "error" for finding in self.findings)


class UnreadableError(ValueError):
    """A path that cannot be linted at all."""


def lint_text(text: str, file: str = "playbook.yaml", runtime: Runtime | None = None) -> list[Finding]:
    """Every finding of one playbook, sorted by line. Never raises for what the text holds."""
    return _lint(read(text), file, runtime)


def lint_paths(paths: Iterable[Path], runtime: Runtime | None = None) -> Report:
    """Lint files and, of folders, every playbook in them. Raises UnreadableError for a path that is neither, and
    where there is no playbook at all."""
    findings: list[Finding] = []
    files: dict[str, None] = {}
    skipped: dict[str, str] = {}
    for path, named in _files(paths):
        name = str(path)
        if name in files:
            continue
        source = _source(path)
        if not named and (why := _no_playbook(source[1], source[0])):
            skipped[name] = why
            continue
        files[name] = None
        findings += _lint(source[1], name, runtime)
    if not files:
        raise UnreadableError("no playbook found" + "".join(f"\n  {name}: {why}" for name, why in skipped.items()))
    return Report(sorted(findings, key=_order), list(files), skipped)


def rules_page() -> str:
    """Every rule as Markdown tables, for the documentation."""
    lines: list[str] = []
    for title, module in _GROUPS.items():
        lines += [f"## {title}", "", "| rule | | who minds | why | mend |", "|---|---|---|---|---|"]
        own = [r for r in RULES.values() if _HOME[r.id] == module]
        lines += [f"| `{r.id}` | {r.severity} | {r.concern} | {_cell(r.why)} | {_cell(r.mend)} |" for r in own]
        lines.append("")
    return "\n".join(lines)


_HOME = {
    value.id: module.__name__.rpartition(".")[2]
    for module in reversed(_MODULES)
    for value in vars(module).values()
    if isinstance(value, Rule)
}
"""The module that defines a rule: it comes before those that import it."""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _lint(source: Source, file: str, runtime: Runtime | None) -> list[Finding]:
    hits = list(source.hits)
    if source.usable:
        hits += _check(source.value, runtime)
    found = {_finding(hit, source, file) for hit in hits}
    return sorted(found, key=_order)


def _check(value: Any, runtime: Runtime | None) -> Iterator[Hit]:
    if not isinstance(value, dict):
        yield NO_PLAYBOOK.at((), f"found {show(value)}")
        return
    if runtime is None:
        runtime = "server" if mapping(value, "executor").get("profile") == "distributed" else "both"
    book = Book(value, runtime)
    for check in CHECKS:
        yield from (hit for hit in check(book) if hit.rule.applies(runtime))


def _finding(hit: Hit, source: Source, file: str) -> Finding:
    own = hit.rule
    return Finding(
        file, source.line(hit.place), hit.step, own.id, own.severity, own.concern, hit.found, own.why, hit.mend
    )


def _order(finding: Finding) -> tuple[str, int, str, str, str]:
    return finding.file, finding.line, finding.rule, finding.step or "", finding.found


def _source(path: Path) -> tuple[str, Source]:
    """A file's text and what was read of it; what cannot be read as text is a finding too."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror or error}") from None
    if len(data) > MAX_BYTES:
        return "", Source(hits=[YAML_TOO_LARGE.at((), f"more than {MAX_BYTES:,} bytes")], usable=False)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return "", Source(hits=[YAML_BROKEN.at((), f"not UTF-8 at byte {error.start}")], usable=False)
    return text, read(text)


def _no_playbook(source: Source, text: str) -> str:
    """Why a file found in a folder is passed over; nothing for a playbook."""
    value = source.value
    if source.usable and isinstance(value, dict):
        if value.get("kind") == "Playbook" or "workflow" in value:
            return ""
        return f"kind {show(value['kind'])}, no playbook" if value.get("kind") else "no playbook"
    if _LOOKS.search(text) and not (source.usable and not isinstance(value, dict)):
        return ""
    return "no playbook" if source.usable else "no readable YAML, and nothing of a playbook in it"


def _files(paths: Iterable[Path]) -> Iterator[tuple[Path, bool]]:
    """Each file, and whether it was named; folders in sorted order, hidden ones and links to folders left out."""
    for path in paths:
        if path.is_file():
            yield path, True
        elif path.is_dir():
            for folder, names, files in os.walk(path):
                names[:] = sorted(name for name in names if not name.startswith("."))
                own = (Path(folder) / name for name in sorted(files) if name.endswith((".yaml", ".yml")))
                yield from ((file, False) for file in own if file.is_file())
        else:
            raise UnreadableError(f"{path}: no such file or folder")
