"""Rules of names: what a template reads is defined, for both runtimes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from slm_assets.noetl.lint_rules.book import Book, Step, items, mapping
from slm_assets.noetl.lint_rules.braces import NAME, ROOTS, STRING, braces, is_go
from slm_assets.noetl.lint_rules.conditions import conditions
from slm_assets.noetl.lint_rules.header import nearest
from slm_assets.noetl.lint_rules.rule import Hit, Place, check, rule, show, words
from slm_assets.noetl.lint_rules.templates import rendered

WORKLOAD = rule(
    "workload-undefined", "error", "any",
    "the workload has no such key: left verbatim locally, empty on a server; in a condition it decides by accident",
    "add the key with a default",
)  # fmt: skip
VARS = rule(
    "vars-undefined", "error", "any", "no step sets this: left verbatim locally, empty on a server",
    "set it with `vars` (local) and `set: {vars: …}` (server) on an earlier step",
)  # fmt: skip
INPUT = rule("input-undefined", "error", "any", "no step has this `input`", "add it to the step's `input`")
UNKNOWN = rule(
    "name-undefined", "warning", "any", "neither a step, nor a workload key, nor anything that is set", "mend its name"
)
VARS_TEXT = rule("vars-text", "error", "any", "`noetl` refuses `vars` whose values are not texts", "quote the value")
VARS_SERVER = rule(
    "vars-on-server", "error", "server", "the server parses a step's `vars` and never uses them",
    "add `set: {vars: {k: …}}` beside it",
)  # fmt: skip
SET_LOCAL = rule("set-locally", "error", "local", "the local runtime ignores `set`", "add `vars: {k: …}` beside it")
INPUT_SERVER = rule(
    "input-on-server", "error", "server", "the server does not know a step's `input`", "put `input` into the tool"
)

MAX_EXPRESSION = 2000
_WORDS = words("and or not in is if else true false none True False None defined undefined loop range namespace")


@check
def names(book: Book) -> Iterator[Hit]:
    """Every name that a template or a condition reads is defined somewhere."""
    defined = _Defined(book)
    for text in rendered(book):
        code = any(tool.get("kind") in ("python", "rhai") for _, tool in text.step.tools) and "code" in text.place
        read = (text.local and book.runtime != "server") or (text.server and book.runtime != "local")
        for found in braces(text.text) if read and not code else ():
            yield from defined.missing(found.inner, text.place, text.step)
    for place, when, step in conditions(book):
        inner = [found.inner for found in braces(when)] or ([] if "{" in when else [when])
        for one in inner:
            yield from defined.missing(one, place, step)


class _Defined:
    """What templates may read."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.vars: set[str] = set(mapping(book.root, "vars"))
        self.inputs: set[str] = set()
        self.others: set[str] = set(book.workload) | self.vars
        for item in items(book.root, "keychain"):
            if isinstance(item, dict) and isinstance(item.get("name"), str):
                self.others.add(item["name"])
        for step in book.steps:
            self.vars |= set(mapping(step.raw, "vars"))
            self.inputs |= set(mapping(step.raw, "input"))
            for _, tool in step.tools:
                self.inputs |= set(mapping(tool, "input")) | set(mapping(tool, "args"))
                self.others |= {label for label in (tool.get("name"),) if isinstance(label, str)}
            for own in [step.raw, *(arc.raw for arc in step.arcs)]:
                names_, vars_ = set_names(own)
                self.others |= names_
                self.vars |= vars_
            iterator = mapping(step.raw, "loop").get("iterator")
            self.others |= {iterator} if isinstance(iterator, str) else set()

    def missing(self, inner: str, place: Place, step: Step) -> Iterator[Hit]:
        """A hit for each name that nothing defines."""
        if is_go(inner) or len(inner) > MAX_EXPRESSION:
            return
        bare = re.sub(r"\|\s*\w+", "|", re.sub(r"\bis\s+(?:not\s+)?\w+", "", inner))
        held = STRING.sub(lambda m: m.group(0) if bare[: m.start()].rstrip().endswith("[") else "''", bare)
        guarded = bool(re.search(r"\|\s*default\b|\bis\s+(?:not\s+)?defined\b", inner))
        for match in NAME.finditer(held):
            root, keys = match.group(1), re.findall(r"[A-Za-z_]\w*", match.group(2))
            key = keys[0] if keys else None
            yield from self._one(root, key, guarded, place, step)

    def _one(self, root: str, key: str | None, guarded: bool, place: Place, step: Step) -> Iterator[Hit]:
        shown = show(f"{root}.{key}" if key else root)
        if root == "workload":
            if key is not None and key not in self.book.workload and not guarded:
                yield WORKLOAD.at(place, shown, step=step.name, mend=nearest(key, self.book.workload) or WORKLOAD.mend)
        elif root == "vars":
            if key is not None and key not in self.vars and not guarded:
                yield VARS.at(place, shown, step=step.name, mend=nearest(key, self.vars) or VARS.mend)
        elif root == "input":
            if key is not None and key not in self.inputs and not guarded:
                yield INPUT.at(place, shown, step=step.name, mend=nearest(key, self.inputs) or INPUT.mend)
        elif root not in ROOTS | _WORDS | self.others and root not in self.book.by_name and not guarded:
            known = {*self.book.by_name, *self.others, "workload", "vars", "input"}
            yield UNKNOWN.at(place, show(root), step=step.name, mend=nearest(root, known) or UNKNOWN.mend)


def set_names(raw: Any) -> tuple[set[str], set[str]]:
    """The names that a `set` defines: bare ones, and those under `vars`."""
    own = mapping(raw, "set")
    bare, under = set(), set(mapping(own, "vars"))
    for key in own:
        head, dot, tail = key.partition(".")
        if dot and head == "vars":
            under.add(tail)
        else:
            bare.add(tail if dot and head in ("ctx", "iter") else head)
    return bare, under


@check
def carried(book: Book) -> Iterator[Hit]:
    """`vars` for the local runtime, `set` for a server: what one has, the other needs."""
    for step in book.steps:
        own, server = mapping(step.raw, "vars"), step.raw.get("set")
        for key, value in own.items():
            if not isinstance(value, str):
                yield VARS_TEXT.at((*step.place, "vars", key), f"{show(key)} is {show(value)}", step=step.name)
        bare, under = set_names(step.raw)
        if missing := sorted(set(own) - bare - under):
            yield VARS_SERVER.at((*step.place, "vars"), ", ".join(map(show, missing)), step=step.name)
        if server is not None and (unmet := sorted((bare - {"vars"} | under) - set(own))):
            yield SET_LOCAL.at((*step.place, "set"), ", ".join(map(show, unmet)), step=step.name)
        if step.raw.get("input") is not None:
            yield INPUT_SERVER.at((*step.place, "input"), step=step.name)
