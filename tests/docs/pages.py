"""Fenced blocks of a page, as a reader meets them: files to write, commands to run, output to expect."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
MASKED = (
    (re.compile(r"[─-╿]"), " "),  # the frames of tables
    (re.compile(r"[+-]?\d+\.\d+"), "#"),  # measured numbers
    (re.compile(r"\d+(?= turns would decide)"), "#"),
    (re.compile(r"\s+"), " "),
)


@dataclass(frozen=True)
class Step:
    """One block: a file (`path`), or a command with the output that stands after it."""

    text: str
    path: str = ""
    expected: str = ""


def steps(page: str) -> Iterator[Step]:
    """The blocks in order. A `text` block belongs to the `sh` block before it."""
    blocks = [(kind, title, text) for kind, title, text in FENCE.findall(page)]
    for index, (kind, title, text) in enumerate(blocks):
        if title:
            yield Step(text, path=title)
        elif kind == "sh":
            after = blocks[index + 1] if index + 1 < len(blocks) else ("", "", "")
            yield Step(text, expected=after[2] if after[0] == "text" else "")


def missing(expected: str, printed: str) -> list[str]:
    """Lines of the expected output that were not printed, in that order; `…` stands for anything."""
    found, position, absent = plain(printed), 0, []
    for line in expected.splitlines():
        for part in (plain(part) for part in line.split("…")):
            at = found.find(part, position)
            if at < 0:
                absent.append(line)
                break
            position = at + len(part)
    return absent


def plain(text: str) -> str:
    """Without table frames, measured numbers and line breaks."""
    for pattern, instead in MASKED:
        text = pattern.sub(instead, text)
    return text.strip()
