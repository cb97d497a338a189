"""`slm prune-grid`: take versions that nobody needs out of Dagster's grid."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from slm_assets.cli.common import AsJson, show
from slm_assets.registry.home import Home


def prune_grid(
    keep: Annotated[int, typer.Option(min=1, help="Each domain's newest versions that stay in any case.")] = 10,
    delete: Annotated[bool, typer.Option("--delete", help="Do it; without, only show.")] = False,
    json: AsJson = False,
) -> None:
    """Show the versions in Dagster's grid that no domain needs: none of a domain's newest, serving, what a rollback
    goes back to, waiting or at work. With --delete they leave the grid.

    Nothing else goes: plan, verdicts, lineage, artifacts and runs stay, and `slm run DOMAIN --version v3` brings the
    column back.

    Example: `slm prune-grid --keep 20 --delete`
    """
    from slm_assets.automation.grid import prunable, prune
    from slm_assets.automation.instance import instance_for

    home = Home.from_env()
    with instance_for(home) as instance:
        versions = prunable(home, instance, keep=keep)
        if delete:
            prune(instance, versions)

    def told(found: dict[str, Any]) -> None:
        from slm_assets.cli import render

        verb = "taken out of the grid" if found["deleted"] else "would leave the grid"
        render.CONSOLE.print(f"{len(found['versions'])} versions {verb}: {', '.join(found['versions']) or 'none'}")

    show({"versions": versions, "deleted": delete}, json, told)
