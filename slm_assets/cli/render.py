"""What a person sees: Rich tables of the same values that --json prints."""

from __future__ import annotations

import sys
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from slm_assets.errors import Fault

CONSOLE = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
ERRORS = Console(stderr=True, highlight=False)
COLOURS = {
    "serving": "bold green", "promoted": "green", "PASS": "green", "pass": "green", "held": "red",
    "FAIL": "red", "WORSE": "red", "OK": "green", "FIRED": "red", "QUIET": "green", "failed": "red", "fail": "red",
    "running": "cyan", "deferred": "yellow", "INSUFFICIENT": "yellow", "insufficient": "yellow", "open": "cyan",
}  # fmt: skip


def json(value: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


def error(message: str) -> None:
    """An error on stderr."""
    ERRORS.print(f"[red]error[/red] {escape(message)}")


def pairs(found: dict[str, Any]) -> None:
    """One line for each name and value."""
    for name, value in found.items():
        CONSOLE.print(f"{name.replace('_', ' '):14} {value}", markup=False, soft_wrap=True)


def faults(found: dict[str, list[Fault]]) -> None:
    """Every fault of every domain."""
    for name, own in found.items():
        errors = [fault for fault in own if fault.severity == "error"]
        colour, word = ("red", f"{len(errors)} faults") if errors else ("green", "valid")
        CONSOLE.print(f"[bold]{name}[/bold] [{colour}]{word}[/{colour}]")
        for fault in own:
            mark = "[red]error[/red]" if fault.severity == "error" else "[yellow]warning[/yellow]"
            CONSOLE.print(f"  {mark} {escape(str(fault))}", soft_wrap=True)


def answers(result: dict[str, Any]) -> None:
    """Each role's answer as JSON, and who gave it."""
    for role, found in result["roles"].items():
        who = "the oracle" if found["version"] is None else f"{found['version']}, {found['release'][:12]}"
        told = f"[bold]{escape(role)}[/bold] by {who}, confidence {found['confidence']:.2f}"
        CONSOLE.print(told if found["valid"] else f"{told}, [red]breaks its contract[/red]")
        CONSOLE.print(escape(orjson.dumps(found["output"], option=orjson.OPT_INDENT_2).decode()), soft_wrap=True)


def run(result: dict[str, Any]) -> None:
    """The closing table of a run."""
    stages = Table("stage", "seconds", "digest", title=f"{result['domain']} {result['version']}", title_justify="left")
    for line in result["stages"]:
        took = "cached" if line["cached"] else f"{line['seconds']:.2f}"
        digests = " ".join(o["sha256"][:12] for o in line["outputs"].values())
        stages.add_row(line["stage"], took, digests or paint(line["status"]))
    CONSOLE.print(stages)
    gates(result["gates"])
    above(result["above"])
    for line in result["stages"]:
        if line["error"]:
            CONSOLE.print(f"[yellow]{line['stage']}[/yellow] {escape(line['error'])}", soft_wrap=True)
    if result["error"] and result["outcome"] == "failed" and not any(line["error"] for line in result["stages"]):
        error(result["error"])
    roles = ", ".join(f"{role} {paint(outcome)}" for role, outcome in result["roles"].items())
    CONSOLE.print(f"[bold]{result['domain']} {result['version']}[/bold] {paint(result['outcome'])}  {roles}")


def gates(lines: list[dict[str, Any]]) -> None:
    """One row per gate and role."""
    if not lines:
        return
    table = Table("gate", "role", "verdict", "metric", "value", "interval", "threshold", "n", "why")
    for g in lines:
        interval = "" if g["low"] is None or g["high"] is None else f"{g['low']:.4f} … {g['high']:.4f}"
        table.add_row(
            g["gate"], g["role"] or "all", paint(g["verdict"]), _where(g),
            number(g["value"]), interval, number(g["threshold"]), str(g["n"]), escape(g["reason"]),
        )  # fmt: skip
    CONSOLE.print(table)


def above(lines: list[dict[str, Any]]) -> None:
    """Floor, challenger, and what a teacher reaches on the same rows."""
    if lines:
        table = Table("measured", "role", "metric", "floor", "challenger", "it reaches", "way up", "n")
        for one in lines:
            way = "" if one["closed"] is None else f"{one['closed']:.0%}"
            numbers = (number(one[key]) for key in ("floor", "challenger", "value"))
            table.add_row(one["subject"], one["role"], one["metric"], *numbers, way, str(one["n"]))
        CONSOLE.print(table)


def approval(result: dict[str, Any]) -> None:
    """What was approved, by whom."""
    CONSOLE.print(
        f"{result['domain']} {result['version']}: {', '.join(result['roles'])} approved by "
        f"[bold]{escape(result['by'])}[/bold], bound to verdicts {result['evidence'][:12]}"
    )
    if result["overridden"]:
        CONSOLE.print(f"  overridden: {', '.join(result['overridden'])} ({escape(result['reason'])})")


def held(result: dict[str, Any]) -> None:
    """Who holds back what, or let it go."""
    word = "is held back by" if result["held"] else "is let go by"
    CONSOLE.print(
        f"{result['domain']} {result['version']} {word} [bold]{escape(result['by'])}[/bold]: {escape(result['reason'])}"
    )


def shadow(result: dict[str, Any]) -> None:
    """What answers beside what serves from now on."""
    if result["version"] is None:
        CONSOLE.print(
            f"{result['domain']}: nobody answers beside what serves"
            + (f" ({result['was']} did)" if result["was"] else "")
        )
        return
    share = f"{result['sample']:.0%} of the turns"
    CONSOLE.print(f"{result['domain']}: [bold]{result['version']}[/bold] answers {share} beside what serves")


def watched(result: dict[str, Any]) -> None:
    """A line per role."""
    for one in result["roles"]:
        CONSOLE.print(
            f"{result['domain']}.{one['role']}: {paint(one['verdict'])} {escape(one['sentence'])}", soft_wrap=True
        )
    if not result["roles"]:
        CONSOLE.print(f"{result['domain']}: no fresh promotion to watch")


def rollback(result: dict[str, Any]) -> None:
    """What moved, and how fast."""
    for role, change in result["changes"].items():
        was, now = (_engine(change[k]) for k in ("from", "to"))
        CONSOLE.print(f"{result['domain']}.{role}: {was} → [bold]{now}[/bold]")
    if not result["changes"]:
        CONSOLE.print(f"{result['domain']}: already there, nothing moved")
    CONSOLE.print(f"{result['action']} in [bold]{result['seconds']:.2f} s[/bold]")


def status(result: dict[str, Any]) -> None:
    """One block per domain."""
    from slm_assets.cli.render_loop import freshness

    for domain in result["domains"]:
        serving = ", ".join(
            f"{role}: {flag['version'] or 'oracle'} since {flag['since'][:19]}"
            for role, flag in domain["serving"].items()
        )
        CONSOLE.print(f"[bold]{domain['domain']}[/bold] {serving or 'no role promoted yet'}")
        if fresh := freshness(domain["freshness"]):
            CONSOLE.print(f"  {escape(fresh)}")
        if domain["problem"]:
            CONSOLE.print(f"  [red]cannot run:[/red] {escape(domain['problem'])}", soft_wrap=True)
        if domain["versions"]:
            table = Table("version", "outcome", "roles", "opened", "by", "reason", "train fraction")
            for v in domain["versions"]:
                roles = ", ".join(f"{r} {paint(o)}" for r, o in v["roles"].items())
                table.add_row(
                    v["version"], paint(v["outcome"]), roles, v["opened_at"][:19], escape(v["opener"]),
                    escape(v["reason"]), f"{v['params'].get('train_fraction', 1):g}",
                )  # fmt: skip
            CONSOLE.print(table)


def why(result: dict[str, Any]) -> None:
    """One screen per role."""
    if not result["roles"]:
        CONSOLE.print(f"{result['domain']}: no role was ever promoted; the oracles answer")
    for role, own in result["roles"].items():
        CONSOLE.print(
            f"[bold]{result['domain']}.{role}[/bold] is answered by [bold]{own['version'] or 'its oracle'}[/bold] "
            f"since {own['since'][:19]}, {own['action']} by {escape(own['by'])} in place of {own['replaced']}"
        )
        CONSOLE.print(f"  {escape(own['reason'])}", soft_wrap=True)
        for approval_ in own["approved_by"]:
            CONSOLE.print(
                f"  approved by {escape(approval_['by'])} at {approval_['at'][:19]} {escape(approval_['reason'])}"
            )
        trained = own["trained_on"]
        if trained:
            CONSOLE.print(f"  release {own['release_urn']} sha256 {own['release'][:12]}")
            CONSOLE.print(
                f"  trained on {trained['rows']} rows of {trained['dataset_urn']}, opened by "
                f"{escape(trained['opener'])}: {escape(trained['reason'])}"
            )
        if own["metrics"]:
            table = Table("metric", "value", "interval", "n")
            for m in own["metrics"]:
                interval = "" if m["low"] is None else f"{m['low']:.4f} … {m['high']:.4f}"
                table.add_row(m["metric"], number(m["value"]), interval, str(m["n"]))
            CONSOLE.print(table)
        gates(own["gates"])
        for event in own["history"][-5:]:
            CONSOLE.print(
                f"  {event['at'][:19]} {event['action']} {event['from']} → {event['to']} by {escape(event['by'])}"
            )

    for version in result["waiting"]:
        CONSOLE.print(f"[bold]{version['version']}[/bold] {paint(version['outcome'])}")
        if version["held_by"]:
            by = version["held_by"]
            CONSOLE.print(f"  held back by {escape(by['by'])} since {by['at'][:19]}: {escape(by['reason'])}")
        for no in version["missing"]:
            CONSOLE.print(f"  {no['gate']} {no['role']}: {paint(no['verdict'])} {escape(no['reason'])}", soft_wrap=True)
    for event in result["events"][-12:]:
        why_ = event["detail"].get("reason") or ""
        CONSOLE.print(
            f"  {event['at'][:19]} {event['action']} {event['version'] or ''} by {escape(event['by'])} {escape(why_)}",
            soft_wrap=True,
        )


def stage(result: dict[str, Any]) -> None:
    """Where the receipt lies, and what it says."""
    CONSOLE.print(f"{paint(result['status'])}{' (cached)' if result['cached'] else ''}: {result['receipt']}")
    for name, sha in result["outputs"].items():
        CONSOLE.print(f"  {name} {sha}")
    if result["error"]:
        CONSOLE.print(escape(result["error"]), soft_wrap=True)


def bench(result: dict[str, Any]) -> None:
    """Ours with interval beside the published number."""
    title = f"{result['benchmark']} ({result['recipe']}, {result['protocol']})"
    table = Table(
        "metric", "value", "interval", "n", "target", "by the point", "by the bound", "published", title=title
    )
    for name, m in result["metrics"].items():
        interval = "" if m["low"] is None else f"{m['low']:.4f} … {m['high']:.4f}"
        table.add_row(
            name, number(m["value"]), interval, str(m["n"]), number(m.get("target")),
            paint(m.get("by_point") or ""), paint(m.get("by_bound") or ""), number(m["published"]),
        )  # fmt: skip
    CONSOLE.print(table)
    latency = result["latency_ms"]
    CONSOLE.print(
        f"train {result['n_train']} rows in {result['train_seconds']:.2f} s, test {result['n_test']} rows, "
        f"p50 {latency['p50']:.3f} ms, p95 {latency['p95']:.3f} ms a turn, {result['checkpoint_bytes']:,} bytes"
    )


def curve(result: dict[str, Any]) -> None:
    """A line per rung and amount of labels, a column per metric with its interval."""
    points = result["points"]
    names = list(points[0]["metrics"])
    table = Table("recipe", "labels", "rows", *names, title=f"{result['benchmark']} ({result['protocol']})")
    for point in points:
        found = (point["metrics"][name] for name in names)
        cells = [f"{number(m['value'])} ({m['low']:.3f} … {m['high']:.3f})" for m in found]
        table.add_row(point["recipe"], f"{point['share']:.0%}", str(point["n_train"]), *cells)
    CONSOLE.print(table)


def curve_point(point: dict[str, Any]) -> None:
    """A point as it is found; a curve takes a while."""
    found = ", ".join(f"{name} {number(m['value'])}" for name, m in point["metrics"].items())
    ERRORS.print(escape(f"{point['recipe']}, {point['n_train']} rows: {found}"), soft_wrap=True)


def paint(word: str) -> str:
    """A verdict or outcome in its colour."""
    colour = COLOURS.get(word)
    return f"[{colour}]{word}[/{colour}]" if colour else word


def number(value: float | None) -> str:
    """Four digits, or nothing."""
    return "" if value is None else f"{value:.4f}".rstrip("0").rstrip(".") if value == int(value) else f"{value:.4f}"


def _where(gate: dict[str, Any]) -> str:
    return f"{gate['metric']} ({gate['slice']})" if gate["slice"] else str(gate["metric"])


def _engine(flag: dict[str, Any]) -> str:
    return f"v{flag['number']}" if flag.get("engine") == "release" else "oracle"
