"""`slm playbooks`: NoETL playbooks, anyone's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slm_assets.errors import BadInputError

if TYPE_CHECKING:
    from slm_assets.noetl.lint import Report

playbooks_app = typer.Typer(no_args_is_help=True, help="NoETL playbooks: this project's, and a linter for anyone's.")
_RUNTIMES = ("local", "server", "both")


@playbooks_app.callback()
def playbooks() -> None:
    """NoETL playbooks: this project's, and a linter for anyone's."""


@playbooks_app.command()
def lint(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="Playbooks, or folders of them.")],
    runtime: Annotated[
        str | None,
        typer.Option(help="local, server or both; default: both, or server where executor.profile is distributed."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts, nothing else.")] = False,
) -> None:
    """Find what is refused, skipped in silence or decided by accident: file, line, step, rule, why and the mend.

    Exits 1 where there is an error; warnings alone exit 0. In a folder, YAML that is no playbook is passed over.

    Example: `slm playbooks lint deploy/noetl` or, for one runtime, `slm playbooks lint p.yaml --runtime local`
    """
    from slm_assets.cli import render
    from slm_assets.noetl.lint import UnreadableError, lint_paths

    if runtime not in (None, *_RUNTIMES):
        raise BadInputError(f"{runtime!r} is no runtime", cure=f"--runtime {', '.join(_RUNTIMES)}")
    try:
        report = lint_paths(paths, runtime)  # type: ignore[arg-type]  # checked above
    except UnreadableError as error:
        raise BadInputError(str(error)) from None
    if json:
        render.json(_plain(report))
    else:
        _show(report)
    if report.errors:
        raise typer.Exit(1)


@playbooks_app.command()
def emit(
    out: Annotated[Path, typer.Option(help="The folder; the playbooks go into slm/ under it.")] = Path("deploy/noetl"),
    compute: Annotated[
        Path | None, typer.Option(help="A YAML file with what containers get, in place of the built-in defaults.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts, nothing else.")] = False,
) -> None:
    """Write the playbook of every stage and those that work with them, from the stage table.

    Example: `slm playbooks emit` or, for another cluster, `slm playbooks emit --compute cluster.yaml --out made`
    """
    from slm_assets.cli import render
    from slm_assets.noetl.emit import differences, write

    wanted = _wanted(compute)
    changed = differences(out, wanted)
    write(out, wanted)
    if json:
        render.json({"folder": str(out), "playbooks": sorted(wanted), "changed": changed})
        return
    for name, why in changed.items():
        render.CONSOLE.print(f"{name}: {why}", soft_wrap=True, markup=False)
    render.CONSOLE.print(f"{_many(len(wanted), 'playbook')} in {out}", soft_wrap=True, markup=False)


@playbooks_app.command()
def diff(
    out: Annotated[Path, typer.Option(help="The folder that `emit` wrote.")] = Path("deploy/noetl"),
    compute: Annotated[Path | None, typer.Option(help="The file that was given to `emit`.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts, nothing else.")] = False,
) -> None:
    """Say which files are not what `emit` would write now. Exits 1 where there is one.

    Example: `slm playbooks diff`
    """
    from slm_assets.cli import render
    from slm_assets.noetl.emit import differences

    found = differences(out, _wanted(compute))
    if json:
        render.json({"folder": str(out), "differences": found})
    else:
        for name, why in found.items():
            render.CONSOLE.print(f"{name}: {why}", soft_wrap=True, markup=False)
    if found:
        raise typer.Exit(1)


def _wanted(compute: Path | None) -> dict[str, str]:
    from slm_assets.noetl.emit import playbooks, read_run

    return playbooks() if compute is None else playbooks(run=read_run(compute))


def _plain(report: Report) -> dict[str, object]:
    return {
        "files": report.files,
        "skipped": report.skipped,
        "errors": report.errors,
        "warnings": len(report.findings) - report.errors,
        "findings": [finding.__dict__ for finding in report.findings],
    }


def _show(report: Report) -> None:
    from rich.markup import escape

    from slm_assets.cli.render import CONSOLE

    for finding in report.findings:
        colour = "red" if finding.severity == "error" else "yellow"
        step = f" step [bold]{escape(finding.step)}[/bold]" if finding.step else ""
        place = f"{escape(finding.file)}:{finding.line}{step}"
        CONSOLE.print(f"[{colour}]{finding.severity}[/{colour}] {place} \\[{finding.rule}]", soft_wrap=True)
        found = f"{escape(finding.found)}: " if finding.found else ""
        CONSOLE.print(f"    {found}{escape(finding.why)}", soft_wrap=True)
        CONSOLE.print(f"    mend: {escape(finding.mend)}", soft_wrap=True)
    for file, why in report.skipped.items():
        CONSOLE.print(f"[dim]skipped {escape(file)}: {escape(why)}[/dim]", soft_wrap=True)
    warnings = len(report.findings) - report.errors
    counts = f"{_many(report.errors, 'error')}, {_many(warnings, 'warning')}"
    CONSOLE.print(f"{_many(len(report.files), 'playbook')}: {counts}" if report.findings else _clean(report))


def _clean(report: Report) -> str:
    return f"{_many(len(report.files), 'playbook')}: [green]clean[/green]"


def _many(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
