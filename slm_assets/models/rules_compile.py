"""Compiling a rules document (see `rules`) into a program, keeping every fault."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from typing import Any

from slm_assets.canonical import Json
from slm_assets.errors import Fault
from slm_assets.models.rules_text import (
    Lexicon,
    Pattern,
    RulesError,
    compile_lexicon,
    compile_pattern,
    parse_pointer,
)

MAX_RULES = 300
MAX_NAMES = 300
MAX_EXPRESSION = 4_000
MAX_NESTED_LOOPS = 2
MAX_TEMPLATE_DEPTH = 30

_SECTIONS = ("paths", "lexicons", "patterns", "let", "rules", "default")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_STRING = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"")
_LOOP = re.compile(r"\.(?:map|filter|all|exists|exists_one)\(\s*(\w+)\s*,")
_FUNCTIONS = frozenset(["size", "contains", "startsWith", "endsWith", "matches", "int", "double", "string", "bool"])


class Expression:
    """A compiled CEL expression that is handed only the variables it mentions: converting is what costs."""

    def __init__(self, source: str, place: str) -> None:
        import cel

        self.source, self.place = source, place
        if len(source) > MAX_EXPRESSION:
            raise RulesError(place, "expression too long", f"{len(source)} characters", f"<= {MAX_EXPRESSION}")
        bare = _STRING.sub("''", source)
        if _loop_depth(bare) > MAX_NESTED_LOOPS:
            raise RulesError(place, "loops nested too deep", source, f"<= {MAX_NESTED_LOOPS} inside each other")
        self.plain = source.strip() if _NAME.fullmatch(source.strip()) else ""
        if self.plain in ("true", "false", "null"):
            self.plain = ""
        try:
            self.program = cel.compile(source)
        except ValueError as error:
            message = " ".join(str(error).split("ERROR:")[-1].split())[:200]
            raise RulesError(place, "not a CEL expression", source, message) from error
        bound = set(_LOOP.findall(bare))
        self.names = tuple(name for name in self.program.variables() if name not in bound)
        self.functions = [name for name in self.program.functions() if _NAME.fullmatch(name)]

    def __call__(self, scope: Mapping[str, Json]) -> Json:
        if self.plain:
            return scope[self.plain]
        try:
            return self.program.execute({name: scope[name] for name in self.names})
        except Exception as error:  # the CEL runtime raises many kinds for one thing: a bad expression
            raise RulesError(self.place, f"cannot be evaluated: {error}", self.source, "a value") from error


def _loop_depth(source: str) -> int:
    """How deep `map`, `filter`, `all` and `exists` calls stand inside each other."""
    opens = {match.end() for match in re.finditer(r"\.(?:map|filter|all|exists|exists_one)\(", source)}
    stack: list[bool] = []
    deepest = 0
    for position, char in enumerate(source):
        if char == "(":
            stack.append(position + 1 in opens)
            deepest = max(deepest, sum(stack))
        elif char == ")" and stack:
            stack.pop()
    return deepest


Template = Callable[[Mapping[str, Json]], Json]


def _compile_template(node: Json, place: str, found: list[Expression], depth: int = 0) -> Template:
    """A function from the scope to the value; its expressions are appended to `found`."""
    if depth > MAX_TEMPLATE_DEPTH:
        raise RulesError(place, "template nested too deep", "", f"<= {MAX_TEMPLATE_DEPTH} levels")
    if isinstance(node, str) and node.startswith("=") and not node.startswith("=="):
        expression = Expression(node[1:], place)
        found.append(expression)
        return expression
    if isinstance(node, str):
        text = node[1:] if node.startswith("==") else node
        return lambda scope: text
    if isinstance(node, list):
        items = [_compile_template(item, f"{place}[{i}]", found, depth + 1) for i, item in enumerate(node)]
        return lambda scope: [item(scope) for item in items]
    if isinstance(node, dict):
        fields = [
            (
                str(key).removesuffix("?"),
                str(key).endswith("?"),
                _compile_template(value, f"{place}.{key}", found, depth + 1),
            )
            for key, value in node.items()
        ]

        def build(scope: Mapping[str, Json]) -> Json:
            values = ((key, optional, make(scope)) for key, optional, make in fields)
            return {key: value for key, optional, value in values if not (optional and value is None)}

        return build
    if node is not None and not isinstance(node, bool | int | float):
        raise RulesError(place, "not a JSON value", type(node).__name__, "quote it to make it text")
    return lambda scope: node


@dataclass
class Program:
    """The compiled parts; rules in the order of the file."""

    paths: dict[str, tuple[tuple[str, ...], Json]] = field(default_factory=dict)
    lexicons: dict[str, Lexicon] = field(default_factory=dict)
    patterns: dict[str, Pattern] = field(default_factory=dict)
    lets: dict[str, Template] = field(default_factory=dict)
    rules: list[tuple[str, Expression, Template]] = field(default_factory=list)
    default: Template | None = None


class Compiler:
    """Compiles a document part by part, keeping every fault instead of stopping at the first."""

    def __init__(self, doc: Json, file: str) -> None:
        self.file = file
        self.faults: list[Fault] = []
        self.names = {"input"}
        self.program = Program()
        if not isinstance(doc, dict):
            self._fault("$", "a rules file is a mapping", type(doc).__name__, ", ".join(_SECTIONS))
            return
        for key in doc:
            if key not in _SECTIONS:
                near = get_close_matches(str(key), _SECTIONS, n=1)
                cure = f"did you mean {near[0]}?" if near else ""
                self._fault(f"$.{key}", "unknown part", str(key), ", ".join(_SECTIONS), cure)
        if not doc.get("rules") and "default" not in doc:
            self._fault("$", "nothing to answer with", "neither rules nor default", "rules: a list")
        for name, spec in self._named(doc, "paths"):
            self._try(partial(self._path, name, spec))
        for name, spec in self._named(doc, "lexicons"):
            self._try(partial(self._lexicon, name, spec))
        for name, spec in self._named(doc, "patterns"):
            self._try(partial(self._pattern, name, spec))
        for name, node in self._named(doc, "let", mapping=False):
            self._try(partial(self._let, name, node))
        self._rules(doc.get("rules") or [])
        if "default" in doc:
            self._try(partial(self._default, doc["default"]))

    def _fault(self, place: str, message: str, found: str = "", expected: str = "", cure: str = "") -> None:
        self.faults.append(Fault(self.file, place, message, found, expected, cure))

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except RulesError as error:
            self._fault(error.place, error.message, error.found, error.expected)

    def _named(self, doc: Mapping[str, Json], part: str, *, mapping: bool = True) -> Iterator[tuple[str, Any]]:
        section = doc.get(part) or {}
        if not isinstance(section, dict):
            self._fault(f"$.{part}", "not a mapping", type(section).__name__, "name: …")
            return
        if len(section) > MAX_NAMES:
            self._fault(f"$.{part}", "too many names", str(len(section)), f"<= {MAX_NAMES}")
            return
        for name, spec in section.items():
            place = f"$.{part}.{name}"
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                self._fault(place, "not a name", str(name), "letters, digits and _")
            elif name in self.names:
                self._fault(place, "name is taken", name, "each name once in the file")
            elif mapping and not isinstance(spec, dict):
                self._fault(place, "not a mapping", type(spec).__name__, "path: …")
            else:
                yield name, spec
                self.names.add(name)

    def _keys(self, spec: Mapping[str, Json], place: str, allowed: set[str], required: set[str]) -> None:
        for key in spec:
            if key not in allowed:
                near = get_close_matches(str(key), sorted(allowed), n=1)
                cure = f"did you mean {near[0]}?" if near else ""
                self._fault(f"{place}.{key}", "unknown key", str(key), ", ".join(sorted(allowed)), cure)
        for key in sorted(required - set(spec)):
            self._fault(place, "key is missing", "", key)

    def _path(self, name: str, spec: Mapping[str, Json]) -> None:
        place = f"$.paths.{name}"
        self._keys(spec, place, {"path", "default"}, {"path"})
        steps = parse_pointer(str(spec.get("path", "")), f"{place}.path")
        self.program.paths[name] = (steps, spec.get("default"))

    def _lexicon(self, name: str, spec: Mapping[str, Json]) -> None:
        place = f"$.lexicons.{name}"
        self._keys(spec, place, {"path", "entries", "take"}, {"entries"})
        self.program.lexicons[name] = compile_lexicon(spec, place)

    def _pattern(self, name: str, spec: Mapping[str, Json]) -> None:
        place = f"$.patterns.{name}"
        self._keys(spec, place, {"path", "regex", "fold", "cast", "take"}, {"path", "regex"})
        self.program.patterns[name] = compile_pattern(spec, place, self.program.lexicons)

    def _let(self, name: str, node: Json) -> None:
        place = f"$.let.{name}"
        template = self._template(f"={node}" if isinstance(node, str) else node, place)
        self.program.lets[name] = template

    def _default(self, node: Json) -> None:
        self.program.default = self._template(node, "$.default")

    def _template(self, node: Json, place: str) -> Template:
        found: list[Expression] = []
        template = _compile_template(node, place, found)
        for expression in found:
            self._check_names(expression)
        return template

    def _check_names(self, expression: Expression) -> None:
        for name in expression.names:
            if name not in self.names:
                near = get_close_matches(name, sorted(self.names), n=1)
                cure = f"did you mean {near[0]}?" if near else "declare it under paths, patterns or let"
                self._fault(expression.place, "unknown name", name, "a name declared before", cure)
        for name in expression.functions:
            if name not in _FUNCTIONS:
                self._fault(expression.place, "unknown function", name, ", ".join(sorted(_FUNCTIONS)))

    def _rules(self, rules: Json) -> None:
        if not isinstance(rules, list):
            self._fault("$.rules", "not a list", type(rules).__name__, "- {id, when, then}")
            return
        if len(rules) > MAX_RULES:
            self._fault("$.rules", "too many rules", str(len(rules)), f"<= {MAX_RULES}")
            return
        seen: set[str] = set()
        for index, rule in enumerate(rules):
            place = f"$.rules[{index}]"
            if not isinstance(rule, dict):
                self._fault(place, "not a mapping", type(rule).__name__, "{id, when, then}")
                continue
            self._keys(rule, place, {"id", "when", "then"}, {"id", "when", "then"})
            name = str(rule.get("id", index))
            if name in seen:
                self._fault(f"{place}.id", "id is taken", name, "each id once")
            seen.add(name)
            self._try(partial(self._rule, name, rule, place))

    def _rule(self, name: str, rule: Mapping[str, Json], place: str) -> None:
        written = rule.get("when", True)
        source = str(written).lower() if isinstance(written, bool) else str(written).strip()
        when = Expression(source, f"{place}.when")
        self._check_names(when)
        self.program.rules.append((name, when, self._template(rule.get("then"), f"{place}.then")))
