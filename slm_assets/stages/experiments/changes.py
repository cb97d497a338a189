"""What changed between two frozen configs, key by key; between two plans, value by value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher, unified_diff
from typing import Literal

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.documents import Place, Unreadable, json_path, read_document
from slm_assets.registry.registry import Plan, Registry

STRUCTURED = (".json", ".yaml", ".yml")


@dataclass(frozen=True)
class Change:
    """One difference. `file` is relative to the domain's folder ("" for a value of the plan), `path` a
    JSON path in it ("$" for a whole file). A changed `text` has its unified diff in `after`."""

    file: str
    path: str
    kind: Literal["added", "removed", "changed", "text"]
    before: Json = None
    after: Json = None


def config_changes(registry: Registry, before: str, after: str) -> list[Change]:
    """Between two config artifacts, by digest: every key that was added, removed or changed."""
    if before == after:
        return []
    old, new = registry.store.describe(before).files, registry.store.describe(after).files
    found: list[Change] = []
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            found.append(Change(name, "$", "removed"))
        elif name not in old:
            found.append(Change(name, "$", "added"))
        elif old[name] != new[name]:
            found += file_changes(name, registry.store.read(before, name), registry.store.read(after, name))
    return found


def file_changes(name: str, before: bytes, after: bytes) -> list[Change]:
    """Between two states of a file: by key where it is JSON or YAML, by line where it is text."""
    if name.endswith(STRUCTURED):
        try:
            old, new = (read_document(data, name).value for data in (before, after))
        except Unreadable:
            pass
        else:
            return list(value_changes(name, old, new))
    lines = unified_diff(
        before.decode(errors="replace").splitlines(), after.decode(errors="replace").splitlines(), lineterm="", n=1
    )
    return [Change(name, "$", "text", after="\n".join([*lines][2:]))]


def value_changes(file: str, before: Json, after: Json, place: Place = ()) -> Iterator[Change]:
    """Between two JSON values, at the deepest places that differ. Items with an `id` are matched by it,
    others by content, so that one that was put in between moves nothing."""
    if canonical.dumps(before) == canonical.dumps(after):
        return
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _keys(file, before, after, place)
    elif isinstance(before, list) and isinstance(after, list):
        old, new = _by_id(before), _by_id(after)
        if old is None or new is None:
            yield from _items(file, before, after, place)
            return
        yield from _keys(file, old, new, place)
        if [key for key in old if key in new] != [key for key in new if key in old]:
            yield Change(file, json_path(place), "changed", list(old), list(new))
    else:
        yield Change(file, json_path(place), "changed", before, after)


def plan_changes(before: Plan, after: Plan) -> list[Change]:
    """Between what two versions were opened with: parameters, incumbents, parent, epoch, digests."""
    old, new = (_opened_with(plan) for plan in (before, after))
    return list(value_changes("", old, new))


def _opened_with(plan: Plan) -> dict[str, Json]:
    return {
        "params": plan.params,
        "incumbents": {role: f"v{own['number']}" for role, own in plan.incumbents.items()},
        "best": {role: f"v{own['number']}" for role, own in plan.best.items()},
        "parent": f"v{plan.parent['number']}" if plan.parent else None,
        "epoch": plan.epoch,
        "window": plan.window,
        "config": plan.config,
        "seed": plan.seed,
    }


def _keys(file: str, before: Mapping[str, Json], after: Mapping[str, Json], place: Place) -> Iterator[Change]:
    for key in dict.fromkeys([*before, *after]):
        here = (*place, key)
        if key not in after:
            yield Change(file, json_path(here), "removed", before[key])
        elif key not in before:
            yield Change(file, json_path(here), "added", after=after[key])
        else:
            yield from value_changes(file, before[key], after[key], here)


def _by_id(items: list[Json]) -> dict[str, Json] | None:
    """Items by their id, where every one has one of its own."""
    found = {item["id"]: item for item in items if isinstance(item, dict) and isinstance(item.get("id"), str)}
    return found if len(found) == len(items) else None


def _items(file: str, before: list[Json], after: list[Json], place: Place) -> Iterator[Change]:
    old, new = ([canonical.text(item) for item in items] for items in (before, after))
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "replace" and i2 - i1 == j2 - j1:
            for i, j in zip(range(i1, i2), range(j1, j2), strict=True):
                yield from value_changes(file, before[i], after[j], (*place, j))
        elif tag != "equal":
            for i in range(i1, i2):
                yield Change(file, json_path((*place, i)), "removed", before[i])
            for j in range(j1, j2):
                yield Change(file, json_path((*place, j)), "added", after=after[j])
