"""The review page and what it asks: open items as JSON, and decisions about them.

The page itself holds nothing: a script of ours fetches the items and writes them as text, never as markup.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from slm_assets.canonical import Json
from slm_assets.domain.domain import Domain
from slm_assets.errors import BadInputError
from slm_assets.registry import reviews
from slm_assets.registry.registry import Registry, Row
from slm_assets.serving.body import read_json
from slm_assets.serving.engines import Engines
from slm_assets.serving.problems import Problem, json_response
from slm_assets.serving.snapshot import Snapshot
from slm_assets.stages.reviews import decide

STATIC = Path(__file__).parent / "static"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
ACTIONS: dict[str, reviews.State] = {"decide": "decided", "skip": "skipped", "withdraw": "withdrawn", "reopen": "open"}
MOST = 100
_SHOWN = ("item", "role", "turn", "state", "why", "input", "candidates", "label", "author", "revision", "opened_at")


class Reviewing:
    """The handlers of the review."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._files = {path.name: path.read_bytes() for path in sorted(STATIC.iterdir()) if path.suffix in TYPES}

    async def page(self, _request: Request) -> Response:
        """The page, the same for every domain."""
        return self._file("review.html")

    async def static(self, request: Request) -> Response:
        """A file of ours by its name."""
        return self._file(request.path_params["name"])

    async def listed(self, request: Request) -> Response:
        """Items of a state, the oldest first, and how many there are of each."""
        state = request.query_params.get("state", "open")
        if state not in reviews.STATES:
            raise Problem(422, "state", "unknown state", cure=f"one of {', '.join(reviews.STATES)}")
        snapshot, registry = self._scope(request)
        name = snapshot.domain.name

        def read() -> dict[str, Any]:
            rows = reviews.items(registry, name, state=state, limit=MOST)
            return {"domain": name, "counts": reviews.counts(registry, name), "items": list(map(_shown, rows))}

        return json_response(await run_in_threadpool(read))

    async def change(self, request: Request) -> Response:
        """Decide, skip, withdraw or reopen an item. Problem 409 where somebody else was faster."""
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            # What a foreign page may send without asking first.
            raise Problem(415, "type", "expected a body of type application/json")
        snapshot, registry = self._scope(request)
        body, _ = await read_json(request)
        wanted = _wanted(body)
        row = await run_in_threadpool(_change, registry, snapshot.domain, request.path_params["item"], wanted)
        return json_response(_shown(row))

    def _scope(self, request: Request) -> tuple[Snapshot, Registry]:
        with self._engines.lease(request.path_params["domain"], request.scope["state"]["tenant"]) as snapshot:
            return snapshot, self._engines.registry(snapshot)

    def _file(self, name: str) -> Response:
        if name not in self._files:
            raise Problem(404, "path", "Not Found")
        media = TYPES[Path(name).suffix]
        return Response(self._files[name], media_type=media, headers={"content-security-policy": POLICY})


def _shown(row: Row) -> dict[str, Json]:
    return {key: row[key] for key in _SHOWN}


def _wanted(body: Json) -> dict[str, Any]:
    """A body that means something. Problem 422 with the JSON path."""
    if not isinstance(body, dict):
        raise Problem(422, "shape", "expected an object with action, revision and by", path="$")
    if body.get("action") not in ACTIONS:
        raise Problem(422, "action", "unknown action", path="$.action", cure=f"one of {', '.join(ACTIONS)}")
    revision, by = body.get("revision"), body.get("by")
    if not isinstance(revision, int) or isinstance(revision, bool):
        raise Problem(422, "revision", "expected the revision that was looked at", path="$.revision")
    if not isinstance(by, str) or not 0 < len(by.strip()) <= 200:
        raise Problem(422, "by", "expected who decides", path="$.by")
    if (body["action"] == "decide") != ("label" in body):
        raise Problem(422, "label", "a label belongs to decide, and to nothing else", path="$.label")
    return body


def _change(registry: Registry, domain: Domain, name: str, wanted: dict[str, Any]) -> Row:
    try:
        row = reviews.item(registry, domain.name, name)
    except BadInputError as error:
        raise Problem(404, "item", error.message) from None
    how = {"revision": wanted["revision"], "actor": wanted["by"].strip()}
    try:
        if wanted["action"] == "decide":
            return decide(registry, domain, row["item"], wanted["label"], **how)
        return reviews.change(registry, domain.name, row["item"], ACTIONS[wanted["action"]], **how)
    except reviews.DecidedError as error:
        raise Problem(409, "conflict", error.message, cure=error.cure) from None
    except BadInputError as error:
        raise Problem(422, "label", error.message, cure=error.cure) from None
