"""A contract as a bounded tree: references unrolled, conjunctions merged, unions spread, ends put to what has none.

The tree writes a subset of what the contract allows. What it cannot hold to (`not`, `contains`, …) is a lint that
says so: the answer's validity is measured in any case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.contracts import Validator
from slm_assets.domain.references import follow
from slm_assets.errors import BadInputError
from slm_assets.models.lm import leaves
from slm_assets.models.lm.implied import applies, excluding
from slm_assets.models.lm.nodes import Either, Field, Fields, Items, Listed, Node
from slm_assets.models.lm.observed import Observed, Seen, step
from slm_assets.models.lm.overlapping import overlap

UNHELD = frozenset(
    {"contains", "minContains", "maxContains", "dependentRequired", "dependentSchemas", "dependencies",
     "unevaluatedItems", "maxProperties"}
)  # fmt: skip
_BUDGET = 20_000
_BRANCHES = 512
_ORDERED = 4
Schema = dict[str, Any]
Key = tuple[str, ...]


@dataclass(frozen=True)
class Bounds:
    """Ends for what the contract leaves endless. `text`: characters of a string, unless labels show longer ones;
    `items` of a list; `depth`: how often a definition may stand inside itself."""

    text: int = 256
    items: int = 8
    depth: int = 2
    decimals: int = 6
    key_order: str = "contract"


@dataclass(frozen=True)
class Bounded:
    """The tree, and what was added or could not be held, as sentences."""

    node: Node
    lints: tuple[str, ...]


@dataclass
class Contract:
    """One traversal's world."""

    root: Schema
    bounds: Bounds
    observed: Observed
    given: Json = None
    lints: dict[str, None] = field(default_factory=dict)
    left: int = _BUDGET

    def lint(self, at: str, message: str) -> None:
        """Say something once."""
        self.lints.setdefault(f"{at or '/'}: {message}")

    def seen(self, at: str) -> Seen:
        """What the labels show there."""
        return self.observed.get(at) or Seen()


def bounded(
    schema: Schema, bounds: Bounds | None = None, observed: Observed | None = None, given: Json = None
) -> Bounded:
    """The tree of a self-contained contract; `given`: the input by which its unions are resolved (see `implied`).

    BadInputError for a contract that nothing can meet.
    """
    contract = Contract(schema, bounds or Bounds(), observed or {}, given)
    node = _node(contract, [schema], "", ())
    if node is None:
        raise BadInputError(
            "no answer can meet the contract as it can be decoded: " + "; ".join(contract.lints),
            cure="look at required keys whose values nothing meets, and at recursion without an end",
        )
    return Bounded(node, tuple(contract.lints))


def _node(contract: Contract, conjuncts: Sequence[Json], at: str, seen: Key) -> Node | None:
    """What all conjuncts allow; None where that is nothing."""
    contract.left -= 1
    if contract.left < 0:
        raise BadInputError("the contract is too large to be decoded", cure="share less, or nest less")
    flat, seen = _flat(contract, conjuncts, at, seen)
    if flat is None:
        return None
    for index, schema in enumerate(flat):
        rest = [*flat[:index], *flat[index + 1 :]]
        for keyword in ("oneOf", "anyOf"):
            if isinstance(schema.get(keyword), list):
                others = [*rest, {key: value for key, value in schema.items() if key != keyword}]
                return _union(contract, schema[keyword], others, at, seen, keyword == "oneOf")
        if "if" in schema:
            plain = {key: value for key, value in schema.items() if key not in {"if", "then", "else"}}
            return _conditional(contract, schema, [*rest, plain], at, seen)
    return _plain(contract, flat, at, seen)


def _flat(contract: Contract, conjuncts: Sequence[Json], at: str, seen: Key) -> tuple[list[Schema] | None, Key]:
    """References followed and `allOf` opened; None where a conjunct allows nothing or recursion is at its end."""
    flat: list[Schema] = []
    queue = list(conjuncts)
    while queue:
        schema = queue.pop(0)
        if schema is False:
            return None, seen
        if not isinstance(schema, dict):
            continue
        parts = list(schema.get("allOf") or ())
        reference = schema.get("$ref")
        if isinstance(reference, str):
            if seen.count(reference) > contract.bounds.depth:
                contract.lint(at, f"recursion through {reference} is cut at {contract.bounds.depth} levels")
                return None, seen
            seen = (*seen, reference)
            parts.append(follow(contract.root, unquote(reference.removeprefix("#"))))
        own = {key: value for key, value in schema.items() if key not in {"allOf", "$ref"}}
        if own and not ("$ref" in schema and "draft-07" in str(contract.root.get("$schema"))):
            flat.append(own)
        queue = parts + queue
    return flat, seen


def _union(
    contract: Contract, branches: list[Json], others: list[Schema], at: str, seen: Key, one: bool
) -> Node | None:
    kept = [branch for branch in branches if applies(contract.root, branch, contract.given)] or branches
    nodes = [_node(contract, [*others, branch], at, seen) for branch in kept]
    found = list(dict.fromkeys(node for node in nodes if node is not None))
    if len(found) > _BRANCHES:
        raise BadInputError(f"{at or '/'}: a union of {len(found)} branches cannot be decoded")
    if one and any(overlap(a, b) for i, a in enumerate(found) for b in found[i + 1 :]):
        contract.lint(at, "branches of oneOf that one value could meet together are not told apart in decoding")
    if not found:
        return None
    return found[0] if len(found) == 1 else Either(tuple(found))


def _conditional(contract: Contract, schema: Schema, others: list[Schema], at: str, seen: Key) -> Node | None:
    """if → then, else otherwise. Where the condition cannot be turned round, its opposite is not held."""
    condition, then, otherwise = schema["if"], schema.get("then", True), schema.get("else", True)
    opposite = excluding(condition)
    if opposite is None:
        contract.lint(at, "the opposite of `if` is not held in decoding")
        opposite = {}
    nodes = [
        _node(contract, [*others, condition, then], at, seen),
        _node(contract, [*others, opposite, otherwise], at, seen),
    ]
    found = tuple(dict.fromkeys(node for node in nodes if node is not None))
    return None if not found else found[0] if len(found) == 1 else Either(found)


def _plain(contract: Contract, flat: list[Schema], at: str, seen: Key) -> Node | None:
    """Conjuncts without references and unions."""
    for schema in flat:
        for keyword in sorted(UNHELD & set(schema)):
            contract.lint(at, f"{keyword} is not held in decoding")
    excluded = [value for schema in flat for value in _excluded(contract, schema, at)]
    closed = [
        schema["enum"] if "enum" in schema else [schema["const"]] for schema in flat if {"enum", "const"} & set(schema)
    ]
    if closed:
        allowed = [{canonical.text(value) for value in values} for values in closed]
        outer = set(map(canonical.text, excluded))
        values = [v for v in closed[0] if all(canonical.text(v) in own for own in allowed)]
        values = [v for v in values if canonical.text(v) not in outer and _meets(contract, flat, v)]
        texts = tuple(dict.fromkeys(written(value) for value in values))
        return Listed(texts) if texts else None
    if excluded:
        contract.lint(at, "`not` is held for closed lists only")
    nodes = [_typed(contract, kind, flat, at, seen) for kind in leaves.types(flat, contract.seen(at))]
    found = tuple(dict.fromkeys(node for node in nodes if node is not None))
    return None if not found else found[0] if len(found) == 1 else Either(found)


def _excluded(contract: Contract, schema: Schema, at: str) -> list[Json]:
    denied = schema.get("not")
    if denied is None:
        return []
    if isinstance(denied, dict) and set(denied) <= {"enum", "const"}:
        return list(denied.get("enum", [])) + ([denied["const"]] if "const" in denied else [])
    contract.lint(at, "`not` is held for closed lists only")
    return []


def _meets(contract: Contract, flat: list[Schema], value: Json) -> bool:
    kept: Schema = {key: contract.root[key] for key in ("$schema", "$defs", "definitions") if key in contract.root}
    try:
        return Validator({**kept, "allOf": flat}).is_valid(value)
    except ValueError:
        return True


def written(value: Json) -> str:
    """A value as JSON without white space, keys as they stand."""
    import orjson

    return orjson.dumps(value).decode()


def _typed(contract: Contract, kind: str, flat: list[Schema], at: str, seen: Key) -> Node | None:
    if kind == "object":
        return _object(contract, flat, at, seen)
    if kind == "array":
        return _array(contract, flat, at, seen)
    return leaves.scalar(contract, kind, flat, at)


def _object(contract: Contract, flat: list[Schema], at: str, seen: Key) -> Node | None:
    named = [key for schema in flat for key in schema.get("properties") or {}]
    required = [key for schema in flat for key in schema.get("required") or ()]
    least = max((schema.get("minProperties", 0) for schema in flat), default=0)
    keys = dict.fromkeys([*named, *required])
    if all(leaves.open_to(schema, None) for schema in flat):
        extra = leaves.extra_keys(flat, contract.seen(at))
        keys.update(dict.fromkeys(extra))
        shown = f"the keys that labels show ({len(extra)})" if extra else "its named keys, no label shows another"
        contract.lint(at, f"an open object is written with {shown}")
    order = sorted(keys) if contract.bounds.key_order == "sorted" else list(keys)
    fields = []
    for key in order:
        parts = [part for schema in flat for part in leaves.of_key(schema, key)]
        node = _node(contract, parts, at + step(key), seen) if leaves.may_have(flat, key) else None
        if node is None and key in required:
            return None
        if node is not None:
            fields.append(Field(key, node, key in required))
    if least > max(1, sum(one.required for one in fields)):
        contract.lint(at, "minProperties above 1 is not held in decoding")
    return Fields(tuple(fields), 1 if least > 0 else 0) if fields or least == 0 else None


def _array(contract: Contract, flat: list[Schema], at: str, seen: Key) -> Node | None:
    bounds, shown = contract.bounds, contract.seen(at)
    low = max((schema.get("minItems", 0) for schema in flat), default=0)
    most = [schema["maxItems"] for schema in flat if "maxItems" in schema]
    ceiling = max(bounds.items, 2 * shown.most, low)
    high = min([*most, ceiling])
    if not most or min(most) > ceiling:
        contract.lint(at, f"a list without a near end gets at most {ceiling} items")
    count = max((len(leaves.prefix(schema)) for schema in flat), default=0)
    first: list[Node] = []
    for index in range(min(count, high)):
        node = _node(contract, [part for s in flat for part in leaves.item(s, index)], f"{at}/*", seen)
        if node is None:
            high = index
            break
        first.append(node)
    rest = [part for schema in flat for part in leaves.item(schema, count)]
    each = _node(contract, rest, f"{at}/*", seen) if high > len(first) else None
    high = min(high, len(first)) if each is None else high
    if high < low:
        return None
    if any(schema.get("uniqueItems") for schema in flat) and high > 1:
        return _unique(contract, Items(tuple(first), each, low, high), at)
    return Items(tuple(first), each, low, high)


def _unique(contract: Contract, items: Items, at: str) -> Node | None:
    """Lists without repetition: every order of few listed values, else the lists that labels show."""
    if isinstance(items.each, Listed) and not items.first and len(items.each.texts) <= _ORDERED:
        return Listed(tuple(leaves.arrangements(items.each.texts, items.low, items.high)))
    contract.lint(at, "uniqueItems: decoded as one of the lists that labels show, or as at most one item")
    single = Items(items.first[:1], items.each, items.low, min(items.high, 1)) if items.low <= 1 else None
    check = Validator({"uniqueItems": True, "minItems": items.low, "maxItems": items.high})
    shown = tuple(written(one) for one in contract.seen(at).lists.values() if len(one) > 1 and check.is_valid(one))
    if not shown:
        return single
    return Listed(shown) if single is None else Either((single, Listed(shown)))
