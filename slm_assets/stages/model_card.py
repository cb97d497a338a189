"""The model card: what a release is, from what it was made and what was measured, in Markdown."""

from __future__ import annotations

from typing import Any

from slm_assets.domain.loading import Domain


def model_card(domain: Domain, version: str, report: dict[str, Any], sources: dict[str, str]) -> str:
    """Markdown from the eval report's own numbers; nothing in it depends on time or place."""
    config = domain.config
    lines = [
        f"# {domain.name} {version}",
        "",
        config.description,
        "",
        f"Recipe: {report['recipe']}. Owners: {', '.join(config.owners) or 'none named'}. "
        f"Roles: {', '.join(f'{role} ({outcome})' for role, outcome in report['roles'].items())}.",
        "",
        "## Measured",
        "",
        f"On {report['n']} frozen eval turns in {report['groups']} groups (epoch {report['epoch']}), end to end.",
        "Intervals at 95 %.",
        "",
        *metric_table(report["metrics"]),
        "",
        "## Gates",
        "",
        *gate_table(report["gates"]),
        "",
        "## The ladder",
        "",
        *rung_table(report["rungs"]),
        "",
        "## Made from",
        "",
        "| artifact | sha256 |",
        "|---|---|",
        *(f"| {name} | `{sha}` |" for name, sha in sorted(sources.items())),
        "",
        "## Limits",
        "",
        *_limits(report),
    ]
    return "\n".join(lines) + "\n"


def metric_table(metrics: list[dict[str, Any]]) -> list[str]:
    """Role and metric per line; challenger, incumbent, floor and majority side by side, all rows; and where they were
    measured ceiling and baseline, on theirs."""
    measured = {m["subject"] for m in metrics}
    others = [subject for subject in ("ceiling", "baseline") if subject in measured]
    subjects = ("challenger", "incumbent", "floor", "majority", *others)
    values: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for m in metrics:
        if not m["slice"] and m["mode"] in ("", "end_to_end") and not m["metric"].startswith("recall:"):
            values.setdefault((m["role"], m["metric"]), {})[m["subject"]] = m
    lines = ["| role | metric | " + " | ".join(subjects) + " | n |", "|---|---|" + "---|" * (len(subjects) + 1)]
    for (role, metric), own in values.items():
        cells = [_number(own.get(subject)) for subject in subjects]
        n = max(m["n"] for m in own.values())
        lines.append(f"| {role or 'turn'} | {metric} | " + " | ".join(cells) + f" | {n} |")
    return lines


def gate_table(gates: list[dict[str, Any]]) -> list[str]:
    """One line per gate and role."""
    lines = [
        "| gate | role | verdict | value | interval | threshold | n | why |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for g in gates:
        interval = "" if g["low"] is None else f"[{_short(g['low'])}, {_short(g['high'])}]"
        lines.append(
            f"| {g['gate']} | {g['role'] or 'all'} | {g['verdict']} | {_short(g['value'])} | {interval} | "
            f"{_short(g['threshold'])} | {g['n']} | {g['reason']} |"
        )
    return lines


def rung_table(lines: list[dict[str, Any]]) -> list[str]:
    """One line per role and rung: those tried, on the validation part, and the floor and the challenger on the eval
    rows. What is measured in time or money is not here: it differs by machine."""
    table = ["| role | rung | on | metrics | bytes | verdict | n | why |", "|---|---|---|---|---|---|---|---|"]
    for line in lines:
        shown = "; ".join(f"{m['metric']} {_number(m)}" for m in line["metrics"])
        name = f"**{line['rung']}**" if line["kept"] else line["rung"]
        size = "" if line["bytes"] is None else f"{line['bytes']:,}"
        cells = (line["role"], name, line["on"], shown, size, line["verdict"], str(line["n"]), line["why"])
        table.append(f"| {' | '.join(cells)} |")
    return table


def _number(metric: dict[str, Any] | None) -> str:
    if metric is None or metric["value"] is None:
        return ""
    low, high = metric["low"], metric["high"]
    return _short(metric["value"]) + ("" if low is None else f" [{_short(low)}, {_short(high)}]")


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _limits(report: dict[str, Any]) -> list[str]:
    uncovered = [
        f"- {role}: `{leaf['path']}` cannot be learned from the input ({leaf['share_of_rows']:.1%} of rows)."
        for role, leaves in report.get("uncovered", {}).items()
        for leaf in leaves
    ]
    return uncovered or ["- No leaf of the contract was found uncovered in training."]
