"""A playbook walked as a server and its worker walk it, for the parts that the emitted ones use.

Unlike the local runtime: full expressions, `command` under the shell that is named, a step that fails goes on to its
arcs, `set` in place of `vars` and forgetting what was there, called playbooks by catalog path with nothing but
their inputs, and their `result_step` as the result. From the published sources of the server and worker.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from jinja2 import ChainableUndefined, Environment

ENVIRONMENT = Environment(undefined=ChainableUndefined, autoescape=False)
ENVIRONMENT.filters["fromjson"] = json.loads
MOST_STEPS = 200


@dataclass
class Walk:
    """What one execution did: the steps in order and their results."""

    steps: list[str] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)


class Server:
    """A catalog of playbooks; `refuses` are workload values that the check step throws at; `keychain` is what the
    worker resolves as it starts a step, and nothing keeps."""

    def __init__(
        self,
        books: Mapping[str, str],
        refuses: frozenset[str] = frozenset(),
        keychain: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        loaded = [yaml.safe_load(text) for text in books.values()]
        self.catalog = {book["metadata"]["path"]: book for book in loaded}
        self.refuses = refuses
        self.keychain = keychain or {}
        self.walks: dict[str, list[Walk]] = {}

    def execute(self, path: str, payload: Mapping[str, Any]) -> Walk:
        """Run a playbook of the catalog to the end of its branch."""
        book = self.catalog[path]
        steps = {step["step"]: step for step in book["workflow"]}
        workload = {**book["workload"], **payload}
        context: dict[str, Any] = {**workload, "workload": workload}
        walk = Walk()
        self.walks.setdefault(path, []).append(walk)
        name: str | None = "start"
        while name is not None:
            assert len(walk.steps) < MOST_STEPS, walk.steps
            walk.steps.append(name)
            step = steps[name]
            context[name] = walk.results[name] = self._tool(step["tool"], context)
            context |= {key: self._rendered(value, context) for key, value in step.get("set", {}).items()}
            name = self._next(step, context)
        return walk

    def _tool(self, tool: Mapping[str, Any], context: dict[str, Any]) -> Any:
        if tool["kind"] == "shell":
            command = self._rendered(tool["command"], context)
            env = os.environ | self._rendered(tool.get("env", {}), context | {"keychain": self.keychain})
            done = subprocess.run([tool["shell"], "-c", command], capture_output=True, text=True, env=env)
            return {"exit_code": done.returncode, "stdout": done.stdout.strip(), "stderr": done.stderr}
        if tool["kind"] == "rhai":
            given = set(map(str, self._rendered(tool["args"], context).values()))
            return {} if given & self.refuses else {"checked": "yes"}
        if tool["kind"] == "playbook":
            assert tool["return_result"] is True and isinstance(tool["timeout"], int)
            child = self.execute(self._rendered(tool["path"], context), self._rendered(tool["input"], context))
            return child.results.get(tool["result_step"], {})
        if tool["kind"] == "container":
            return {"terminal_state": "succeeded", "asked": self._rendered(dict(tool), context)}
        return {}

    def _next(self, step: Mapping[str, Any], context: dict[str, Any]) -> str | None:
        for arc in step.get("next", {}).get("arcs", []):
            if "when" not in arc or self._rendered(arc["when"], context) == "True":
                return str(arc["step"])
        return None

    def _rendered(self, value: Any, context: dict[str, Any]) -> Any:
        if isinstance(value, str):
            return ENVIRONMENT.from_string(value).render(context)
        if isinstance(value, dict):
            return {key: self._rendered(item, context) for key, item in value.items()}
        if isinstance(value, list):
            return [self._rendered(item, context) for item in value]
        return value
