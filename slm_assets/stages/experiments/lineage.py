"""What an artifact was made from, and what was made from it, as a tree over the registry's edges.

To the entries of the registry come the two things a version is opened with, its frozen config and its
seed rows; their URNs have the kinds `config` and `seed`, and equal digests are one origin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter

from slm_assets.errors import BadInputError, SlmError
from slm_assets.registry import queries
from slm_assets.registry.queries import Urn, parse_urn
from slm_assets.registry.registry import Registry
from slm_assets.stages.table import STAGES

DEPTH = 8
ORIGINS = ("config", "seed")
KINDS = (*(stage.kind for stage in STAGES), *ORIGINS)
_SHORT = re.compile(r"(?:([a-z]+)/)?([a-z][a-z0-9_]{0,62})(?:@|/)v?([1-9][0-9]{0,8})")
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{8,64})")
_CURE = "give registry://TENANT/PROJECT/KIND/DOMAIN/VERSION, KIND/DOMAIN@vN, DOMAIN@vN, or a digest"


@dataclass(frozen=True)
class Artifact:
    """A node of the tree. `version` is the version that it belongs to; `made_at` when it was registered,
    of a config or seed when the version was opened."""

    urn: str
    kind: str
    name: str
    version: str
    sha256: str
    rows: int | None
    bytes: int | None
    made_at: str


@dataclass(frozen=True)
class Branch:
    """A place in the tree. `again`: it stands above with its branches; `more`: branches below the asked
    depth."""

    urn: str
    branches: list[Branch] = field(default_factory=list)
    again: bool = False
    more: int = 0


@dataclass(frozen=True)
class Lineage:
    """`artifacts` by URN are the nodes of `tree`, `edges` (parent, child) all edges between them; the tree
    leaves out an edge that a longer way implies."""

    root: str
    direction: str
    tree: Branch
    artifacts: dict[str, Artifact]
    edges: list[tuple[str, str]]


def lineage(registry: Registry, urn: str, *, up: bool = True, depth: int = DEPTH) -> Lineage:
    """Everything that `urn` was made from (`up`), or everything made from it, `depth` levels far.

    BadInputError for a URN that is not registered, with the nearest one that is.
    """
    edges = _edges(registry, urn, up=up)
    nexts: dict[str, set[str]] = {urn: set()}
    for parent, child in edges:
        near, far = (child, parent) if up else (parent, child)
        nexts.setdefault(near, set()).add(far)
        nexts.setdefault(far, set())
    tree = _tree(urn, _reduced(nexts, up=up), depth)
    shown = set(_urns(tree))
    artifacts = _artifacts(registry, shown)
    kept = [(parent, child) for parent, child in edges if parent in shown and child in shown]
    return Lineage(urn, "up" if up else "down", tree, {u: artifacts[u] for u in _urns(tree)}, kept)


def resolve(registry: Registry, text: str) -> str:
    """The URN that a person means: a whole one, `dataset/travel@v3`, `travel@v3` (the last that the
    version made), or the digest of an artifact, cut short at will. BadInputError with the nearest."""
    if (whole := parse_urn(text)) is not None:
        if (whole.tenant, whole.project) != (registry.tenant, registry.project):
            raise BadInputError(f"{text} is of another registry than {registry.tenant}/{registry.project}")
        return _registered(registry, whole, text)
    if (short := _SHORT.fullmatch(text)) is not None:
        kind, name, version = short[1], short[2], int(short[3])
        if kind is not None:
            return _registered(registry, Urn(registry.tenant, registry.project, kind, name, version), text)
        made = queries.entries(registry, [_urn(registry, k, name, version) for k in KINDS])
        last = [k for k in KINDS if registry.urn(k, name, version) in made]
        return registry.urn(last[-1], name, version) if last else _registered_version(registry, name, version, text)
    if (digest := _DIGEST.fullmatch(text)) is not None:
        return _with_digest(registry, digest[1])
    raise BadInputError(f"{text!r} is no URN", cure=_CURE)


def domain_of(text: str) -> str | None:
    """The domain that a URN or its short form names."""
    whole, short = parse_urn(text), _SHORT.fullmatch(text)
    return whole.name if whole else short[2] if short else None


def _edges(registry: Registry, urn: str, *, up: bool) -> list[tuple[str, str]]:
    """The registered edges on the way, and those from a version's config and seed to its dataset."""
    start = parse_urn(urn)
    assert start is not None, "resolved before"
    if start.kind in ORIGINS:
        if up:
            return []
        plan = queries.plans(registry, start.name, [start.version])[start.version]
        versions = queries.opened_with(registry, start.kind, plan[start.kind])
        datasets = [registry.urn("dataset", v["domain"], v["number"]) for v in versions]
        made = sorted(queries.entries(registry, filter(None, map(parse_urn, datasets))))
        return [(urn, dataset) for dataset in made] + queries.lineage(registry, made, up=False)
    edges = queries.lineage(registry, [urn], up=up)
    if not up:
        return edges
    reached = {urn, *(parent for parent, _ in edges)}
    datasets_ = [parts for parts in map(parse_urn, sorted(reached)) if parts and parts.kind == "dataset"]
    own = [
        (registry.urn(kind, parts.name, parts.version), registry.urn("dataset", parts.name, parts.version))
        for parts in datasets_
        for kind in ORIGINS
    ]
    return sorted([*edges, *own])


def _reduced(nexts: Mapping[str, set[str]], *, up: bool) -> dict[str, list[str]]:
    """Without the edges that a longer way implies (the transitive reduction of the graph)."""
    index = {urn: 1 << i for i, urn in enumerate(sorted(nexts))}
    beyond: dict[str, int] = {}
    found: dict[str, list[str]] = {}
    try:
        order = list(TopologicalSorter(nexts).static_order())
    except CycleError as error:
        raise SlmError(f"the lineage has a cycle: {' → '.join(error.args[1])}; the registry was altered") from None
    for urn in order:
        far = 0
        for other in nexts[urn]:
            far |= beyond[other]
        own = sorted(other for other in nexts[urn] if not far & index[other])
        found[urn] = sorted(own, key=lambda other: _order(other, up=up))
        for other in nexts[urn]:
            far |= index[other]
        beyond[urn] = far
    return found


def _tree(root: str, nexts: Mapping[str, list[str]], depth: int) -> Branch:
    """Level by level, so that each node is unfolded where it is nearest to the root."""
    top = Branch(root)
    seen, level = {root}, [top]
    for _ in range(depth):
        below: list[Branch] = []
        for branch in level:
            for urn in nexts[branch.urn]:
                child = Branch(urn, again=urn in seen and bool(nexts[urn]))
                branch.branches.append(child)
                if urn not in seen:
                    seen.add(urn)
                    below.append(child)
        level = below
    cut = {id(branch): len(nexts[branch.urn]) for branch in level}
    return _marked(top, cut) if any(cut.values()) else top


def _marked(branch: Branch, cut: Mapping[int, int]) -> Branch:
    below = [_marked(one, cut) for one in branch.branches]
    return Branch(branch.urn, below, branch.again, cut.get(id(branch), 0))


def _urns(branch: Branch) -> list[str]:
    return list(dict.fromkeys([branch.urn, *(urn for one in branch.branches for urn in _urns(one))]))


def _artifacts(registry: Registry, urns: Iterable[str]) -> dict[str, Artifact]:
    """What the registry knows of each; one that an edge names and that is gone keeps its name alone."""
    wanted = {urn: parts for urn in sorted(urns) if (parts := parse_urn(urn))}
    entries = queries.entries(registry, wanted.values())
    origins: dict[str, set[int]] = {}
    for parts in wanted.values():
        if parts.kind in ORIGINS:
            origins.setdefault(parts.name, set()).add(parts.version)
    plans = {name: queries.plans(registry, name, numbers) for name, numbers in origins.items()}
    found = {}
    for urn, parts in wanted.items():
        entry = entries.get(urn)
        plan = plans.get(parts.name, {}).get(parts.version) if parts.kind in ORIGINS else None
        sha = entry["sha256"] if entry else plan[parts.kind] if plan else ""
        rows, size = (entry["rows"], entry["bytes"]) if entry else (None, None)
        made_at = entry["created_at"] if entry else plan["opened_at"] if plan else ""
        found[urn] = Artifact(urn, parts.kind, parts.name, f"v{parts.version}", sha, rows, size, made_at)
    return found


def _registered(registry: Registry, urn: Urn, text: str) -> str:
    whole = _name(registry, urn)
    if urn.kind in ORIGINS:
        if queries.plans(registry, urn.name, [urn.version]):
            return whole
    elif queries.entries(registry, [urn]):
        return whole
    raise _unknown(registry, urn.name, whole, text)


def _registered_version(registry: Registry, name: str, version: int, text: str) -> str:
    """A version that was opened and made nothing yet: its config."""
    if queries.plans(registry, name, [version]):
        return registry.urn(ORIGINS[0], name, version)
    raise _unknown(registry, name, registry.urn(STAGES[0].kind, name, version), text)


def _unknown(registry: Registry, name: str, whole: str, text: str) -> BadInputError:
    there = queries.urns(registry, name) or [u for n in queries.names(registry) for u in queries.urns(registry, n)[-1:]]
    near = get_close_matches(whole, there, 3, cutoff=0.0)
    known = f"nearest: {', '.join(near)}" if near else f"{registry.tenant}/{registry.project} has no entry yet"
    return BadInputError(f"{text} is not in the registry", cure=known)


def _with_digest(registry: Registry, digest: str) -> str:
    found = [registry.urn(row["kind"], row["name"], row["version"]) for row in queries.with_digest(registry, digest)]
    digests = {row["sha256"] for row in queries.with_digest(registry, digest)}
    for kind in ORIGINS:
        for row in queries.opened_with(registry, kind, digest):
            found.append(registry.urn(kind, row["domain"], row["number"]))
            digests.add(row["sha256"])
    if not found:
        raise BadInputError(f"no artifact of {registry.tenant}/{registry.project} has the digest {digest}", cure=_CURE)
    if len(digests) > 1:
        raise BadInputError(
            f"{len(digests)} artifacts have a digest that begins with {digest}", cure="give more of its digits"
        )
    return found[0]


def _urn(registry: Registry, kind: str, name: str, version: int) -> Urn:
    return Urn(registry.tenant, registry.project, kind, name, version)


def _name(registry: Registry, urn: Urn) -> str:
    return registry.urn(urn.kind, urn.name, urn.version)


def _order(urn: str, *, up: bool) -> tuple[int, int, str]:
    """Up: the version itself before earlier ones; down: what is next before later versions."""
    parts = parse_urn(urn)
    assert parts is not None
    kind = KINDS.index(parts.kind) if parts.kind in KINDS else -1
    return -parts.version if up else parts.version, kind, parts.name
