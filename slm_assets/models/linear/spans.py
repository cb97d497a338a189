"""Values in texts: documents, the labels whose values they hold, and what a piece of a text stands for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple

from slm_assets.canonical import Json
from slm_assets.models.linear.formats import MONTHS, convention
from slm_assets.models.linear.lexicon import outline
from slm_assets.models.linear.page import Page
from slm_assets.models.linear.paths import ABSENT, Path
from slm_assets.models.linear.scan import WORDS_OF, Piece, scan
from slm_assets.models.linear.text import Token, cast, close, tokens

_LONG: Final = 40
_TOO_LONG: Final = 120
_STOPS: Final = frozenset(".!?;")


@dataclass
class Label:
    """A place of the output that is filled from texts. `table`: alias (lower case) → value; `casts` are
    tried in order on pieces of the given `forms` (outlines; none: any); `longest` in tokens; `months`: names
    of months that are not English; `scanner`: which pieces of laid-out texts are its candidates ("": a CRF
    finds it in running text)."""

    name: str
    casts: tuple[str, ...] = ()
    table: dict[str, Json] = field(default_factory=dict)
    longest: int = 1
    forms: tuple[str, ...] = ()
    months: dict[str, int] = field(default_factory=dict)
    scanner: str = ""

    @property
    def conventions(self) -> tuple[str, ...]:
        """The conventions that its texts may follow."""
        return tuple(filter(None, map(convention, self.casts)))

    def reads_as(self, other: Label) -> bool:
        """Whether both make the same values of pieces, by the same casts in the same order."""
        return (self.scanner, self.casts, self.months, self.table) == (
            other.scanner, other.casts, other.months, other.table
        )  # fmt: skip

    def to_json(self) -> Json:
        """A list that `from_json` reads."""
        return [self.name, list(self.casts), self.table, self.longest, list(self.forms), self.months, self.scanner]

    @classmethod
    def from_json(cls, value: Json) -> Label:
        """The inverse of `to_json`."""
        name, casts, table, longest, forms, months, scanner = value
        return cls(name, tuple(casts), table, longest, tuple(forms), months, scanner)


class Found(NamedTuple):
    """A value read from a text: where, its probability, and whether it stands in the likeliest tagging."""

    value: Any
    path: Path
    start: int
    end: int
    probability: float
    told: bool


@dataclass(frozen=True)
class Document:
    """One text of an input with its tokens; `place` is the name that its path has in all inputs."""

    place: str
    path: Path
    text: str

    @cached_property
    def tokens(self) -> list[Token]:
        """Its words, numbers and marks."""
        return tokens(self.text)

    @cached_property
    def page(self) -> Page:
        """The text as it is laid out."""
        return Page(self.text)

    @cached_property
    def _pieces(self) -> dict[str, list[Piece]]:
        return {}

    def pieces(self, scanner: str) -> list[Piece]:
        """What a scanner takes for possible values, each piece once."""
        known = self._pieces.get(scanner)
        if known is None:
            known = self._pieces[scanner] = scan(self.page, scanner)
        return known

    @cached_property
    def _read(self) -> dict[tuple[str, str], list[Any]]:
        return {}

    def read(self, scanner: str, name: str, months: Mapping[str, int]) -> list[Any]:
        """What a cast makes of each piece of a scanner."""
        known = self._read.get((scanner, name))
        if known is None:
            text = self.page.text
            known = self._read[scanner, name] = [cast(name, text[a:b], months) for a, b in self.pieces(scanner)]
        return known

    def piece(self, i: int, j: int) -> str:
        """The text of tokens i to j (inclusive)."""
        return self.text[self.tokens[i].start : self.tokens[j].end]

    @cached_property
    def chains(self) -> list[tuple[int, int]]:
        """Lines, long ones cut at the ends of sentences: (first token, the one past the last)."""
        out: list[tuple[int, int]] = []
        start = 0
        size = len(self.tokens)
        lines = "\n" in self.text
        if not lines and size <= _LONG:
            return [(0, size)] if size else []
        for i in range(1, size):
            before = self.tokens[i - 1]
            cut = lines and "\n" in self.text[before.end : self.tokens[i].start]
            if cut or (i - start >= _LONG and before.low in _STOPS) or i - start >= _TOO_LONG:
                out.append((start, i))
                start = i
        return [*out, (start, size)] if size else []

    @cached_property
    def starts(self) -> dict[int, int]:
        """Offset → the token that starts there."""
        return {token.start: i for i, token in enumerate(self.tokens)}

    @cached_property
    def ends(self) -> dict[int, int]:
        """Offset → the token that ends there."""
        return {token.end: i for i, token in enumerate(self.tokens)}

    def around(self, i: int, j: int) -> list[str]:
        """What stands around tokens i to j (inclusive): the nearest word and the token before them, the token
        after, the first word of their line."""
        start, end = self.chains[self.line_of[i]]
        words = [t.low for t in self.tokens[start:i] if t.low[0].isalpha()]
        before = self.tokens[i - 1].low if i > start else "<"
        after = self.tokens[j + 1].low if j + 1 < end else ">"
        return [f"-{before}", f"+{after}", *(f"~{word}" for word in words[-1:]), *(f"^{word}" for word in words[:1])]

    @cached_property
    def line_of(self) -> list[int]:
        """The chain of each token."""
        return [k for k, (start, end) in enumerate(self.chains) for _ in range(start, end)]

    @cached_property
    def _values(self) -> dict[str, dict[Json, list[tuple[int, int]]]]:
        return {}

    def values(self, name: str, months: Mapping[str, int]) -> dict[Json, list[tuple[int, int]]]:
        """What a cast makes of the pieces of this text: number or string → (first, last token)."""
        known = self._values.get(name)
        if known is None:
            known = self._values[name] = {}
            longest = 1 if name in ("int", "float", "digits") else 3 if name.startswith("money") else 6
            for i, token in enumerate(self.tokens):
                named = name in ("int", "digits") or token.low in MONTHS or token.low in months
                if not (named or token.low[0].isdigit()):
                    continue
                for j in range(i, min(len(self.tokens), i + longest)):
                    if name.startswith("money") and not self.tokens[j].low[0].isdigit():
                        continue  # the amount alone: its currency may stand on either side, or nowhere
                    value = cast(name, self.piece(i, j), months)
                    if value is not ABSENT:
                        key = float(value) if isinstance(value, (int, float)) else value
                        known.setdefault(key, []).append((i, j))
        return known


def documents(texts: Sequence[tuple[str, Path, str]]) -> list[Document]:
    """The texts of an input."""
    return [Document(place, path, text) for place, path, text in texts]


def alias_of(document: Document, i: int, j: int) -> str:
    """Tokens i to j (inclusive) as an alias."""
    return " ".join(token.low for token in document.tokens[i : j + 1])


def cast_span(label: Label, document: Document, i: int, j: int, reading: str = "") -> Any:
    """The value that tokens i to j (inclusive) stand for, or ABSENT. `reading`: the one convention to follow."""
    if label.table:
        known = label.table.get(alias_of(document, i, j), ABSENT)
        if known is not ABSENT:
            return known
    if label.casts:
        piece = document.piece(i, j)
        for name in label.casts if not label.forms or outline(piece) in label.forms else ():
            if reading and convention(name) != reading:
                continue
            value = cast(name, piece, label.months)
            if value is not ABSENT:
                return value
    return ABSENT


def casts_of(label: Label, piece: str) -> list[tuple[str, Any]]:
    """What each cast of a label makes of a piece of a text, where it makes anything."""
    if label.scanner.startswith(WORDS_OF):
        return [("", label.table[piece.lower()])] if piece.lower() in label.table else []
    found = [(name, cast(name, piece, label.months)) for name in label.casts]
    return [(name, value) for name, value in found if value is not ABSENT]


def fuzzy(label: Label, document: Document, i: int, j: int) -> Any:
    """The value of the first alias that tokens i to j misspell, or ABSENT."""
    written = alias_of(document, i, j)
    for alias, value in label.table.items():
        if alias[:1] == written[:1] and close(written, alias):
            return value
    return ABSENT


def in_order(found: Sequence[Found], count: int) -> list[Found]:
    """The best `count` spans that do not overlap, in the order of the text."""
    chosen: list[Found] = []
    for item in found:
        if all(item.path != c.path or item.end <= c.start or item.start >= c.end for c in chosen):
            chosen.append(item)
            if len(chosen) == count:
                break
    return sorted(chosen, key=lambda item: ([str(s) for s in item.path], item.start))


def spans_up_to(document: Document, longest: int) -> Iterator[tuple[int, int]]:
    """(first, last) token of every span up to a length."""
    size = len(document.tokens)
    for i in range(size):
        for j in range(i, min(size, i + longest)):
            yield i, j
