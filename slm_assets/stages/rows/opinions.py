"""A teacher's opinion of a row beside the oracle's answer and the given label: which is the label, and where they
differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from slm_assets import canonical
from slm_assets.canonical import Json

KEY = "taught"
"""The key of a row under which opinions stand: role → {request, model, input, output, error}."""
MAX_FIELDS = 50
"""So many places are named of one divergence."""


def usable(row: Json, role: str, value: Json) -> Mapping[str, Json] | None:
    """The opinion on this very input of a role, where there is one; its `error` says why it is no answer."""
    own: Mapping[str, Json] | None = row.get(KEY, {}).get(role)
    return own if own is not None and own["input"] == canonical.digest(value) else None


def by_policy(order: Sequence[str], oracle: Json, opinion: Mapping[str, Json] | None) -> tuple[Json, str] | None:
    """The label and its source: the first of the policy's order that has one. `oracle`: its valid answer, or None."""
    teacher = opinion["output"] if opinion is not None and not opinion["error"] else None
    same = teacher is not None and oracle is not None and canonical.dumps(oracle) == canonical.dumps(teacher)
    answers = {"agreed": oracle if same else None, "oracle": oracle, "teacher": teacher}
    return next(((answers[source], source) for source in order if answers[source] is not None), None)


def compare(
    row: Json, role: str, opinion: Mapping[str, Json], oracle: Json, counts: Counter[tuple[str, str, str]]
) -> list[Json]:
    """Count how the teacher answered and in which fields it agrees; where it does not, that is a divergence.

    Counts ("teacher", role, what): answered, invalid, unanswered; and for who in oracle, given: `who`\\0same,
    `who`\\0other, `who`\\0same\\0<field>, `who`\\0other\\0<field>.
    """
    if opinion["error"]:
        counts["teacher", role, "invalid" if opinion["request"] else "unanswered"] += 1
        return []
    counts["teacher", role, "answered"] += 1
    teacher, given = opinion["output"], row["labels"].get(role)
    places: dict[str, list[str]] = {}
    for who, theirs in (("oracle", oracle), ("given", given)):
        if theirs is None:
            continue
        where = differing(theirs, teacher)
        counts["teacher", role, f"{who}\0{'other' if where else 'same'}"] += 1
        for field, same in _fields(theirs, teacher):
            counts["teacher", role, f"{who}\0{'same' if same else 'other'}\0{field}"] += 1
        if where:
            places[who] = where[:MAX_FIELDS]
    if not places:
        return []
    sides = {"oracle": oracle, "label": given}
    found = {"id": row["id"], "role": role, "request": opinion["request"], "teacher": teacher, "differs": places}
    return [found | {name: value for name, value in sides.items() if value is not None}]


def differing(left: Json, right: Json, at: str = "") -> list[str]:
    """JSON pointers of the topmost places at which two values differ, sorted."""
    if isinstance(left, dict) and isinstance(right, dict):
        names = sorted(left.keys() | right.keys())
        steps = {name: name.replace("~", "~0").replace("/", "~1") for name in names}
        return [
            place
            for name in names
            for place in (
                differing(left[name], right[name], f"{at}/{steps[name]}")
                if name in left and name in right
                else [f"{at}/{steps[name]}"]
            )
        ]
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        pairs = zip(left, right, strict=True)
        return [place for index, pair in enumerate(pairs) for place in differing(*pair, f"{at}/{index}")]
    return [] if canonical.dumps(left) == canonical.dumps(right) else [at]


def agreement(counts: Counter[tuple[str, str, str]], role: str) -> Json:
    """What `compare` counted of a role, for the report."""
    own = {what: number for (kind, who, what), number in sorted(counts.items()) if (kind, who) == ("teacher", role)}
    found: Json = {what: own.get(what, 0) for what in ("answered", "invalid", "unanswered")}
    for who in ("oracle", "given"):
        same, other = own.get(f"{who}\0same", 0), own.get(f"{who}\0other", 0)
        if same + other:
            names = sorted(
                {what.split("\0")[2] for what in own if what.startswith(f"{who}\0") and what.count("\0") > 1}
            )
            fields = {
                name: {
                    "n": own.get(f"{who}\0same\0{name}", 0) + own.get(f"{who}\0other\0{name}", 0),
                    "same": own.get(f"{who}\0same\0{name}", 0),
                }
                for name in names
            }
            found[f"against_{who}"] = {"n": same + other, "same": same, "fields": fields}
    return found


def _fields(left: Json, right: Json) -> list[tuple[str, bool]]:
    if not isinstance(left, dict) or not isinstance(right, dict):
        return []
    names = sorted(left.keys() | right.keys())
    return [
        (name, name in left and name in right and canonical.dumps(left[name]) == canonical.dumps(right[name]))
        for name in names
    ]
