"""Rules of {{ … }}: text replacement locally, minijinja on a server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from slm_assets.noetl.lint_rules.book import Book, Step, mapping, texts
from slm_assets.noetl.lint_rules.braces import NAME, ROOTS, STRING, braces, is_go, without
from slm_assets.noetl.lint_rules.rule import Hit, Place, check, rule, show

LOCAL_FILTERS = ("lower", "upper", "trim", "default")

SPACING = rule(
    "template-spacing", "error", "local",
    "the local runtime replaces a name only with exactly one space on each side; this stays as it is written",
    "write `{{ name }}`",
)  # fmt: skip
UNCLOSED = rule("template-unclosed", "error", "any", "a {{ without its }}", "close it")
EXPRESSION = rule(
    "template-local-expression", "error", "local",
    "the local runtime replaces `workload.k`, `vars.k`, `input.k` and `step.result` only, with the filters "
    + ", ".join(LOCAL_FILTERS) + " and no arguments; this stays as it is written",
    "compute it in the shell, or pass it as a workload value",
)  # fmt: skip
BLOCK = rule(
    "template-block-locally", "error", "local", "the local runtime leaves {% … %} and {# … #} as they are written",
    "branch in the shell or with arcs",
)  # fmt: skip
NESTED = rule(
    "workload-nested-locally", "error", "local",
    "the local runtime knows the top keys of the workload only; this stays as it is written", "use a flat key",
)  # fmt: skip
ENVIRONMENT = rule(
    "env-locally", "error", "local", "the local runtime knows neither `env` nor `execution_id` in a template",
    "read $NAME in the shell, whose environment is inherited",
)  # fmt: skip
FIELD = rule(
    "step-field-locally", "error", "local",
    "the local runtime keeps a step's result as one text: `step.result`; a field of it is not resolved",
    "print JSON and pick the field with `vars: {k: \"{{ result.k }}\"}`",
)  # fmt: skip
RESULT = rule(
    "step-result-on-server", "error", "server",
    "on a server a shell step has `exit_code`, `stdout` and `stderr`; `result` is empty", "write `{{ step.stdout }}`",
)  # fmt: skip
SYNTAX = rule(
    "template-syntax-on-server", "error", "server",
    "minijinja reads {{ {% {# in every text, also Go templates and ${#name}, and fails on this one",
    "write it as {{ '{{' }}, wrap it in {% raw %}, or move it into a script file",
)  # fmt: skip
SUB_RESULT = rule(
    "playbook-result-locally", "error", "local", "locally a sub-playbook returns nothing", "hand data back in a file"
)
VARS_RESULT = rule(
    "vars-result-locally", "error", "local", "the local runtime resolves `result.field` only, of a JSON result",
    "print JSON and write `{{ result.field }}`; for the whole text use `{{ step.result }}` later",
)  # fmt: skip
_PATH = re.compile(r"([A-Za-z_]\w*(?:\.\w+)*)((?:\s*\|\s*[a-z_]+)*)\Z")
_OWN_RESULT = re.compile(r"result(?:\.\w+|\[[^\]]*\])+(?:\s*\|\s*(?:lower|upper|trim|default(?:\([^()]*\))?))*")


@dataclass(frozen=True)
class Text:
    """A text with templates: who renders it, and the step it stands in."""

    place: Place
    text: str
    step: Step
    local: bool
    server: bool


def rendered(book: Book) -> Iterator[Text]:
    """Every text that a runtime renders, conditions aside."""
    for step in book.steps:
        for key in ("input", "vars"):
            for place, text in texts(step.raw.get(key), (*step.place, key)):
                yield Text(place, text, step, True, False)
        for key in ("set", "loop", "args"):
            for place, text in texts(step.raw.get(key), (*step.place, key)):
                yield Text(place, text, step, False, True)
        for arc in step.arcs:
            for place, text in texts(mapping(arc.raw, "set"), (*arc.place, "set")):
                yield Text(place, text, step, False, True)
        for here, tool in step.tools:
            for place, text in texts(tool, here):
                if place[len(here)] not in ("kind", "name", "desc", "spec", "eval"):
                    yield Text(place, text, step, *_readers(tool.get("kind"), place[len(here)], listed=len(here) > 3))


_LOCAL_FIELDS: dict[Any, frozenset[Any]] = {
    "shell": frozenset({"cmds"}),
    "http": frozenset({"url", "headers", "params", "body"}),
    "playbook": frozenset({"path", "input", "args"}),
    "rhai": frozenset({"code", "args"}),
    "sink": frozenset({"target"}),
}


def _readers(kind: Any, key: Any, *, listed: bool) -> tuple[bool, bool]:
    """Whether the local runtime and a server read a tool's field."""
    local = not listed and isinstance(kind, str) and key in _LOCAL_FIELDS.get(kind, frozenset())
    return local, not (kind == "shell" and key == "cmds") and kind != "sink"


@check
def templates(book: Book) -> Iterator[Hit]:
    """Each {{ … }} means something to each runtime that renders it."""
    for text in rendered(book):
        name = text.step.name
        bare = without(text.text)
        if "{{" in bare and not text.server:
            yield UNCLOSED.at(text.place, step=name)
        if text.server and (("{{" in bare) or _unreadable(text.text)):
            yield SYNTAX.at(text.place, show(_unreadable(text.text) or "{{"), step=name)
        if text.local and (("{%" in bare and "%}" in bare) or ("#}" in bare and re.search(r"(?<!\$)\{#", bare))):
            yield BLOCK.at(text.place, step=name)
        for found in braces(text.text):
            if text.local:
                yield from _local(book, text, found.inner)
            if text.server:
                yield from _server(book, text, found.inner)


def _unreadable(text: str) -> str:
    """The first part that minijinja cannot parse: a Go template, an empty one, an unclosed comment or block."""
    if "{% raw %}" in text:
        return ""
    for found in braces(text):
        if not found.inner.strip(" -\n") or is_go(found.inner):
            return text[found.start : found.end]
    for opened, closed in (("{#", "#}"), ("{%", "%}")):
        if text.count(opened) > text.count(closed):
            start = text.index(opened)
            return text[max(0, start - 1) : start + 12]
    return ""


def _local(book: Book, text: Text, inner: str) -> Iterator[Hit]:
    name, shown = text.step.name, show("{{" + inner + "}}")
    stripped = inner.strip()
    if is_go(inner):
        return  # meant to stay as it is
    if text.place[len(text.step.place)] == "vars" and _OWN_RESULT.fullmatch(stripped):
        return
    path = _PATH.match(stripped)
    if not path:
        if re.match(r"(env|execution_id)\b", stripped):
            yield ENVIRONMENT.at(text.place, shown, step=name)
        else:
            yield EXPRESSION.at(text.place, shown, step=name)
        return
    parts = path.group(1).split(".")
    filters = [f.strip() for f in path.group(2).split("|")[1:]]
    yield from _local_path(book, text, parts, shown)
    if any(f not in LOCAL_FILTERS for f in filters):
        yield EXPRESSION.at(text.place, shown, step=name)
    elif not filters and inner != f" {stripped} ":
        yield SPACING.at(text.place, shown, step=name, mend=f"write `{{{{ {stripped} }}}}`")


def _local_path(book: Book, text: Text, parts: list[str], shown: str) -> Iterator[Hit]:
    root, name = parts[0], text.step.name
    in_vars = text.place[len(text.step.place)] == "vars"
    if root in ("env", "execution_id"):
        yield ENVIRONMENT.at(text.place, shown, step=name)
    elif root == "result" and in_vars:
        yield VARS_RESULT.at(text.place, shown, step=name)
    elif root == "workload" and len(parts) > 2:
        yield NESTED.at(text.place, shown, step=name)
    elif root in book.by_name and root not in ROOTS:
        if book.by_name[root].kind == "playbook":
            yield SUB_RESULT.at(text.place, shown, step=name)
        elif parts[1:] != ["result"]:
            yield FIELD.at(text.place, shown, step=name)
    elif root not in ("workload", "vars", "input", "args") or len(parts) != 2:
        yield EXPRESSION.at(text.place, shown, step=name)


def _server(book: Book, text: Text, inner: str) -> Iterator[Hit]:
    bare = STRING.sub("''", inner)
    for match in NAME.finditer(bare):
        step = book.by_name.get(match.group(1))
        if step is not None and step.kind == "shell" and re.match(r"\.result\b", match.group(2)):
            yield RESULT.at(text.place, show("{{" + inner + "}}"), step=text.step.name)
