"""The one place where text of other people's turns loses what identifies them, before it is stored anywhere.

`Redactor.redact` takes any JSON value and replaces what it recognises in every string, key and long number
by the name of its kind, `[email]`. What has a checksum is checked, so that dates, order numbers and flight
numbers stay. It fails closed: whoever cannot redact a turn gets an error and must drop the turn. Names of
people are not recognised; a policy removes them by place (`fields`).
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, Literal

from pydantic import Field

from slm_assets.canonical import Json
from slm_assets.domain.block import Block
from slm_assets.domain.config import Pointer
from slm_assets.errors import SlmError

Action = Literal["mask", "keep"]
Span = tuple[int, int, str]
MAX_TEXT = 200_000
"""Longest text that is looked through; a longer one is replaced as a whole."""
MAX_DEPTH = 64
_MASKED = "mask: replaced by the kind's name. keep: left as it is."


class RedactionError(SlmError):
    """A turn that could not be redacted, and must not be kept."""


class RedactionPolicy(Block):
    """What is removed from captured turns; `data.redaction_policy` names the file."""

    email: Action = Field(default="mask", description=f"Mail addresses. {_MASKED}")
    phone: Action = Field(default="mask", description=f"Phone numbers, international or of `regions`. {_MASKED}")
    card: Action = Field(default="mask", description=f"Payment cards, by their check digit. {_MASKED}")
    iban: Action = Field(default="mask", description=f"Bank accounts, by their check digits. {_MASKED}")
    national_id: Action = Field(default="mask", description=f"Numbers of persons, of eight countries. {_MASKED}")
    ip: Action = Field(default="mask", description=f"Internet addresses. {_MASKED}")
    secret: Action = Field(default="mask", description=f"Keys and tokens, by how vendors write them. {_MASKED}")
    regions: list[str] = Field(
        default=["US", "GB", "DE", "FR", "ES", "IT"],
        description="Countries (ISO 3166) whose national phone numbers are recognised.",
    )
    fields: list[Pointer] = Field(
        default=[], description="Places in a turn whose values are always replaced, such as /user/name; `*` is any key."
    )


# Each pattern finds candidates in linear time; what they are is for the check beside it.
_EMAIL = r"[\pL\pN._%+'\-]+@[\pL\pN\-]+(?:\.[\pL\pN\-]+)+"
_CARD = r"\d(?:[ \-]?\d){12,18}"
_IBAN = r"[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]){11,30}"
_IP = r"(?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}"
_KEYS = (
    r"(?:sk|pk|rk|ghp|gho|ghs|ghu|github_pat|glpat|xox[abprs]|hf|AKIA|ASIA|AIza|ya29)[\-_.]?[A-Za-z0-9_.+/=\-]{12,}"
    r"|eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*"
    r"|(?i:bearer|basic) +[A-Za-z0-9_.+/=\-]{12,}|(?i:password|passwd|passwort|api[_ ]?key|token) *[:=] *\S{4,}"
    r"|[a-z][a-z0-9+.\-]{1,20}://[^\s/@:]+:[^\s/@]+@"
)
_NATIONAL = {
    r"\d{3}-\d{2}-\d{4}": ("us.ssn",),
    r"\d{8}-?[A-Za-z]|[XYZxyz]-?\d{7}-?[A-Za-z]": ("es.dni", "es.nie"),
    r"[A-Za-z]{6}\d{2}[A-Za-z]\d{2}[A-Za-z]\d{3}[A-Za-z]": ("it.codicefiscale",),
    r"[12] ?\d{2} ?\d{2} ?\d{2} ?\d{3} ?\d{3} ?\d{2}": ("fr.nir",),
    r"\d{2} ?\d{3} ?\d{3} ?\d{3}": ("de.idnr",),
    r"\d{3}\.\d{3}\.\d{3}-\d{2}": ("br.cpf",),
    r"\d{6}[-+]?\d{4}|\d{6}[-+A][0-9A-Za-z]{4}": ("se.personnummer", "fi.hetu"),
}
_GROUPED = frozenset({"card", "iban"})
_WORD = "_"
_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_ABROAD = re.compile(r"\+\d[\d\s().\-]{6,40}")
_RUN = re.compile(r"\d[\d\s().,/+\-]*")
_GROUPS = re.compile(r"[A-Za-z0-9]+")


class Redactor:
    """A policy, ready to be applied to many turns."""

    def __init__(self, policy: RedactionPolicy | None = None) -> None:
        self.policy = policy or RedactionPolicy()
        self._fields = [tuple(pointer.split("/")[1:]) for pointer in self.policy.fields]

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
        found = Counter() if found is None else found
        if len(text) > MAX_TEXT:
            found["long_text"] += 1
            return "[long_text]"
        # Characters without a shape, or of another width, must not hide a number from the patterns.
        shaped = text if text.isascii() else "".join(char for char in text if unicodedata.category(char) != "Cf")
        plain = text if text.isascii() else unicodedata.normalize("NFKC", shaped)
        spans = sorted(self._spans(plain))
        return _replaced(plain, spans, found) if spans else text

    def _value(self, value: Json, place: tuple[str, ...], found: Counter[str]) -> Json:
        if len(place) > MAX_DEPTH:
            raise RecursionError
        if any(_at(place, field) for field in self._fields) and value not in (None, "", [], {}):
            found["field"] += 1
            return "[removed]"
        if isinstance(value, str):
            return self.text(value, found)
        if isinstance(value, list):
            return [self._value(item, (*place, str(index)), found) for index, item in enumerate(value)]
        if isinstance(value, dict):
            return {self.text(str(k), found): self._value(v, (*place, str(k)), found) for k, v in value.items()}
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) >= 1e8:
            digits = str(value)
            redacted = self.text(digits, found)
            return value if redacted == digits else redacted
        if value is None or isinstance(value, bool | int | float):
            return value
        raise TypeError

    def _spans(self, text: str) -> Iterator[Span]:
        for kind, pattern, check in self._recognisers:
            for match in pattern.finditer(text):
                start, end = match.span()
                for low, high in _pieces(match.group()) if kind in _GROUPED else [(0, end - start)]:
                    begin, stop = start + low, start + high
                    if _alone(text, begin, stop, kind) and check(text[begin:stop]):
                        yield begin, stop, kind
                        break
        if self.policy.phone == "mask" and _may_hold_phone(text):
            yield from self._phones(text)

    def _phones(self, text: str) -> Iterator[Span]:
        from phonenumbers import NumberParseException, PhoneNumberMatcher, is_valid_number, parse

        # The matcher gives up where other digits follow; an international number says where it begins.
        for run in _ABROAD.finditer(text):
            for low, high in _pieces(run.group(), fewest=8):
                if low == 1:
                    with contextlib.suppress(NumberParseException):
                        if is_valid_number(parse(run.group()[:high])):
                            yield run.start(), run.start() + high, "phone"
                            break
        regions: list[str | None] = [*self.policy.regions] or [None]
        for region in regions:
            for match in PhoneNumberMatcher(text, region):
                yield match.start, match.end, "phone"

    @cached_property
    def _recognisers(self) -> list[tuple[str, Any, Callable[[str], bool]]]:
        import re2
        from stdnum import iban, luhn
        from stdnum.util import get_cc_module

        def valid(modules: Iterable[Any]) -> Callable[[str], bool]:
            return lambda text: any(module.is_valid(text) for module in modules)

        known: list[tuple[str, str, Callable[[str], bool]]] = [
            ("secret", _KEYS, lambda _text: True),
            ("email", _EMAIL, lambda _text: True),
            ("iban", _IBAN, iban.is_valid),
            ("card", _CARD, lambda text: luhn.is_valid(re.sub(r"\D", "", text))),
            ("ip", _IP, _is_ip),
        ]
        for pattern, names in _NATIONAL.items():
            modules = [get_cc_module(*name.split(".")) for name in names]
            known.append(("national_id", pattern, valid(modules)))
        return [
            (kind, re2.compile(pattern), check)
            for kind, pattern, check in known
            if getattr(self.policy, kind) == "mask"
        ]


def _may_hold_phone(text: str) -> bool:
    """Whether seven digits stand near enough together, dates aside: looking properly costs milliseconds."""
    runs = _RUN.findall(_DATE.sub(" ", text))
    return any(sum(char.isdigit() for char in run) >= 7 for run in runs)


def _alone(text: str, start: int, end: int, kind: str) -> bool:
    """Whether a number is not a piece of a longer word or number."""
    if kind in ("email", "secret"):
        return True
    before, after = text[start - 1 : start], text[end : end + 1]
    return not (before.isalnum() or after.isalnum() or _WORD in (before, after))


def _pieces(text: str, fewest: int = 13) -> Iterator[tuple[int, int]]:
    """Where numbers in groups may begin and end: at groups, the longest first, of so many characters or more."""
    groups = [match.span() for match in _GROUPS.finditer(text)]
    for count in range(len(groups), 0, -1):
        for first in range(len(groups) - count + 1):
            start, end = groups[first][0], groups[first + count - 1][1]
            if sum(high - low for low, high in groups[first : first + count]) >= fewest:
                yield start, end


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    # Short groups between colons are times and ratios.
    return "." in text or any(len(group) > 2 for group in text.split(":"))


def _at(place: tuple[str, ...], field: tuple[str, ...]) -> bool:
    return len(place) == len(field) and all(want in ("*", part) for part, want in zip(place, field, strict=True))


def _replaced(text: str, spans: list[Span], found: Counter[str]) -> str:
    """The text with each span replaced; of spans that overlap the whole stretch, named after the first."""
    merged: list[Span] = []
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
