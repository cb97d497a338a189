"""Which NoETL server there is and how it is talked to, from the environment alone.

| variable | what |
|---|---|
| `NOETL_SERVER_URL` | address of the server or of its gateway; unset: there is none, and nothing fails |
| `NOETL_GATEWAY` | `1`: the address is a gateway's, whose paths begin with `/noetl` |
| `NOETL_SESSION_TOKEN` | session token of the gateway |
| `NOETL_INTERNAL_API_TOKEN` | token of the server's registry calls |
| `NOETL_ALLOW_HTTP` | `1`: plain http to another machine than this one is meant |
| `NOETL_CA_FILE` | certificates to trust, in place of the system's |
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from slm_assets.domain.secrets import is_loopback
from slm_assets.errors import BadInputError

URL = "NOETL_SERVER_URL"
_ON = {"1", "true", "yes", "on"}


@dataclass(frozen=True)
class Address:
    """A server and the tokens for it, which are never shown."""

    url: str
    gateway: bool = False
    session_token: str = field(default="", repr=False)
    internal_token: str = field(default="", repr=False)
    ca_file: str = ""

    @property
    def prefix(self) -> str:
        """What the server's paths begin with."""
        return "/noetl" if self.gateway else "/api"

    def headers(self, *, internal: bool) -> dict[str, str]:
        """The headers of a call; registry calls carry the internal token as their authorization."""
        found = {}
        if self.gateway and self.session_token:
            found = {"authorization": f"Bearer {self.session_token}", "x-session-token": self.session_token}
        if internal and self.internal_token:
            found["authorization"] = f"Bearer {self.internal_token}"
        return found

    def page(self, execution: str) -> str:
        """Where a person looks at an execution."""
        return f"{self.url}{self.prefix}/executions/{execution}"


def address_from_env(env: Mapping[str, str] | None = None) -> Address | None:
    """The server that the environment names, or None. BadInputError, without secrets, for a wrong one."""
    env = os.environ if env is None else env
    url = env.get(URL, "").strip().rstrip("/")
    if not url:
        return None
    _check(url, plain=env.get("NOETL_ALLOW_HTTP", "").lower() in _ON)
    tokens = {name: env.get(name, "").strip() for name in ("NOETL_SESSION_TOKEN", "NOETL_INTERNAL_API_TOKEN")}
    for name, token in tokens.items():
        if not token.isascii() or not token.isprintable() or " " in token:
            raise BadInputError(f"{name} is no token: it holds blanks or unprintable characters (not shown)")
    return Address(
        url,
        gateway=env.get("NOETL_GATEWAY", "").lower() in _ON,
        session_token=tokens["NOETL_SESSION_TOKEN"],
        internal_token=tokens["NOETL_INTERNAL_API_TOKEN"],
        ca_file=env.get("NOETL_CA_FILE", ""),
    )


def _check(url: str, *, plain: bool) -> None:
    expected = "https://HOST[:PORT], or http:// on this machine"
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        raise BadInputError(f"{URL} is no address", cure=f"expected {expected}") from None
    if parts.scheme not in ("http", "https") or not host or not url.isascii() or not url.isprintable():
        raise BadInputError(f"{URL} is no address", cure=f"expected {expected}")
    if parts.username or parts.password:
        raise BadInputError(f"{URL} has credentials in it", cure="put the token into NOETL_SESSION_TOKEN")
    if parts.query or parts.fragment:
        raise BadInputError(f"{URL} has a query or a fragment", cure=f"expected {expected}")
    if parts.scheme == "http" and not plain and not is_loopback(host):
        raise BadInputError(
            f"{URL} is plain http to another machine: tokens and turns would travel readable",
            cure="use https, or set NOETL_ALLOW_HTTP=1 where the network between is trusted",
        )
