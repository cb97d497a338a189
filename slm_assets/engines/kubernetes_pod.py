"""The pod of a stage: `slm stage run` in the deployment's image, its request and its receipt in the artifact store.

Every value of a config is an item of the pod's own structure; none is part of a command line that a shell reads.
"""

from __future__ import annotations

from typing import Any

from slm_assets import canonical
from slm_assets.domain.cluster import Cluster
from slm_assets.domain.compute import Container, pod
from slm_assets.engines.handed_over import Handed
from slm_assets.stages.contract import StageRequest

MANAGED_BY = "app.kubernetes.io/managed-by"
OWNER = "slm-assets"
REQUEST_LABEL = "slm/request"
SECRETS_MOUNT = "/var/run/slm/secrets"
WORK = "/work"
RUN_DIR = f"{WORK}/run"
SELECTOR = f"{MANAGED_BY}={OWNER}"


def pod_name(tenant: str, project: str, request: StageRequest, attempt: int) -> str:
    """The name of the pod that makes a request: the same for whoever asks for it again, so that a second one cannot
    be started. 20 characters."""
    return f"slm-{canonical.digest([tenant, project, request.digest, attempt])[:16]}"


def manifest(handed: Handed, request: StageRequest, container: Container, cluster: Cluster, timeout_s: int) -> Any:
    """The pod as the API server takes it, with the domain's `container` already merged into the deployment's."""
    from dagster_k8s.pipes import build_pod_body

    own = pod(container, timeout_s)
    return build_pod_body(
        pod_name=handed.name,
        image=own.image,
        command=command(handed, request),
        env_vars=variables(cluster),
        base_pod_meta={
            "labels": {
                MANAGED_BY: OWNER,
                REQUEST_LABEL: request.digest[:63],
                "slm/domain": request.domain,
                "slm/version": request.version,
                "slm/stage": request.stage,
                "slm/tenant": handed.tenant,
                "slm/project": handed.project,
            },
        },
        base_pod_spec=_spec(own, container, cluster),
    )


def command(handed: Handed, request: StageRequest) -> list[str]:
    """Ids that the request's own types have checked, and fixed words."""
    cell = ["--domain", request.domain, "--version", request.version]
    return ["slm", "stage", "run", request.stage, "--handed-over", str(handed), *cell, "--run-dir", RUN_DIR]


def variables(cluster: Cluster) -> dict[str, str]:
    """The plain variables of the container; a deployment's own come first, and ours over them."""
    ours = {"SLM_HOME": f"{WORK}/home", "SLM_DOMAINS": f"{WORK}/domains", "HOME": WORK}
    if cluster.artifacts:
        ours["SLM_ARTIFACTS"] = cluster.artifacts
    if cluster.secrets:
        ours["SLM_SECRETS"] = SECRETS_MOUNT
    return {**cluster.env, **ours}


def _spec(own: Any, container: Container, cluster: Cluster) -> dict[str, Any]:
    volumes = [*own.volumes, {"name": "work", "empty_dir": {}}]
    mounts = [*own.mounts, {"name": "work", "mount_path": WORK}]
    if cluster.secrets:
        volumes.append({"name": "secrets", "secret": {"secret_name": cluster.secrets}})
        mounts.append({"name": "secrets", "mount_path": SECRETS_MOUNT, "read_only": True})
    reference = {"name": cluster.registry.secret, "key": cluster.registry.key}
    spec: dict[str, Any] = {
        "restart_policy": "Never",
        "active_deadline_seconds": own.timeout_seconds,
        "service_account_name": own.service_account,
        "automount_service_account_token": False,
        "node_selector": own.node_selector,
        "tolerations": own.tolerations,
        "image_pull_secrets": [{"name": name} for name in cluster.image_pull_secrets],
        "security_context": {"run_as_non_root": True, "seccomp_profile": {"type": "RuntimeDefault"}},
        "volumes": volumes,
        "containers": [
            {
                "name": "stage",
                "resources": {"requests": own.requests, "limits": own.limits},
                "env": [{"name": "SLM_REGISTRY", "value_from": {"secret_key_ref": reference}}],
                "volume_mounts": mounts,
                "security_context": {"allow_privilege_escalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
    }
    return spec if container.priority_class is None else spec | {"priority_class_name": container.priority_class}
