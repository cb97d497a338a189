"""The CronJob starts the orchestrator with what that playbook takes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import yaml
from fake_slm import DEPLOY

from slm_assets.noetl.emit import playbooks
from slm_assets.noetl.steps import SERVER

MANIFEST = DEPLOY.parent / "kubernetes" / "noetl-retrain.cronjob.yaml"


def sent(tmp_path: Path, **environment: str) -> tuple[list[str], dict[str, Any]]:
    """Run the container's script over a `curl` that writes down its arguments; returns them and the body."""
    job = yaml.safe_load(MANIFEST.read_text())
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    own = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    curl = tmp_path / "curl"
    curl.write_text(f"#!/bin/bash\nprintf '%s\\0' \"$@\" > {tmp_path / 'sent'}\n")
    curl.chmod(0o755)
    subprocess.run(
        [*container["command"], *container["args"]],
        check=True,
        env={**own, **environment, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
    )
    arguments = (tmp_path / "sent").read_text().split("\0")[:-1]
    return arguments, json.loads(arguments[arguments.index("--data") + 1])


def test_the_body_is_an_execution_of_the_orchestrator(tmp_path: Path) -> None:
    arguments, body = sent(tmp_path, NOETL_SERVER_URL="http://server:1", DOMAIN="desk")
    book = yaml.safe_load(playbooks()["slm/retrain_orchestrator.yaml"])
    assert arguments[-1] == "http://server:1/api/execute"
    assert body["path"] == book["metadata"]["path"]
    assert body["payload"] == {"domain": "desk", **SERVER}
    assert set(body["payload"]) <= set(book["workload"])
    assert body["dedup"]["key"].startswith("slm-retrain/desk/2") and isinstance(body["dedup"]["window_secs"], int)
    assert not any("authorization" in argument for argument in arguments)


def test_a_session_token_goes_into_both_headers(tmp_path: Path) -> None:
    arguments, _ = sent(tmp_path, NOETL_SESSION_TOKEN="t0ken x")
    assert "authorization: Bearer t0ken x" in arguments and "x-session-token: t0ken x" in arguments
