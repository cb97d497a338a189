"""What a contract says about a place of the output: whether its values are a closed list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema_rs

from slm_assets.canonical import Json
from slm_assets.errors import BadInputError
from slm_assets.models.linear.paths import Path


class Contract:
    """A self-contained JSON Schema: validation, and the subschemas that speak of one place."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema = schema
        try:
            self._validator = jsonschema_rs.validator_for(schema)
        except (ValueError, TypeError) as error:
            raise BadInputError(
                f"the output contract is no JSON Schema: {error}",
                cure="check it with `slm validate`",
            ) from error

    def is_valid(self, value: Json) -> bool:
        """Whether the value meets the contract; what cannot be checked (a lone surrogate) does not."""
        try:
            return bool(self._validator.is_valid(value))
        except (ValueError, TypeError, OverflowError, RecursionError):
            return False

    def property_order(self) -> list[str]:
        """Names of the root's properties as the contract lists them."""
        names: dict[str, None] = {}
        for node in self._spread([self.schema]):
            names.update(dict.fromkeys(node.get("properties", {})))
        return list(names)

    def choices(self, path: Path) -> int | None:
        """How many values the contract lists for this place (null aside), None where it is open."""
        nodes = [self.schema]
        for step in path:
            nodes = [child for node in self._spread(nodes) for child in _children(node, step)]
        values: set[str] = set()
        for node in self._spread(nodes):
            if "const" in node:
                values.add(repr(node["const"]))
            elif "enum" in node:
                values.update(repr(value) for value in node["enum"] if value is not None)
            elif node.get("type") == "boolean":
                values.update(("True", "False"))
            elif node.get("type") != "null" and _speaks(node):
                return None
        return len(values) or None

    def form(self, path: Path) -> str | None:
        """The `format` that the contract gives this place, None where it gives none."""
        nodes = [self.schema]
        for step in path:
            nodes = [child for node in self._spread(nodes) for child in _children(node, step)]
        forms = (node.get("format") for node in self._spread(nodes))
        return next((form for form in forms if isinstance(form, str)), None)

    def _spread(self, nodes: list[Any]) -> list[dict[str, Any]]:
        """The nodes with references followed and combinators opened, each once."""
        out: list[dict[str, Any]] = []
        seen: set[int] = set()
        stack = list(reversed(nodes))
        while stack and len(out) < 2_000:
            node = stack.pop()
            if not isinstance(node, dict) or id(node) in seen:
                continue
            seen.add(id(node))
            out.append(node)
            stack.extend(reversed(list(self._alternatives(node))))
        return out

    def _alternatives(self, node: dict[str, Any]) -> Iterator[Any]:
        reference = node.get("$ref")
        if isinstance(reference, str) and reference.startswith("#"):
            yield self._local(reference)
        for key in ("allOf", "anyOf", "oneOf"):
            if isinstance(node.get(key), list):
                yield from node[key]
        yield from (node[key] for key in ("then", "else") if key in node)

    def _local(self, reference: str) -> Any:
        node: Any = self.schema
        for step in reference[1:].split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict):
                node = node.get(name)
            elif isinstance(node, list) and name.isdigit() and int(name) < len(node):
                node = node[int(name)]
            else:
                return None
        return node


def _speaks(node: dict[str, Any]) -> bool:
    """Whether a schema node says something itself about the value, beside its references."""
    return any(key in node for key in ("type", "pattern", "format", "minimum", "maximum", "maxLength", "properties"))


def _children(node: dict[str, Any], step: str | int) -> Iterator[Any]:
    if isinstance(step, int):
        prefix = node.get("prefixItems") or (node["items"] if isinstance(node.get("items"), list) else [])
        if step < len(prefix):
            yield prefix[step]
        elif isinstance(node.get("items"), dict):
            yield node["items"]
        return
    properties = node.get("properties")
    if isinstance(properties, dict) and step in properties:
        yield properties[step]
    elif isinstance(node.get("additionalProperties"), dict):
        yield node["additionalProperties"]
