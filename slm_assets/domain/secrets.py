"""Secrets by their alias: telling one from the other, and reading it. What looks like a secret is never repeated in
a message."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from slm_assets.errors import BadInputError

SECRETS = "SLM_SECRETS"
MIN_LENGTH = 16

_TEMPLATE = re.compile(r"\{\{ *[A-Za-z_][A-Za-z0-9_.]{0,99} *\}\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]{0,99}")
_PREFIX = re.compile(
    r"(sk|pk|rk|ghp|gho|ghs|ghu|github_pat|glpat|xox[abprs]|hf|AKIA|ASIA|AIza|eyJ|ya29|Bearer|Basic)[-_. ]?"
    r"[A-Za-z0-9_.+/=-]{12,}"
)


def credential_fault(text: str | None) -> dict[str, str]:
    """Parts of a fault for a `credential` that is no alias; empty where it is one or None."""
    if text is None or _TEMPLATE.fullmatch(text):
        return {}
    expected = 'an alias, such as "{{ teacher_token }}"'
    if not _NAME.fullmatch(text):
        return {"message": "not an alias", "found": _size(text), "expected": expected}
    if _PREFIX.match(text) or _mixed(text):
        cure = "put the secret where the deployment keeps secrets, and revoke this one: it was in a file"
        return {"message": "looks like a secret", "found": _size(text), "expected": expected, "cure": cure}
    return {}


def url_fault(text: str | None) -> dict[str, str]:
    """Parts of a fault for a `base_url` that is none, or that carries credentials."""
    if text is None:
        return {}
    try:
        parts = urlsplit(text)
        ready = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        ready = False
    if not ready:
        return {"message": "not an address", "found": _size(text), "expected": "http:// or https://"}
    if parts.username or parts.password:
        cure = "move them to `credential`, as an alias"
        return {"message": "an address with credentials in it", "found": _size(text), "cure": cure}
    return {}


def secret(alias: str, environment: Mapping[str, str]) -> str:
    """The token of an alias: the environment variable of that name, or the file of that name in the folder that
    SLM_SECRETS names. BadInputError, without the secret, for what cannot be used."""
    if not _NAME.fullmatch(alias) or "/" in alias or credential_fault(alias):
        raise BadInputError(
            "not an alias (not shown: it may be a secret)",
            cure="name the environment variable or mounted file that holds the token",
        )
    value = environment.get(alias, "")
    folder = environment.get(SECRETS, "")
    if not value and folder:
        try:
            value = (Path(folder) / alias).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            value = ""
    value = value.strip()
    if not value:
        raise BadInputError(
            f"token alias {alias} names nothing",
            cure=f"set the environment variable {alias}, or mount a file {alias} in the folder of {SECRETS}",
        )
    if len(value) < MIN_LENGTH or not value.isascii() or not value.isprintable() or " " in value:
        raise BadInputError(
            f"the token of alias {alias} is no usable token (not shown)",
            cure=f"at least {MIN_LENGTH} printable ASCII characters without blanks: openssl rand -hex 32",
        )
    return value


def _size(text: str) -> str:
    return f"{len(text)} characters (not shown)"


def _mixed(text: str) -> bool:
    """Long runs of letters and digits without a word in them, as keys are."""
    for run in re.split(r"[^A-Za-z0-9]", text):
        digits = sum(char.isdigit() for char in run)
        switches = sum(a.isdigit() != b.isdigit() for a, b in pairwise(run))
        if len(run) >= 20 and digits >= 3 and switches >= 4:
            return True
    return False


def is_loopback(host: str) -> bool:
    """Whether a host, as a URL or a bind address names it, can only be reached from this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
