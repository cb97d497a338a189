"""Rules of `when`: one operator locally, all of minijinja on a server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from slm_assets.noetl.lint_rules.book import Book, Step
from slm_assets.noetl.lint_rules.braces import NAME, ROOTS, STRING
from slm_assets.noetl.lint_rules.rule import Hit, Place, check, rule, show
from slm_assets.noetl.lint_rules.templates import NESTED, RESULT, SUB_RESULT, UNCLOSED

WHEN_SHAPE = rule(
    "when-shape", "error", "any",
    "a server refuses a `when` that is empty, no text, or has a { without {{; locally a `when` that is no text is "
    "dropped, so that the arc is always taken",
    "write `when: \"{{ workload.k == 'value' }}\"`",
)  # fmt: skip
PARTIAL = rule(
    "condition-partial", "error", "server",
    "only what is inside {{ }} is computed: the rest stays text, and any text is TRUE",
    "put the whole test inside {{ }}",
)  # fmt: skip
OPERATOR = rule(
    "condition-operator",
    "error",
    "any",
    "no runtime has this operator",
    "use ==, !=, in; on a server also and, or, not",
)
CONDITION = rule(
    "condition-locally", "error", "local",
    "the local runtime knows one `==`, `!=`, ` in ` or a bare name per condition, and nothing else (no and, or, not, "
    ">, filter): such a test is decided by accident, mostly as TRUE",
    "chain arcs with one test each, or decide in the shell and test the result",
)  # fmt: skip
CONDITION_STEP = rule(
    "condition-operand-locally", "error", "local",
    "not resolved in a local condition: it is compared as it is written, and a bare one is TRUE",
    "test `workload.k`, `vars.k` or `step.result`; put server-only tests behind "
    "`workload.runtime == 'distributed' and …`",
)  # fmt: skip
CONDITION_TYPE = rule(
    "condition-type-on-server", "error", "server",
    "a server compares with types, and these differ: never equal",
    "give the workload's default and the literal one type",
)  # fmt: skip

_OPERATORS = re.compile(r"&&|\|\||===|!==|<>|(?<![=!<>])=(?!=)")
_OPERAND = re.compile(
    r"(?P<path>[A-Za-z_]\w*(?:\.\w+)*)|'[^']*'|\"[^\"]*\"|-?\d+(?:\.\d+)?|(?P<word>true|false|True|False)"
)
_GUARD = re.compile(r"\s*workload\.\w+ == (['\"])(distributed|server)\1 and (?!.*==)(?!.*\bor\b).+", re.DOTALL)


def conditions(book: Book) -> Iterator[tuple[Place, str, Step]]:
    """Every `when` that is a text, of steps and arcs."""
    for step in book.steps:
        for place, when in _whens(step):
            if isinstance(when, str):
                yield place, when, step


def _whens(step: Step) -> Iterator[tuple[Place, Any]]:
    if "when" in step.raw:
        yield (*step.place, "when"), step.raw["when"]
    for arc in step.arcs:
        if isinstance(arc.raw, dict) and arc.raw.get("when") is not None:
            yield (*arc.place, "when"), arc.when


@check
def whens(book: Book) -> Iterator[Hit]:
    """What a condition may look like."""
    for step in book.steps:
        for place, when in _whens(step):
            if when is not None and not (isinstance(when, str) and when.strip()):
                yield WHEN_SHAPE.at(place, show(when) if when != "" else "empty", step=step.name)
    for place, when, step in conditions(book):
        if not when.strip():
            continue
        whole = re.fullmatch(r"\s*\{\{((?:(?!\}\}).)*)\}\}\s*", when, re.DOTALL)
        if "{" in when and "{{" not in when:
            yield WHEN_SHAPE.at(place, show(when), step=step.name)
        elif when.count("{{") != when.count("}}"):
            yield UNCLOSED.at(place, show(when), step=step.name)
        elif "{{" in when and not whole:
            yield PARTIAL.at(place, show(when), step=step.name)
        else:
            yield from _condition(book, place, whole.group(1) if whole else when, step)


def _condition(book: Book, place: Place, inner: str, step: Step) -> Iterator[Hit]:
    bare = STRING.sub("''", inner)
    if wrong := _OPERATORS.search(bare):
        yield OPERATOR.at(place, f"{show(wrong.group(0))} in {show(inner)}", step=step.name)
        return
    yield from _types(book, place, inner, step)
    for match in NAME.finditer(bare):
        origin = book.by_name.get(match.group(1))
        if origin and origin.kind == "shell" and match.group(2) == ".result":
            yield RESULT.at(place, show(inner), step=step.name)
    if _GUARD.fullmatch(inner):
        return
    sides = _split(inner)
    operands = [_OPERAND.fullmatch(side.strip()) for side in sides]
    if not all(operands):
        yield CONDITION.at(place, show(inner), step=step.name)
        return
    for operand in operands:
        parts = (operand["path"] or "").split(".") if operand else [""]
        if parts[0] and not (operand and operand["path"] in ("true", "false", "True", "False")):
            yield from _operand(book, place, parts, step)


def _operand(book: Book, place: Place, parts: list[str], step: Step) -> Iterator[Hit]:
    path = ".".join(parts)
    origin = book.by_name.get(parts[0])
    if origin is not None and origin.kind == "playbook" and parts[0] not in ROOTS:
        yield SUB_RESULT.at(place, show(path), step=step.name)
    elif parts[0] == "workload" and len(parts) > 2:
        yield NESTED.at(place, show(path), step=step.name)
    elif not (parts[0] in ("workload", "vars", "input", "args") and len(parts) == 2) and parts[1:] != ["result"]:
        yield CONDITION_STEP.at(place, show(path), step=step.name)


def _split(inner: str) -> list[str]:
    """The two sides of the one operator, as the local runtime splits: on the text, quotes or not."""
    for operator in ("==", "!=", " in "):
        if operator in inner:
            return inner.split(operator)[:3] if inner.count(operator) == 1 else [inner]
    return [inner]


def _types(book: Book, place: Place, inner: str, step: Step) -> Iterator[Hit]:
    pattern = r"(?<![\w.])workload\.(\w+)\s*(?:==|!=)\s*('[^']*'|\"[^\"]*\"|-?\d+(?:\.\d+)?(?![\w.])|true\b|false\b)"
    for match in re.finditer(pattern, inner):
        default = book.workload.get(match.group(1))
        if isinstance(default, (str, bool, int, float)) and _kind(default) != _literal(match.group(2)):
            found = f"the default of {show(match.group(1))} is {show(default)}, the literal {show(match.group(2))}"
            yield CONDITION_TYPE.at(place, found, step=step.name)


def _kind(value: str | bool | float) -> str:
    return "text" if isinstance(value, str) else "bool" if isinstance(value, bool) else "number"


def _literal(text: str) -> str:
    return "text" if text[0] in "'\"" else "bool" if text in ("true", "false") else "number"
