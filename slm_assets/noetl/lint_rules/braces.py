"""Finding {{ … }} in a text, in time linear in its length."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from slm_assets.noetl.lint_rules.rule import words

STRING = re.compile(r"'[^']*'|\"[^\"]*\"")
NAME = re.compile(r"(?<![\w.'\"|])([A-Za-z_]\w*)((?:\.[A-Za-z_]\w*|\[\s*(?:'[^']*'|\"[^\"]*\")\s*\])*)(?!\s*\()")

_GO = re.compile(r"[\s-]*(?:[.$/]|range\s|if\s|end[\s-]*\Z)")
ROOTS = words(
    "workload keychain vars input args ctx iter steps env execution_id result loop event meta job item output"
)
"""First names that a runtime gives a meaning."""


@dataclass(frozen=True)
class Braces:
    """One {{ inner }} and where it stands."""

    start: int
    end: int
    inner: str


def braces(text: str) -> Iterator[Braces]:
    """Each {{ with the next }}, from left to right."""
    start = text.find("{{")
    while start >= 0 and (end := text.find("}}", start + 2)) >= 0:
        yield Braces(start, end + 2, text[start + 2 : end])
        start = text.find("{{", end + 2)


def without(text: str, instead: str = "") -> str:
    """The text with each {{ … }} replaced."""
    parts, at = [], 0
    for found in braces(text):
        parts += [text[at : found.start], instead]
        at = found.end
    return "".join([*parts, text[at:]])


def is_go(inner: str) -> bool:
    """Whether it is a Go template, such as docker and kubectl take."""
    return bool(_GO.match(inner))
