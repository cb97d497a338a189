"""Which places an output may have by its contract, and which values may stand there.

A place is an RFC 6901 pointer in which `*` is each item of an array (or each value of a free mapping).
`$ref` must point into the same document (see `references`). Recursion is followed once. A branch of a
union that does not name a place says nothing about it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.references import follow

_BUDGET = 10_000
_MAX_DEPTH = 24


@dataclass(frozen=True)
class Spot:
    """What a contract says about one place.

    `values`: the closed list of what may stand there besides objects and arrays, in the contract's order,
    or None where it is open;
    `types`: JSON types named for it, empty for any; `extensible`: it may hold keys that are not named.
    """

    values: tuple[Json, ...] | None = None
    types: tuple[str, ...] = ()
    extensible: bool = False


Spots = dict[str, Spot]


def places(schema: Json) -> Spots:
    """Every place that the contract names, the root ("") first, in the contract's order."""
    walk = _Walk(schema)
    must, may = walk.node(schema, "", ())
    return {**must, **{path: spot for path, spot in may.items() if path not in must}}


def leaves(schema: Json) -> Spots:
    """The places that have no named places under them."""
    found = places(schema)
    parents = {path.rpartition("/")[0] for path in found if path}
    return {path: spot for path, spot in found.items() if path not in parents}


def enum_paths(schema: Json) -> dict[str, list[Json]]:
    """Place → closed list of values (enums and constants of any type but null and boolean)."""
    found = {}
    for path, spot in places(schema).items():
        values = [value for value in spot.values or () if isinstance(value, str | int | float)]
        if values and not all(isinstance(value, bool) for value in values):
            found[path] = values
    return found


def has_place(found: Spots, path: str) -> bool | None:
    """Whether a pointer leads to one of the `places`; None where the contract leaves that open."""
    known = ""
    for part in path.split("/")[1:]:
        child = next((f"{known}/{name}" for name in (part, "*") if f"{known}/{name}" in found), None)
        if child is None:
            return None if found[known].extensible else False
        known = child
    return True


def covers(upper: str, lower: str) -> bool:
    """Whether a pointer leads to what another leads to, or to something around it; `*` stands for any step."""
    above, below = upper.split("/"), lower.split("/")
    return len(above) <= len(below) and all(
        one == other or "*" in (one, other) for one, other in zip(above, below, strict=False)
    )


class _Walk:
    """One traversal, with a budget: contracts may share definitions without bound."""

    def __init__(self, root: Json) -> None:
        self.root = root
        self.left = _BUDGET

    def node(self, schema: Json, at: str, seen: tuple[str, ...]) -> tuple[Spots, Spots]:
        """(places that hold whenever the schema does, places that hold under a condition)."""
        self.left -= 1
        if not isinstance(schema, dict) or self.left < 0 or at.count("/") > _MAX_DEPTH:
            return ({at: Spot(extensible=True)} if schema is not False else {}), {}
        must: Spots = {at: _own(schema)}
        may: Spots = {}
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference not in seen:
            try:
                target = follow(self.root, unquote(reference.removeprefix("#")))
            except KeyError:
                target = True
            self._and(must, may, [self.node(target, at, (*seen, reference))])
        for path, children in _children(schema, at).items():
            inner = [self.node(child, path, seen) for child in children]
            self._and(must, may, [(_union([{**sometimes, **always} for always, sometimes in inner]), {})])
        self._and(must, may, [self.node(part, at, seen) for part in _list(schema.get("allOf"))])
        for keyword in ("oneOf", "anyOf"):
            if branches := [self.node(part, at, seen) for part in _list(schema.get(keyword))]:
                either = _union([{**branch_may, **branch_must} for branch_must, branch_may in branches])
                self._and(must, may, [(either, {})])
        conditional = [self.node(schema[key], at, seen) for key in ("then", "else") if key in schema]
        for inner_must, inner_may in conditional:
            may.update(_union([may, _union([inner_may, inner_must])]))
        return must, may

    def _and(self, must: Spots, may: Spots, parts: Iterable[tuple[Spots, Spots]]) -> None:
        for inner_must, inner_may in parts:
            for path, spot in inner_must.items():
                must[path] = _both(must[path], spot) if path in must else spot
            may.update(_union([may, inner_may]))


def _own(schema: dict[str, Json]) -> Spot:
    """What the schema says of its own place."""
    kind = schema.get("type")
    types = (kind,) if isinstance(kind, str) else tuple(kind or ())
    values: tuple[Json, ...] | None = None
    if "const" in schema:
        values = (schema["const"],)
    elif isinstance(schema.get("enum"), list):
        values = tuple(schema["enum"])
    closed = schema.get("additionalProperties") is False or schema.get("unevaluatedProperties") is False
    scalar = bool(types) and not {"object", "array"} & set(types)
    free = not closed and not scalar and values is None
    return Spot(values, types, extensible=free)


def _children(schema: dict[str, Json], at: str) -> dict[str, list[Json]]:
    """Schemas of the places right under this one; several under `*` are alternatives."""
    found: dict[str, list[Json]] = {}
    for name, child in _dict(schema.get("properties")).items():
        found[f"{at}/{name.replace('~', '~0').replace('/', '~1')}"] = [child]
    items = schema.get("items")
    each = [*_list(schema.get("prefixItems")), *(items if isinstance(items, list) else [items])]
    each += [schema.get("additionalProperties"), *_dict(schema.get("patternProperties")).values()]
    if each := [child for child in each if isinstance(child, dict) and child]:
        found[f"{at}/*"] = each
    return found


def _both(left: Spot, right: Spot) -> Spot:
    """Both must hold: closed lists meet."""
    if left.values is None or right.values is None:
        values = left.values if right.values is None else right.values
    else:
        allowed = {canonical.text(value) for value in right.values}
        values = tuple(value for value in left.values if canonical.text(value) in allowed)
    types = tuple(kind for kind in left.types if kind in right.types) if left.types and right.types else ()
    return Spot(values, types or left.types or right.types, extensible=left.extensible and right.extensible)


def _union(branches: list[Spots]) -> Spots:
    """Either may hold: closed lists join; a place is open where any branch leaves it open."""
    found: Spots = {}
    for branch in branches:
        for path, spot in branch.items():
            if path not in found:
                found[path] = spot
                continue
            known = found[path]
            joined: dict[str, Json] = {}
            closed = [_closed(known), _closed(spot)]
            for values in closed:
                joined.update({canonical.text(value): value for value in values or ()})
            found[path] = Spot(
                None if None in closed else tuple(joined.values()) or None,
                tuple(dict.fromkeys((*known.types, *spot.types))) if known.types and spot.types else (),
                known.extensible or spot.extensible,
            )
    return found


def _closed(spot: Spot) -> tuple[Json, ...] | None:
    """Scalars of a place, None where it is open: containers hold none, and null alone is a closed list."""
    if spot.values is None and spot.types and set(spot.types) <= {"object", "array", "null"}:
        return (None,) if "null" in spot.types else ()
    return spot.values


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _dict(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}
