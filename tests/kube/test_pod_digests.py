"""A version made in pods has the digests of one made in this process."""

from __future__ import annotations

from dataclasses import replace

from slm_assets.engines.in_process import make_cell
from slm_assets.registry import jobs
from slm_assets.stages.plans import open_domain, open_version
from slm_assets.stages.table import STAGES


def test_a_version_in_pods_has_the_digests_of_one_in_process(home, fake, registry, plan, make):
    other = replace(home, root=home.root.with_name("other"), artifacts_url=str(home.root.with_name("other-store")))
    other = replace(other, registry_url=f"sqlite:///{other.root}/registry.db")
    domain, local = open_domain(other, "tiny")
    here = open_version(domain, local, actor="ada")
    assert here.config == plan.config
    found: list[str] = []
    for stage in STAGES:
        mine = make_cell(local, here, stage.name, actor="ada").receipt
        theirs = make(plan, stage.name).receipt
        assert mine.status == theirs.status, (mine.error, theirs.error)
        if mine.status == "deferred":
            break
        assert {k: a.sha256 for k, a in mine.outputs.items()} == {k: a.sha256 for k, a in theirs.outputs.items()}
        found.append(stage.name)
    assert found[:5] == ["dataset", "label", "finetune", "evaluate", "package"]
    assert jobs.in_flight(registry) == [] and fake.pods() == {}, "every pod was taken away"
    assert registry.cell("tiny", 1, "label")["engine"] == "kubernetes"
    assert [pod["metadata"]["labels"]["slm/stage"] for pod in fake.seen][:5] == found[:5]
