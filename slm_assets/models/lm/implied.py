"""Which branches of a union an input leaves: by the contract's own `x-when`, and conditions turned round.

A branch of `oneOf` or `anyOf` may say `"x-when": {"/extract/render_intent/kind": ["show_flights"]}`: it stands only
where the role's input has one of these values at that place. An annotation to every validator, it spares a language
model the choice that an earlier role has already made.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.references import follow, subschemas

WHEN = "x-when"


def applies(root: dict[str, Any], branch: Json, given: Json) -> bool:
    """Whether a branch may stand for this input; without an input all may."""
    when = _when(root, branch)
    if given is None or not when:
        return True
    return all(value_at(given, place) in values for place, values in when.items())


def places(root: dict[str, Any]) -> dict[str, list[Json]]:
    """Every place of the input that a union asks for, with the values it tells apart."""
    found: dict[str, list[Json]] = {}
    for _, schema in subschemas(root):
        when = schema.get(WHEN)
        if isinstance(when, dict):
            for place, values in when.items():
                found.setdefault(place, []).extend(v for v in values if v not in found.get(place, []))
    return found


def facts(asked: dict[str, list[Json]], value: Json) -> str:
    """What an input says about those places, as a key: equal keys mean equal unions."""
    told = {place: value_at(value, place) for place in asked}
    return canonical.text({place: v if v in asked[place] else None for place, v in told.items()})


def value_at(value: Json, place: str) -> Json:
    """The value at a pointer, or None."""
    try:
        return follow(value, place)
    except KeyError:
        return None


def _when(root: dict[str, Any], branch: Json) -> dict[str, list[Json]]:
    if not isinstance(branch, dict):
        return {}
    if WHEN not in branch and isinstance(branch.get("$ref"), str):
        branch = follow(root, unquote(branch["$ref"].removeprefix("#")))
    when = branch.get(WHEN) if isinstance(branch, dict) else None
    return when if isinstance(when, dict) else {}


def excluding(condition: Json) -> dict[str, Any] | None:
    """The opposite of a condition on one key's closed values, or None where it is another one."""
    if not isinstance(condition, dict) or not set(condition) <= {"properties", "required", "type"}:
        return None
    properties = condition.get("properties") or {}
    if len(properties) != 1:
        return None
    ((key, schema),) = properties.items()
    if (
        not isinstance(schema, dict)
        or not set(schema) <= {"const", "enum", "type"}
        or not {"const", "enum"} & set(schema)
    ):
        return None
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return {"required": [key], "properties": {key: {"not": {"enum": values}}}}
