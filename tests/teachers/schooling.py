"""A domain with a teacher, and the registry, the purse and the rows to ask it with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from fake_openai import FakeOpenAI

from slm_assets.domain.budget import Budget
from slm_assets.domain.loading import Domain, load_domain
from slm_assets.models.teacher.asking import Asking, Question
from slm_assets.models.teacher.endpoint import HOSTS, endpoint_of
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry
from slm_assets.registry.teaching import Purse
from tests.conftest import Workplace

SECRET = "sk-planted-0123456789abcdefXYZ"
INTENTS = ("refund", "track", "cancel", "greet")


def right(value: Any, _body: dict[str, Any]) -> str:
    """What the fake says by default: an intent by the length of the text."""
    return json.dumps({"intent": INTENTS[len(value["text"]) % 4], "urgent": False})


@dataclass
class Class:
    """The tiny domain whose config has a teacher at a fake endpoint."""

    place: Workplace
    server: FakeOpenAI
    monkeypatch: pytest.MonkeyPatch

    def write(self, rows: int = 0, budget: str = "", **blocks: Any) -> Domain:
        """Write the config: keys of `teacher`, of `others`, `labels`, `eval`…; `rows`: so many, without labels."""
        path = self.place.config("tiny")
        config = yaml.safe_load(path.read_text())
        own = config["slm_domain"]
        teacher = {
            "id": "big", "base_url": self.server.url, "credential": "{{ teacher_token }}", "model": "m-large",
            "pricing": {"m-large": {"input": 1.0, "output": 10.0}}, "max_output_tokens": 100, "concurrency": 8,
        }  # fmt: skip
        own["teachers"] = [teacher | blocks.pop("teacher", {})]
        own["teachers"] += [teacher | other for other in blocks.pop("others", [])]
        if budget:
            (path.parent / "budget.yaml").write_text(budget)
            own["improvement"]["governance"] = {"cost_budget": "budget.yaml"}
        for name, value in blocks.items():
            own[name] = own[name] + value if isinstance(value, list) else own.get(name, {}) | value
        path.write_text(yaml.safe_dump(config))
        if rows:
            lines = [{"id": f"u{n:05d}", "thread": f"th{n}", "input": {"text": text_of(n)}} for n in range(rows)]
            (path.parent / "data" / "messages.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return load_domain(path.parent)

    def asking(self, domain: Domain, budget: Budget | None = None, what: str = "v1/label/teacher.big") -> Asking:
        """The teacher, to be asked within a budget."""
        registry, teacher = self.registry(), domain.config.teachers[0]
        endpoint = endpoint_of("tiny", teacher, {HOSTS: self.server.host, "teacher_token": SECRET})
        return Asking(domain, teacher, endpoint, registry, Purse(registry, "tiny", what, budget or Budget(), actor="a"))

    def registry(self) -> Registry:
        return Registry(Home.from_env(self.place.home))


def text_of(number: int) -> str:
    """Texts that share no words."""
    return " ".join(f"w{number}x{k}{'y' * (number % 4)}" for k in range(5))


def questions(count: int, start: int = 0) -> list[Question]:
    return [Question("triage", {"text": text_of(n)}, f"u{n:05d}") for n in range(start, start + count)]
