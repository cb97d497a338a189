"""Reading SLM_REGISTRY: which database it names, how it is shown, and that no secret of it ever is."""

from __future__ import annotations

import re

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from slm_assets.errors import BadInputError

POSTGRES = "postgresql"
SQLITE = "sqlite"
_DRIVERS = {"postgresql", "postgresql+psycopg2", "sqlite", "sqlite+pysqlite"}
_SECRETS = ("password", "sslpassword", "passfile", "oauth_client_secret")
_SHOWN = ("host", "port")
_SCHEMA = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")
_EXAMPLES = "postgresql://USER:PASSWORD@HOST:5432/DATABASE or sqlite:////folder/registry.db"


def parse(url: str) -> tuple[URL, str | None]:
    """The parts of a registry URL, and of a Postgres one the schema that its option `schema` names.

    BadInputError, without repeating the URL, for one that is none.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise BadInputError(
            "SLM_REGISTRY is no database URL",
            cure=f"expected {_EXAMPLES}; in user and password write @ : / # ? % as %40 %3A %2F %23 %3F %25",
        ) from None
    if parsed.drivername not in _DRIVERS:
        raise BadInputError(
            f"SLM_REGISTRY names a {parsed.drivername} database; the registry lives on SQLite or Postgres",
            cure=f"expected {_EXAMPLES}",
        )
    if "@" in (parsed.host or ""):
        raise BadInputError("SLM_REGISTRY has an @ in its user or password", cure="write it as %40")
    if parsed.get_backend_name() == SQLITE and parsed.database in (None, "", ":memory:"):
        raise BadInputError("SLM_REGISTRY names no file", cure="expected sqlite:////folder/registry.db")
    schema = parsed.query.get("schema")
    if schema is None:
        return parsed, None
    if parsed.get_backend_name() != POSTGRES or not (isinstance(schema, str) and _SCHEMA.fullmatch(schema)):
        raise BadInputError(
            "SLM_REGISTRY has an option schema that names none",
            cure="give a Postgres URL one name of lower-case letters, digits and '_', such as ?schema=slm",
        )
    return parsed.difference_update_query(["schema"]), schema


def shown(url: URL, schema: str | None = None) -> str:
    """The URL as a person may see it: who and where, neither password nor any other option."""
    named = {name: url.query[name] for name in _SHOWN if name in url.query} | ({"schema": schema} if schema else {})
    options = "&".join(f"{name}={value}" for name, value in named.items())
    bare = URL.create(url.get_backend_name(), url.username, None, url.host, url.port, url.database)
    return bare.render_as_string() + (f"?{options}" if options else "")


def redact(text: str, url: URL) -> str:
    """`text` with whatever is secret in the URL left out, should a driver ever repeat it."""
    secrets = [url.password, *(url.query.get(name) for name in _SECRETS)]
    for secret in secrets:
        for part in secret if isinstance(secret, tuple) else (secret,):
            if part:
                text = text.replace(str(part), "***")
    return text
