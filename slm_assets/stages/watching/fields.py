"""The places of an input one by one: what stood there in training, and what stands there now.

A place is a JSON pointer in which `*` is each item of an array. It holds one of three kinds: `values` (few that come
again and again), `numbers` and `text`. Texts are compared by their words: letters only, so that ids, dates and what
redaction put in the place of a personal value are no words.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.gates import drift

MAX_VALUES, MAX_PLACES, MAX_WORDS, MAX_LEAVES = 200, 500, 50_000, 400
REPEATED = 5
"""A place with few values has each so many times, on average."""
CLOSED = 5e-4
"""A list of values is closed when a value outside of it is to be expected more seldom than this."""
MAX_NEW = 20_000
"""Distinct new values and words that are counted of each kind; later ones only count as new."""
NEW_VALUE, NEW_PLACE = 1, 2
_WORD = re.compile(r"\[[a-z_]+\]|([^\W\d_]+)")


def words_of(text: str) -> list[str]:
    """The words of a text in lower case; what redaction put in (such as [email]) is none."""
    return [word for word in _WORD.findall(text.lower()) if word]


def unknown_words(text: str, known: Set[str]) -> tuple[int, list[str]]:
    """How many words a text has, and those of them that are not known."""
    words = words_of(text)
    return len(words), [word for word in words if word not in known]


def leaves(value: Json) -> list[tuple[str, Json]]:
    """(place, value) of everything in a JSON value that is no object or array, at most MAX_LEAVES."""
    found: list[tuple[str, Json]] = []
    _walk(value, "", found)
    return found


def _walk(value: Json, at: str, found: list[tuple[str, Json]]) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            name = key.replace("~", "~0").replace("/", "~1") if "/" in key or "~" in key else key
            _walk(item, f"{at}/{name}", found)
    elif isinstance(value, list):
        for item in value:
            _walk(item, f"{at}/*", found)
    elif len(found) < MAX_LEAVES:
        found.append((at, value))


def key_of(value: Json) -> str:
    """The name of a value among those of its place."""
    return value if isinstance(value, str) else canonical.text(value)


def is_number(value: Json) -> bool:
    """Whether a value is a number; true and false are none."""
    return type(value) is float or type(value) is int


@dataclass
class _Place:
    n: int = 0
    values: Counter[str] = field(default_factory=Counter)
    lengths: array[int] = field(default_factory=lambda: array("q"))
    numbers: array[float] = field(default_factory=lambda: array("d"))
    words: Counter[str] = field(default_factory=Counter)


class Training:
    """What stood at each place of the training inputs; `add` every turn, then `profile`."""

    def __init__(self) -> None:
        self.rows = 0
        self._places: dict[str, _Place] = {}

    def add(self, turn: Json) -> None:
        """Take one input in."""
        self.rows += 1
        for at, value in leaves(turn):
            place = self._places.setdefault(at, _Place())
            place.n += 1
            if len(place.values) <= MAX_VALUES:
                place.values[key_of(value)] += 1
            if is_number(value):
                place.numbers.append(float(value))
            elif isinstance(value, str):
                words = words_of(value)
                place.lengths.append(len(words))
                place.words.update(words)

    def profile(self) -> dict[str, Any]:
        """{"rows", "places": {place: {kind, n, …}}, "closed", "words"}; see `Known`."""
        shown = dict(sorted(self._places.items(), key=lambda item: (-item[1].n, item[0]))[:MAX_PLACES])
        places = {at: _described(place) for at, place in sorted(shown.items())}
        words: Counter[str] = Counter()
        for at, place in places.items():
            if place["kind"] == "text":
                words.update(self._places[at].words)
        kept = sorted(words.items(), key=lambda item: (-item[1], item[0]))[:MAX_WORDS]
        once = sum(place.n == 1 for place in self._places.values())
        closed = len(self._places) <= MAX_PLACES and once <= CLOSED * self.rows
        return {"rows": self.rows, "places": places, "closed": closed, "words": sorted(word for word, _ in kept)}


def _described(place: _Place) -> dict[str, Any]:
    few = len(place.values) <= MAX_VALUES and place.n >= REPEATED * len(place.values)
    if few or not (len(place.numbers) or len(place.lengths)):
        counts = dict(sorted(place.values.items())) if few else {}
        closed = few and drift.unseen_mass(list(counts.values())) <= CLOSED
        return {"kind": "values", "n": place.n, "counts": counts, "closed": closed}
    numeric = len(place.numbers) > len(place.lengths)
    sizes = np.asarray(place.numbers if numeric else place.lengths, dtype=np.float64)
    edges = sorted({float(x) for x in np.quantile(sizes, np.linspace(0.1, 0.9, 9), method="inverted_cdf")})
    counts_by_bin = np.bincount(np.searchsorted(edges, sizes, side="left"), minlength=len(edges) + 1)
    kind = "numbers" if numeric else "text"
    return {"kind": kind, "n": place.n, "edges": edges, "counts": counts_by_bin.tolist()}


class Known:
    """What training held, to hold one input after the other against it."""

    def __init__(self, profile: Mapping[str, Any]) -> None:
        self.rows: int = profile["rows"]
        self.places: dict[str, Any] = profile["places"]
        self._closed: bool = profile["closed"]
        self.words = frozenset(profile["words"])
        self.seen = {at: Seen(place) for at, place in self.places.items()}
        self.new_words: Counter[str] = Counter()
        self.new_values: Counter[tuple[str, str]] = Counter()
        self.new_places: Counter[str] = Counter()

    def look(self, turn: Json, counted: int = 1) -> tuple[int, float]:
        """Take an input in; returns what is new in it (NEW_VALUE, NEW_PLACE or both), and its share of words that
        training had not. With `counted` 0 (a turn outside of the uniform sample) only what is new in it is listed."""
        new, words, unknown = 0, 0, 0
        for at, value in leaves(turn):
            seen = self.seen.get(at)
            if seen is None:
                if self._closed:
                    new |= NEW_PLACE
                    _count(self.new_places, at)
                continue
            seen.n += counted
            if seen.kind == "values":
                key = key_of(value)
                if key in seen.counts:
                    seen.counts[key] += counted
                else:
                    seen.unseen += counted
                    _count(self.new_values, (at, key))
                    new |= NEW_VALUE if seen.closed else 0
            elif seen.kind == "numbers":
                if is_number(value):
                    seen.bins[bisect_left(seen.edges, value)] += counted
            elif isinstance(value, str):
                own, strange = unknown_words(value, self.words)
                seen.bins[bisect_left(seen.edges, own)] += counted
                words += own
                seen.words += own * counted
                if strange:
                    unknown += len(strange)
                    seen.unknown += len(strange) * counted
                    for word in strange:
                        _count(self.new_words, word)
        return new, unknown / words if words else 0.0

    def note(self, at: str, value: str) -> None:
        """Count a new value of another kind of place."""
        _count(self.new_values, (at, value))

    def table(self) -> list[dict[str, Any]]:
        """Per place: kind, share of turns that have it then and now, the stability index, what chance alone makes of
        it, and the share of values or words that training had not; largest index first."""
        rows = [self._row(at, place) for at, place in self.places.items()]
        return sorted(rows, key=lambda row: (-(row["psi"] or 0.0), row["field"]))

    def _row(self, at: str, place: Mapping[str, Any]) -> dict[str, Any]:
        seen = self.seen[at]
        if place["kind"] == "values":
            reference = [*place["counts"].values(), 0]
            live = [*(seen.counts.get(key, 0) for key in place["counts"]), seen.unseen]
            new = seen.unseen / seen.n if seen.n else 0.0
        else:
            reference, live = place["counts"], seen.bins
            new = seen.unknown / seen.words if seen.words else 0.0
        bins = sum(n > 0 or m > 0 for n, m in zip(reference, live, strict=True))
        return {
            "field": at,
            "kind": place["kind"],
            "trained": place["n"],
            "live": seen.n,
            "psi": drift.psi(reference, live),
            "by_chance": drift.psi_by_chance(bins, sum(reference), sum(live)),
            "new_share": round(new, 6),
        }


class Seen:
    """What stands at one place now."""

    __slots__ = ("bins", "closed", "counts", "edges", "kind", "n", "unknown", "unseen", "words")

    def __init__(self, place: Mapping[str, Any]) -> None:
        self.kind: str = place["kind"]
        self.closed: bool = place.get("closed", False)
        self.edges: list[float] = place.get("edges", [])
        self.bins = [0] * (len(self.edges) + 1)
        self.counts: dict[str, int] = dict.fromkeys(place["counts"], 0) if self.kind == "values" else {}
        self.n = self.unseen = self.words = self.unknown = 0


def _count(counter: Counter[Any], key: Any) -> None:
    if key in counter or len(counter) < MAX_NEW:
        counter[key] += 1


Cells = dict[str, str | float]
VALUE = " (value)"
"""Ends the name of a cell that holds one of few values; the others are numbers."""


def cells_of(known: Known, turn: Json) -> Cells:
    """An input as one row of a table: the first value at each place of the profile, of a text its length and its share
    of words that training had not. No text is in it."""
    row: Cells = {}
    for at, value in leaves(turn):
        place = known.places.get(at, {"kind": ""})
        if place["kind"] == "values":
            row.setdefault(f"{at}{VALUE}", key_of(value)[:100])
        elif place["kind"] == "numbers" and is_number(value):
            row.setdefault(at, float(value))
        elif place["kind"] == "text" and isinstance(value, str):
            words, strange = unknown_words(value, known.words)
            row.setdefault(f"{at} (words)", float(words))
            row.setdefault(f"{at} (new words)", len(strange) / words if words else 0.0)
    return row


class LabelValues:
    """Place → value → how many labels hold it, for the places of a role's closed vocabularies."""

    def __init__(self, places: Iterable[str]) -> None:
        self._counts: dict[str, Counter[str]] = {at: Counter() for at in sorted(places)}

    def add(self, label: Json) -> None:
        """Take a label in."""
        for at, value in leaves(label) if self._counts else ():
            if at in self._counts:
                self._counts[at][key_of(value)] += 1

    def counts(self) -> dict[str, dict[str, int]]:
        """What was counted, in order."""
        return {at: dict(sorted(counts.items())) for at, counts in self._counts.items()}


def unseen_values(output: Json, known: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[str, str]]:
    """(place, value) of an output's values that no training label had there."""
    for at, value in leaves(output):
        values = known.get(at)
        if values is not None and (key := key_of(value)) not in values:
            yield at, key
