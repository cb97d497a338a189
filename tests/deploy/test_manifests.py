"""The manifests are what Kubernetes, Helm and Dagster take: held against their own schemas."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "slm-service"
KUBERNETES = ("1.28.0", "1.34.0")
"""The oldest and newest version that the manifests are for."""
OTHER_KINDS = {"ServiceMonitor", "PrometheusRule"}
"""Of the Prometheus operator: Kubernetes' own schemas do not know them."""
GIVEN = {
    "image": {"repository": "registry.example/slm-service", "digest": f"sha256:{'a' * 64}"},
    "hosts": ["slm.example.org"],
    "tokens": {"aliases": ["acme=ACME_TOKEN", "*=OPERATOR_TOKEN"]},
    "artifacts": {"url": "s3://models/production", "secret": "slm-artifacts"},
    "otlpEndpoint": "http://collector:4318",
    "domains": ["travel"],
}


def rendered(values: dict[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    """kind → manifest, as Helm's own engine makes them."""
    helm = pytest.importorskip("helm_python", reason="Helm's library has no wheel for this platform")
    with helm.Chart.load(CHART) as chart:
        files = chart.render(values={**GIVEN, **(values or {})}, name="live", namespace="slm")
    found = [one for text in files.values() for one in yaml.safe_load_all(text) if one]
    assert len({one["kind"] for one in found}) == len(found)
    return {one["kind"]: one for one in found}


def validate(manifest: dict[str, Any]) -> None:
    import kubernetes_validate

    if manifest["kind"] not in OTHER_KINDS:
        for version in KUBERNETES:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_a_manifest_with_a_word_that_kubernetes_does_not_know_is_found() -> None:
    import kubernetes_validate

    wrong = rendered()["Deployment"]
    wrong["spec"]["template"]["spec"]["containers"][0]["imagePullPolcy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(wrong)


def test_the_chart_has_no_finding_and_refuses_values_that_cannot_work() -> None:
    helm = pytest.importorskip("helm_python", reason="Helm's library has no wheel for this platform")
    report = helm.lint(CHART, GIVEN, strict=True)
    assert [m for m in report["messages"] if m["severity"] >= 2] == [] and report["errors"] == []
    wrong: list[dict[str, Any]] = [
        {"image": {"repository": "registry.example/slm-service"}},
        {"image": {"repository": "registry.example/slm-service", "tag": "latest"}},
        {"hosts": []},
        {"hosts": ["$(reboot)"]},
        {"tokens": {"aliases": ["acme=s3cr3t token"]}},
        {"artifacts": {"url": "s3://key:secret@models"}},
        {"replicaCount": 3},
    ]
    for values in wrong:
        with pytest.raises(helm.HelmError):
            rendered(values)


@pytest.mark.parametrize("values", [{}, {"autoscaling": {"enabled": False}}, {"artifacts": {"url": ""}}], ids=str)
def test_what_the_chart_makes_is_valid(values: dict[str, Any]) -> None:
    found = rendered(values)
    assert set(found) > OTHER_KINDS
    for manifest in found.values():
        validate(manifest)
        assert manifest["metadata"]["name"] == "live-slm-service"


def test_the_deployment_is_hardened_and_starts_the_service_as_it_can_be_started() -> None:
    from typer.main import get_command

    from slm_assets.cli.commands import app

    pod = rendered()["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False and pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert container["image"].endswith("@" + GIVEN["image"]["digest"])
    command, *arguments = container["args"]
    parsed = get_command(app).commands[command].make_context(command, list(arguments), resilient_parsing=True)
    assert parsed.params["domain"] in (["travel"], ("travel",)) and parsed.params["host"] == "0.0.0.0"
    named = {one["name"]: one for one in container["env"]}
    assert named["SLM_ALLOW_HOSTS"]["value"] == "slm.example.org live-slm-service $(POD_IP)"
    assert list(named).index("POD_IP") < list(named).index("SLM_ALLOW_HOSTS"), "a variable may use only earlier ones"
    assert named["SLM_TOKENS"]["value"] == "acme=ACME_TOKEN *=OPERATOR_TOKEN"
    written = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert written == {"/var/lib/slm", "/tmp"}


def test_the_workload_is_found_by_everything_that_selects_it() -> None:
    found = rendered()
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        found["Deployment"]["spec"]["selector"]["matchLabels"],
        found["Service"]["spec"]["selector"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector and selector.items() <= labels for selector in selectors)
    service = found["Service"]["metadata"]["labels"].items()
    assert found["ServiceMonitor"]["spec"]["selector"]["matchLabels"].items() <= service
    assert found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == "live-slm-service"


def test_nothing_under_deploy_holds_a_secret() -> None:
    for path in DEPLOY.rglob("*"):
        if not path.is_file() or path.suffix not in {".yaml", ".tpl", ".json"}:
            continue
        text = path.read_text()
        assert "kind: Secret\n" not in text, path
        for word in re.findall(r"[A-Za-z0-9+/]{40,}={0,2}", text):
            assert not _decodes(word), f"{path}: {word[:8]}… looks like a key"
        assert not re.search(r"(?i)(password|token|secret_access_key)\"?: *[\"'][^\"'{}$]+[\"']", text), path


def _decodes(word: str) -> bool:
    """Whether it is base64 of what no name is: digits, both cases, and more than words."""
    mixed = bool(re.search(r"\d", word) and re.search(r"[a-z]", word) and re.search(r"[A-Z]", word))
    try:
        return mixed and bool(base64.b64decode(word, validate=True))
    except ValueError:
        return False


@pytest.mark.parametrize("path", sorted((DEPLOY / "kubernetes").glob("*.yaml")), ids=lambda path: path.name)
def test_the_plain_manifests_are_valid(path: Path) -> None:
    for manifest in yaml.safe_load_all(path.read_text()):
        validate(manifest)


VERBS = {"read": "get", "list": "list", "create": "create", "delete": "delete"}


def test_dagster_may_do_what_its_code_does_and_no_more() -> None:
    """The calls are read out of dagster_k8s as it is installed: a new one shows here."""
    import dagster_k8s

    manifests = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "access.yaml").read_text()))
    roles = [one for one in manifests if one["kind"] == "Role"]
    assert not [one for one in manifests if one["kind"].startswith("Cluster")]
    allowed = {
        (resource, verb) for role in roles for rule in role["rules"] for resource in rule["resources"]
        for verb in rule["verbs"]
    }  # fmt: skip
    assert not [one for one in allowed if "*" in one or one[0] in {"secrets", "roles", "pods/exec"}]
    source = "\n".join(path.read_text() for path in Path(dagster_k8s.__file__).parent.rglob("*.py"))
    calls = re.findall(
        r"\b(read|list|create|delete|patch|replace)_namespaced_(pod_log|pod|job_status|job|event)\b", source
    )
    needed = {
        (re.sub(r"^(pod|job|event)$", r"\1s", what).replace("pod_", "pods/").replace("job_", "jobs/"), VERBS[verb])
        for verb, what in calls
    }
    assert {("pods", "create"), ("pods/log", "get"), ("jobs", "create")} <= needed
    assert needed <= allowed, needed - allowed
    assert allowed - needed <= {  # a watch is a list that stays; the rest is for whoever looks why a pod is not there
        ("pods", "watch"), ("jobs", "watch"), ("jobs", "get"), ("pods/status", "get"), ("events", "get"),
    }  # fmt: skip


@pytest.fixture
def values() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "helm" / "dagster.values.yaml").read_text())
    return found


def test_the_run_queue_of_the_values_is_what_dagster_takes(values: dict[str, Any]) -> None:
    from dagster._config import process_config, resolve_to_config_type
    from dagster._core.instance.config import dagster_instance_config_schema
    from dagster._core.run_coordinator import QueuedRunCoordinator

    daemon = values["dagsterDaemon"]
    queue = snake(daemon["runCoordinator"]["config"]["queuedRunCoordinator"])
    checked = process_config(resolve_to_config_type(QueuedRunCoordinator.config_type()), queue)
    assert checked.success, checked.errors
    limits = {limit["key"]: limit for limit in queue["tag_concurrency_limits"]}
    assert limits["dagster/partition/domain"]["value"] == {"applyLimitPerUniqueValue": True}
    instance = {
        **values["additionalInstanceConfig"],
        "retention": snake({k: v for k, v in values["retention"].items() if k != "enabled"}),
        "telemetry": values["telemetry"],
        "run_monitoring": snake(daemon["runMonitoring"]),
        "sensors": snake(daemon["sensors"]),
        "schedules": snake(daemon["schedules"]),
    }
    schema = dagster_instance_config_schema()
    for key, value in instance.items():
        checked = process_config(schema[key].config_type, value)
        assert checked.success, (key, checked.errors)
    assert instance["run_retries"]["retry_on_asset_or_op_failure"] is False
    assert daemon["runRetries"]["enabled"] is False, "the chart would write the key a second time"


def test_the_run_launcher_of_the_values_makes_a_valid_job(values: dict[str, Any]) -> None:
    from dagster_k8s.job import DagsterK8sJobConfig, UserDefinedDagsterK8sConfig, construct_dagster_k8s_job
    from kubernetes.client import ApiClient

    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    given = UserDefinedDagsterK8sConfig.from_dict(snake(launcher["runK8sConfig"]))
    config = DagsterK8sJobConfig(
        job_image="registry.example/slm-dagster:0.1.0",
        dagster_home=values["global"]["dagsterHome"],
        resources=launcher["resources"],
        service_account_name=values["global"]["serviceAccountName"],
    )
    job = construct_dagster_k8s_job(config, ["dagster", "api"], "run-1", given)
    manifest = ApiClient().sanitize_for_serialization(job)
    validate(manifest)
    pod = manifest["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["serviceAccountName"] == "slm-dagster"
    assert pod["containers"][0]["securityContext"]["allowPrivilegeEscalation"] is False
    accounts = yaml.safe_load_all((DEPLOY / "kubernetes" / "access.yaml").read_text())
    assert pod["serviceAccountName"] in {one["metadata"]["name"] for one in accounts if one["kind"] == "ServiceAccount"}


def test_what_the_values_name_is_named_alike_everywhere(values: dict[str, Any]) -> None:
    """Namespace, volume and secrets, in the two charts, the access rules and the operator's page."""
    service = yaml.safe_load((CHART / "values.yaml").read_text())
    (location,) = values["dagster-user-deployments"]["deployments"]
    claims = {v["persistentVolumeClaim"]["claimName"] for v in location["volumes"] if "persistentVolumeClaim" in v}
    assert claims == {service["home"]["claim"]}
    named = {env["name"]: env for env in location["env"]}
    assert named["SLM_REGISTRY"]["valueFrom"]["secretKeyRef"] == {"name": service["registry"]["secret"], "key": "url"}
    assert values["runLauncher"]["config"]["k8sRunLauncher"]["jobNamespace"] == "slm"


def snake(value: Any) -> Any:
    """The chart's keys as Dagster's own; what lies below a limit's value, or is of Kubernetes, stays as it is."""
    if isinstance(value, list):
        return [snake(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        re.sub(r"(?<=[a-z])([A-Z])", lambda found: f"_{found[1].lower()}", key): inner
        if key in {"value", "podSpecConfig", "containerConfig", "jobSpecConfig"}
        else snake(inner)
        for key, inner in value.items()
    }
