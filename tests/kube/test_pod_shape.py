"""What a pod is made of: the domain's block over the deployment's, values as data, secrets by reference alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_cluster import HANG
from kube_kit import api_of
from kubernetes import client

from slm_assets.domain.cluster import Cluster, cluster_from_env, merged, read_cluster
from slm_assets.domain.compute import Container, StageRun
from slm_assets.engines.handed_over import Handed
from slm_assets.engines.kubernetes_api import connect
from slm_assets.engines.kubernetes_pod import manifest
from slm_assets.errors import BadInputError
from slm_assets.registry.home import Home
from slm_assets.stages.contract import StageRequest
from slm_assets.stages.plans import open_domain
from slm_assets.stages.validate import validate_domain

REQUEST = StageRequest(stage="finetune", domain="travel", version="v3", config="a" * 64)
HANDED = Handed("acme", "desk", "slm-0123456789abcdef")
CLUSTER = {
    "container": {
        "image": "registry.example/slm@sha256:" + "0" * 64, "namespace": "ml", "memory": "8Gi",
        "node_selector": {"pool": "cpu"}, "priority_class": "batch",
    },
    "registry": {"secret": "slm-db", "key": "dsn"},
    "secrets": "slm-credentials",
    "env": {"AWS_SHARED_CREDENTIALS_FILE": "/var/run/slm/secrets/aws", "SLM_HOME": "/elsewhere"},
    "artifacts": "s3://bucket/slm",
    "image_pull_secrets": ["pull"],
}  # fmt: skip
DOMAIN = Container.model_validate(
    {
        "gpus": 2, "memory": "64Gi", "node_selector": {"gpu": "h100"}, "service_account": "trainer",
        "tolerations": [{"key": "nvidia.com/gpu"}],
        "volumes": [{"claim": "models", "mount": "/models", "read_only": True}],
    }
)  # fmt: skip


def made(container: Container | None = DOMAIN, cluster: dict[str, Any] | None = None) -> dict[str, Any]:
    deployment = Cluster.model_validate(CLUSTER if cluster is None else cluster)
    body = manifest(HANDED, REQUEST, merged(container, deployment.container), deployment, 7200)
    found: dict[str, Any] = client.ApiClient().sanitize_for_serialization(body)
    return found


def test_a_domains_block_comes_before_the_deployments_key_by_key():
    pod = made()
    spec, (container,) = pod["spec"], pod["spec"]["containers"]
    assert container["image"] == CLUSTER["container"]["image"] and spec["priorityClassName"] == "batch"
    assert container["resources"]["limits"] == {"memory": "64Gi", "nvidia.com/gpu": "2"}
    assert container["resources"]["requests"] == {"cpu": "4", "memory": "64Gi", "nvidia.com/gpu": "2"}
    assert spec["nodeSelector"] == {"gpu": "h100"} and spec["serviceAccountName"] == "trainer"
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert spec["activeDeadlineSeconds"] == 7200 and spec["restartPolicy"] == "Never"
    assert spec["automountServiceAccountToken"] is False and spec["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert {"name": "volume-0", "persistentVolumeClaim": {"claimName": "models"}} in spec["volumes"]
    assert {"name": "volume-0", "mountPath": "/models", "readOnly": True} in container["volumeMounts"]
    assert merged(None, Container()) == Container(), "without any block it is the built-in one"


def test_secrets_are_references_and_ours_come_before_the_deployments_variables():
    pod = made()
    (container,) = pod["spec"]["containers"]
    env = {item["name"]: item.get("value") or item["valueFrom"] for item in container["env"]}
    assert env["SLM_REGISTRY"] == {"secretKeyRef": {"name": "slm-db", "key": "dsn"}}
    assert env["SLM_ARTIFACTS"] == "s3://bucket/slm" and env["SLM_SECRETS"] == "/var/run/slm/secrets"
    assert env["SLM_HOME"] == "/work/home" and env["AWS_SHARED_CREDENTIALS_FILE"] == "/var/run/slm/secrets/aws"
    assert {"name": "secrets", "secret": {"secretName": "slm-credentials"}} in pod["spec"]["volumes"]
    assert pod["spec"]["imagePullSecrets"] == [{"name": "pull"}]


def test_the_command_is_checked_ids_and_fixed_words():
    (container,) = made()["spec"]["containers"]
    assert container["command"] == [
        "slm", "stage", "run", "finetune", "--handed-over", "acme/desk/slm-0123456789abcdef",
        "--domain", "travel", "--version", "v3", "--run-dir", "/work/run",
    ]  # fmt: skip
    assert "args" not in container


HOSTILE = ["$(SLM_REGISTRY)", "x; rm -rf /", "{{ 7*7 }}", "a\nb", "../../etc", "x" * 500, "-x", "é"]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("key", ["image", "namespace", "service_account", "memory", "cpu", "priority_class"])
def test_hostile_text_in_a_domains_block_is_a_fault_with_its_place(home, workplace, key, value):
    block = json.dumps({"container": {key: value}})
    workplace.edit("tiny", lambda text: text.rstrip("\n") + f"\n  stages: {{dataset: {block}}}\n")
    faults = [fault for fault in validate_domain(home, "tiny") if fault.severity == "error"]
    assert faults and all(f.path.startswith(f"$.slm_domain.stages.dataset.container.{key}") for f in faults), faults


@pytest.mark.parametrize(
    "block",
    [
        {"gpus": 65}, {"retries": -1}, {"node_selector": {"a b": "c"}}, {"node_selector": {"a": "$(x)"}},
        {"tolerations": [{"key": "$(x)"}]}, {"volumes": [{"claim": "a", "mount": "/a/../etc"}]},
        {"secrets": "slm-registry"}, {"env": {"A": "b"}}, {"registry": {"secret": "x"}}, {"host_network": True},
        {"command": ["sh"]}, {"security_context": {"privileged": True}},
    ],
)  # fmt: skip
def test_what_only_the_deployment_may_choose_is_no_key_of_a_domain(home, workplace, block):
    text = json.dumps({"container": block})
    workplace.edit("tiny", lambda before: before.rstrip("\n") + f"\n  stages: {{dataset: {text}}}\n")
    assert any(fault.severity == "error" for fault in validate_domain(home, "tiny"))


@pytest.mark.parametrize("value", ["$(SLM_REGISTRY)", "x; rm -rf /", "{{ 7*7 }}", "`id`", "a\nb"])
def test_a_deployments_variable_stays_one_value(value):
    container = made(cluster={**CLUSTER, "env": {"NOTE": value}})["spec"]["containers"][0]
    # Kubernetes expands $(NAME) in a variable's value, and in nothing else of ours.
    assert [item for item in container["env"] if item["name"] == "NOTE"] == [{"name": "NOTE", "value": value}]


def test_a_deployments_file_is_read_and_a_wrong_one_tells_every_fault(tmp_path: Path):
    path = tmp_path / "cluster.yaml"
    path.write_text(json.dumps(CLUSTER))
    assert cluster_from_env({"SLM_CLUSTER": str(path)}) == Cluster.model_validate(CLUSTER)
    assert cluster_from_env({}) == Cluster()
    path.write_text("container: {gpus: many}\nregistry: {secret: 'A B'}\nsecret: x\n")
    with pytest.raises(BadInputError) as error:
        read_cluster(path)
    told = str(error.value)
    assert all(place in told for place in ("$.container.gpus", "$.registry.secret", "$.secret:")), told
    for text in ("a: [", "- 1"):
        path.write_text(text)
        with pytest.raises(BadInputError, match="cluster"):
            read_cluster(path)
    with pytest.raises(BadInputError, match="No such file"):
        read_cluster(tmp_path / "absent.yaml")


def test_without_a_cluster_a_stage_says_so_before_anything_is_opened(workplace, tmp_path, monkeypatch):
    (tmp_path / "none").write_text("")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("SLM_DOMAINS", str(workplace.domains))
    with pytest.raises(BadInputError, match="there is no Kubernetes cluster"):
        connect()
    done = workplace.slm("run", "tiny", "--engine", "kubernetes")
    assert done.returncode == 2 and "there is no Kubernetes cluster" in done.stdout + done.stderr
    assert open_domain(Home.from_env(workplace.home), "tiny")[1].plans("tiny") == []


@pytest.mark.parametrize("text", ["a/b", "a/b/c/d", "a/b/../c", "a/b/", "a/b/$(x)", "a/b/" + "x" * 64])
def test_a_place_in_the_store_that_is_none_is_refused(text):
    with pytest.raises(BadInputError, match="is no place in the store"):
        Handed.parse(text)


def test_a_pod_executes_only_what_was_handed_over_for_its_cell(workplace, home, registry, plan):
    from slm_assets.engines.handed_over import execute_from_store, hand_to_store
    from slm_assets.stages.contract import Envelope
    from slm_assets.stages.requests import request_for

    handed = Handed("local", "default", "slm-x")
    run = workplace.home / "pod"
    with pytest.raises(BadInputError, match=r"holds no request\.json"):
        execute_from_store(home, "dataset", "tiny", "v1", handed, run)
    request = request_for(registry, plan, "dataset")
    forged = request.model_copy(update={"params": {**request.params, "train_fraction": 0.5}})
    hand_to_store(forged, Envelope(run_id="r"), registry.store, handed)
    with pytest.raises(BadInputError, match="is not the one"):
        execute_from_store(home, "dataset", "tiny", "v1", handed, run)
    hand_to_store(request, Envelope(run_id="r", tenant="rival"), registry.store, handed)
    with pytest.raises(BadInputError, match="an envelope of rival/default"):
        execute_from_store(home, "dataset", "tiny", "v1", handed, run)


def test_every_call_names_a_pod_of_its_own_tenant(fake, registry, plan, make, home):
    fake.fate = lambda _pod: HANG
    make(plan, wait=False)
    (pod,) = fake.seen
    labels = pod["metadata"]["labels"]
    assert (labels["slm/tenant"], labels["slm/project"]) == ("local", "default")
    assert [pod.metadata.name for pod in api_of(fake).pods("slm").values()] == [pod["metadata"]["name"]]


def test_the_client_is_not_imported_until_a_stage_needs_it():
    code = (
        "import sys, slm_assets.definitions, slm_assets.engines.kubernetes, slm_assets.engines.choose\n"
        "assert not {'kubernetes', 'dagster_k8s'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_wait_in_the_config_is_a_wait(monkeypatch):
    from slm_assets.engines import choose, kubernetes

    seen = []
    monkeypatch.setattr(kubernetes, "connect", lambda: None)
    monkeypatch.setattr(kubernetes, "launch", lambda *_a, wait, **_k: seen.append(wait))
    for run in (StageRun(engine="kubernetes"), StageRun(engine="kubernetes", wait=True)):
        choose.engine_of("label", {"label": run}, wait=False).launch(*[None] * 5)
    assert seen == [False, True]
