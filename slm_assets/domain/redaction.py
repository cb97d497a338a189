"""The one place where text of other people's turns loses what identifies them, before it is stored anywhere.

`Redactor.redact` takes any JSON value and replaces what it recognises in every string, key and long number
by the name of its kind, `[email]`; what it gives back holds nothing that it would recognise. It fails closed:
whoever cannot redact a turn gets an error and must drop the turn. Each kind has its module in `recognisers/`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import Literal

from pydantic import Field

from slm_assets.canonical import Json
from slm_assets.domain.block import Block
from slm_assets.domain.config import Pointer
from slm_assets.domain.recognisers.spans import Find
from slm_assets.domain.recognisers.table import recognisers
from slm_assets.errors import SlmError

Action = Literal["mask", "keep"]
Found = tuple[int, int, str]
"""From, to, kind."""
MAX_TEXT = 200_000
"""Longest text that is looked through; a longer one is replaced as a whole."""
MAX_DEPTH = 64
REMOVED = "[removed]"
ROUNDS = 8
"""How often a text is looked through: what was replaced may uncover what stood beside it."""
REMEMBERED = 20_000
LONGEST_REMEMBERED = 500
"""Texts in which nothing was found, and their characters: keys, labels and ids come again with every turn."""
_MASKED = "mask: replaced by the kind's name. keep: left as it is."
_KEYS = [
    "first_name", "last_name", "middle_name", "given_name", "family_name", "full_name", "surname", "birth_name",
    "maiden_name", "customer_name", "passenger_name", "traveller_name", "traveler_name", "guest_name",
    "contact_name", "patient_name", "recipient_name", "cardholder_name", "cardholder", "account_holder",
    "vorname", "nachname", "prénom", "nom_de_famille", "apellido", "apellidos", "email", "email_address",
    "phone", "phone_number", "mobile", "mobile_number", "telephone", "telefon", "teléfono", "fax", "address",
    "address_line_1", "address_line_2", "street", "street_address", "home_address", "billing_address",
    "shipping_address", "postal_address", "straße", "date_of_birth", "birth_date", "dob", "ssn",
    "social_security_number", "national_id", "passport", "passport_number", "driving_licence",
    "drivers_license", "iban", "account_number", "card_number", "credit_card", "credit_card_number", "cvv",
    "cvc", "password", "passwd", "api_key", "access_token", "refresh_token", "authorization",
]  # fmt: skip


class RedactionError(SlmError):
    """A turn that could not be redacted, and must not be kept."""


class RedactionPolicy(Block):
    """What is removed from captured turns; `data.redaction_policy` names the file."""

    name: Action = Field(default="mask", description=f"Names of people, as far as lists and context tell. {_MASKED}")
    address: Action = Field(default="mask", description=f"Streets with a house number, code and city. {_MASKED}")
    email: Action = Field(default="mask", description=f"Mail addresses. {_MASKED}")
    phone: Action = Field(default="mask", description=f"Phone numbers, international or of `regions`. {_MASKED}")
    card: Action = Field(default="mask", description=f"Payment cards, by their check digit. {_MASKED}")
    iban: Action = Field(default="mask", description=f"Bank accounts, by their check digits. {_MASKED}")
    national_id: Action = Field(default="mask", description=f"Numbers of persons, of nine countries. {_MASKED}")
    ip: Action = Field(default="mask", description=f"Internet addresses. {_MASKED}")
    secret: Action = Field(default="mask", description=f"Keys and tokens, by how vendors write them. {_MASKED}")
    regions: list[str] = Field(
        default=["US", "GB", "DE", "FR", "ES", "IT"],
        description="Countries (ISO 3166) whose national phone numbers are recognised by their plan, too.",
    )
    keys: list[str] = Field(
        default=_KEYS,
        description="Keys whose text or number is always replaced, at any depth; case, `_` and `-` make no difference.",
    )
    fields: list[Pointer] = Field(
        default=[], description="Places in a turn whose values are always replaced, such as /user/name; `*` is any key."
    )


class Redactor:
    """A policy, ready to be applied to many turns."""

    def __init__(self, policy: RedactionPolicy | None = None) -> None:
        self.policy = policy or RedactionPolicy()
        self._fields = [tuple(pointer.split("/")[1:]) for pointer in self.policy.fields]
        self._keys = frozenset(map(_spelled, self.policy.keys))
        self._clean: set[str] = set()
        self._named: dict[str, bool] = {}

    def redact(self, value: Json) -> tuple[Json, Counter[str]]:
        """The value without what the policy removes, and how often each kind was found.

        RedactionError for what cannot be looked through, whatever the reason.
        """
        found: Counter[str] = Counter()
        try:
            return self._value(value, (), found), found
        except Exception as error:
            # Neither the text nor the driver's words about it: both may hold what was to be removed.
            raise RedactionError(f"a turn could not be redacted ({type(error).__name__}) and is not kept") from None

    def text(self, text: str, found: Counter[str] | None = None) -> str:
        """One text."""
        if text in self._clean:
            return text
        found = Counter() if found is None else found
        if len(text) > MAX_TEXT:
            found["long_text"] += 1
            return "[long_text]"
        plain = text if text.isascii() else _plain(text)
        spans = sorted(self._spans(plain))
        if not spans:
            self._remember(text)
            return text
        for _ in range(ROUNDS):
            plain = _replaced(plain, spans, found)
            spans = sorted(self._spans(plain))
            if not spans:
                return plain
        found["text"] += 1
        return "[text]"

    def _remember(self, text: str) -> None:
        """Only what is free of anything to remove, so that the memory holds none of it."""
        if len(text) <= LONGEST_REMEMBERED:
            if len(self._clean) >= REMEMBERED:
                self._clean.clear()
            self._clean.add(text)

    def _value(self, value: Json, place: tuple[str, ...], found: Counter[str]) -> Json:
        if len(place) > MAX_DEPTH:
            raise RecursionError
        if self._fields and any(_at(place, field) for field in self._fields):
            return self._removed(value, found)
        if isinstance(value, str):
            return self.text(value, found)
        if isinstance(value, list):
            return [self._value(item, (*place, str(index)), found) for index, item in enumerate(value)]
        if isinstance(value, dict):
            return self._object(value, place, found)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            return self._number(value, found)
        raise TypeError

    def _object(self, value: dict[str, Json], place: tuple[str, ...], found: Counter[str]) -> Json:
        clean: dict[str, Json] = {}
        for key, item in value.items():
            name = told = self.text(str(key), found)
            count = 1
            while name in clean:
                count += 1
                name = f"{told} {count}"
            clean[name] = self._item(str(key), item, (*place, str(key)), found)
        return clean

    def _item(self, key: str, value: Json, place: tuple[str, ...], found: Counter[str]) -> Json:
        if self._is_named(key) and not isinstance(value, dict | bool):
            if isinstance(value, list):
                return [self._item(key, item, (*place, str(index)), found) for index, item in enumerate(value)]
            return self._removed(value, found)
        return self._value(value, place, found)

    def _is_named(self, key: str) -> bool:
        """Whether the policy names a key; the name of a kind, where a key was replaced, is none."""
        if "[" in key:
            return False
        if key not in self._named:
            if len(key) > LONGEST_REMEMBERED or len(self._named) >= REMEMBERED:
                return _spelled(key) in self._keys
            self._named[key] = _spelled(key) in self._keys
        return self._named[key]

    def _removed(self, value: Json, found: Counter[str]) -> Json:
        if value in (None, "", [], {}, REMOVED):
            return value
        found["field"] += 1
        return REMOVED

    def _number(self, value: float, found: Counter[str]) -> Json:
        if abs(value) < 1e8:
            return value
        digits = str(value)
        redacted = self.text(digits, found)
        return value if redacted == digits else redacted

    def _spans(self, text: str) -> Iterator[Found]:
        for kind, find in self._finds:
            for start, end in find(text):
                yield start, end, kind

    @cached_property
    def _finds(self) -> list[tuple[str, Find]]:
        kinds = {kind for kind, action in self.policy if action == "mask"}
        return recognisers(kinds, self.policy.regions)


def _plain(text: str) -> str:
    """A text in the characters that the recognisers know: none without a shape, none of another width, one kind of
    hyphen and of digits."""
    shaped = text if text.isprintable() else "".join(char for char in text if unicodedata.category(char) != "Cf")
    return _UNUSUAL.sub(_usual, unicodedata.normalize("NFKC", shaped))


_UNUSUAL = re.compile(r"[^\x00-\x7f\w]|[^\D0-9]")


def _usual(char: re.Match[str]) -> str:
    kind = unicodedata.category(char.group())
    if kind == "Nd":
        return str(unicodedata.decimal(char.group()))
    if kind == "Pd" or char.group() == "−":
        return "-"
    return " " if kind == "Zs" else char.group()


def _spelled(key: str) -> str:
    return "".join(char for char in unicodedata.normalize("NFKC", key).casefold() if char.isalnum())


def _at(place: tuple[str, ...], field: tuple[str, ...]) -> bool:
    return len(place) == len(field) and all(want in ("*", part) for part, want in zip(place, field, strict=True))


def _replaced(text: str, spans: list[Found], found: Counter[str]) -> str:
    """The text with each span replaced; of spans that overlap the whole stretch, named after the first."""
    merged: list[Found] = []
    for start, end, kind in spans:
        if merged and start < merged[-1][1]:
            first = merged[-1]
            merged[-1] = (first[0], max(end, first[1]), first[2])
        else:
            merged.append((start, end, kind))
    parts, at = [], 0
    for start, end, kind in merged:
        parts += [text[at:start], f"[{kind}]"]
        at = end
        found[kind] += 1
    return "".join([*parts, text[at:]])
