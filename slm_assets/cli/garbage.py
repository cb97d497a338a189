"""`slm gc`: what the artifact store holds and nothing refers to any more."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import typer

from slm_assets.cli.common import Actor, AsJson, actor_of, show
from slm_assets.errors import BadInputError
from slm_assets.registry.home import Home


def gc(
    delete: Annotated[bool, typer.Option("--delete", help="Delete it; without, it is only counted.")] = False,
    days: Annotated[int, typer.Option(help="Only what was written longer ago than this; at least 2.")] = 7,
    namespace: Annotated[str | None, typer.Option(help="One <tenant>/<project> instead of all.")] = None,
    by: Actor = None,
    json: AsJson = False,
) -> None:
    """Find stored artifacts that no version, receipt, flag, window, capture, review or job refers to, and delete them.

    Nothing that is being written, or that somebody could still refer to, is touched; an audit event says what went.

    Example: `slm gc`, then `slm gc --delete`
    """
    from slm_assets.cli import render
    from slm_assets.registry import garbage
    from slm_assets.registry.registry import Registry

    home = Home.from_env()
    known = garbage.namespaces(Registry(home))
    wanted = known if namespace is None else [scope for scope in known if "/".join(scope) == namespace]
    if namespace is not None and not wanted:
        there = ", ".join("/".join(scope) for scope in known) or "none"
        raise BadInputError(f"nothing was ever done in namespace {namespace!r}", cure=f"there are: {there}")
    result: dict[str, Any] = {"deleted": delete, "days": days, "namespaces": []}
    for tenant, project in wanted:
        registry = Registry(home, tenant, project)
        found = garbage.find(registry, grace=timedelta(days=days))
        if delete:
            found = garbage.collect(registry, found, actor=actor_of(by))
        told = {"namespace": f"{tenant}/{project}", "objects": len(found.objects), "bytes": found.bytes}
        told |= {"unfinished": len(found.unfinished), "young": found.young}
        result["namespaces"].append({**told, "kept": found.kept, "kept_bytes": found.kept_bytes})

    def say(found: dict[str, Any]) -> None:
        verb = "deleted" if delete else "could be deleted"
        for one in found["namespaces"]:
            render.CONSOLE.print(
                f"{one['namespace']}: {one['objects']} objects, {one['bytes']:,} bytes {verb}, and "
                f"{one['unfinished']} unfinished uploads; {one['kept']} objects, {one['kept_bytes']:,} bytes stay, "
                f"{one['young']} of them young",
                markup=False,
            )
        if not delete and any(one["objects"] or one["unfinished"] for one in found["namespaces"]):
            render.CONSOLE.print("delete them: slm gc --delete")

    show(result, json, say)
