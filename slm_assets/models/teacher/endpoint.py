"""Where a teacher is asked: an address that the deployment allows, and a token by its alias.

| variable | what |
|---|---|
| `SLM_TEACHER_HOSTS` | hosts that may be asked, separated by commas: `api.openai.com`, `127.0.0.1:8000`; unset: none |
| `SLM_SECRETS` | folder of mounted token files; else the alias is an environment variable |

A config is data that somebody wrote: it names an endpoint, and only the deployment says whether captured text may
go there. `host` is https at its usual port, `host:port` https at that port; plain http is for this machine alone,
or where an entry says so: `http://host:port`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from slm_assets.domain.config import Teacher
from slm_assets.domain.providers import PROVIDERS
from slm_assets.domain.secrets import is_loopback, secret, url_fault
from slm_assets.errors import BadInputError

HOSTS = "SLM_TEACHER_HOSTS"
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Endpoint:
    """An address without a final slash, and the token for it, which is never shown ("" for none)."""

    url: str
    token: str = field(default="", repr=False)

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port."""
        return _origin(urlsplit(self.url))


def endpoint_of(domain: str, teacher: Teacher, environment: Mapping[str, str]) -> Endpoint:
    """The endpoint of a teacher. BadInputError where it has none, where the deployment does not allow it, and where
    its credential names nothing."""
    place = f"domain {domain}, teacher {teacher.id}"
    url = _url(place, teacher)
    _check_allowed(place, url, environment.get(HOSTS, ""))
    token = ""
    if teacher.credential is not None:
        alias = teacher.credential.strip("{} ")
        try:
            token = secret(alias, environment)
        except BadInputError as error:
            raise BadInputError(f"{place}: {error.message}", cure=error.cure) from None
    return Endpoint(url, token)


def _url(place: str, teacher: Teacher) -> str:
    url = teacher.base_url
    if url is None:
        url = PROVIDERS.get(teacher.provider or "")
        if url is not None and "{" in url:
            if teacher.vertex is None:
                raise BadInputError(f"{place}: no vertex project", cure="name it in teachers[].vertex")
            url = url.format(project=teacher.vertex.project, region=teacher.vertex.region)
    if url is None:
        known = ", ".join(PROVIDERS)
        raise BadInputError(f"{place}: no endpoint", cure=f"give base_url, or a provider of: {known}")
    parts = urlsplit(url)
    if url_fault(url) or parts.query or parts.fragment:
        raise BadInputError(f"{place}: base_url is no usable address", cure="expected https://HOST[:PORT]/v1")
    return url.rstrip("/")


def _check_allowed(place: str, url: str, listed: str) -> None:
    own = _origin(urlsplit(url))
    for entry in filter(None, (one.strip() for one in listed.split(","))):
        plain = entry.startswith("http://")
        parts = urlsplit(entry if "://" in entry else f"https://{entry}")
        scheme, host, port = _origin(parts)
        if own == (scheme, host, port):
            return
        loopback = not plain and own[0] == "http" and is_loopback(own[1])
        if loopback and (own[1], own[2]) == (host, parts.port or _PORTS["http"]):
            return
    found = f"{own[0]}://{own[1]}:{own[2]}"
    plain_note = "" if own[0] == "https" or is_loopback(own[1]) else "; plain http must be listed as http://host:port"
    raise BadInputError(
        f"{place}: the deployment does not allow {found}",
        cure=f"whoever runs it adds the host to {HOSTS}{plain_note}; listed now: {listed[:300] or 'none'}",
    )


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    try:
        port = parts.port
    except ValueError:
        port = None
    return parts.scheme, (parts.hostname or "").lower(), port or _PORTS.get(parts.scheme, 0)
