"""JSON Schema contracts: is it one, does a value meet it, which values may stand where.

Drafts 2020-12 (the default) and draft-07. Patterns run on a linear-time engine, formats are checked,
and no reference is ever fetched.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jsonschema_rs

from slm_assets.canonical import Json
from slm_assets.domain.documents import Document, Place, json_path, show
from slm_assets.domain.places import Spot, enum_paths, leaves, places
from slm_assets.domain.references import Schemas, subschemas
from slm_assets.errors import Fault

__all__ = ["Schemas", "Spot", "Validator", "check_schema", "enum_paths", "leaves", "places"]

DEFAULT_DRAFT = "https://json-schema.org/draft/2020-12/schema"
DRAFTS = (DEFAULT_DRAFT, "http://json-schema.org/draft-07/schema#")

_MESSAGE = 200


def check_schema(document: Document | Json, file: str = "") -> list[Fault]:
    """Faults of a schema by itself: its draft, each keyword against the draft's meta-schema, patterns."""
    doc = document if isinstance(document, Document) else Document(file, document)
    schema = doc.value
    if not isinstance(schema, dict):
        return [doc.fault((), "not a JSON Schema", found=show(schema), expected="an object")]
    draft = schema.get("$schema", DEFAULT_DRAFT)
    known = {name.rstrip("#"): name for name in DRAFTS}
    if not isinstance(draft, str) or draft.rstrip("#") not in known:
        expected = " or ".join(DRAFTS)
        return [doc.fault(("$schema",), "an unknown draft", found=show(draft), expected=expected)]
    meta = _options(jsonschema_rs.validator_for, {"$schema": draft, "$ref": known[draft.rstrip("#")]})
    faults = [
        doc.fault(tuple(error.instance_path), "not a JSON Schema", found=_short(error.message))
        for error in meta.iter_errors(schema)
    ]
    if not faults:
        faults = [fault for place, node in subschemas(schema) for fault in _keywords(doc, place, node)]
    if not faults and schema and not _constrains(schema):
        expected = "keywords such as type, properties or $ref"
        faults = [doc.fault((), "not a JSON Schema", found=f"keys {show(list(schema))}", expected=expected)]
    return list(dict.fromkeys(faults))


def _keywords(doc: Document, place: Place, node: dict[str, Json]) -> list[Fault]:
    """What the meta-schema lets pass and we cannot carry."""
    faults = []
    for keyword in ("$dynamicRef", "$recursiveRef"):
        if keyword in node:
            faults.append(doc.fault((*place, keyword), "not supported", cure="use $ref"))
    expressions = [((*place, "pattern"), node["pattern"])] if isinstance(node.get("pattern"), str) else []
    if isinstance(named := node.get("patternProperties"), dict):
        expressions += [((*place, "patternProperties", key), key) for key in named]
    for at, expression in expressions:
        try:
            _options(jsonschema_rs.validator_for, {"pattern": expression})
        except ValueError:
            expected = "a regular expression without look-around and back-references (linear time)"
            faults.append(doc.fault(at, "not a usable pattern", found=show(expression), expected=expected))
    return faults


def _constrains(schema: dict[str, Json]) -> bool:
    """Whether anything in it constrains a value: a catalogue or a sample given as schema does not."""
    return any(not _CONSTRAINTS.isdisjoint(node) for _, node in subschemas(schema))


_CONSTRAINTS = {"$ref", "type", "enum", "const", "properties", "patternProperties", "items", "required"} | {
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "pattern",
    "format",
}


def _options(build: Any, schema: Json) -> Any:
    return build(
        schema,
        validate_formats=True,
        pattern_options=jsonschema_rs.RegexOptions(),
        offline=True,
    )


def _short(message: str) -> str:
    return message if len(message) <= _MESSAGE else f"{message[: _MESSAGE - 1]}…"


def _lacking(errors: Iterable[Any]) -> list[Place] | None:
    """The places that the errors ask for, or None where one of them asks for something else."""
    found: list[Place] = []
    for error in errors:
        if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Required):
            asked = [(*error.instance_path, error.kind.property)]
        elif isinstance(error.kind, _UNIONS):
            branches = (_lacking(branch) for branch in error.kind.context)
            asked = next((branch for branch in branches if branch), [])
        else:
            return None
        if not asked:
            return None
        found += asked
    return found


_UNIONS = (jsonschema_rs.ValidationErrorKind.AnyOf, jsonschema_rs.ValidationErrorKind.OneOfNotValid)


class Validator:
    """A compiled self-contained contract. About a microsecond a value; not to be sent between processes."""

    def __init__(self, schema: dict[str, Json]) -> None:
        """Compile; raises ValueError where the schema cannot be (it was then not checked)."""
        self._validator = _options(jsonschema_rs.validator_for, schema)

    def is_valid(self, value: Json) -> bool:
        """Whether the value meets the contract; what is no JSON value does not."""
        try:
            return bool(self._validator.is_valid(value))
        except ValueError:
            return False

    def errors(self, value: Json, limit: int = 20) -> list[tuple[str, str]]:
        """The first `limit` breaches as (JSON path, message), in the schema's order."""
        try:
            found = []
            for error in self._validator.iter_errors(value):
                found.append((json_path(tuple(error.instance_path)), _short(error.message)))
                if len(found) == limit:
                    break
            return found
        except ValueError as error:
            return [("$", _short(f"not a JSON value: {error}"))]

    def lacking(self, value: Json) -> list[Place] | None:
        """The required places that a value lacks; None where something that is there breaks the contract.

        Of a union, those of the first branch that wants nothing else.
        """
        try:
            found = _lacking(self._validator.iter_errors(value))
        except ValueError:
            return None
        return None if found is None else list(dict.fromkeys(found))
