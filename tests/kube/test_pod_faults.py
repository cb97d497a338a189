"""What may happen to a pod and to the API server: told apart, tried again or not, and only the receipt counts."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dagster import DagsterExecutionInterruptedError
from fake_cluster import CRASH, DEADLINE, EVICT, HANG, IDLE, NO_IMAGE, NO_SECRET, OOM, UNSCHEDULABLE, VANISH, refused
from kube_kit import RUN, api_of, works_here

from slm_assets import canonical
from slm_assets.domain.cluster import Cluster
from slm_assets.domain.compute import Container
from slm_assets.engines import kubernetes
from slm_assets.engines.kubernetes_api import KubeError
from slm_assets.registry import jobs

sys.path.insert(0, str(Path(__file__).parents[1] / "dagster"))
import fake_stages


@pytest.fixture(autouse=True)
def _quick(monkeypatch, fake, home):
    """Stages that answer at once, done by the pods in this process."""
    fake_stages.install(monkeypatch.setattr)
    monkeypatch.setattr(kubernetes, "WATCH_S", 1)
    works_here(fake, home)


def later(seconds: float):
    return lambda: datetime.now(UTC) + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("fate", "seconds", "pods", "said", "cure"),
    [
        (OOM, 0, 1, "oom, OOMKilled (exit code 137)", "raise stages.dataset.container.memory, now 16Gi"),
        (NO_IMAGE, 400, 1, "image, ImagePullBackOff: Back-off pulling", "see that the image slm-assets:latest exists"),
        (DEADLINE, 0, 1, "deadline, DeadlineExceeded", "raise stages.dataset.timeout_s, now 600"),
        (HANG, 800, 1, "deadline, Overdue", "raise stages.dataset.timeout_s, now 600"),
        (UNSCHEDULABLE, 100_000, 1, "unschedulable, Unschedulable: 0/3 nodes", "ask for less"),
        (NO_SECRET, 400, 1, "config, CreateContainerConfigError", "see that the Secrets"),
        (CRASH, 0, 1, "exited, Error (exit code 1)", "read what the pod said"),
        (IDLE, 0, 1, "exited, Completed (exit code 0)", "read what the pod said"),
        (EVICT, 0, 3, "evicted, Evicted (exit code 137): The node was low", "run it again"),
        (VANISH, 0, 3, "lost, Deleted", "run it again"),
    ],
)
def test_each_end_without_a_receipt_is_told_apart(fake, registry, plan, make, fate, seconds, pods, said, cure):
    fake.fate = lambda _pod: fate
    cluster = Cluster.model_validate({"registry": {"secret": "absent"}}) if fate == NO_SECRET else None
    receipt = make(plan, now=later(seconds), cluster=cluster).receipt
    assert (receipt.status, receipt.error_kind) == ("failed", "fault")
    assert said in receipt.error and cure in receipt.error, receipt.error
    assert ("the last words of the pod" in receipt.error) is (fate in (OOM, DEADLINE, CRASH, IDLE))
    assert len(fake.seen) == pods and len({pod["metadata"]["name"] for pod in fake.seen}) == pods
    assert fake.pods() == {} and jobs.in_flight(registry) == []
    job = jobs.of_cell(registry, "tiny", 1, "dataset")
    assert job["detail"]["attempt"] == pods and job["detail"]["kind"] == said.partition(",")[0]
    works_here(fake, registry.home)
    assert make(plan).receipt.status == "succeeded", "asked for again it is tried again"


@pytest.mark.parametrize("fate", [EVICT, VANISH])
def test_a_pod_that_the_cluster_took_away_is_started_again(fake, registry, plan, make, fate):
    fake.fate = lambda _pod: fate if len(fake.seen) == 1 else "here"
    assert make(plan).receipt.status == "succeeded" and len(fake.seen) == 2
    none = RUN.model_copy(update={"container": Container(retries=0)})
    fake.fate = lambda _pod: fate
    assert make(plan, "label", run=none).receipt.status == "failed" and len(fake.seen) == 3


@pytest.mark.parametrize("end", [OOM, EVICT, DEADLINE, CRASH, VANISH])
def test_a_receipt_counts_however_its_pod_ended(fake, plan, make, end):
    fake.fate = lambda _pod: f"after {end}"
    assert make(plan).receipt.status == "succeeded" and len(fake.seen) == 1


def test_a_stage_that_failed_by_its_own_receipt_is_not_tried_again(fake, registry, plan, make, monkeypatch):
    def broken(_context):
        raise RuntimeError("the planted fault")

    monkeypatch.setattr("slm_assets.stages.dataset.run", broken)
    receipt = make(plan).receipt
    assert (receipt.status, receipt.error) == ("failed", "RuntimeError: the planted fault") and len(fake.seen) == 1


def test_somebody_elses_receipt_and_altered_outputs_are_refused(fake, registry, plan, make):
    work = fake.work

    def forged(pod):
        work(pod)
        key = f"handed/{pod['metadata']['name']}/receipt.json"
        other = canonical.dumps({**__import__("json").loads(registry.store.read_note(key)), "request_digest": "0" * 64})
        registry.store.write_note(key, other.replace(b'"version":"v1"', b'"version":"v2"'))

    fake.work = forged
    assert "left no receipt" in make(plan).receipt.error
    fake.work = work
    receipt = make(plan).receipt
    blob = Path(registry.store._blob(registry.store.describe(receipt.outputs["dataset"].sha256).files["result.json"]))
    blob.chmod(0o644)
    blob.write_text("tampered")
    before = len(fake.seen)
    blob.unlink()
    assert make(plan).receipt.outputs == receipt.outputs and len(fake.seen) == before + 1, "made again"


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("answer", ["lost", refused(500), refused(429), refused(503)])
def test_an_answer_that_is_lost_or_an_error_starts_nothing_twice(fake, registry, plan, make, answer, wait):
    failures = iter([answer] * 2)
    fake.fault = lambda request: next(failures, None) if request.method.value == "POST" else None
    found = make(plan, wait=wait).receipt
    if not wait:
        assert found.error_kind == "submitted" and "the cluster is away" in found.error
        found = make(plan, wait=True, run_id="later").receipt
    assert found.status == "succeeded" and len({pod["metadata"]["name"] for pod in fake.seen}) == 1


def test_an_api_that_is_away_lets_the_run_go_and_one_that_refuses_fails(fake, registry, plan, make, monkeypatch):
    monkeypatch.setattr(kubernetes, "AWAY_S", 0.0)
    fake.fault = lambda _request: refused(503)
    assert "the cluster is away, dataset waits" in make(plan).receipt.error
    assert len(jobs.in_flight(registry)) == 1
    fake.fault = lambda _request: refused(403, "pods is forbidden: User slm cannot create")
    with pytest.raises(KubeError, match=r"403 pods is forbidden(.|\n)*rights that deploy"):
        make(plan)
    assert jobs.in_flight(registry) == []
    fake.fault = lambda _request: None
    assert make(plan).receipt.status == "succeeded"


def test_a_slow_api_only_takes_longer(fake, plan, make):
    fake.fault = lambda _request: 0.7
    assert make(plan).receipt.status == "succeeded" and len(fake.seen) == 1


def test_an_api_that_answers_too_late_starts_nothing_twice(fake, registry, plan, make, monkeypatch):
    slow = iter([2.0, 2.0])
    fake.fault = lambda _request: next(slow, None)
    api = api_of(fake, read_s=0.5)
    assert make(plan, api=api).receipt.status == "succeeded" and len(fake.seen) == 1


def test_watches_that_are_dropped_and_logs_that_are_cut_lose_nothing(fake, plan, make):
    fake.drop_watches, fake.cut_logs = True, 3
    lines = [b'{"__dagster_pipes_version": "0.1", "method": "report_custom_message", "params": {"payload": '
             b'{"slm_progress": [%.1f, "step"]}}}' % (n / 10) for n in range(10)]  # fmt: skip
    work = fake.work

    def wordy(pod):
        for line in lines:
            fake.say(pod["metadata"]["name"], line)
        fake.until(lambda: fake.cut_logs == 0)
        work(pod)

    fake.work = wordy
    shares = []
    receipt = make(plan, progress=lambda share, note: shares.append(share) if note == "step" else None).receipt
    assert receipt.status == "succeeded" and fake.dropped > 0
    assert shares == [n / 10 for n in range(10)], "each line once, in order"


def test_a_name_that_somebody_elses_pod_has_is_refused(fake, registry, api, plan, make):
    name = kubernetes.pod_name("local", "default", fake_request(registry, plan), 1)
    fake.fate = lambda _pod: HANG
    container = {"name": "x", "image": "y", "command": ["true"]}
    api.create("slm", {"metadata": {"name": name}, "spec": {"containers": [container]}})
    with pytest.raises(KubeError, match="is not of this request"):
        make(plan)
    assert name in fake.pods(), "it is left alone"


def fake_request(registry, plan):
    from slm_assets.stages.requests import request_for

    return request_for(registry, plan, "dataset")


def test_whoever_asks_again_finds_the_pod_that_runs(fake, registry, plan, make):
    fake.fate = lambda _pod: HANG
    assert make(plan, wait=False).receipt.error_kind == "submitted"
    (name,) = fake.pods()
    for number in range(3):
        assert make(plan, wait=False, run_id=f"again{number}").receipt.error_kind == "submitted"
    # A kill between the pod's creation and the note of it: the same name, which is there already.
    jobs.begin(registry, "tiny", 1, "dataset", **{
        key: jobs.of_cell(registry, "tiny", 1, "dataset")[key]
        for key in ("request", "run_id", "playbook", "engine", "detail")
    })  # fmt: skip
    assert make(plan, wait=False).receipt.error_kind == "submitted"
    assert list(fake.pods()) == [name] and len(fake.seen) == 1
    fake.work(fake.pods()[name])
    assert make(plan, wait=False).receipt.status == "succeeded" and fake.pods() == {}


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, DagsterExecutionInterruptedError])
def test_a_run_that_waits_and_is_interrupted_deletes_its_pod(
    fake, registry, plan, make, api, monkeypatch, interruption
):
    fake.fate = lambda _pod: HANG

    def interrupted(*_where):
        fake.until(fake.pods)
        raise interruption

    monkeypatch.setattr(api, "await_change", interrupted)
    monkeypatch.setattr("slm_assets.engines.kubernetes_logs.READ_S", 0.2)
    with pytest.raises(interruption):
        make(plan)
    assert fake.pods() == {} and len(fake.deleted) == 1 and jobs.in_flight(registry) == []
