"""OpenAI's shape of a question and of an answer: model `domain/role`, the input as the last user message."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from slm_assets.canonical import Json
from slm_assets.serving.body import parse
from slm_assets.serving.problems import Problem, shown
from slm_assets.serving.snapshot import Snapshot
from slm_assets.serving.turns import Turn
from slm_assets.stages.serving import Serving


def model_of(body: Json) -> tuple[str, str]:
    """The domain and role of `model`. Problem 400 or 404."""
    if not isinstance(body, dict):
        raise Problem(400, "shape", "expected an object with model and messages", path="$")
    model = body.get("model")
    if not isinstance(model, str):
        raise Problem(400, "model", "expected domain/role", path="$.model")
    domain, slash, role = model.partition("/")
    if not slash or not domain or not role or "/" in role:
        raise Problem(
            404, "model", f"there is no model {shown(model)}", path="$.model", cure="GET /v1/models lists them"
        )
    if body.get("n", 1) != 1:
        raise Problem(400, "n", "one answer per question", path="$.n", cure="leave n out")
    return domain, role


def input_of(body: Mapping[str, Any], serving: Serving, role: str) -> Json:
    """The role's input from the last user message: JSON, or bare text where the contract asks for one text.

    Problem 400 for messages that are none.
    """
    text, at = _last_user(body.get("messages"))
    try:
        return parse(text.encode())
    except orjson.JSONDecodeError:
        pass
    name = _only_text(serving.domain.input_schema(role))
    if name is None:
        raise Problem(400, "message", "the message is not JSON, and the role's input is not a single text", path=at)
    return {name: text}


def _last_user(messages: Any) -> tuple[str, str]:
    if not isinstance(messages, list) or not messages:
        raise Problem(400, "messages", "expected a list of messages", path="$.messages")
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        if isinstance(message, dict) and message.get("role") == "user":
            at = f"$.messages[{index}].content"
            return _text(message.get("content"), at), at
    raise Problem(400, "messages", "none of the messages is a user's", path="$.messages")


def _text(content: Any, at: str) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list) and content:
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        if len(texts) == len(content) and all(isinstance(text, str) for text in texts):
            return "".join(str(text) for text in texts)
    raise Problem(400, "message", "expected text, or a list of parts of type text", path=at)


def _only_text(schema: dict[str, Json] | None) -> str | None:
    """The one required property of an input, where it is a text."""
    required = (schema or {}).get("required", [])
    if len(required) != 1:
        return None
    own = (schema or {}).get("properties", {}).get(required[0], {})
    return str(required[0]) if isinstance(own, dict) and own.get("type") == "string" else None


def completion(turn: Turn, model: str) -> dict[str, Any]:
    """The answer as a chat completion; `slm` says where it came from. Nothing counts tokens, so no usage."""
    assert turn.role is not None
    answer = turn.answers[turn.role].shown()
    text = orjson.dumps(answer.pop("output")).decode()
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {**_head(turn, model, "chat.completion"), "choices": [choice], "slm": answer}


def stream(turn: Turn, model: str) -> bytes:
    """The same as server-sent events: an answer is made at once, so it is one piece."""
    assert turn.role is not None
    answer = turn.answers[turn.role].shown()
    text = orjson.dumps(answer.pop("output")).decode()
    head = _head(turn, model, "chat.completion.chunk")
    first = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
    last = {"index": 0, "delta": {}, "finish_reason": "stop"}
    chunks = [{**head, "choices": [first], "slm": answer}, {**head, "choices": [last]}]
    return b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


def _head(turn: Turn, model: str, kind: str) -> dict[str, Any]:
    return {"id": turn.id, "object": kind, "created": int(turn.at), "model": model}


def models(snapshots: list[Snapshot]) -> dict[str, Any]:
    """Every role that has an engine."""
    found = [
        {
            "id": f"{snapshot.domain.name}/{role}",
            "object": "model",
            "created": _seconds(snapshot.flags[role].since),
            "owned_by": snapshot.tenant,
            "engine": serving.engine,
            "version": serving.version,
            "release": serving.release,
        }
        for snapshot in snapshots
        for role, serving in snapshot.engines.items()
    ]
    return {"object": "list", "data": found}


def _seconds(since: str) -> int:
    """When a flag was flipped, in seconds of the epoch; 0 for one that never was."""
    return int(datetime.fromisoformat(since).timestamp()) if since else 0
