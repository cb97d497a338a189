"""The lists behind the recognition of people: first names, and words that look like them.

They are mimesis' data: 30,000 first names, 35,000 surnames, and the cities, countries and months that must not be
mistaken for them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import orjson

from slm_assets.canonical import Json

_SPOKEN = ("de", "en", "es", "fr", "it", "nl", "pt")
"""Languages whose ordinary words are in doubt as names, but for those that are names in one of them."""
_NEVER = """
a an and are at be but by can could do does for from get go has have he her his how i if in is it its let may me my
no not of on or our please she should so that the their them there they this to us was we what when where which who
why will with would yes you your north south east west new old san santa saint st mount lake port fort order trip
hotel flight airport station city island beach park street road bitte danke merci gracias hier hallo love thank
"""


@dataclass(frozen=True)
class Names:
    """Each folded: lower case, no accents. `words` are no names, `ordinary` ones rarely."""

    first: frozenset[str]
    last: frozenset[str]
    words: frozenset[str]
    ordinary: frozenset[str]
    cities: frozenset[str]


def fold(word: str) -> str:
    """A word as the lists have it."""
    if word.isascii():
        return word.lower()
    plain = unicodedata.normalize("NFKD", word.casefold())
    return "".join(char for char in plain if not unicodedata.combining(char))


@cache
def known() -> Names:
    """The lists, read once."""
    spec = find_spec("mimesis")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("mimesis")
    root = Path(spec.submodule_search_locations[0]) / "datasets"
    first, last, cities = set[str](), set[str](), set[str]()
    spoken, named, days = set[str](), set[str](), set[str]()
    for folder in sorted(path.parent for path in root.glob("*/person.json")):
        person, address = _read(folder / "person.json"), _read(folder / "address.json")
        own = {fold(name) for name in _texts(person.get("names"))}
        first |= own
        last |= {fold(name) for name in _texts(person.get("surnames"))}
        cities |= {fold(name) for key in ("city", "state", "country") for name in _texts(address.get(key))}
        days |= {fold(name) for name in _texts(_read(folder / "datetime.json").get("day"))}
        if folder.name in _SPOKEN:
            named |= own
            spoken |= {fold(word) for word in _texts(_read(folder / "text.json").get("words"))}
    return Names(
        frozenset(first),
        frozenset(last),
        frozenset(_NEVER.split()),
        frozenset((spoken - named) | days),
        frozenset(cities),
    )


def _read(path: Path) -> dict[str, Json]:
    found: dict[str, Json] = orjson.loads(path.read_bytes()) if path.is_file() else {}
    return found


def _texts(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
