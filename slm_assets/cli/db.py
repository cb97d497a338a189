"""`slm db`: the revision of the registry's tables, for whoever looks after a database server."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from slm_assets.registry.home import Home

db_app = typer.Typer(
    no_args_is_help=True,
    help="The tables of the registry that SLM_REGISTRY names. SQLite is upgraded by itself, Postgres here.",
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts, nothing else.")]


@db_app.command()
def upgrade(json: AsJson = False) -> None:
    """Create the tables, or migrate those of an earlier revision: all in one transaction, data kept.

    Example: `slm db upgrade`
    """
    from slm_assets.registry import schema
    from slm_assets.registry.database import open_database

    database = open_database(Home.from_env().registry_url)
    before, after = schema.upgrade(database)
    result = {"registry": database.place, "before": before, "after": after}
    changed = f"{before or 'empty'} → {after}" if before != after else f"{after}, nothing to do"
    _print(result, json, [f"registry {database.place}: revision {changed}"])


@db_app.command()
def current(json: AsJson = False) -> None:
    """Show the revision of the tables, and the one that this version of slm-assets needs.

    Example: `slm db current`
    """
    from slm_assets.registry.database import open_database

    standing = _standing(open_database(Home.from_env().registry_url))
    _print(standing, json, _lines(standing))


@db_app.command()
def check(json: AsJson = False) -> None:
    """Compare the tables, column by column, with those this version needs; exits 1 where they differ.

    Example: `slm db check`
    """
    from slm_assets.registry import schema
    from slm_assets.registry.database import open_database

    database = open_database(Home.from_env().registry_url)
    standing = _standing(database)
    standing["differences"] = []
    if standing["state"] == "ready":
        with database.read() as connection:
            standing["differences"] = schema.differences(connection)
    _print(standing, json, [*_lines(standing), *(f"  {line}" for line in standing["differences"])])
    if standing["state"] != "ready" or standing["differences"]:
        raise typer.Exit(1)


def _standing(database: Any) -> dict[str, Any]:
    from slm_assets.registry import schema

    revision, known = schema.revision_of(database), schema.revisions()
    state = "ready" if revision == known[-1] else "behind" if revision in known else "ahead" if revision else "empty"
    return {"registry": database.place, "revision": revision, "needed": known[-1], "state": state}


def _lines(standing: dict[str, Any]) -> list[str]:
    told = {
        "ready": "ready",
        "empty": "no tables yet: run `slm db upgrade`",
        "behind": f"this code needs {standing['needed']}: run `slm db upgrade`",
        "ahead": f"newer than this code, which knows {standing['needed']}: install a later slm-assets",
    }
    state = told[standing["state"]]
    if standing.get("differences"):
        state = "these tables are not those of this revision: restore them, or undo what was changed by hand"
    return [f"registry {standing['registry']}: revision {standing['revision'] or 'none'}, {state}"]


def _print(value: dict[str, Any], as_json: bool, lines: list[str]) -> None:
    from slm_assets.cli import render

    if as_json:
        render.json(value)
    else:
        for line in lines:
            render.CONSOLE.print(line, markup=False)
