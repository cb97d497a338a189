"""Formats of strings that decoding keeps: exactly by an expression here, or as the engine knows them."""

from __future__ import annotations

from typing import Final

_LEAP = r"(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
_DAYS = (
    r"(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8])"
)
EXACT: dict[str, str] = {
    "date": rf"(?:[0-9]{{4}}-(?:{_DAYS})|{_LEAP}-02-29)",
    "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "ipv4": r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])",
    "time": r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])",
}
"""Format → its expression: ASCII, without anything that JSON escapes."""
EXACT_LENGTHS: dict[str, tuple[int, int]] = {"date": (10, 10), "uuid": (36, 36), "ipv4": (7, 15), "time": (9, 21)}
EXACT["date-time"] = rf"{EXACT['date']}T{EXACT['time']}"
EXACT_LENGTHS["date-time"] = (20, 32)
KNOWN: Final = frozenset({"email", "hostname", "ipv6", "uri"})
"""Formats that the engine constrains a little more loosely than a validator may."""
CHECKED: Final = frozenset(
    {"idn-email", "idn-hostname", "iri", "iri-reference", "uri-reference", "uri-template", "json-pointer",
     "relative-json-pointer", "regex", "duration"}
)  # fmt: skip
"""Formats that a validator checks and decoding does not know."""


def exact(name: str) -> bool:
    """Whether exactly the strings of that format are written."""
    return name in EXACT
