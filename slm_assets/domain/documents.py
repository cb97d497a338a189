"""Reading what a user wrote: YAML and JSON of bounded size, depth and node count, with line numbers.

YAML scalars follow the 1.2 core schema, so that `no` is a word, `1e-4` a number and a date a string:
what comes out is always a JSON value. Aliases are expanded within the node budget; tags are refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml import CSafeLoader

from slm_assets.canonical import Json
from slm_assets.errors import Fault

MAX_CONFIG_BYTES = 1_000_000
MAX_FILE_BYTES = 8_000_000
MAX_DEPTH = 64
MAX_NODES = 50_000

Place = tuple[str | int, ...]
"""Keys and indices from a document's root."""

_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")


class _Loader(CSafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML's own convention)


_Loader.add_implicit_resolver(_TAG + "null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(_TAG + "bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF"))
_Loader.add_implicit_resolver(_TAG + "int", re.compile(_INT.pattern + r"\Z"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    _TAG + "float",
    re.compile(
        r"[-+]?(?:(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
    ),
    list("-+0123456789."),
)


@dataclass(frozen=True)
class Document:
    """A parsed file: its JSON value, and the 1-based line of each key and item (YAML only)."""

    file: str
    value: Json
    lines: dict[Place, int] = field(default_factory=dict)

    def line(self, place: Place) -> int | None:
        """Line of the place, or of the nearest parent that has one."""
        for end in range(len(place), -1, -1):
            if (line := self.lines.get(place[:end])) is not None:
                return line
        return None

    def fault(
        self,
        place: Place,
        message: str,
        found: str = "",
        expected: str = "",
        cure: str = "",
        severity: str = "error",
    ) -> Fault:
        """A fault at a place of this document."""
        line = self.line(place)
        return Fault(self.file, json_path(place), message, found, expected, cure, line, severity)


class Unreadable(Exception):  # noqa: N818  (not an error of ours: it carries the faults to report)
    """The document cannot be used; `faults` say why."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(str(faults[0]))
        self.faults = faults


def json_path(place: Place) -> str:
    """`$.roles[0].id` for ("roles", 0, "id"); odd keys are quoted, long ones cut."""
    parts = ["$"]
    for part in place:
        if isinstance(part, int):
            parts.append(f"[{part}]")
        elif part.isidentifier() and part.isascii() and len(part) <= 80:
            parts.append(f".{part}")
        else:
            parts.append(f"[{json.dumps(part[:80])}]")
    return "".join(parts)


def show(value: Json, limit: int = 60) -> str:
    """A value as short JSON text, for messages."""
    try:
        text = json.dumps(value, ensure_ascii=True)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def read_document(data: bytes, file: str, max_bytes: int = MAX_FILE_BYTES) -> Document:
    """Parse a `.json` file as JSON and any other as YAML. Raises Unreadable with every fault found."""
    if len(data) > max_bytes:
        raise Unreadable([Fault(file, "$", "file too large", f"{len(data)} bytes", f"at most {max_bytes} bytes")])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable([Fault(file, "$", "not UTF-8", f"byte {error.start}", "UTF-8 text")]) from None
    document = _read_json(text, file) if file.endswith(".json") else _read_yaml(text, file)
    if faults := [document.fault(place, message) for place, message in _unfit(document.value)]:
        raise Unreadable(faults)
    return document


def _read_json(text: str, file: str) -> Document:
    repeated: list[str] = []

    def unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            repeated.extend(sorted({name for name in names if names.count(name) > 1}))
        return found

    try:
        value = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        fault = Fault(file, "$", f"not JSON: {error.msg}", f"column {error.colno}", line=error.lineno)
        raise Unreadable([fault]) from None
    except (RecursionError, ValueError) as error:
        raise Unreadable([Fault(file, "$", f"not usable JSON: {error}")]) from None
    if repeated:
        raise Unreadable([Fault(file, "$", "duplicate key", show(name), cure="keep one") for name in repeated])
    return Document(file, value)


def _read_yaml(text: str, file: str) -> Document:
    try:
        _bound_events(text, file)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        column = f"column {mark.column + 1}" if mark else ""
        line = mark.line + 1 if mark else None
        fault = Fault(file, "$", f"not YAML: {problem}", column, line=line)
        raise Unreadable([fault]) from None
    if node is None:
        raise Unreadable([Fault(file, "$", "the file is empty")])
    builder = _Builder(file)
    value = builder.build(node, ())
    if builder.faults:
        raise Unreadable(builder.faults)
    return Document(file, value, builder.lines)


def _bound_events(text: str, file: str) -> None:
    """Refuse depth and size while still streaming events: the composer recurses."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH or count > 2 * MAX_NODES:
            limit = f"at most {MAX_DEPTH} levels and {MAX_NODES} values"
            raise Unreadable([Fault(file, "$", "nested too deep or too large", expected=limit)])


class _Builder:
    """Turns YAML nodes into JSON values, keeping lines and collecting faults."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[Place, int] = {}
        self.faults: list[Fault] = []
        self.count = 0

    def build(self, node: yaml.Node, place: Place) -> Json:
        self.count += 1
        self.lines.setdefault(place, node.start_mark.line + 1)
        if self.count > MAX_NODES or len(place) > MAX_DEPTH:
            message = "aliases expand too far (an alias that holds itself, or a bomb)"
            raise Unreadable([self._fault(node, place, message, cure="write the values out")])
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.build(item, (*place, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag.removeprefix(_TAG) in _SCALARS:
            return self._scalar(node, place)
        self.faults.append(self._fault(node, place, "tags are refused", cure="write a plain value"))
        return None

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Json]:
        found: dict[str, Json] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != _TAG + "str":
                shown = key.value if isinstance(key, yaml.ScalarNode) else "a collection"
                self.faults.append(self._fault(key, place, "a key must be text", found=shown, cure="quote the key"))
                continue
            here = (*place, key.value)
            if key.value in found:
                first = f"first on line {self.lines[here]}"
                self.faults.append(self._fault(key, here, "duplicate key", found=first, cure="keep one"))
                continue
            self.lines[here] = key.start_mark.line + 1
            found[key.value] = self.build(value, here)
        return found

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Json:
        text: str = node.value
        try:
            match node.tag.removeprefix(_TAG):
                case "null":
                    return None
                case "bool":
                    return text.lower() == "true"
                case "int":
                    return int(text)
                case "float":
                    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        except ValueError:
            self.faults.append(self._fault(node, place, "not a number", found=show(text)))
        return text

    def _fault(self, node: yaml.Node, place: Place, message: str, found: str = "", cure: str = "") -> Fault:
        line = node.start_mark.line + 1
        return Fault(self.file, json_path(place), message, found=found, cure=cure, line=line)


_SCALARS = {"null", "bool", "int", "float", "str"}


def _unfit(value: Json) -> Iterator[tuple[Place, str]]:
    """Places that canonical JSON cannot hold, or that are nested too deep. Iterative on purpose."""
    stack: list[tuple[Place, Json]] = [((), value)]
    while stack:
        place, item = stack.pop()
        if len(place) > MAX_DEPTH:
            yield place[:8], f"nested deeper than {MAX_DEPTH} levels"
            return
        if isinstance(item, dict):
            stack.extend(((*place, key), child) for key, child in item.items())
            if any(not _encodable(key) for key in item):
                yield place, "a key is not valid Unicode text"
        elif isinstance(item, list):
            stack.extend(((*place, index), child) for index, child in enumerate(item))
        elif isinstance(item, float) and not math.isfinite(item):
            yield place, "not a finite number"
        elif isinstance(item, int) and not -(2**63) <= item < 2**64:
            yield place, "an integer beyond 64 bits"
        elif isinstance(item, str) and not _encodable(item):
            yield place, "not valid Unicode text"


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
