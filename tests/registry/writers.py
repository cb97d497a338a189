"""Writers at work on one registry at the same time: what threads and other processes run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from slm_assets.errors import BadInputError
from slm_assets.registry.home import Home
from slm_assets.registry.registry import CellRecord, Flip, Registry


def plan_columns(_number: int) -> dict[str, Any]:
    """The columns of a plan that says nothing."""
    return {
        "config": "c" * 64, "seed": "5" * 64, "parent": None, "incumbents": {}, "best": {}, "epoch": 1,
        "window": None, "params": {"train_fraction": 1.0}, "reason": "test",
    }  # fmt: skip


def opening(registry: Registry, _number: int) -> int:
    """Open a version, reading the registry while it is being opened, as the stages do."""

    def make(number: int) -> dict[str, Any]:
        registry.plans("d")
        return plan_columns(number)

    return registry.open_plan("d", number=None, actor="a", make=make).number


def look(registry: Registry, number: int) -> int:
    """Count a version's look at the first epoch."""
    return registry.look("d", 1, number)


def flip(registry: Registry, number: int) -> int:
    """Flip the one flag to a version, again and again until nobody was in between. Returns the event."""
    while True:
        flag = registry.flags("d").get("r")
        wanted = Flip("r", "release", number, f"{number:064}", expected=flag.event if flag else 0)
        try:
            return registry.flip("d", [wanted], action="promote", actor="a", reason="")[0].event
        except BadInputError as error:
            if "in the meantime" not in str(error):
                raise


def approve(registry: Registry, number: int) -> int:
    """Approve a version."""
    registry.approve("d", number, ["r"], evidence="e" * 64, release=None, actor="a", reason="")
    return number


def first(registry: Registry, number: int) -> bool:
    """Flip the flag that nobody has flipped yet; whether it was this one that did."""
    try:
        registry.flip("d", [Flip("r", "release", number, None, 0)], action="promote", actor="a", reason="")
    except BadInputError:
        return False
    return True


STAGES = ("dataset", "label", "finetune")
DOMAINS = 20


def a_run(registry: Registry, number: int) -> tuple[str, int]:
    """A whole run of one of twenty domains: open, commit cells, look, flip. Returns domain and version."""
    domain = f"d{number % DOMAINS}"
    version = registry.open_plan(domain, number=None, actor=f"run {number}", make=plan_columns).number
    for stage in STAGES:
        registry.commit(a_cell(domain, version, stage))
    registry.look(domain, 1, version)
    while True:
        flag = registry.flags(domain).get("r")
        wanted = Flip("r", "release", version, f"{version:064}", expected=flag.event if flag else 0)
        try:
            registry.flip(domain, [wanted], action="promote", actor=f"run {number}", reason="")
        except BadInputError as error:
            assert "in the meantime" in str(error)
            continue
        return domain, version


def a_cell(domain: str, version: int, stage: str) -> CellRecord:
    """A cell that says as much as a small stage does."""
    entry = {"kind": stage, "name": domain, "version": version, "sha256": f"{version:064}", "bytes": 1, "rows": 1}
    return CellRecord(
        domain=domain, number=version, stage=stage, request="0" * 64, status="succeeded", receipt={}, run_id="r",
        engine="in_process", actor="a", entries=[entry | {"request": "0" * 64}],
        parents=[registry_urn("plan", domain, version)],
    )  # fmt: skip


def registry_urn(kind: str, domain: str, version: int) -> str:
    """What the cell was made of."""
    return f"registry://local/default/{kind}/{domain}/{version}"


Work = Callable[[Registry, int], Any]


def in_threads(threads: int, home: Home, work: Work, numbers: Iterable[int]) -> list[Any]:
    """`work` for each number, in some threads of this process."""
    registry = Registry(home)
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda number: work(registry, number), numbers))
