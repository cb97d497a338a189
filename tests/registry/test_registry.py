import math

import pytest
from writers import plan_columns

from slm_assets.errors import BadInputError, SlmError
from slm_assets.registry import queries
from slm_assets.registry.home import Home
from slm_assets.registry.registry import CellRecord, Flip, Registry


@pytest.fixture
def registry(home: Home) -> Registry:
    return Registry(home)


def opened(registry: Registry, number: int | None = None):
    return registry.open_plan("d", number=number, actor="a", make=plan_columns)


def a_cell(number: int = 1, sha: str = "a" * 64, **more) -> CellRecord:
    entry = {
        "kind": "dataset", "name": "d", "version": number, "sha256": sha, "bytes": 1, "rows": 1,
        "request": "r" * 64,
    }  # fmt: skip
    values = {
        "domain": "d", "number": number, "stage": "dataset", "request": "r" * 64, "status": "succeeded",
        "receipt": {"x": 1}, "run_id": "run", "engine": "in_process", "actor": "a", "entries": [entry],
        "parents": ["registry://local/default/dataset/d/9"],
    }  # fmt: skip
    return CellRecord(**(values | more))


def test_versions_are_monotonic_and_plans_immutable(registry):
    assert [opened(registry).version for _ in range(3)] == ["v1", "v2", "v3"]
    assert opened(registry, 7).number == 7
    with pytest.raises(BadInputError, match="v7"):
        opened(registry, 5)
    assert registry.plan("d", 4) is None
    assert [p.number for p in registry.plans("d")] == [1, 2, 3, 7]
    assert registry.plan("d", 7).params == {"train_fraction": 1.0}


def test_flags_flip_together_or_not_at_all(registry):
    registry.flip("d", [Flip("a", "release", 1, "x", 0)], action="promote", actor="me", reason="why")
    both = [Flip("b", "release", 2, "y", 0), Flip("a", "release", 2, "y", expected=99)]
    with pytest.raises(BadInputError, match="someone else"):
        registry.flip("d", both, action="promote", actor="me", reason="why")
    flags = registry.flags("d")
    assert flags["a"].number == 1 and "b" not in flags
    assert [e["action"] for e in registry.audit("d")] == ["promote"]


def test_entries_are_immutable_and_commits_idempotent(registry):
    registry.commit(a_cell())
    registry.commit(a_cell())
    assert registry.entry("dataset", "d", 1)["sha256"] == "a" * 64
    assert registry.edges() == [("registry://local/default/dataset/d/9", "registry://local/default/dataset/d/1")]
    with pytest.raises(BadInputError, match="immutable"):
        registry.commit(a_cell(sha="b" * 64, receipt={"x": 2}))
    assert registry.cell("d", 1, "dataset")["receipt"] == {"x": 1}, "the refused commit left nothing"


def test_tenants_and_projects_share_nothing(home, registry):
    opened(registry)
    registry.commit(a_cell())
    registry.flip("d", [Flip("a", "release", 1, "x", 0)], action="promote", actor="me", reason="why")
    other = Registry(home, "rival", "default")
    assert other.plans("d") == [] and other.flags("d") == {} and other.audit("d") == []
    assert other.entry("dataset", "d", 1) is None and other.edges() == []
    assert opened(other).number == 1


def test_text_and_numbers_of_any_kind_are_the_same_on_every_database(registry):
    actor, metric = "Å" * 300, f"field:/{'x' * 200}\0\ud83d"
    receipt = {"nan": math.nan, "text": "a\0b", "deep": {"z": 1, "a": [0.1, 1e300]}}
    number = {
        "role": "r", "subject": "challenger", "mode": "", "slice": "", "metric": metric, "value": 1 / 3,
        "low": None, "high": None, "n": 1, "epoch": 1,
    }  # fmt: skip
    registry.commit(a_cell(actor=actor, run_id="i" * 200, receipt=receipt, metrics=[number]))
    assert registry.audit("d")[0]["actor"] == actor
    cell = registry.cell("d", 1, "dataset")
    assert cell["receipt"] == {**receipt, "nan": None} and list(cell["receipt"]["deep"]) == ["z", "a"]
    (stored,) = registry.metrics("d", 1)
    assert stored["value"] == 1 / 3 and stored["metric"].startswith(metric[:207])


@pytest.mark.parametrize("tenant", ["<org>", "a/b", "", "..", "x" * 80])
def test_a_namespace_that_is_no_name_is_refused(home, tenant):
    with pytest.raises(BadInputError, match="namespace"):
        Registry(home, tenant, "p")


def test_a_registry_that_is_no_database_names_the_file_and_the_cure(tmp_path):
    root = tmp_path / "home"
    root.mkdir()
    (root / "registry.db").write_bytes(b"this is not a database, but it is long enough to be read as one" * 20)
    with pytest.raises(SlmError, match=r"registry\.db.*\n.*cure"):
        Registry(Home.from_env(root))


def test_reads_over_many_versions_are_the_same_on_every_database(registry):
    number = {
        "role": "r", "subject": "challenger", "mode": "", "slice": "", "metric": "exact", "value": 0.5,
        "low": 0.4, "high": 0.6, "n": 9, "epoch": 1,
    }  # fmt: skip
    receipt = {"error_kind": "held", "result": {"roles": {"r": "pass"}}}
    for version in (1, 2):
        opened(registry)
        registry.commit(a_cell(version, stage="evaluate", receipt=receipt, metrics=[number]))
        registry.commit(a_cell(version, stage="deploy", status="failed", receipt=receipt))
    found = [(row["number"], row["stage"], row["error_kind"], row["roles"]) for row in queries.cells(registry, "d")]
    assert sorted(found) == [
        (1, "deploy", "held", None), (1, "evaluate", None, {"r": "pass"}),
        (2, "deploy", "held", None), (2, "evaluate", None, {"r": "pass"}),
    ]  # fmt: skip
    (row,) = queries.metrics(registry, "d", since=2, metric=["exact"], role=["r"])
    assert (row["number"], row["value"], row["n"]) == (2, 0.5, 9)
    child, parent = registry.urn("dataset", "d", 1), registry.urn("dataset", "d", 9)
    assert queries.lineage(registry, [child], up=True) == [(parent, child)]
    assert [e["version"] for e in queries.with_digest(registry, "a" * 8)] == [1, 2]
    assert [p["number"] for p in queries.opened_with(registry, "config", "c" * 8)] == [1, 2]
    assert set(queries.entries(registry, [queries.parse_urn(child)])) == {child}
    assert queries.rows_of(registry, "dataset", "d") == {1: 1, 2: 1} and queries.names(registry) == ["d"]
    assert queries.unfinished_verdicts(registry, "d") == [] and queries.approved_numbers(registry, "d") == set()
