from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slm_assets.errors import BadInputError, SlmError
from slm_assets.registry.home import Home
from slm_assets.registry.registry import CellRecord, Flip, Registry


def plan_columns(_number: int) -> dict:
    return {
        "config": "c" * 64, "seed": "5" * 64, "parent": None, "incumbents": {}, "best": {}, "epoch": 1,
        "window": None, "params": {"train_fraction": 1.0}, "reason": "test",
    }  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.from_env(tmp_path / "home")


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


def test_fifty_concurrent_openings_lose_and_double_nothing(registry):
    with ThreadPoolExecutor(16) as pool:
        numbers = list(pool.map(lambda _: opened(registry).number, range(50)))
    assert sorted(numbers) == list(range(1, 51))


def test_fifty_concurrent_looks_are_fifty_looks_and_a_repeat_is_none(registry):
    with ThreadPoolExecutor(16) as pool:
        looks = list(pool.map(lambda n: registry.look("d", 1, n), [*range(1, 51), *range(1, 51)]))
    assert sorted(looks[:50]) == list(range(1, 51))
    assert looks[:50] == looks[50:]
    assert registry.look("d", 2, 1) == 1


def test_of_concurrent_flips_of_one_flag_exactly_one_wins(registry):
    def flip(number: int) -> bool:
        wanted = Flip("r", "release", number, str(number), expected=0)
        try:
            registry.flip("d", [wanted], action="promote", actor="a", reason="")
        except BadInputError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(flip, range(1, 21)))
    assert sum(won) == 1
    assert len(registry.flag_events("d")) == 1
    assert registry.flags("d")["r"].number == won.index(True) + 1


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
