"""Bearer tokens per tenant: read by alias from the environment or a mounted file, never shown.

`acme=ACME_TOKEN` is the token of tenant acme under the alias ACME_TOKEN: the environment variable of that
name, or the file of that name in the folder that SLM_SECRETS names. Tenant `*` is the operator's: every tenant.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from slm_assets.domain.secrets import credential_fault, secret
from slm_assets.errors import BadInputError

OPERATOR = "*"
_GIVEN = re.compile(r"(?P<tenant>\*|[A-Za-z0-9][A-Za-z0-9_.-]{0,62})=(?P<alias>[A-Za-z_][A-Za-z0-9_.-]{0,99})")


@dataclass(frozen=True)
class Tokens:
    """The digests of the tokens, each with its tenant; empty where none is asked for."""

    _known: tuple[tuple[bytes, str], ...] = field(default=(), repr=False)

    def __bool__(self) -> bool:
        return bool(self._known)

    def tenant(self, token: bytes) -> str | None:
        """Whose token it is, None for nobody's. Takes the same time whichever token it is."""
        digest = hashlib.sha256(token).digest()
        found = None
        for known, tenant in self._known:
            if hmac.compare_digest(known, digest):
                found = tenant
        return found


def read_tokens(given: Iterable[str], environment: Mapping[str, str]) -> Tokens:
    """The tokens of `TENANT=ALIAS` pairs. BadInputError, without the secret, for what cannot be used."""
    known = []
    for pair in given:
        parts = _GIVEN.fullmatch(pair)
        if parts is None or credential_fault(parts["alias"]):
            raise BadInputError(
                "--token: not TENANT=ALIAS (not shown: it may be a secret)",
                cure="name the environment variable or mounted file that holds the token: acme=ACME_TOKEN",
            )
        token = secret(parts["alias"], environment).encode()
        known.append((hashlib.sha256(token).digest(), parts["tenant"]))
    if len({digest for digest, _ in known}) < len(known):
        raise BadInputError("two tenants have the same token", cure="give each its own")
    return Tokens(tuple(known))
