"""A fake cluster with the home's registry in a Secret and its artifact store shared, and cells made on it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "dagster"))
from fake_cluster import FakeCluster
from kube_kit import RUN, api_of

from slm_assets.domain.cluster import Cluster
from slm_assets.domain.compute import StageRun
from slm_assets.engines import kubernetes
from slm_assets.engines.in_process import Outcome, make_cell
from slm_assets.engines.kubernetes_api import Api
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Plan, Registry
from slm_assets.stages.plans import open_domain, open_version
from tests.conftest import Workplace

Make = Callable[..., Outcome]


@pytest.fixture
def home(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home with the domain `tiny`, its addresses in the environment."""
    for name in ("SLM_REGISTRY", "SLM_ARTIFACTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLM_HOME", str(workplace.home))
    monkeypatch.setenv("SLM_DOMAINS", str(workplace.domains))
    monkeypatch.setenv("SLM_ARTIFACTS", f"file://{workplace.home.parent}/store")
    return Home.from_env()


@pytest.fixture
def registry(home: Home) -> Registry:
    return open_domain(home, "tiny")[1]


@pytest.fixture
def plan(home: Home) -> Plan:
    domain, registry = open_domain(home, "tiny")
    return open_version(domain, registry, actor="ada")


@pytest.fixture
def fake(home: Home, tmp_path: Path) -> Iterator[FakeCluster]:
    secrets = {"slm-registry": {"url": home.environment()["SLM_REGISTRY"]}}
    with FakeCluster(tmp_path / "nodes", secrets=secrets) as cluster:
        yield cluster


@pytest.fixture
def api(fake: FakeCluster) -> Api:
    return api_of(fake)


@pytest.fixture
def make(registry: Registry, api: Api) -> Make:
    """Make a cell on the cluster."""

    def make(
        plan: Plan,
        stage: str = "dataset",
        *,
        run: StageRun = RUN,
        wait: bool = True,
        run_id: str = "run",
        cluster: Cluster | None = None,
        **given: Any,
    ) -> Outcome:
        progress = given.pop("progress", lambda _share, _note: None)
        where = kubernetes.Where(given.pop("api", api), cluster or Cluster(), run, **given)
        launch = partial(kubernetes.launch, where=where, wait=wait)
        return make_cell(
            registry, plan, stage, actor="ada", run_id=run_id, launch=launch, engine="kubernetes", progress=progress
        )

    return make
