"""How the tests of pods reach the fake cluster, and what its pods do without a process of their own."""

from __future__ import annotations

from typing import Any

from fake_cluster import FakeCluster
from kubernetes import client

from slm_assets.domain.compute import StageRun
from slm_assets.engines.handed_over import Handed, execute_from_store
from slm_assets.engines.kubernetes_api import Api
from slm_assets.registry.home import Home

RUN = StageRun(engine="kubernetes", timeout_s=600)


def works_here(fake: FakeCluster, home: Home) -> None:
    """Pods of fate HERE do what the command in them says, in this process."""

    def work(pod: dict[str, Any]) -> None:
        words = pod["spec"]["containers"][0]["command"]
        given = dict(zip(words[4::2], words[5::2], strict=True))
        handed = Handed.parse(given["--handed-over"])
        folder = fake.folder / handed.name / "run"
        execute_from_store(home, words[3], given["--domain"], given["--version"], handed, folder)

    fake.work = work
    fake.fate = lambda _pod: "here"


def api_of(fake: FakeCluster, **given: Any) -> Api:
    configuration = client.Configuration(host=fake.url)
    configuration.retries = 0
    return Api(client.CoreV1Api(client.ApiClient(configuration)), **given)
