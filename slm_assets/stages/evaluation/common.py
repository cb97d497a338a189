"""What a role's contract of now has in common with the one that a release was made for.

A release answers by its own contract. It can be compared where both name the same places; what only one of
them names would make it look wrong everywhere, or right nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slm_assets.canonical import Json
from slm_assets.domain.loading import Domain, read_bundle
from slm_assets.domain.places import covers, has_place, leaves, places


@dataclass(frozen=True)
class Common:
    """`apart`: the topmost places that only one of two contracts names. `leaves`: those of both."""

    apart: tuple[str, ...]
    leaves: tuple[str, ...]

    @classmethod
    def of(cls, now: Json, earlier: Json) -> Common:
        """What two output schemas share."""
        ours, theirs = places(now), places(earlier)
        alone = {
            path
            for own, other in ((ours, theirs), (theirs, ours))
            for path in own
            if has_place(other, path) is not True
        }
        apart = tuple(sorted(path for path in alone if not any(path.startswith(f"{top}/") for top in alone)))
        both = tuple(path for path in leaves(now) if not any(covers(top, path) for top in apart))
        return cls(apart, both)

    def without(self, pointer: str) -> tuple[str, ...] | None:
        """What must be left out of a comparison at a pointer; None where nothing is left to compare."""
        if any(covers(place, pointer) for place in self.apart):
            return None
        inside = tuple(place for place in self.apart if covers(pointer, place))
        return inside if not inside or any(covers(pointer, leaf) for leaf in self.leaves) else None


def in_common(domain: Domain, inputs: Mapping[str, Path]) -> dict[tuple[str, str], Common]:
    """(role, incumbent or best) → what its contract shares with the one of now, where they differ in places."""
    found = {}
    for role in domain.config.roles:
        for subject in ("incumbent", "best"):
            folder = inputs.get(f"{subject}_{role.id}")
            if folder is not None:
                shared = Common.of(domain.output_schema(role.id), read_bundle(folder / "config").output_schema(role.id))
                if shared.apart:
                    found[role.id, subject] = shared
    return found


def leave_out(value: Json, pointers: Sequence[str]) -> Json:
    """A value without what is at these pointers; `*` is each item of an array, or each value of a mapping."""
    return _without(value, [pointer.split("/")[1:] for pointer in pointers])


def _without(value: Json, paths: Sequence[Sequence[str]]) -> Json:
    if not paths or not isinstance(value, dict | list):
        return value
    kept: list[tuple[Any, Json]] = []
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        step = str(key).replace("~", "~0").replace("/", "~1")
        under = [path[1:] for path in paths if path[0] in ("*", step)]
        if all(under):
            kept.append((key, _without(item, under)))
    return dict(kept) if isinstance(value, dict) else [item for _, item in kept]
