"""A worker for the fake server: runs a playbook's shell steps for real, and is as generous as the real one.

Templates are Jinja's, close to the server's; a step that fails does not end its playbook, and what comes out
is COMPLETED whatever happened. Rhai is not interpreted: such a step says `checked: yes`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import yaml
from fake_server import FakeServer
from jinja2 import ChainableUndefined
from jinja2.sandbox import SandboxedEnvironment

MOST_STEPS = 60


class Worker:
    """Executes what a fake server accepts, each execution in a thread of its own."""

    def __init__(self, fake: FakeServer, folder: Path, env: dict[str, str]) -> None:
        self.fake, self.folder = fake, folder
        beside = str(Path(sys.executable).parent)
        self.env = {**os.environ, **env, "PATH": os.pathsep.join([beside, os.environ.get("PATH", "")])}
        self.templates = SandboxedEnvironment(undefined=ChainableUndefined)
        self.templates.filters |= {"fromjson": json.loads, "tojson": json.dumps}
        self.threads: list[threading.Thread] = []
        fake.on_execute = self.begin

    def begin(self, execution: dict[str, Any]) -> None:
        thread = threading.Thread(target=self.run, args=(execution,), daemon=True)
        self.threads.append(thread)
        thread.start()

    def join(self) -> None:
        """Wait for all that was begun."""
        for thread in self.threads:
            thread.join(300)
            assert not thread.is_alive()

    def run(self, execution: dict[str, Any]) -> None:
        book = yaml.safe_load(execution["content"])
        steps = {step["step"]: step for step in book["workflow"]}
        context: dict[str, Any] = {"workload": execution["workload"], "execution_id": execution["execution_id"]}
        name: str | None = "start"
        for _ in range(MOST_STEPS):
            step = steps[name] if name else None
            if step is None:
                break
            context[name] = self.tool(execution["execution_id"], step, context)
            context |= self.render(step.get("set") or {}, context)
            name = self.after(step, context)
        self.fake.event(execution["execution_id"], "playbook.completed", None)
        self.fake.state.executions[execution["execution_id"]]["status"] = "COMPLETED"

    def tool(self, execution: str, step: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
        tool, data = step["tool"], {}
        if tool["kind"] == "shell":
            command = ["bash", "-c", self.render(tool["command"], context)]
            done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=240)
            data = {"exit_code": done.returncode, "stdout": done.stdout, "stderr": done.stderr[-2_000:]}
        elif tool["kind"] == "rhai":
            data = {"checked": "yes"}
        more = {key: value for key, value in data.items() if key != "exit_code"}
        self.fake.step(execution, step["step"], exit_code=data.get("exit_code", 0), **more)
        return data

    def after(self, step: dict[str, Any], context: dict[str, Any]) -> str | None:
        for arc in (step.get("next") or {}).get("arcs", []):
            if "when" not in arc or self.render(arc["when"], context) == "True":
                return str(arc["step"])
        return None

    def render(self, value: Any, context: dict[str, Any]) -> Any:
        if isinstance(value, dict):
            return {key: self.render(item, context) for key, item in value.items()}
        return self.templates.from_string(value).render(context) if isinstance(value, str) else value
