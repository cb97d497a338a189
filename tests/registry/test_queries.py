"""Reads over many versions, on SQLite and on Postgres."""

from __future__ import annotations

import pytest

from slm_assets.registry import queries
from slm_assets.registry.home import Home
from slm_assets.registry.queries import Urn, parse_urn
from slm_assets.registry.registry import CellRecord, Registry

METRIC = {"subject": "challenger", "mode": "end_to_end", "slice": "", "value": 0.5, "low": 0.4, "high": 0.6, "n": 9}
VERDICT = {
    "role": "r", "verdict": "PASS", "metric": "m", "slice": "", "value": None, "low": None, "high": None,
    "threshold": None, "n": 9, "n_needed": None, "blocking": True, "reason": "", "evidence": "e",
}  # fmt: skip


@pytest.fixture
def registry(home: Home) -> Registry:
    """d v1: dataset, an evaluation and a failed deploy; v2: a dataset that grew from v1's."""
    registry = Registry(home)
    columns = {"config": "c" * 64, "seed": "5" * 64, "parent": None, "incumbents": {}, "best": {}, "epoch": 1}
    columns |= {"window": None, "params": {}, "reason": "test"}
    for _ in range(2):
        registry.open_plan("d", number=None, actor="a", make=lambda _n: columns)
    one = registry.urn("dataset", "d", 1)
    made(registry, 1, "dataset", "dataset", [], verdicts=[{**VERDICT, "gate": "leakage"}])
    made(registry, 1, "evaluate", "eval", [one], roles={"r": "pass"}, verdicts=[{**VERDICT, "gate": "floor"}])
    made(registry, 1, "deploy", None, [], status="failed")
    made(registry, 2, "dataset", "dataset", [one], verdicts=[{**VERDICT, "gate": "leakage"}])
    return registry


def made(registry: Registry, number: int, stage: str, kind: str | None, parents: list[str], **more) -> None:
    roles, status = more.pop("roles", {}), more.pop("status", "succeeded")
    sha = f"{number}{stage}".encode().hex().ljust(64, "0")
    entry = {"kind": kind, "name": "d", "version": number, "sha256": sha, "bytes": 1, "rows": 7, "request": "q"}
    error_kind = "held" if status == "failed" else ""
    metrics = [{**METRIC, "role": role, "metric": m, "epoch": 1} for role in roles for m in ("m", "exact")]
    registry.commit(
        CellRecord(
            domain="d", number=number, stage=stage, request="q", status=status, run_id="run", engine="e", actor="a",
            receipt={"error_kind": error_kind, "result": {"roles": roles}}, entries=[entry] if kind else [],
            parents=parents, metrics=metrics, **more,
        )
    )  # fmt: skip


def test_cells_bring_only_what_says_something(registry):
    found = {
        (c["number"], c["stage"]): (c["status"], c["error_kind"], c["roles"]) for c in queries.cells(registry, "d")
    }
    assert found == {
        (1, "dataset"): ("succeeded", None, None),
        (1, "evaluate"): ("succeeded", None, {"r": "pass"}),
        (1, "deploy"): ("failed", "held", None),
        (2, "dataset"): ("succeeded", None, None),
    }
    assert len(queries.cells(registry, "d", 2)) == 1


def test_verdicts_of_what_was_not_deployed(registry):
    assert [(v["number"], v["gate"]) for v in queries.unfinished_verdicts(registry, "d")] == [(2, "leakage")]


def test_metrics_are_filtered_by_every_key(registry):
    assert len(queries.metrics(registry, "d")) == 2
    assert [m["metric"] for m in queries.metrics(registry, "d", metric=["exact"], role=["r"], slice=[""])] == ["exact"]
    assert queries.metrics(registry, "d", subject=["floor"]) == queries.metrics(registry, "d", since=2) == []
    assert {m["metric"] for m in queries.metric_names(registry, "d", 1)} == {"m", "exact"}


def test_entries_plans_and_digests(registry):
    urns = {registry.urn("dataset", "d", n): Urn("local", "default", "dataset", "d", n) for n in (1, 2, 3)}
    assert sorted(queries.entries(registry, urns.values())) == sorted(urns)[:2]
    assert all(parse_urn(urn) == parts for urn, parts in urns.items())
    assert queries.rows_of(registry, "dataset", "d") == {1: 7, 2: 7}
    assert set(queries.plans(registry, "d", [1, 2, 9])) == {1, 2}
    assert [p["number"] for p in queries.opened_with(registry, "config", "cccccccc")] == [1, 2]
    sha = registry.entry("eval", "d", 1)["sha256"]
    assert [e["kind"] for e in queries.with_digest(registry, sha[:20])] == ["eval"]
    assert queries.with_digest(registry, "f" * 8) == []
    assert queries.urns(registry, "d")[-1] == registry.urn("dataset", "d", 2) and queries.names(registry) == ["d"]
    assert queries.approved_numbers(registry, "d") == set()


def test_lineage_both_ways(registry):
    one, two, evaluated = (registry.urn(k, "d", n) for k, n in (("dataset", 1), ("dataset", 2), ("eval", 1)))
    assert queries.lineage(registry, [one], up=False) == [(one, two), (one, evaluated)]
    assert queries.lineage(registry, [two], up=True) == [(one, two)]
    assert queries.lineage(registry, [one], up=True) == []
    assert queries.lineage(Registry(registry.home, "rival", "default"), [one], up=False) == []


def test_a_name_is_not_a_pattern(registry):
    """`a_b` must not find the edges of `axb`."""
    assert queries.lineage(registry, ["registry://local/default/dataset/_/1"], up=False) == []
    assert parse_urn("registry://a/b/c/d/0") is parse_urn("registry://a/b/c") is None
