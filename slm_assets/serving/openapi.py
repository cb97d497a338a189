"""The service as an OpenAPI 3.1 document, with the contracts of each role as they serve now."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from slm_assets.canonical import Json
from slm_assets.domain.outcomes import SIGNALS
from slm_assets.serving.snapshot import Snapshot

_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "code", "param"],
            "properties": {
                "message": {"type": "string"},
                "type": {"enum": ["invalid_request_error", "server_error"]},
                "code": {"type": "string"},
                "param": {"type": ["string", "null"], "description": "JSON path in the body."},
                "faults": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"path": {"type": "string"}, "message": {"type": "string"}},
                    },
                },
                "cure": {"type": "string"},
            },
        }
    },
}
_TEXT = {"type": ["string", "null"]}
_SOURCE: dict[str, Json] = {
    "confidence": {"type": "number", "minimum": 0, "maximum": 1},
    "valid": {"type": "boolean"},
    "engine": {"enum": ["release", "oracle", "teacher"]},
    "version": _TEXT,
    "release": {**_TEXT, "description": "Digest of the release."},
    "urn": {**_TEXT, "description": "URN of the release."},
    "fallback": {
        "type": ["object", "null"],
        "description": "Why the oracle answered in the release's place, and how sure that was.",
        "properties": {
            "reason": {"enum": ["low_confidence", "invalid", "error", "release_refused"]},
            "confidence": {"type": ["number", "null"]},
        },
    },
    "rung": {"type": "string", "description": "Of a cascade: the rung that answered."},
}
_UNANSWERED = {
    "type": "object",
    "description": "Roles that have no answer, and why; the others have theirs.",
    "additionalProperties": {
        "type": "object",
        "required": ["message", "code", "role", "param"],
        "properties": {
            "message": {"type": "string"},
            "code": {
                "enum": ["chain", "engine"],
                "description": "chain: what an earlier role gave is no input for it; engine: nothing could answer.",
            },
            "role": {**_TEXT, "description": "The earlier role."},
            "param": {**_TEXT, "description": "JSON path in the input of the role without an answer."},
        },
    },
}
_FEEDBACK = {
    "type": "object",
    "required": ["signal"],
    "additionalProperties": False,
    "properties": {
        "signal": {"type": "string", "examples": sorted(SIGNALS)},
        "role": _TEXT,
        "detail": {"description": "Such as the corrected output."},
    },
}
_ROLLBACK = {
    "type": "object",
    "required": ["reason", "by"],
    "additionalProperties": False,
    "properties": {
        "roles": {"type": ["array", "null"], "items": {"type": "string"}, "description": "Default: all."},
        "to": {**_TEXT, "description": "A version that served before, or oracle; default: what served before."},
        "reason": {"type": "string"},
        "by": {"type": "string", "description": "Who asks; it stands in the audit."},
    },
}
_CHAT = {
    "type": "object",
    "required": ["model", "messages"],
    "properties": {
        "model": {"type": "string", "description": "domain/role"},
        "messages": {"type": "array", "items": {"type": "object"}},
        "stream": {"type": "boolean"},
    },
}


def describe(snapshots: list[Snapshot]) -> dict[str, Any]:
    """The document; its roles are those of `snapshots`."""
    paths: dict[str, Any] = {
        "/healthz": {"get": _operation("The process answers", {})},
        "/readyz": {"get": _operation("Domains are loaded", {})},
        "/metrics": {"get": {"summary": "Prometheus metrics", "responses": {"200": {"description": "Text."}}}},
        "/v1/models": {"get": _operation("Every role, in OpenAI's shape", {})},
        "/v1/chat/completions": {"post": _operation("A role's answer in OpenAI's shape", {}, _CHAT)},
        "/v1/feedback/{turn_id}": {
            "post": {
                **_operation("What became of a turn", {}, _FEEDBACK, "202"),
                "parameters": [{"name": "turn_id", "in": "path", "required": True, "schema": {"type": "string"}}],
            }
        },
    }
    paths["/v1/rollback/{domain}"] = {
        "post": {
            **_operation("Flip roles back to what served before; needs a token", {}, _ROLLBACK),
            "parameters": [{"name": "domain", "in": "path", "required": True, "schema": {"type": "string"}}],
        }
    }
    for snapshot in snapshots:
        paths |= _domain(snapshot)
    bearer = {"type": "http", "scheme": "bearer"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "slm-assets", "version": version("slm-assets")},
        "paths": paths,
        "components": {"securitySchemes": {"bearer": bearer}},
        "security": [{}, {"bearer": []}],
    }


def _domain(snapshot: Snapshot) -> dict[str, Any]:
    name, paths, answers = snapshot.domain.name, {}, {}
    for role in snapshot.roles:
        if role.id not in snapshot.engines:
            continue
        domain = snapshot.engines[role.id].domain
        given = _contract(domain.input_schema(role.id), f"urn:slm:{name}:{role.id}:input")
        answers[role.id] = _answer(_contract(domain.output_schema(role.id), f"urn:slm:{name}:{role.id}:output"))
        whole = {"turn_id": {"type": "string"}, **answers[role.id]["properties"]}
        told = role.description or f"{name}, {role.id}"
        paths[f"/v1/{name}/{role.id}"] = {
            "post": {**_operation(told, {"type": "object", "properties": whole}, given), "parameters": _HEADERS}
        }
        paths[f"/v1/{name}/{role.id}/engine"] = {"get": _operation("Which engine it has", {})}
    turn = {"turn_id": {"type": "string"}, "roles": {"type": "object", "properties": answers}}
    turn["unanswered"] = _UNANSWERED
    told = snapshot.domain.config.description or name
    return {
        f"/v1/review/{name}": {"get": _operation("Live turns that a person should decide", {})},
        f"/v1/{name}": {
            "post": {**_operation(told, {"type": "object", "properties": turn}, {}), "parameters": _HEADERS}
        },
        **paths,
    }


def _answer(output: Json) -> dict[str, Any]:
    return {"type": "object", "properties": {"output": output, **_SOURCE}}


def _contract(schema: dict[str, Json] | None, identity: str) -> dict[str, Json]:
    """A contract inside of the document: its own references stay its own."""
    return {**schema, "$id": identity} if schema else {}


def _operation(
    summary: str, answer: dict[str, Any], body: dict[str, Any] | None = None, status: str = "200"
) -> dict[str, Any]:
    told: dict[str, Any] = {
        "summary": summary,
        "responses": {
            status: {"description": "The answer.", "content": {"application/json": {"schema": answer}}},
            "default": {"description": "Why not.", "content": {"application/json": {"schema": _ERROR}}},
        },
    }
    if body is not None:
        told["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return told


_HEADERS = [
    {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": told}
    for name, told in (
        ("X-Conversation-Id", "Turns of one conversation are sampled together."),
        ("X-User-Id", "Kept as a pseudonym, for erasure and caps per user."),
    )
]
