"""What a rules oracle finds in texts: JSON pointers, lexicons of whole words, RE2 patterns."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

from slm_assets.canonical import Json

MAX_TEXT = 20_000
MAX_REGEX = 20_000
MAX_MATCHES = 200
MAX_ENTRIES = 20_000

_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_HOLE = re.compile(r"\{([A-Za-z_]\w*)\}")
_POINTER = re.compile(r"(/[^/]*)*")


class RulesError(Exception):
    """A fault at a place of the rules document, found while compiling or while answering."""

    def __init__(self, place: str, message: str, found: str = "", expected: str = "") -> None:
        self.place, self.message, self.found, self.expected = place, message, found, expected
        tail = (f"; found {found}" if found else "") + (f"; expected {expected}" if expected else "")
        super().__init__(f"{place}: {message}{tail}")


def parse_pointer(pointer: str, place: str) -> tuple[str, ...]:
    """The steps of a JSON pointer (RFC 6901)."""
    if not _POINTER.fullmatch(pointer):
        raise RulesError(place, "not a JSON pointer", pointer, "/a/b")
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:])


def at_pointer(value: Json, steps: tuple[str, ...]) -> Json:
    """The value at a pointer's steps, or None where the path leads nowhere."""
    for step in steps:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


@lru_cache(maxsize=4)
def fold(text: str) -> str:
    """Lower case in the compatibility form, so that full-width or styled letters compare equal."""
    return unicodedata.normalize("NFKC", text).casefold()


@lru_cache(maxsize=4)
def _words(folded: str) -> tuple[str, ...]:
    return tuple(_TOKEN.findall(folded))


def _text_at(value: Json, steps: tuple[str, ...]) -> str:
    found = at_pointer(value, steps)
    return found[:MAX_TEXT] if isinstance(found, str) else ""


def _taker(spec: Mapping[str, Json], place: str) -> Callable[[list[Json]], Json]:
    take = spec.get("take", "all")
    if take == "all":
        return lambda found: found
    if take == "first":
        return lambda found: found[0] if found else None
    if take == "last":
        return lambda found: found[-1] if found else None
    raise RulesError(f"{place}.take", "unknown choice", repr(take), "all, first or last")


@dataclass(frozen=True)
class Lexicon:
    """Aliases and their values. `by_word` maps an alias's first word to (words, value), longest first."""

    steps: tuple[str, ...] | None
    by_word: dict[str, list[tuple[tuple[str, ...], Json]]]
    aliases: tuple[str, ...]
    take: Callable[[list[Json]], Json]

    def find(self, value: Json) -> Json:
        """What its text mentions, in text order."""
        return None if self.steps is None else self.take(self.find_in(_text_at(value, self.steps)))

    def find_in(self, text: str) -> list[Json]:
        """The values of the aliases in a text: whole words, longest first, none overlapping."""
        words = _words(fold(text))
        found: list[Json] = []
        position = 0
        while position < len(words) and len(found) < MAX_MATCHES:
            for alias, value in self.by_word.get(words[position], ()):
                if words[position : position + len(alias)] == alias:
                    found.append(value)
                    position += len(alias)
                    break
            else:
                position += 1
        return found


def compile_lexicon(spec: Mapping[str, Json], place: str) -> Lexicon:
    """Build a lexicon from `{path, entries, take}`; raises RulesError."""
    entries = spec.get("entries")
    if not isinstance(entries, dict) or not entries:
        raise RulesError(f"{place}.entries", "not a mapping of aliases", "", "alias: value")
    if len(entries) > MAX_ENTRIES:
        raise RulesError(f"{place}.entries", "too many aliases", str(len(entries)), f"<= {MAX_ENTRIES}")
    by_word: dict[str, list[tuple[tuple[str, ...], Json]]] = {}
    seen: set[tuple[str, ...]] = set()
    for alias, value in entries.items():
        words = _words(fold(str(alias)))
        if not words:
            raise RulesError(f"{place}.entries", "an alias without a word", repr(alias), "words")
        if words in seen:
            raise RulesError(f"{place}.entries", "alias stands twice", str(alias), "each alias once")
        seen.add(words)
        by_word.setdefault(words[0], []).append((words, value))
    for candidates in by_word.values():
        candidates.sort(key=lambda item: -len(item[0]))
    steps = parse_pointer(str(spec["path"]), f"{place}.path") if "path" in spec else None
    longest_first = sorted((" ".join(words) for words in seen), key=lambda alias: (-len(alias), alias))
    return Lexicon(steps, by_word, tuple(longest_first), _taker(spec, place))


@dataclass(frozen=True)
class Pattern:
    """A compiled pattern over the text at one place of the input."""

    steps: tuple[str, ...]
    regex: Any
    folded: bool
    groups: tuple[str, ...]
    first_only: bool
    cast: Callable[[str], Json]
    take: Callable[[list[Json]], Json]

    def find(self, value: Json) -> Json:
        """What the pattern captures, in text order; nothing where there is no text."""
        text = _text_at(value, self.steps)
        if not text:
            return self.take([])
        folded = fold(text) if self.folded else text
        if self.first_only:
            match = self.regex.search(folded)
            return None if match is None else self._captured(match)
        matches = islice(self.regex.finditer(folded), MAX_MATCHES)
        return self.take([self._captured(match) for match in matches])

    def _captured(self, match: Any) -> Json:
        if self.groups:
            return {name: self._read(match.group(name)) for name in self.groups}
        return self._read(match.group(1 if self.regex.groups else 0))

    def _read(self, text: str | None) -> Json:
        return None if text is None else self.cast(text)


def compile_pattern(spec: Mapping[str, Json], place: str, lexicons: Mapping[str, Lexicon]) -> Pattern:
    """Build a pattern from `{path, regex, fold, cast, take}`; raises RulesError."""
    import re2

    def any_alias(match: re.Match[str]) -> str:
        if match.group(1) not in lexicons:
            raise RulesError(f"{place}.regex", "unknown lexicon", match.group(), ", ".join(sorted(lexicons)))
        aliases = (re.escape(alias).replace(r"\ ", r"\W+") for alias in lexicons[match.group(1)].aliases)
        return f"(?:{'|'.join(aliases)})"

    written = spec.get("regex", "")
    parts = written if isinstance(written, list) else [written]
    source = _HOLE.sub(any_alias, "|".join(str(part) for part in parts))
    if not source or len(source) > MAX_REGEX:
        raise RulesError(f"{place}.regex", "length of pattern", str(len(source)), f"1 to {MAX_REGEX}")
    options = re2.Options()
    options.log_errors = False
    try:
        regex = re2.compile(source, options)
    except re2.error as error:
        detail = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise RulesError(f"{place}.regex", f"not an RE2 pattern: {detail}", source[:200]) from error
    groups = tuple(sorted(regex.groupindex, key=regex.groupindex.__getitem__))
    if not groups and regex.groups > 1:
        raise RulesError(f"{place}.regex", "several groups without names", source[:200], "(?P<name>…)")
    folded = spec.get("fold", True)
    if not isinstance(folded, bool):
        raise RulesError(f"{place}.fold", "not a boolean", repr(folded), "true or false")
    steps = parse_pointer(str(spec.get("path", "")), f"{place}.path")
    taker, first_only = _taker(spec, place), spec.get("take") == "first"
    return Pattern(steps, regex, folded, groups, first_only, _cast(spec, place, lexicons), taker)


def _cast(spec: Mapping[str, Json], place: str, lexicons: Mapping[str, Lexicon]) -> Callable[[str], Json]:
    name = spec.get("cast", "text")
    if name == "text":
        return lambda text: text
    if name == "int":
        return lambda text: int(text) if text.isdecimal() and len(text) < 16 else None
    if name == "float":
        return _to_float
    if name in lexicons:
        lexicon = lexicons[name]

        def look_up(text: str) -> Json:
            found = lexicon.find_in(text)
            return found[0] if found else None

        return look_up
    raise RulesError(f"{place}.cast", "unknown cast", repr(name), "text, int, float or a lexicon")


def _to_float(text: str) -> float | None:
    try:
        number = float(text.replace(",", "."))
    except ValueError:
        return None
    return number if abs(number) < 1e300 else None
