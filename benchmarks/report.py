"""Write docs/results.md from what was measured: benchmarks/results/*.json and looks.jsonl. Cheap: it runs nothing.

    python benchmarks/report.py

The words are here, the numbers there; notes on a benchmark or domain are its own notes.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "results.md"
Record = dict[str, Any]

HEAD = """# Results

What was measured, with n and spread. `make bench` measures and writes this page; `benchmarks/report.py` writes it again
from the numbers in `benchmarks/results/`. How, where and when each was measured stands at the end.
"""
DOMAINS = """## The shipped domains

Each from an empty home, by `benchmarks/domains.py`: versions on growing shares of the train rows, judged on the same
frozen eval turns that no version trains on. Values are end to end, with 95 % intervals over groups; the floor is the
domain's oracle on the same turns. A domain's rows are generated, so its numbers say what the loop does with them, and
nothing about a market.
"""
BENCHMARKS = """## Public benchmarks

Settings are chosen by cross-validation on train alone. Each score of a test file is a look: `--final` appends it to
`benchmarks/looks.jsonl`, and the looks at each file are counted here. *By the bound* is the verdict of the gate, which
asks whether so many turns, in so many groups, can show the target; *by the point* ignores that.
"""
CURVE = """What more labels would buy: trained on growing shares of four fifths of the train rows, each share holding
the smaller ones, and scored on the fifth that is left, with 95 % intervals. No row of the test file is read:
"""
GATES = """## The gates

`python benchmarks/gates_simulation.py` simulates challengers whose truth is known, with the functions that the gates
use: {runs:,} a line, margin {margin}, accuracy {accuracy}. Each row is the worst and the best of its lines.
"""
BLIND = """
A fault that hits whole groups, a share f of them, leaves no trace in G groups with probability (1 − f)^G; with f = .02
and fewer than 149 groups that is above .05. So a verdict asks for that many groups besides: below, it is INSUFFICIENT
and names how many are missing.
"""
ALONE = """By the bound alone (`--bound-alone`), without that rule, a challenger worse by the margin passed in up to
{margin}, and a model exactly at its target in up to {target}.
"""
ROWS = """## Rows

`python benchmarks/scale.py`: generated rows with skewed duplicates, planted near-duplicates and group keys. Every stage
runs in a process of its own. *Handled*: the planted pairs of which one was dropped, or which lie on one side of the
split; *recall*: what the search found of those that the group keys do not settle.
"""
MANY = """## Many domains

`python benchmarks/many_domains.py`.
"""
VERSIONS = """### With many versions

`python benchmarks/many_versions.py`, on a Postgres server. *Bar*: what it may take, in seconds.
"""
REDACTION = """## Redaction

`python benchmarks/redaction.py`. Values that [Faker](https://faker.readthedocs.io) invents, which knows nothing of the
recognisers: {each} of each kind and locale. A miss is a value of which any piece is left. A name is *introduced* by a
phrase, a title, a signature or a label; *in a sentence* nothing says that a name stands there.
"""
HOW = """## How it was measured

Load is the one-minute average before the measurement began: above the number of cores, timings are too long.
"""
CLAIMS = {
    "worse by the margin: PASS": "a challenger worse by exactly the margin passes",
    "equal: FAIL": "an equal challenger fails one gate",
    "equal: PASS at the n named": "an equal challenger passes at the n that its verdict named",
    "role, worse primary: PASS": "a role of four correlated metrics, targets, primary, critical slice: worse on the "
    "primary passes",
    "role, equal: any FAIL": "the same role: an equal challenger fails any gate",
    "role, equal: PASS at the n named": "the same role: an equal challenger passes at the n named",
    "at the target: PASS": "a model exactly at its target passes the target gate",
    "at the target: FAIL": "a model exactly at its target fails it",
}


def write() -> None:
    """Write the page from the results that are here."""
    PAGE.write_text(current(), encoding="utf-8")


def current() -> str:
    """The page as the files that are here give it."""
    return page(load(HERE / "results"), looks(HERE / "looks.jsonl"), notes(HERE.parent), published(HERE))


def load(folder: Path) -> dict[str, Record]:
    """Every record by its name."""
    records = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json")))
    return {record["name"]: record for record in records}


def looks(path: Path) -> list[Record]:
    """Every look at a test file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines if line]


def notes(root: Path) -> dict[str, str]:
    """What the people of a benchmark or domain say about it: name → text."""
    found = [*root.glob("benchmarks/*/notes.md"), *root.glob("domains/*/notes.md")]
    return {path.parent.name: path.read_text(encoding="utf-8").strip() for path in found}


def published(folder: Path) -> dict[str, dict[str, Record]]:
    """What others published: benchmark → metric → value and source."""
    found = sorted(folder.glob("*/published.json"))
    return {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in found}


def page(
    records: dict[str, Record],
    looked: list[Record],
    said: dict[str, str],
    known: dict[str, dict[str, Record]] | None = None,
) -> str:
    """The whole page; a part without results is left out."""
    parts = [HEAD]
    domains = [record for name, record in records.items() if name.startswith("domain:")]
    if domains:
        parts += [DOMAINS, *(_domain(record, said.get(record["result"]["domain"], "")) for record in domains)]
    benches = sorted(
        {name.split(":")[1] for name in records if name.startswith(("cv:", "final:", "permuted:", "curve:"))}
        | {look["benchmark"] for look in looked}
    )
    if benches:
        others = known or {}
        parts.append(BENCHMARKS)
        parts += [_bench(name, records, looked, said.get(name, ""), others.get(name, {})) for name in benches]
    if "gates" in records:
        parts.append(_gates(records["gates"]["result"], records.get("gates:bound-alone", {}).get("result")))
    if "scale" in records:
        parts.append(ROWS + "\n" + _scale(records))
    if "many_domains" in records:
        parts.append(MANY + "\n" + _lines(records["many_domains"]["result"]))
    if "many_versions" in records:
        parts.append(VERSIONS + "\n" + _lines(records["many_versions"]["result"]))
    if "redaction" in records:
        parts.append(_redaction(records["redaction"]))
    if records:
        parts.append(HOW + "\n" + _how(records.values()))
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


# Domains --------------------------------------------------------------------------------------------


def _domain(record: Record, said: str) -> str:
    result = record["result"]
    versions, last = result["versions"], result["versions"][-1]
    dataset = result["dataset"]
    floor = {(m["role"], m["metric"]): m for m in last["metrics"] if m["subject"] == "floor"}
    heads = [f"{v['version']}: {_percent(v['train_fraction'])} of the rows" for v in versions]
    rows = []
    for one in _in_order(last["metrics"]):
        key = (one["role"], one["metric"])
        own = [_of(v, key) for v in versions]
        rows.append([_metric(key), _value(floor.get(key)), *(_value(m) for m in own)])
    rows.append(["**verdict**", "", *(_verdict(v) for v in versions)])
    text = f"### {result['domain']}\n\n"
    text += f"{said}\n\n" if said else ""
    text += (
        f"{dataset['read']:,} rows; {last['eval']['n']:,} frozen eval turns in {last['eval']['groups']:,} groups.\n\n"
        + _table(["", "oracle (floor)", *heads], rows)
        + "\n"
        + _measured(result)
        + _busy(record)
    )
    return text


def _in_order(metrics: list[Record]) -> list[Record]:
    """The challenger's metrics: role by role as they stand, the whole turn last."""
    own = [m for m in metrics if m["subject"] == "challenger"]
    return [m for m in own if m["role"]] + [m for m in own if not m["role"]]


def _of(version: Record, key: tuple[str, str]) -> Record | None:
    found = [m for m in version["metrics"] if m["subject"] == "challenger" and (m["role"], m["metric"]) == key]
    return found[0] if found else None


def _metric(key: tuple[str, str]) -> str:
    role, metric = key
    return f"{role}: {metric}" if role else "every role exact" if metric == "turn_exact" else metric


def _verdict(version: Record) -> str:
    if version["outcome"] == "promoted":
        return "promoted" + (", after an approval" if version["approved"] else "")
    found: dict[str, list[str]] = {}
    for gate in version["gates"]:
        found.setdefault(gate["verdict"], []).append(gate["gate"])
    why = "; ".join(f"{verdict}: {', '.join(dict.fromkeys(gates))}" for verdict, gates in sorted(found.items()))
    return f"{version['outcome']} ({why})" if why else str(version["outcome"])


def _measured(result: Record) -> str:
    last = result["versions"][-1]
    seconds = last["measured"]
    trained = [
        f"{seconds[key]:.1f} s ({key.removeprefix('train_seconds_')})"
        for key in sorted(seconds)
        if key.startswith("train_seconds_")
    ]
    said = [f"Training on {last['train_rows']:,} rows took {' and '.join(trained)}"]
    if len(trained) > 1:
        said[-1] += ", side by side"
    if "latency_p50_ms" in seconds:
        said.append(f"a turn p50 {seconds['latency_p50_ms']:.2f} ms, p95 {seconds['latency_p95_ms']:.2f} ms")
    said.append(f"checkpoint {_bytes(seconds['checkpoint_bytes'])}")
    text = "; ".join(said) + f". The run took {last['run_seconds']:.0f} s, unchanged again "
    text += f"{result['unchanged_run_seconds']:.1f} s"
    if result["switch_seconds"]:
        back, forward = result["switch_seconds"]
        text += f"; a rollback {back:.2f} s, forward again {forward:.2f} s"
    return text + ".\n"


# Benchmarks -----------------------------------------------------------------------------------------


def _bench(name: str, records: dict[str, Record], looked: list[Record], said: str, known: dict[str, Record]) -> str:
    own = [look for look in looked if look["benchmark"] == name and not look["permuted_labels"]]
    parts = [f"### {name}\n"]
    if said:
        parts.append(said + "\n")
    parts.append(_looks(own))
    rungs = sorted({key.split(":")[2] for key in records if key.count(":") == 2 and key.split(":")[1] == name})
    measured = [part for rung in ("", *rungs) for part in _rung(name, rung, records)]
    if own and not any(key.startswith("final:") and key.split(":")[1] == name for key in records):
        measured = [_look(own[-1], known), *measured]
    parts += measured
    curve, permuted = records.get(f"curve:{name}"), records.get(f"permuted:{name}")
    if curve:
        parts += [CURVE, _curve(curve["result"]["points"]) + _busy(curve)]
    if permuted:
        parts.append("With permuted train labels nothing is learned that the inputs do not give away by themselves:\n")
        metrics = permuted["result"]["metrics"].items()
        rows = [[f"`{key}`", _number(m["value"]), _number(m["majority"])] for key, m in metrics]
        parts.append(_table(["metric", "value", "majority baseline"], rows))
    parts += _sources(known)
    return "\n".join(parts)


def _rung(name: str, rung: str, records: dict[str, Record]) -> list[str]:
    """What was measured of one rung; "" is the config's own."""
    final, cv = (records.get(":".join(filter(None, (kind, name, rung)))) for kind in ("final", "cv"))
    parts = [f"#### {name}, recipe {rung}\n"] if rung else []
    if final:
        result = final["result"]
        parts.append(f"Trained on {result['n_train']:,} rows, scored on {result['n_test']:,} test turns:\n")
        parts.append(_scores(result["metrics"], spread="95 % interval", judged=True))
        parts.append(_cost(final))
    if cv:
        folds = len(next(iter(cv["result"]["metrics"].values()))["folds"])
        parts.append(f"Cross-validation of train in {folds} folds, by group (mean ± one standard deviation):\n")
        parts.append(_scores(cv["result"]["metrics"], spread="± sd", judged=False))
        parts.append(_cost(cv))
    return parts


def _curve(points: list[Record]) -> str:
    """A line per rung and amount of labels, a column per metric that the config names or that is the whole answer."""
    names = list(points[0]["metrics"])
    rows = []
    for point in points:
        cells = [f"{_number(m['value'])} {_interval(m)}" for m in (point["metrics"][name] for name in names)]
        rows.append([point["recipe"], _percent(point["share"]), f"{point['n_train']:,}", *cells])
    return _table(["recipe", "labels", "rows", *(f"`{name}`" for name in names)], rows)


def _looks(own: list[Record]) -> str:
    if not own:
        return "Looks at the test file: none yet.\n"
    each = [f"{look['date']} at commit `{look['commit']}` ({look['recipe']})" for look in own]
    return f"Looks at the test file: {len(own)}: {'; '.join(each)}.\n"


def _look(last: Record, known: dict[str, Record]) -> str:
    """The numbers of a look as it was counted: without intervals."""
    rows = [
        [f"`{key}`", _number(value), f"{last['n_test']:,}", _number(known.get(key, {}).get("value"))]
        for key, value in last["metrics"].items()
    ]
    latency = last["latency_ms"]
    cost = (
        f"Training took {last['train_seconds']:.1f} s; p50 {latency['p50']:.2f} ms, p95 {latency['p95']:.2f} ms a turn."
    )
    return _table(["metric", "value", "n", "published"], rows) + "\n" + cost + "\n"


def _sources(known: dict[str, Record]) -> list[str]:
    sources = list(dict.fromkeys(one["source"] for one in known.values() if one.get("source")))
    return [f"Published: {'; '.join(sources)}.\n"] if sources else []


def _scores(metrics: dict[str, Record], *, spread: str, judged: bool) -> str:
    heads = ["metric", "value", spread, "n"]
    heads += ["target", "by the point", "by the bound", "published"] if judged else []
    rows = []
    for key, m in metrics.items():
        around = _interval(m) if "folds" not in m else f"± {_number((m['high'] - m['low']) / 2)}"
        row = [f"`{key}`", _number(m["value"]), around, f"{m['n']:,}"]
        if judged:
            row += [_number(m["target"]), m["by_point"] or "", m["by_bound"] or "", _number(m["published"])]
        rows.append(row)
    return _table(heads, rows)


def _cost(record: Record) -> str:
    result = record["result"]
    latency = result["latency_ms"]
    times = "the time of a turn is not known"
    if latency is not None:
        times = f"p50 {latency['p50']:.2f} ms and p95 {latency['p95']:.2f} ms a turn"
    return f"Training took {result['train_seconds']:.1f} s; {times}, {_bytes(result['checkpoint_bytes'])}.\n" + _busy(
        record
    )


def _busy(record: Record) -> str:
    """A warning where the machine had other work."""
    load, cores = record["load"], record["machine"]["cores"]
    return (
        f"\nMeasured on a busy machine (load {load:.1f} on {cores} cores): its times are too long.\n"
        if load > cores
        else ""
    )


# Gates, rows, machine -------------------------------------------------------------------------------


def _gates(result: Record, alone: Record | None) -> str:
    claims: dict[str, list[Record]] = {}
    for line in result["lines"]:
        claims.setdefault(line["claim"], []).append(line)
    rows = []
    for claim, own in claims.items():
        demanded = own[0]["demanded"].replace("<=", "≤").replace(">=", "≥")
        rates = sorted(line["rate"] for line in own)
        broken = sum(not _holds(line) for line in own)
        settings = f"{len(own)} settings" + (f", {broken} beyond by more than chance" if broken else "")
        rows.append([CLAIMS.get(claim, claim), demanded, f"{rates[0]:.4f} to {rates[-1]:.4f}", settings])
    text = GATES.format(runs=result["runs"], margin=result["margin"], accuracy=result["accuracy"])
    text += "\n" + _table(["claim", "demanded", "measured", ""], rows) + BLIND
    if alone:
        worst = {
            short: max((line["rate"] for line in alone["lines"] if line["claim"] == claim), default=0.0)
            for short, claim in (("margin", "worse by the margin: PASS"), ("target", "at the target: PASS"))
        }
        text += ALONE.format(**{short: f"{rate:.3f}" for short, rate in worst.items()})
    return text


def _holds(line: Record) -> bool:
    """Whether a simulated rate keeps its bar, but for three standard errors of the simulation."""
    sign, bar = line["demanded"].split()
    slack = 3 * (float(bar) * (1 - float(bar)) / line["runs"]) ** 0.5
    return bool(line["rate"] <= float(bar) + slack if sign == "<=" else line["rate"] >= float(bar) - slack)


def _scale(records: dict[str, Record]) -> str:
    columns = {
        "size": "rows given",
        "stage": "stage",
        "rows_per_s": "rows/s",
        "rows_per_cpu_s": "rows/CPU s",
        "seconds": "seconds",
        "peak_mb": "peak MB",
        "planted": "planted",
        "handled": "handled",
        "recall": "recall",
        "group_by": "group keys",
    }
    lines = [line for name in ("scale", "scale:no-groups") if name in records for line in records[name]["result"]]
    used = [key for key in columns if any(key in line for line in lines)]
    return _table([columns[key] for key in used], [[_cell(line.get(key)) for key in used] for line in lines])


def _redaction(record: Record) -> str:
    result = record["result"]
    found = [{key: value for key, value in line.items() if key != "of_each"} for line in result["recall"]]
    clean = result["clean"]
    text = REDACTION.format(each=result["recall"][0]["of_each"]) + "\n" + _lines(found) + "\n"
    text += (
        f"Of {clean['tokens']:,} words in {clean['turns']:,} turns of travel that hold no such value, "
        f"{clean['changed']:,} "
        f"changed. CPU of a turn, its input and all its outputs, from an empty memory:\n\n{_lines(result['cost'])}"
    )
    for one in result["skew"]:
        rows = [[f"`{key}`", _number(m["raw"]), _number(m["redacted"])] for key, m in one["metrics"].items()]
        text += (
            f"\nA model of {one['domain']}, trained on rows as they are, on {one['turns']:,} eval turns as they came "
            f"and redacted, which changes {one['changed']:,} of them:\n\n{_table(['metric', 'raw', 'redacted'], rows)}"
        )
    return text + _busy(record)


def _lines(lines: Any) -> str:
    """A list of flat records as a table of its own keys."""
    flat = lines if isinstance(lines, list) else [lines]
    keys = list(dict.fromkeys(key for line in flat for key in line))
    return _table([key.replace("_", " ") for key in keys], [[_cell(line.get(key)) for key in keys] for line in flat])


def _how(records: Iterable[Record]) -> str:
    rows = []
    for record in records:
        machine = record["machine"]
        where = f"{machine['cores']} × {machine['cpu']}, {machine['memory_gb']} GB, Python {machine['python']}"
        rows.append(
            [
                f"`{record['command']}`",
                record["date"],
                f"`{record['commit']}`",
                where,
                f"{record['load']:.1f}",
                f"{record['seconds']:,.0f} s",
            ]
        )
    return _table(["command", "date", "commit", "machine", "load", "took"], rows)


# Cells ----------------------------------------------------------------------------------------------


def _table(heads: list[str], rows: Iterable[list[str]]) -> str:
    return "\n".join(_rows([heads, ["---"] * len(heads), *rows])) + "\n"


def _rows(rows: Iterable[list[str]]) -> Iterator[str]:
    for row in rows:
        yield "| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |"


def _cell(value: Any) -> str:
    if value is None or isinstance(value, str | bool):
        return "" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}".rstrip("0").rstrip(".")


def _value(metric: Record | None) -> str:
    return f"{_number(metric['value'])} {_interval(metric)}" if metric and metric["value"] is not None else ""


def _interval(metric: Record) -> str:
    return "" if metric["low"] is None else f"[{_number(metric['low'])}, {_number(metric['high'])}]"


def _number(value: float | None) -> str:
    """Three decimals as in a paper: .885, 1.000."""
    return "" if value is None else f"{value:.3f}".removeprefix("0")


def _percent(share: float) -> str:
    return "all" if share == 1 else f"{100 * share:g} %"


def _bytes(size: float) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


if __name__ == "__main__":
    write()
