"""The playbook of one stage, the same whether an engine hands it a request or NoETL conducts by itself.

`driver: engine`: `request.json` and `envelope.json` lie in `run_dir`; the stage is executed and nothing is
committed, that is the engine's, once it has verified the receipt. `driver: conductor`: the cell of the domain's
version is made in the registry, then reported to Dagster.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slm_assets import canonical
from slm_assets.domain.compute import Container, Pod, StageRun, Toleration, Volume, pod
from slm_assets.noetl.guard import Kind, check_step
from slm_assets.noetl.steps import DISTRIBUTED, MINUTE, OPENED, Step, arc, book, chosen, ends, go, noop, shell, value
from slm_assets.stages.contract import StageReceipt, StageRequest
from slm_assets.stages.runner import CODE_VERSION
from slm_assets.stages.table import Stage

CONDUCTOR, ENGINE = "conductor", "engine"
MOUNT = "/data"
ENVIRONMENT = {"SLM_HOME": "home", "SLM_DOMAINS": "domains", "SLM_ARTIFACTS": "artifacts"}
"""Variables of the container that are workload values."""

CONTAINER_VALUES: dict[str, Kind] = {
    "image": "text", "namespace": "text", "service_account": "text", "cpu": "text", "memory": "text",
    "gpus": "count", "claim": "text", "home": "path", "domains": "path",
    "artifacts": "text", "registry_secret": "text", "registry_key": "text",
}  # fmt: skip


def name_of(stage: Stage) -> str:
    """The playbook's name, the last part of its catalog path."""
    return stage.playbook.rpartition("/")[2]


def stage_book(stage: Stage, run: StageRun) -> Step:
    """The playbook of a stage, with a container step where `run` has one. What is a single text in that block is
    a workload value, which an execution may override."""
    workload = {"runtime": "local", "driver": CONDUCTOR, "domain": "", "version": "", "run_dir": "./slm-run"}
    workload |= dict.fromkeys(OPENED.values(), "")
    checked: dict[str, Any] = {
        "runtime": ["local", "distributed"],
        "driver": [CONDUCTOR, ENGINE],
        "domain": "name",
        "version": "version?",
        "run_dir": "path?",
        OPENED["version"]: "version?",
        OPENED["run_dir"]: "path?",
    }
    first, work = arc("run_stage"), [_shell_step(stage, run.timeout_s)]
    if run.container is not None:
        workload |= {"mode": "local"} | container_values(run.container)
        checked |= {"mode": ["local", "container"], **CONTAINER_VALUES}
        work = [_by_mode(), *work, _container_step(stage, run)]
        first = arc("by_mode")
    steps = [
        noop("start", stage.title, arc("check")),
        *check_step(checked, [arc("prepare")], either=list(OPENED.items())),
        shell(
            "prepare",
            "An outcome of an earlier run must not be taken for this one's",
            f'mkdir -p "$run_dir"\nrm -f {_file(stage, "json")}',
            first,
            prelude=chosen("run_dir"),
        ),
        *work,
        shell(
            "verify_receipt",
            "The stage's own word, written after its receipt; without it nothing happened",
            f"test -s {_file(stage, 'json')}\ncat {_file(stage, 'json')}",
            arc("report", f"workload.driver == '{CONDUCTOR}'"),
            arc("end"),
            results=("gate",),
            prelude=chosen("run_dir"),
        ),
        shell(
            "report",
            "Tell Dagster of all that the version has by now; what it misses once, the next report has",
            f"""slm report '{value("domain")}' "$version" --json || echo '{{"reported": []}}'""",
            arc("end"),
            prelude=chosen("version", "run_dir"),
            log=_file(stage, "err"),
            timeout_s=10 * MINUTE,
        ),
        *ends(),
    ]
    return book(name_of(stage), stage.title, labels(stage), workload, steps)


def container_values(container: Container) -> dict[str, str]:
    """The workload values of a container step: what of the block is a single text."""
    claim, mount = (container.volumes[0].claim, container.volumes[0].mount) if container.volumes else ("slm", MOUNT)
    return {
        "image": container.image,
        "namespace": container.namespace,
        "service_account": container.service_account,
        "cpu": container.cpu,
        "memory": container.memory,
        "gpus": str(container.gpus),
        "claim": claim,
        "home": f"{mount}/slm",
        "domains": f"{mount}/domains",
        "artifacts": f"{mount}/slm/artifacts",
        "registry_secret": "slm-registry",
        "registry_key": "url",
    }


def labels(stage: Stage) -> dict[str, str]:
    """Which asset this mirrors, under which contract, by which code."""
    contract = {
        "stage": [stage.name, stage.asset, stage.kind, list(stage.needs), list(stage.gates)],
        "request": StageRequest.model_json_schema(),
        "receipt": StageReceipt.model_json_schema(),
    }
    return {"slm/asset": stage.asset, "slm/stage": stage.name, "slm/contract": canonical.digest(contract)[:32]} | code()


def code() -> dict[str, str]:
    """The code version as a label."""
    return {"slm/code-version": CODE_VERSION.replace("+", "_")}


def _file(stage: Stage, suffix: str) -> str:
    return f'"$run_dir/{stage.name}.{suffix}"'


def _shell_step(stage: Stage, timeout_s: int) -> Step:
    script = (
        f"exec slm stage run {stage.name} --driver '{value('driver')}' --domain '{value('domain')}' "
        '--version "$version" --run-dir "$run_dir"'
    )
    return shell(
        "run_stage", f"Run {stage.name} here", script, arc("verify_receipt"),
        prelude=chosen("version", "run_dir"), log=_file(stage, "err"), timeout_s=timeout_s,
    )  # fmt: skip


def _by_mode() -> Step:
    return noop(
        "by_mode",
        "Here, or in a container of the cluster",
        arc("run_stage", "workload.mode == 'local'"),
        arc("run_container", "workload.mode == 'container'"),
        arc("failed"),
    )


def _container_step(stage: Stage, run: StageRun) -> Step:
    """The container of the deployment's block, each single text a workload value. A local runtime skips it in
    silence: the missing outcome file then fails the run."""
    assert run.container is not None
    own = _templated(run.container)
    return {
        "step": "run_container",
        "desc": f"Run {stage.name} in a container of the cluster",
        "tool": {
            "kind": "container",
            "command": ["slm"],
            "args": [
                "stage",
                "run",
                stage.name,
                "--driver",
                value("driver"),
                "--domain",
                value("domain"),
                "--version",
                value("version"),
                "--run-dir",
                value("run_dir"),
            ],
            **_tool(pod(own, run.timeout_s)),
        },
        "next": go(
            arc("failed", f"{DISTRIBUTED} and run_container.terminal_state != 'succeeded'"), arc("verify_receipt")
        ),
    }


def _templated(container: Container) -> Container:
    """The block with templates where workload values stand. Not validated again: a template is no name."""
    volumes = [
        Volume.model_construct(claim=value("claim") if index == 0 else v.claim, mount=v.mount, read_only=v.read_only)
        for index, v in enumerate(container.volumes)
    ]
    return container.model_copy(
        update={
            **{key: value(key) for key in ("image", "namespace", "service_account", "cpu", "memory", "gpus")},
            "volumes": volumes,
        }
    )


def _tool(own: Pod) -> dict[str, Any]:
    environment = [{"name": name, "value": value(key)} for name, key in ENVIRONMENT.items()]
    secret = {"secret_name": value("registry_secret"), "secret_key": value("registry_key")}
    return {
        "image": own.image,
        "namespace": own.namespace,
        "service_account": own.service_account,
        "env": [*environment, {"name": "SLM_REGISTRY", "value_from": secret}],
        "resources": {"requests": own.requests, "limits": own.limits},
        "node_selector": own.node_selector,
        "tolerations": own.tolerations,
        "volumes": own.volumes,
        "volume_mounts": own.mounts,
        "timeout_seconds": own.timeout_seconds,
        "backoff_limit": 0,
        "restart_policy": "Never",
    }


DEFAULT_RUN = StageRun(
    container=Container(
        gpus=1,
        tolerations=[Toleration(key="nvidia.com/gpu")],
        volumes=[Volume(claim="slm", mount=MOUNT)],
    )
)
"""What the committed playbooks carry; `slm playbooks emit --compute FILE` emits another deployment's."""


def inputs_of(stage: Stage, passed: Mapping[str, str]) -> dict[str, str]:
    """What a playbook that calls this one hands it: `passed`, and every container value."""
    own = {"runtime": value("runtime"), **passed}
    if not stage.gpu:
        return own
    return own | {"mode": value("mode")} | {key: value(key) for key in CONTAINER_VALUES}
