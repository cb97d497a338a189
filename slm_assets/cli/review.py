"""`slm review`: decide live turns, one key a choice, or from a script."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slm_assets.cli.common import Actor, AsJson, DomainName, actor_of, show
from slm_assets.errors import BadInputError
from slm_assets.registry.home import Home

if TYPE_CHECKING:
    from slm_assets.domain.loading import Domain
    from slm_assets.registry.registry import Registry, Row

KEYS = {"o": "oracle", "s": "served", "c": "correction"}
_SHOWN = ("item", "state", "role", "why", "turn", "input", "candidates", "label", "author", "revision", "opened_at")


def review(
    domain: DomainName,
    listed: Annotated[bool, typer.Option("--list", help="Show the items and decide nothing.")] = False,
    state: Annotated[str, typer.Option(help="With --list: open, decided, skipped or withdrawn.")] = "open",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most items, the oldest first.")] = 100,
    decide: Annotated[str | None, typer.Option(metavar="ITEM", help="Decide this item with --label.")] = None,
    label: Annotated[str | None, typer.Option(metavar="FILE", help="The right output as JSON; - reads stdin.")] = None,
    skip: Annotated[str | None, typer.Option(metavar="ITEM", help="Leave this item undecided.")] = None,
    withdraw: Annotated[str | None, typer.Option(metavar="ITEM", help="Take an item or its decision back.")] = None,
    reopen: Annotated[str | None, typer.Option(metavar="ITEM", help="Ask a skipped or withdrawn item again.")] = None,
    history: Annotated[str | None, typer.Option(metavar="ITEM", help="Who decided this item what, and when.")] = None,
    need: Annotated[
        bool, typer.Option("--need", help="Queue live turns that would decide what holds the newest version.")
    ] = False,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Queue what the newest dataset found, and decide nothing.")
    ] = False,
    by: Actor = None,
    json: AsJson = False,
) -> None:
    """Decide live turns that need a person: conflicts, suspicions, samples. One key each, in a terminal.

    A decision is a label with your name. It goes before every other label but a given one, and stays a regression
    case that each later version is judged on.

    Example: `slm review travel`, or `slm review travel --decide 3f2a --label right.json`
    """
    from slm_assets.registry import reviews
    from slm_assets.stages import reviews as asking
    from slm_assets.stages.plans import open_domain

    if state not in reviews.STATES:
        raise BadInputError(f"{state!r} is no state", cure=f"--state {', '.join(reviews.STATES)}")
    if (decide is None) != (label is None):
        raise BadInputError("--decide and --label belong together", cure="--decide ITEM --label FILE")
    loaded, registry = open_domain(Home.from_env(), domain)
    actor = actor_of(by)
    if decide is not None and label is not None:
        row = reviews.item(registry, domain, decide)
        row = asking.decide(registry, loaded, decide, _label(label), revision=row["revision"], actor=actor)
        show(_line(row), json, _decided)
        return
    changes: dict[reviews.State, str | None] = {"skipped": skip, "withdrawn": withdraw, "open": reopen}
    for to, name in changes.items():
        if name is not None:
            row = reviews.item(registry, domain, name)
            row = reviews.change(registry, domain, row["item"], to, revision=row["revision"], actor=actor)
            show(_line(row), json, _decided)
            return
    if history is not None:
        row = reviews.item(registry, domain, history)
        found = {"item": row["item"], "history": row["history"]}
        show(found, json, _history)
        return
    opened: dict[str, Any] = {}
    if need:
        opened = asking.open_needed(registry, loaded, actor=actor)
    elif refresh or not listed:
        opened = {"opened": asking.refresh_newest(registry, domain, actor=actor)}
    if listed or need or refresh or json:
        rows = reviews.items(registry, domain, state=state, limit=limit)
        counts = reviews.counts(registry, domain)
        show({"domain": domain, "counts": counts, **opened, "items": [_line(row) for row in rows]}, json, _list)
        return
    if not sys.stdin.isatty():
        raise BadInputError("deciding by key needs a terminal", cure="for scripts: --list --json, then --decide")
    _ask_all(registry, loaded, reviews.items(registry, domain, state="open", limit=limit), actor)


def _label(path: str) -> Any:
    import orjson

    try:
        if path == "-":
            return orjson.loads(sys.stdin.buffer.read())
        with open(path, "rb") as handle:  # noqa: PTH123  (a name of the shell's, as it stands)
            return orjson.loads(handle.read())
    except ValueError as error:
        raise BadInputError(f"--label {path}: not JSON: {error}") from None


def _ask_all(registry: Registry, domain: Domain, rows: list[Row], actor: str) -> None:
    """One item after the other, until the last or q."""
    for number, row in enumerate(rows, 1):
        _say(f"\n[{number} of {len(rows)}] {row['item'][:12]}  {row['role']}: {row['why']}, turn {row['turn']}")
        _say(pretty(row["input"]))
        for key, name in KEYS.items():
            if name in row["candidates"]:
                _say(f"  {key} {name:10} {compact(row['candidates'][name])}")
        if not _ask(registry, domain, row, actor):
            return
    _say(f"nothing {'more ' * bool(rows)}to decide in {domain.name}")


def _ask(registry: Registry, domain: Domain, row: Row, actor: str) -> bool:
    """Decide one item; False to stop."""
    from slm_assets.registry import reviews
    from slm_assets.stages.reviews import decide

    offered = [key for key, name in KEYS.items() if name in row["candidates"]]
    while True:
        _say(f"{'/'.join([*offered, 'e', 'n', 'q'])}: {'accept, ' * bool(offered)}edit, next (skip), quit")
        key = typer.getchar().lower()
        try:
            if key in ("q", "\x03", "\x04"):
                return False
            if key == "n":
                reviews.change(registry, domain.name, row["item"], "skipped", revision=row["revision"], actor=actor)
                _say("skipped")
                return True
            label = row["candidates"][KEYS[key]] if key in offered else _edited(row) if key == "e" else None
            if label is not None:
                decide(registry, domain, row["item"], label, revision=row["revision"], actor=actor)
                _say(f"decided: {compact(label)}")
                return True
        except BadInputError as error:
            _say(str(error))
            if isinstance(error, reviews.DecidedError):
                return True


def _edited(row: Row) -> Any:
    """What the editor ($VISUAL or $EDITOR) makes of the first candidate; None where it was not saved."""
    import click
    import orjson

    start: Any = next(iter(row["candidates"].values()), {})
    text = click.edit(pretty(start), extension=".json")
    try:
        return None if text is None else orjson.loads(text)
    except ValueError as error:
        raise BadInputError(f"not JSON: {error}") from None


def visible(text: str) -> str:
    """Text as a terminal can show it without being steered: control and direction marks are written out."""
    return "".join(c if c.isprintable() or c == "\n" else f"\\u{ord(c):04x}" for c in text)


def pretty(value: Any) -> str:
    """JSON on several lines, for people."""
    import orjson

    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode()


def compact(value: Any) -> str:
    """JSON on one line, for people."""
    from slm_assets import canonical

    return canonical.text(value)


def _line(row: Row) -> dict[str, Any]:
    return {key: row[key] for key in _SHOWN}


def _decided(row: dict[str, Any]) -> None:
    _say(f"{row['item'][:12]} {row['state']} by {row['author']}, revision {row['revision']}")


def _history(found: dict[str, Any]) -> None:
    for one in found["history"]:
        _say(f"{one['at'][:19]}  {one['state']:10} {one['author']}  {compact(one['label'])}")


def _list(found: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from slm_assets.cli.render import CONSOLE

    _say(", ".join(f"{number} {state}" for state, number in found["counts"].items()))
    if "opened" in found:
        _say(f"{found['opened']} new")
    for one in found.get("needed", []):
        where = f" on {one['slice']}" if one["slice"] else ""
        what = f"{one['role']} {one['gate']}{where} has {one['n']} turns of {one['n_needed']}"
        _say(f"{one['version']}: {what}, {one['missing']} more would decide")
    if found["items"]:
        table = Table("item", "role", "why", "turn", "input", "candidates or label", box=None, header_style="bold")
        for row in found["items"]:
            answer = row["candidates"] if row["label"] is None else row["label"]
            cells = [row["item"][:12], row["role"], row["why"], row["turn"], compact(row["input"])[:120]]
            table.add_row(*(Text(visible(cell)) for cell in [*cells, compact(answer)[:160]]))
        CONSOLE.print(table)


def _say(text: str) -> None:
    from slm_assets.cli.render import CONSOLE

    CONSOLE.print(visible(text), markup=False, highlight=False, soft_wrap=True)
