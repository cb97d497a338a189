"""A value as the text that decoding would write: the one order of keys and spelling, for training and for answers."""

from __future__ import annotations

from fractions import Fraction

import orjson

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.models.lm.bounding import written
from slm_assets.models.lm.nodes import Either, Fields, Items, Listed, Node, Number, Text


def write(node: Node, value: Json) -> str | None:
    """The value's text by this tree; None where the tree does not write the value.

    Patterns and formats are not looked at here: the grammar itself has the last word on them.
    """
    match node:
        case Listed(texts):
            wanted = canonical.text(value)
            return next((text for text in texts if canonical.text(orjson.loads(text)) == wanted), None)
        case Text(low, high):
            return written(value) if isinstance(value, str) and low <= len(value) <= high else None
        case Number(low, high, decimals):
            return _number(value, low, high, decimals)
        case Items():
            return _items(node, value)
        case Fields():
            return _fields(node, value)
        case Either(branches):
            return next((text for branch in branches if (text := write(branch, value)) is not None), None)


def _number(value: Json, low: int, high: int, decimals: int) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if decimals == 0 and isinstance(value, float) and value.is_integer():
        value = int(value)
    text = written(value)
    if "e" in text.lower() or len(text.partition(".")[2]) > decimals:
        return None
    return text if low <= Fraction(text) * 10**decimals <= high else None


def _items(node: Items, value: Json) -> str | None:
    if not isinstance(value, list) or not node.low <= len(value) <= node.high:
        return None
    parts = []
    for index, item in enumerate(value):
        own = node.first[index] if index < len(node.first) else node.each
        text = None if own is None else write(own, item)
        if text is None:
            return None
        parts.append(text)
    return f"[{','.join(parts)}]"


def _fields(node: Fields, value: Json) -> str | None:
    if not isinstance(value, dict) or len(value) < node.low:
        return None
    if not value.keys() <= {one.key for one in node.fields}:
        return None
    parts = []
    for one in node.fields:
        if one.key not in value:
            if one.required:
                return None
            continue
        text = write(one.node, value[one.key])
        if text is None:
            return None
        parts.append(f"{written(one.key)}:{text}")
    return f"{{{','.join(parts)}}}"
