"""The parts of conjuncts that stand side by side: types, scalars, keys of objects, items of lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import permutations
from math import ceil, floor
from typing import TYPE_CHECKING, Any

from slm_assets.canonical import Json
from slm_assets.domain.contracts import Validator
from slm_assets.models.lm import formats, numbers
from slm_assets.models.lm.nodes import Listed, Node, Number, Text
from slm_assets.models.lm.observed import Seen

if TYPE_CHECKING:
    from slm_assets.models.lm.bounding import Contract

Schema = dict[str, Any]
LARGEST = 10**15
"""Without bounds of their own, numbers stay where JSON readers agree."""
_SCALARS = ("null", "boolean", "integer", "number", "string")
_TYPES = (*_SCALARS, "array", "object")
_KEYWORDS = {
    "object": {"properties", "required", "additionalProperties", "patternProperties", "minProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems", "uniqueItems"},
    "string": {"minLength", "maxLength", "pattern", "format"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
}
_ENUMERATED = 512
_ENDLESS = 100_000


def types(flat: Sequence[Schema], seen: Seen) -> list[str]:
    """The types that may stand there: those named, else those that labels show, else what the keywords speak of."""
    allowed = list(_TYPES)
    named = False
    for schema in flat:
        kind = schema.get("type")
        if kind is not None:
            named = True
            own = {kind} if isinstance(kind, str) else set(kind)
            allowed = [t for t in allowed if t in own or (t == "integer" and "number" in own)]
    if not named:
        spoken = [kind for kind, words in _KEYWORDS.items() if any(words & set(schema) for schema in flat)]
        allowed = [t for t in allowed if t in seen.types] or spoken or list(_SCALARS)
    return [t for t in allowed if not (t == "integer" and "number" in allowed)]


def scalar(contract: Contract, kind: str, flat: Sequence[Schema], at: str) -> Node | None:
    """A string, number, boolean or null that meets all conjuncts."""
    if kind == "null":
        return Listed(("null",))
    if kind == "boolean":
        return Listed(("false", "true"))
    return _string(contract, flat, at) if kind == "string" else _number(contract, kind, flat, at)


def _string(contract: Contract, flat: Sequence[Schema], at: str) -> Node | None:
    low = max((schema.get("minLength", 0) for schema in flat), default=0)
    most = [schema["maxLength"] for schema in flat if "maxLength" in schema]
    patterns = tuple(dict.fromkeys(schema["pattern"] for schema in flat if "pattern" in schema))
    known: list[str] = []
    for name in dict.fromkeys(schema["format"] for schema in flat if "format" in schema):
        if name in formats.CHECKED:
            contract.lint(at, f"format {name} is not held in decoding")
        elif formats.exact(name) or name in formats.KNOWN:
            known.append(name)
    if len(known) > 1 or (known and patterns):
        contract.lint(at, f"a pattern or second format beside format {known[0]} is not held in decoding")
        patterns = ()
    if known and formats.exact(known[0]):
        least, longest = formats.EXACT_LENGTHS[known[0]]
        if low > least or (most and min(most) < longest):
            contract.lint(at, f"a length beside format {known[0]} is not held in decoding")
        return Text(least, longest, (), known[0])
    ceiling = max(contract.bounds.text, 2 * contract.seen(at).longest, low)
    most += [width for pattern in patterns if (width := _width(pattern)) is not None]
    if not most or min(most) > ceiling:
        contract.lint(at, f"a text without a near end gets at most {ceiling} characters")
    high = min([*most, ceiling])
    return Text(low, high, patterns, known[0] if known else "") if low <= high else None


def _width(pattern: str) -> int | None:
    """Characters of the longest match of a pattern that speaks of the whole string; None where it does not."""
    from re import _parser  # type: ignore[attr-defined]

    if not (pattern.startswith("^") and pattern.endswith("$")) or "|" in pattern:
        return None
    try:
        width = int(_parser.parse(pattern).getwidth()[1])
    except Exception:  # a pattern of the other dialect
        return None
    return width if width < _ENDLESS else None


def _number(contract: Contract, kind: str, flat: Sequence[Schema], at: str) -> Node | None:
    least, most = Fraction(-LARGEST), Fraction(LARGEST)
    decimals = 0 if kind == "integer" else max(contract.bounds.decimals, contract.seen(at).decimals)
    steps = [Fraction(str(schema["multipleOf"])) for schema in flat if "multipleOf" in schema]
    unheld = []
    for one in steps:
        power = next((d for d in range(decimals, -1, -1) if Fraction(1, 10**d) % one == 0), None)
        if power is None:
            unheld.append(one)
        else:
            decimals = min(decimals, power)
    unit = 10**decimals
    strict: list[tuple[Fraction, int]] = []
    for schema in flat:
        for word, side in (("minimum", -1), ("maximum", 1), ("exclusiveMinimum", -1), ("exclusiveMaximum", 1)):
            value = schema.get(word)
            if value is None or isinstance(value, bool):
                continue
            exact = Fraction(str(value))
            least, most = (max(least, exact), most) if side < 0 else (least, min(most, exact))
            if word.startswith("exclusive"):
                strict.append((exact, side))
    low, high = ceil(least * unit), floor(most * unit)
    low += any(side < 0 and value * unit == low for value, side in strict)
    high -= any(side > 0 and value * unit == high for value, side in strict)
    if not numbers.between(low, high, decimals):
        return None
    if unheld:
        return _multiples(contract, Number(low, high, decimals), unheld, at)
    return Number(low, high, decimals)


def _multiples(contract: Contract, number: Number, steps: list[Fraction], at: str) -> Node | None:
    """Few multiples are listed; of many, the step is not held."""
    unit = 10**number.decimals
    stride = steps[0] * unit
    if len(steps) == 1 and (number.high - number.low) / stride <= _ENUMERATED:
        first = ceil(number.low / stride)
        values = [k * stride for k in range(first, floor(number.high / stride) + 1)]
        texts = tuple(_plain_number(value / unit) for value in values if value.denominator == 1)
        return Listed(texts) if texts else None
    contract.lint(at, "multipleOf is not held in decoding")
    return number


def _plain_number(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else repr(float(value))


def open_to(schema: Schema, key: str | None) -> bool:
    """Whether an object may have a key that is not named (of None: any such)."""
    closed = schema.get("additionalProperties") is False or schema.get("unevaluatedProperties") is False
    if key is None:
        return not closed
    return key in (schema.get("properties") or {}) or bool(_patterned(schema, key)) or not closed


def may_have(flat: Sequence[Schema], key: str) -> bool:
    """Whether all conjuncts let an object have this key."""
    evaluated = any(key in (schema.get("properties") or {}) for schema in flat)
    for schema in flat:
        loose = {**schema, "unevaluatedProperties": True} if evaluated else schema
        names = schema.get("propertyNames")
        if not open_to(loose, key) or (isinstance(names, dict) and "$ref" not in names and not _valid(names, key)):
            return False
    return True


def _valid(schema: Schema, value: Json) -> bool:
    return Validator({"allOf": [schema]}).is_valid(value)


def of_key(schema: Schema, key: str) -> list[Json]:
    """What a conjunct says of the value under a key."""
    named = (schema.get("properties") or {}).get(key)
    found = [*([] if named is None else [named]), *_patterned(schema, key)]
    words = ("additionalProperties", "unevaluatedProperties")
    return found or [schema[word] for word in words if schema.get(word) not in (None, False)]


def _patterned(schema: Schema, key: str) -> list[Json]:
    import re2

    return [child for pattern, child in (schema.get("patternProperties") or {}).items() if re2.search(pattern, key)]


def extra_keys(flat: Sequence[Schema], seen: Seen) -> list[str]:
    """Keys of an open object beside its named ones: a closed list of its names, else those that labels show."""
    for schema in flat:
        names = schema.get("propertyNames")
        if isinstance(names, dict) and isinstance(names.get("enum"), list):
            return [str(name) for name in names["enum"]]
    return sorted(seen.keys)


def prefix(schema: Schema) -> list[Json]:
    """What a conjunct says of the first items, one by one."""
    own = schema.get("prefixItems") or (schema.get("items") if isinstance(schema.get("items"), list) else [])
    return list(own or [])


def item(schema: Schema, index: int) -> list[Json]:
    """What a conjunct says of the item at a place; of one behind the prefix, what it says of all the rest."""
    first = prefix(schema)
    if index < len(first):
        return [first[index]]
    if isinstance(schema.get("items"), list):
        return [schema["additionalItems"]] if "additionalItems" in schema else []
    return [schema["items"]] if "items" in schema else []


def arrangements(texts: Sequence[str], low: int, high: int) -> Iterator[str]:
    """Every list of so many different values, in every order."""
    for size in range(low, min(high, len(texts)) + 1):
        for chosen in permutations(texts, size):
            yield f"[{','.join(chosen)}]"
