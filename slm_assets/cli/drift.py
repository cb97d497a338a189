"""`slm drift`: what the newest window of traffic says of what serves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from slm_assets.cli.common import AsJson, DomainName, registry_for, show
from slm_assets.errors import BadInputError

drift_app = typer.Typer()


@drift_app.command()
def drift(
    domain: DomainName,
    window: Annotated[str | None, typer.Option(metavar="wN", help="Which window; default: the newest judged.")] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Also write Evidently's page of the inputs here.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Show a window's drift report: the triggers with their bounds, the live numbers, the input fields that moved most.

    `--html` writes Evidently's page of that window; where the report has none, it is made from what the report was
    made from. Exits 2 where no window was judged yet.

    Example: `slm drift travel --html drift.html`
    """
    from slm_assets.stages.watching.report import newest_report, page_of

    registry = registry_for(domain)
    receipt, report = newest_report(registry, domain, window)
    if html is not None:
        _write(html, page_of(registry, receipt))
    show(report, json, _print)


def _write(path: Path, page: bytes) -> None:
    try:
        path.write_bytes(page)
    except OSError as error:
        raise BadInputError(
            f"{path}: {error.strerror or error}", cure="name a file in a folder that is there"
        ) from error


def _print(report: dict[str, Any]) -> None:
    """The triggers with their sentences, the live numbers, the fields that moved most, and what is new."""
    from rich.markup import escape
    from rich.table import Table

    from slm_assets.cli import render

    judged = report["judged"]
    render.CONSOLE.print(
        f"[bold]{report['domain']} w{report['window']}[/bold] {judged['turns']:,} turns, "
        f"{judged['in the sample']:,} in the sample, {judged['from'] or '-'} to {judged['to'] or '-'}"
    )
    verdicts = Table("trigger", "verdict", "value", "bound", "threshold", "n", "says")
    for one in report["triggers"]:
        numbers = ("" if one[key] is None else f"{one[key]:.4g}" for key in ("value", "bound", "threshold"))
        verdicts.add_row(
            one["trigger"], render.paint(one["verdict"]), *numbers, f"{one['n']:,}", escape(one["sentence"])
        )
    render.CONSOLE.print(verdicts)
    metrics = Table("role", "number", "value", "interval", "n")
    for one in report["live"]:
        if one["value"] is not None and not one["metric"].startswith("psi:"):
            interval = "" if one["low"] is None else f"{one['low']:.4f} … {one['high']:.4f}"
            metrics.add_row(
                one["role"] or "turn", escape(one["metric"]), f"{one['value']:.4f}", interval, f"{one['n']:,}"
            )
    render.CONSOLE.print(metrics)
    fields = Table("input field", "kind", "in training", "live", "PSI", "by chance", "new")
    for row in report["fields"][:15]:
        shown = "" if row["psi"] is None else f"{row['psi']:.4f}"
        counts = (
            f"{row['trained']:,}",
            f"{row['live']:,}",
            shown,
            f"{row['by_chance']:.4f}",
            f"{row['new_share']:.2%}",
        )
        fields.add_row(escape(row["field"]), row["kind"], *counts)
    if report["fields"]:
        render.CONSOLE.print(fields)
    for kind, rows in report["new"].items():
        named = ", ".join(
            f"{row.get('value') or row.get('word') or row['field']} ({row['turns']})" for row in rows[:12]
        )
        if named:
            render.CONSOLE.print(f"new {kind}: {named}", markup=False)
