"""The pieces that the emitted playbooks are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slm_assets.noetl.guard import shell_tool

Step = dict[str, Any]
Arc = Mapping[str, str]

MINUTE = 60
HOME_LOG = '"${SLM_HOME:-.slm}/noetl.err"'
"""Where a step without a run folder leaves what it said."""

DISTRIBUTED = "workload.runtime == 'distributed'"
"""Never true locally; behind it a condition may use all that a server knows."""

LOCAL = {"runtime": "local", "pb_prefix": "", "pb_suffix": ".yaml"}
"""Workload of a playbook that calls others, for the local runtime: they are files beside it."""

FOLDER = "automation/mlops/slm/"
SERVER = {"runtime": "distributed", "pb_prefix": FOLDER, "pb_suffix": ""}
"""The same for a server: they are paths of its catalog."""


OPENED = {"version": "opened", "run_dir": "opened_dir"}
"""Workload keys, and those under which a playbook that calls another hands them on. The local runtime gives a
called playbook everything that was set for its caller, and where an input has the name of such a value, chance
decides which of the two it gets. So what a caller has found out goes by another name, and comes first."""


def chosen(*names: str) -> str:
    """Shell variables with what a caller handed on, else what was set."""
    return "\n".join(f"{name}='{value(OPENED[name])}'\n[ -n \"${name}\" ] || {name}='{value(name)}'" for name in names)


def handed_on(version: str, run_dir: str) -> dict[str, str]:
    """Inputs that name the version and the run folder to a called playbook, under both names: a container reads
    the plain ones, and only a server runs it."""
    found = {"version": version, "run_dir": run_dir}
    return found | {OPENED[name]: text for name, text in found.items()}


def value(name: str) -> str:
    """Template of a workload value."""
    return f"{{{{ workload.{name} }}}}"


def var(name: str) -> str:
    """Template of a value that an earlier step set."""
    return f"{{{{ vars.{name} }}}}"


def go(*arcs: Arc) -> dict[str, Any]:
    """The `next` of a step: the first arc whose condition holds."""
    return {"spec": {"mode": "exclusive"}, "arcs": [dict(arc) for arc in arcs]}


def arc(step: str, when: str = "") -> Arc:
    """A way to a step, under a condition."""
    return {"step": step, "when": f"{{{{ {when} }}}}"} if when else {"step": step}


def noop(name: str, desc: str, *arcs: Arc) -> Step:
    """A step that does nothing: entry, end, dead end."""
    step: Step = {"step": name, "desc": desc, "tool": {"kind": "noop"}}
    return step | ({"next": go(*arcs)} if arcs else {})


def shell(
    name: str,
    desc: str,
    script: str,
    *arcs: Arc,
    results: Sequence[str] | Mapping[str, str] = (),
    prelude: str = "",
    log: str = "",
    timeout_s: int = MINUTE,
    env: Mapping[str, str] | None = None,
) -> Step:
    """A step that runs a script under `set -euo pipefail`; a server, which goes on after a failure, is led to
    `failed`. `results`: fields of the JSON that it prints, readable as vars by the steps after it; var → field
    where a var has another name. `log`: a file that also gets what the script says on stderr, which the local
    runtime drops; `prelude` comes before it. `env`: variables that a server sets; locally the process's own are
    there."""
    folder = ['mkdir -p "${SLM_HOME:-.slm}"'] if log == HOME_LOG else []
    lines = [
        "set -euo pipefail",
        *([prelude] if prelude else []),
        *folder,
        *([f"exec 2> >(tee -a {log} >&2)"] if log else []),
        script.strip(),
    ]
    tool = shell_tool("\n".join(lines) + "\n", timeout_s) | ({"env": dict(env)} if env else {})
    step: Step = {"step": name, "desc": desc, "tool": tool}
    if results:
        fields = dict(results) if isinstance(results, Mapping) else dict(zip(results, results, strict=True))
        step["vars"] = {key: f"{{{{ result.{field} }}}}" for key, field in fields.items()}
        # A step that failed may have printed no JSON, and a server sets before it chooses an arc.
        read = "{{{{ ({0}.stdout | fromjson).{1} if {0}.exit_code == 0 else '' }}}}"
        step["set"] = {"vars": {key: read.format(name, field) for key, field in fields.items()}}
    if arcs:
        step["next"] = go(arc("failed", f"{DISTRIBUTED} and {name}.exit_code != 0"), *arcs)
    return step


def call(
    name: str, desc: str, playbook: str, inputs: Mapping[str, str], *arcs: Arc, result: str, timeout_s: int
) -> Step:
    """A step that runs another emitted playbook to its end. What it found lies in files: locally nothing is
    handed back."""
    tool = {
        "kind": "playbook",
        "path": f"{value('pb_prefix')}{playbook}{value('pb_suffix')}",
        "return_result": True,
        "result_step": result,
        "timeout": timeout_s,
        "input": dict(inputs),
    }
    return {"step": name, "desc": desc, "tool": tool, "next": go(*arcs)}


def ends() -> list[Step]:
    """The last steps: `failed` fails locally too and leads nowhere, `end` is only reached when all went well."""
    return [
        {
            "step": "failed",
            "desc": "Dead end: whoever watches sees no step end",
            "tool": shell_tool("echo 'a step failed: see the log in the run folder' >&2\nexit 1\n", MINUTE),
        },
        noop("end", "Done"),
    ]


def book(
    name: str, description: str, labels: Mapping[str, str], workload: Mapping[str, Any], steps: list[Step]
) -> Step:
    """A whole playbook."""
    kinds = {step["tool"]["kind"] for step in steps}
    return {
        "apiVersion": "noetl.io/v2",
        "kind": "Playbook",
        "metadata": {
            "name": f"slm_{name}",
            "path": FOLDER + name,
            "description": description,
            "labels": dict(labels),
        },
        "executor": {
            "profile": "local",
            "version": "noetl-runtime/1",
            "requires": {"tools": sorted(kinds & {"shell", "rhai", "playbook"})},
        },
        "workload": dict(workload),
        "workflow": steps,
    }
