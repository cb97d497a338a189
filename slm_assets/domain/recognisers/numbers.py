"""Mail addresses, keys, and numbers that their check digits or their shape give away."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from slm_assets.domain.recognisers.spans import Find, Span, alone, digits_in, pieces

_EMAIL = r"[\pL\pN._%+'\-]+(?:@|%40)[\pL\pN\-]+(?:\.[\pL\pN\-]+)+"
_CARD = r"\d(?:[ \-]?\d){11,18}"
_IBAN = r"[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]){11,30}"
_IP = r"(?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}"
_KEYS = (
    r"(?:sk|pk|rk|ghp|gho|ghs|ghu|github_pat|glpat|xox[abprs]|hf|AKIA|ASIA|AIza|ya29)[\-_.]?[A-Za-z0-9_.+/=\-]{12,}"
    r"|eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*"
    r"|(?i:bearer|basic) +[A-Za-z0-9_.+/=\-]{12,}|(?i:password|passwd|passwort|api[_ ]?key|token) *[:=] *\S{4,}"
    r"|[a-z][a-z0-9+.\-]{1,20}://[^\s/@]*:[^\s/@]+@[^\s\"'<>()]*"
)
# Where a country's form is its own, the form decides: numbers that were never issued are typed, too.
_BY_FORM = (
    r"\d{3}-\d{2}-\d{4}"  # United States: SSN, ITIN
    r"|[A-Z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-Z]"  # United Kingdom: national insurance
)
_BY_CHECK = {
    r"\d{8}-?[A-Za-z]|[XYZxyz]-?\d{7}-?[A-Za-z]": ("es.dni", "es.nie"),
    r"[A-Za-z]{6}\d{2}[A-Za-z]\d{2}[A-Za-z]\d{3}[A-Za-z]": ("it.codicefiscale",),
    r"[12] ?\d{2} ?\d{2} ?[\dAB]{2} ?\d{3} ?\d{3} ?\d{2}": ("fr.nir",),
    r"\d{2} ?\d{3} ?\d{3} ?\d{3}": ("de.idnr",),
    r"\d{3}\.\d{3}\.\d{3}-\d{2}": ("br.cpf",),
    r"\d{6}[-+]?\d{4}|\d{6}[-+A][0-9A-Za-z]{4}": ("se.personnummer", "fi.hetu"),
}
_MAESTRO = ("5", "6", "0604")
"""How the cards begin that have but twelve digits."""


def emails() -> Find:
    """Mail addresses, also as a URL writes them."""
    find = _matching(_EMAIL)
    return lambda text: find(text) if "@" in text or "%40" in text else ()


def secrets() -> Find:
    """Keys and tokens by the form that their vendors give them, passwords that are named, URLs with credentials."""
    return _matching(_KEYS)


def cards() -> Find:
    """Payment cards by their check digit."""
    from stdnum import luhn

    def valid(text: str) -> bool:
        digits = re.sub(r"\D", "", text)
        return luhn.is_valid(digits) and (len(digits) > 12 or digits.startswith(_MAESTRO))

    find = _grouped(_CARD, 12, valid)
    return lambda text: find(text) if digits_in(text) >= 12 else ()


def ibans() -> Find:
    """Bank accounts by their check digits."""
    from stdnum import iban

    return _grouped(_IBAN, 15, iban.is_valid)


def national_ids() -> Find:
    """Numbers of persons: by their form in two countries, by their check digits in seven."""
    from stdnum.util import get_cc_module

    def valid(modules: list[Any]) -> Callable[[str], bool]:
        return lambda text: any(module.is_valid(text) for module in modules)

    finds = [_checked(_BY_FORM, lambda _text: True)]
    for pattern, names in _BY_CHECK.items():
        finds.append(_checked(pattern, valid([get_cc_module(*name.split(".")) for name in names])))
    return lambda text: [span for find in finds for span in find(text)] if digits_in(text) >= 6 else ()


def addresses_of_machines() -> Find:
    """Internet addresses, of both versions."""
    find = _checked(_IP, _is_ip)
    return lambda text: find(text) if text.count(".") > 2 or text.count(":") > 1 else ()


def _matching(pattern: str) -> Find:
    compiled = _compiled(pattern)

    def find(text: str) -> Iterable[Span]:
        # Most texts hold none, and a search is cheaper than an iterator.
        return [match.span() for match in compiled.finditer(text)] if compiled.search(text) else ()

    return find


def _checked(pattern: str, check: Callable[[str], bool]) -> Find:
    """Where the pattern stands alone and passes a check."""
    find = _matching(pattern)

    def checked(text: str) -> Iterator[Span]:
        for start, end in find(text):
            if alone(text, start, end) and check(text[start:end]):
                yield start, end

    return checked


def _grouped(pattern: str, fewest: int, check: Callable[[str], bool]) -> Find:
    """The same for a number in groups, which may stand beside groups that are not part of it."""
    find = _matching(pattern)

    def checked(text: str) -> Iterator[Span]:
        for start, end in find(text):
            for low, high in pieces(text[start:end], fewest):
                if alone(text, start + low, start + high) and check(text[start + low : start + high]):
                    yield start + low, start + high
                    break

    return checked


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    # Short groups between colons are times and ratios.
    return "." in text or any(len(group) > 2 for group in text.split(":"))


def _compiled(pattern: str) -> Any:
    import re2

    return re2.compile(pattern)
