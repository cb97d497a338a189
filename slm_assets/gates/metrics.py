"""Scores of outputs against labels: exact match at a place, recall per class, confusion, calibration.

Everything here is a pure function of JSON values and arrays; results that are reported are plain lists
of dicts in a stable order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.errors import BadInputError
from slm_assets.gates.clusters import DIGITS
from slm_assets.gates.intervals import Interval, wilson

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


def calibration(confidences: ArrayLike, correct: ArrayLike, bins: int = 10) -> Json:
    """Reliability in bins of equal width, and the expected calibration error (Naeini et al. 2015).

    `{"ece": float or None, "n": int, "bins": [{low, high, n, confidence, accuracy}]}`; empty bins have
    None.
    """
    sure, right = _checked(confidences, correct)
    place = np.minimum((sure * bins).astype(np.int64), bins - 1)
    counts = np.bincount(place, minlength=bins)
    said, was = (np.bincount(place, weights, minlength=bins) for weights in (sure, right))
    rows = [
        {
            "low": round(i / bins, DIGITS),
            "high": round((i + 1) / bins, DIGITS),
            "n": int(counts[i]),
            "confidence": round(float(said[i] / counts[i]), DIGITS) if counts[i] else None,
            "accuracy": round(float(was[i] / counts[i]), DIGITS) if counts[i] else None,
        }
        for i in range(bins)
    ]
    error = round(float(np.abs(said - was).sum() / len(sure)), DIGITS) if len(sure) else None
    return {"ece": error, "n": len(sure), "bins": rows}


def accuracy_at_coverage(
    confidences: ArrayLike, correct: ArrayLike, coverages: Sequence[float] = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0)
) -> list[Json]:
    """Accuracy over the most confident rows: `[{asked, coverage, threshold, n, accuracy, low, high}]`.

    Rows as confident as the last one asked for are taken too: that is what a threshold does when served.
    """
    sure, right = _checked(confidences, correct)
    if not len(sure):
        return []
    order = np.argsort(-sure, kind="stable")
    ranked, hits = sure[order], np.cumsum(right[order])
    rows = []
    for asked in coverages:
        threshold = ranked[max(int(np.ceil(asked * len(sure) - 1e-9)), 1) - 1]
        n = int(np.searchsorted(-ranked, -threshold, side="right"))
        low, high = wilson(float(hits[n - 1]), n)
        kept = Interval(float(hits[n - 1]) / n, low, high, n, n)
        rows.append(
            {
                "asked": asked,
                "coverage": round(n / len(sure), DIGITS),
                "threshold": round(float(threshold), DIGITS),
                "n": n,
                "accuracy": round(kept.value, DIGITS),
                "low": round(kept.low, DIGITS),
                "high": round(kept.high, DIGITS),
            }
        )
    return rows


def _checked(confidences: ArrayLike, correct: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    sure, right = (np.asarray(x, dtype=np.float64) for x in (confidences, correct))
    if sure.shape != right.shape:
        raise BadInputError(f"{sure.size} confidences, but {right.size} scores")
    if sure.size and not bool(np.all((sure >= 0) & (sure <= 1))):
        raise BadInputError("a confidence lies outside [0, 1]")
    return sure, right
