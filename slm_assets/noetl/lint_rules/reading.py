"""YAML of bounded size, depth and aliases, read as the runtimes read it (YAML 1.2 core), with line numbers.

Both runtimes parse with serde_yaml: duplicate keys and tags are refused, `<<` is an ordinary key, `no` is a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml import CSafeLoader

from slm_assets.noetl.lint_rules.rule import Hit, Place, rule, show

MAX_BYTES = 1_000_000
MAX_DEPTH = 64
MAX_NODES = 50_000

YAML_BROKEN = rule(
    "yaml-broken", "error", "any", "neither runtime can parse the file", "mend the YAML, one document a file"
)
YAML_TOO_LARGE = rule(
    "yaml-too-large", "error", "any",
    f"beyond {MAX_BYTES:,} bytes, {MAX_DEPTH} levels or {MAX_NODES:,} values (aliases expanded)",
    "split the playbook; keep data in files",
)  # fmt: skip
YAML_DUPLICATE = rule("yaml-duplicate-key", "error", "any", "both runtimes refuse a key that stands twice", "keep one")
YAML_TAG = rule("yaml-tag", "error", "any", "both runtimes refuse YAML tags here", "write a plain value")
YAML_MERGE = rule(
    "yaml-merge-key", "error", "any",
    "`<<` is not merged by either runtime: the keys are silently missing", "write the keys out",
)  # fmt: skip
TEMPLATE_UNQUOTED = rule(
    "template-unquoted", "error", "any", "an unquoted {{ … }} is a YAML mapping, not a text", "quote the whole value"
)

_TAG = "tag:yaml.org,2002:"
_FLOAT = (
    r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|"
    r"\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)


class _Loader(CSafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML's own convention)


_Loader.add_implicit_resolver(_TAG + "null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(_TAG + "bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF"))
_Loader.add_implicit_resolver(_TAG + "int", re.compile(r"[-+]?(?:0|[1-9][0-9]{0,18})\Z"), list("-+0123456789"))
_Loader.add_implicit_resolver(_TAG + "float", re.compile(_FLOAT), list("-+0123456789."))


@dataclass
class Source:
    """A document's value, the line of each place, and what is wrong with its YAML. `usable` is False where
    there is no value to check further."""

    value: Any = None
    lines: dict[Place, int] = field(default_factory=dict)
    hits: list[Hit] = field(default_factory=list)
    usable: bool = True

    def line(self, place: Place) -> int:
        """Line of the place, or of its nearest parent."""
        return next((self.lines[place[:end]] for end in range(len(place), -1, -1) if place[:end] in self.lines), 1)


class _Stop(Exception):  # noqa: N818  (ends the reading; what is wrong is in the source)
    pass


def read(text: str) -> Source:
    """The document, never an exception."""
    source = Source()
    try:
        if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
            _stop(source, YAML_TOO_LARGE.at((), f"{len(text):,} characters"), 1)
        _bound(text, source)
        node = yaml.compose(text, Loader=_Loader)
        if node is None:
            _stop(source, YAML_BROKEN.at((), "the file is empty"), 1)
        _Builder(source).document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        source.lines[()] = mark.line + 1 if mark else 1
        source.hits.append(YAML_BROKEN.at((), str(problem)))
        source.usable = False
    except UnicodeError:
        source.hits.append(YAML_BROKEN.at((), "not valid Unicode text"))
        source.usable = False
    except _Stop:
        source.usable = False
    return source


def _stop(source: Source, hit: Hit, line: int) -> None:
    source.lines[hit.place] = line
    source.hits.append(hit)
    raise _Stop


def _bound(text: str, source: Source) -> None:
    """Refuse depth and size while still streaming events: the composer recurses."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH or count > 2 * MAX_NODES:
            _stop(source, YAML_TOO_LARGE.at(()), 1 if (mark := event.start_mark) is None else mark.line + 1)


class _Builder:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.count = 0

    def document(self, node: Any) -> None:
        self.source.value = self._build(node, ())

    def _build(self, node: Any, place: Place) -> Any:
        self.count += 1
        self.source.lines.setdefault(place, node.start_mark.line + 1)
        if self.count > MAX_NODES or len(place) > MAX_DEPTH:
            _stop(self.source, YAML_TOO_LARGE.at((), "aliases expand too far"), node.start_mark.line + 1)
        plain = node.tag.removeprefix(_TAG)
        if isinstance(node, yaml.MappingNode) and plain == "map":
            return dict(self._pairs(node, place))
        if isinstance(node, yaml.SequenceNode) and plain == "seq":
            return [self._build(item, (*place, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and plain in _SCALARS:
            return _SCALARS[plain](node.value)
        self.source.hits.append(YAML_TAG.at(place, show(node.tag)))
        return None

    def _pairs(self, node: Any, place: Place) -> Iterator[tuple[str, Any]]:
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.source.hits.append(TEMPLATE_UNQUOTED.at(place))
                continue
            here = (*place, key.value)
            if key.value in seen:
                self.source.hits.append(YAML_DUPLICATE.at(here, show(key.value)))
                continue
            seen.add(key.value)
            self.source.lines[here] = key.start_mark.line + 1
            if key.value == "<<" and not key.style:
                self.source.hits.append(YAML_MERGE.at(here))
            yield key.value, self._build(value, here)


_SCALARS: dict[str, Any] = {
    "null": lambda text: None,
    "bool": lambda text: text.lower() == "true",
    "int": int,
    "float": lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan")),
    "str": str,
}
