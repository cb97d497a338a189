"""Scores of outputs against labels: exact match at a place, recall per class, confusion.

Everything here is a pure function of JSON values and arrays; results that are reported are plain lists
of dicts in a stable order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.errors import BadInputError
from slm_assets.gates.clusters import DIGITS
from slm_assets.gates.intervals import wilson

OTHER = "(other)"


def parse_pointer(pointer: str) -> tuple[str, ...]:
    """The steps of a JSON pointer (RFC 6901), unescaped; "" is the whole value."""
    if pointer and not pointer.startswith("/"):
        raise BadInputError(f"{pointer!r} is not a JSON pointer", cure="start it with a slash, as in /a/b")
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:])


def _walk(value: Json, steps: tuple[str, ...], absent: Json) -> Json:
    for place, step in enumerate(steps):
        if step == "*":
            rest = steps[place + 1 :]
            if isinstance(value, dict):
                items = [value[key] for key in sorted(value)]
            elif isinstance(value, list):
                items = value
            else:
                return absent
            found = [_walk(item, rest, absent) for item in items]
            if "*" in rest:
                return [x for part in found for x in (part if isinstance(part, list) else [part])]
            return found
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isascii() and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return absent
    return value


def values_at(value: Json, pointer: str, absent: Json = None) -> Json:
    """The value at a JSON pointer, or `absent`.

    A `*` stands for each item and collects a flat list, in order (an object's items by sorted key); an
    item without the rest of the path counts as `absent`, and so does the whole without the container.
    """
    return _walk(value, parse_pointer(pointer), absent)


def same(left: Json, right: Json) -> bool:
    """JSON equality: 1 equals 1.0, true does not equal 1, the order of keys does not matter."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict):
        return (
            isinstance(right, dict)
            and left.keys() == right.keys()
            and all(same(item, right[key]) for key, item in left.items())
        )
    if isinstance(left, list):
        return isinstance(right, list) and len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def score(outputs: Sequence[Json], labels: Sequence[Json], pointer: str = "", absent: Json = None) -> NDArray[np.bool_]:
    """Exact match at a place, one per row. "" compares the whole frame. An output None (an engine that
    could not answer) is a miss, wherever the label is not None itself."""
    if len(outputs) != len(labels):
        raise BadInputError(f"{len(outputs)} outputs, but {len(labels)} labels")
    steps = parse_pointer(pointer)
    return np.fromiter(
        (
            (output is not None or label is None) and same(_walk(output, steps, absent), _walk(label, steps, absent))
            for output, label in zip(outputs, labels, strict=True)
        ),
        dtype=np.bool_,
        count=len(labels),
    )


def class_names(values: Sequence[Json], pointer: str = "", absent: Json = None) -> list[str]:
    """The class of each row: the text at the pointer, or the canonical JSON of what is no text."""
    steps = parse_pointer(pointer)
    found = (_walk(value, steps, absent) for value in values)
    return [value if isinstance(value, str) else canonical.text(value) for value in found]


def recall_per_class(predicted: Sequence[str], true: Sequence[str], confidence: float = 0.95) -> list[Json]:
    """Per true class: n, recall and Wilson's interval. Most frequent first, then by name."""
    counts = Counter(true)
    hits = Counter(t for p, t in zip(predicted, true, strict=True) if p == t)
    rows = []
    for name, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        low, high = wilson(hits[name], n, confidence)
        rows.append(
            {
                "class": name,
                "n": n,
                "recall": round(hits[name] / n, DIGITS),
                "low": round(low, DIGITS),
                "high": round(high, DIGITS),
            }
        )
    return rows


def confusion(predicted: Sequence[str], true: Sequence[str], top: int = 20) -> Json:
    """Counts by true (rows) and predicted (columns) class: `{"classes": [...], "counts": [[...]]}`.

    The `top` most frequent true classes, then those only predicted; what is left is "(other)".
    """
    seen, guessed = Counter(true), Counter(predicted)
    names = sorted(seen | guessed, key=lambda name: (-seen[name], -guessed[name], name))
    classes = names[:top] + ([OTHER] if len(names) > top else [])
    index = {name: place for place, name in enumerate(names[:top])}
    size, last = len(classes), len(classes) - 1
    counts = np.zeros((size, size), dtype=np.int64)
    for (t, p), n in Counter(zip(true, predicted, strict=True)).items():
        counts[index.get(t, last), index.get(p, last)] += n
    return {"classes": classes, "counts": counts.tolist()}
