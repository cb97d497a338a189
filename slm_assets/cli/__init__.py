"""`slm`: the command line. One function per command; the work is elsewhere."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from slm_assets.errors import ConfigError, SlmError

if TYPE_CHECKING:
    from typer import Typer

GROUPS = {"stage": "stage_app", "db": "db_app", "playbooks": "playbooks_app", "handoffs": "handoffs_app"}
"""Commands that are groups of others: the module of that name in this package, and its app."""


def main() -> None:
    """Entry point: every expected error is a message and an exit code, never a traceback."""
    # pydantic would search every installed package for plugins, for a fraction of what a light stage takes.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    as_json = "--json" in sys.argv[1:]
    try:
        asked(sys.argv[1:])()
    except SlmError as error:
        from slm_assets.cli import render

        if as_json:
            found = [f.__dict__ for f in error.faults] if isinstance(error, ConfigError) else []
            render.json({"error": error.message, "cure": error.cure, "faults": found})
        render.error(str(error))  # with --json too: whoever keeps only stderr must learn why
        raise SystemExit(error.exit_code) from None
    except OSError as error:
        from slm_assets.cli import render

        render.error(f"{error.filename or 'the system'}: {error.strerror or error}")
        raise SystemExit(1) from None


def group(name: str) -> Typer:
    """The app of one group."""
    found: Typer = getattr(import_module(f"{__name__}.{name}"), GROUPS[name])
    return found


def asked(arguments: list[str]) -> Typer:
    """All commands, or only the group that was asked for: engines start `slm stage run` once per stage, and
    typer builds what it is given in full before it looks at the first argument."""
    from slm_assets.cli.common import root_app

    if arguments and arguments[0] in GROUPS:
        app = root_app()
        app.add_typer(group(arguments[0]), name=arguments[0])
        return app
    from slm_assets.cli.commands import app as everything

    return everything
