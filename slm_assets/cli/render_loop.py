"""The answers of `slm watch`, `triggers` and `budget`, and how fresh a domain is, for a person."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from slm_assets.cli.render import CONSOLE, number, paint
from slm_assets.cli.render import run as show_run


def watch(found: dict[str, Any]) -> None:
    """What the triggers say of the newest window."""
    CONSOLE.print(f"[bold]{found['domain']} {found['window']}[/bold]")
    if found["error"]:
        CONSOLE.print(f"[red]error[/red] {escape(found['error'])}", soft_wrap=True)
    _verdicts(found["triggers"])
    if found["became"]:
        CONSOLE.print(f"retrain: {escape(found['became'])}", soft_wrap=True)
    if found["run"]:
        show_run(found["run"])


def triggers(found: dict[str, Any]) -> None:
    """A line for each window, the verdicts of the newest one, and the retrains."""
    if not found["windows"]:
        CONSOLE.print(f"{found['domain']}: no window of traffic was judged yet; slm watch {found['domain']}")
    table = Table("window", "fired", "became")
    for window in found["windows"]:
        fired = [row["trigger"] for row in window["triggers"] if row["verdict"] == "FIRED"]
        table.add_row(window["window"], ", ".join(fired), escape(window["became"]))
    if found["windows"]:
        CONSOLE.print(table)
        _verdicts(found["windows"][-1]["triggers"])
    if found["retrains"]:
        retrains = Table("retrain", "asked", "by", "cause", "state", "version", "why", "note")
        for row in found["retrains"]:
            retrains.add_row(
                str(row["id"]), row["asked_at"][:19], escape(row["by"]), row["cause"], paint(row["state"]),
                row["version"] or "", escape(row["reason"]), escape(row["note"]),
            )  # fmt: skip
        CONSOLE.print(retrains)


def budget(found: dict[str, Any]) -> None:
    """A line for each resource, then what was paid for last."""
    if not found["resources"]:
        CONSOLE.print(f"{found['domain']}: no budget; improvement.governance.cost_budget names one")
        return
    table = Table("resource", "window", "limit", "reserved", "spent", "left", "next window")
    for row in found["resources"]:
        left = f"[red]{number(row['left'])}[/red]" if row["left"] <= 0 else number(row["left"])
        amounts = (number(row["limit"]), number(row["reserved"]), number(row["spent"]), left)
        table.add_row(row["resource"], row["window"], *amounts, row["opens"][:16])
    CONSOLE.print(table)
    if found["entries"]:
        entries = Table("at", "for", "resource", "state", "reserved", "spent")
        for row in found["entries"]:
            entries.add_row(
                row["at"][:19], row["what"], row["resource"], row["state"], number(row["reserved"]),
                number(row["spent"]),
            )  # fmt: skip
        CONSOLE.print(entries)
    for row in found["waiting"]:
        CONSOLE.print(f"[yellow]waits[/yellow] retrain {row['id']}: {escape(row['note'])}", soft_wrap=True)


def freshness(found: dict[str, Any] | None) -> str:
    """How old the newest window and what serves are, on one line."""
    if found is None:
        return ""
    parts = [f"traffic {found['window']}, {_age(found['window_hours'])} old"] if found["window"] else []
    if found["window"]:
        fired = f"fires: {', '.join(found['fired'])}" if found["fired"] else "nothing fires"
        parts.append(fired if found["judged"] else "not judged yet")
    if found["deployed_hours"] is not None:
        parts.append(f"deployed {_age(found['deployed_hours'])} ago")
    return "; ".join(parts)


def _verdicts(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    table = Table("trigger", "verdict", "value", "bound", "threshold", "n", "why")
    for row in rows:
        told = f"[red]{row['verdict']}[/red]" if row["verdict"] == "FIRED" else paint(row["verdict"])
        table.add_row(
            row["trigger"], told, number(row["value"]), number(row["bound"]), number(row["threshold"]), str(row["n"]),
            escape(row["sentence"]),
        )  # fmt: skip
    CONSOLE.print(table)


def _age(hours: float) -> str:
    if hours < 2:
        return f"{hours * 60:.0f} min"
    return f"{hours:.0f} h" if hours < 72 else f"{hours / 24:.0f} d"
