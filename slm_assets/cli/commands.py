"""The commands of `slm`. Exit codes: 0 done, 1 fault, 2 bad input, 3 a gate said no, 4 deferred."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from slm_assets.cli import group
from slm_assets.cli.common import Actor, AsJson, DomainName, actor_of, registry_for, root_app, show
from slm_assets.cli.conductor import conductor_app
from slm_assets.cli.drift import drift_app
from slm_assets.cli.erase import erase
from slm_assets.cli.experiments import experiments_app
from slm_assets.cli.garbage import gc
from slm_assets.cli.grid import prune_grid
from slm_assets.cli.loop import loop_app
from slm_assets.cli.promotions import approve, hold, rollback, shadow, teacher, watch_promotion
from slm_assets.cli.replay import replay
from slm_assets.cli.review import review
from slm_assets.cli.serve import serve_app
from slm_assets.cli.simulate import simulate_app
from slm_assets.errors import BadInputError, SlmError
from slm_assets.registry.home import Home

app = root_app()
app.add_typer(group("stage"), name="stage")
app.add_typer(group("db"), name="db")
app.add_typer(experiments_app)
app.add_typer(drift_app)
app.add_typer(conductor_app)
app.add_typer(loop_app)
app.add_typer(group("playbooks"), name="playbooks")
app.add_typer(group("handoffs"), name="handoffs")
app.add_typer(serve_app)
app.add_typer(simulate_app)
app.command()(replay)
app.command()(review)
app.command()(erase)
app.command()(gc)
for command in (approve, hold, rollback, shadow, teacher):
    app.command()(command)
app.command("watch-promotion")(watch_promotion)
app.command("prune-grid")(prune_grid)


@app.command()
def validate(
    domain: Annotated[str | None, typer.Argument(help="One domain; default: all.")] = None,
    json: AsJson = False,
) -> None:
    """Check configs and report every fault at once: file, line, JSON path, found, expected, cure.

    Example: `slm validate travel`
    """
    from slm_assets.cli import render
    from slm_assets.domain.loading import list_domains
    from slm_assets.stages.validate import validate_domain

    home = Home.from_env()
    names = [domain] if domain else list_domains(home.domains)
    if not names:
        raise BadInputError(f"no domain in {home.domains}", cure="set SLM_DOMAINS, or write domains/<name>/")
    found = {name: validate_domain(home, name) for name in names}
    show(
        {
            "domains": {n: [f.__dict__ for f in faults] for n, faults in found.items()},
            "valid": all(not [f for f in faults if f.severity == "error"] for faults in found.values()),
        },
        json,
        lambda _value: render.faults(found),
    )
    if any(fault.severity == "error" for faults in found.values() for fault in faults):
        raise typer.Exit(2)


@app.command()
def schema(json: AsJson = True) -> None:
    """Print the JSON Schema of slm.config.yaml, for editors.

    Example: `slm schema > slm.schema.json`
    """
    from slm_assets.domain.config import config_schema

    show(config_schema(), True, lambda _value: None)


@app.command()
def run(
    domain: DomainName,
    version: Annotated[str | None, typer.Option(help="Resume or open this version, such as v3.")] = None,
    new: Annotated[bool, typer.Option("--new", help="Open a new version even if nothing changed.")] = False,
    train_fraction: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Train on this share of the train rows; default: all.")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="Run every stage by in_process, noetl or kubernetes; default: the config's."),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the plan and the audit.")] = "asked for",
    by: Actor = None,
    json: AsJson = False,
) -> None:
    """Run the whole chain for one version: dataset, labels, challenger, eval report, release, deployment.

    Without --version: resumes the newest version when config, rows and parameters are unchanged, else
    opens a new one. Exits 3 when a gate said no, 4 when it waits for an approval.

    Example: `slm run travel`
    """
    from slm_assets.cli import render
    from slm_assets.cli.run import EXIT_CODES, run_chain

    result = run_chain(
        Home.from_env(),
        domain,
        version=version,
        new=new,
        params={} if train_fraction is None else {"train_fraction": train_fraction},
        reason=reason,
        actor=actor_of(by),
        engine=engine,
        quiet=json,
    )
    show(result, json, render.run)
    code = EXIT_CODES.get(result["outcome"], 1)
    if code == 1 and any(s.get("error_kind") == "bad_input" for s in result["stages"]):
        code = 2
    raise typer.Exit(code)


@app.command()
def status(
    domain: Annotated[str | None, typer.Argument(help="One domain; default: all.")] = None,
    json: AsJson = False,
) -> None:
    """What serves, how far each version came, and what is wrong with a config that cannot be used.

    Example: `slm status travel`
    """
    from slm_assets.cli import render
    from slm_assets.domain.loading import list_domains
    from slm_assets.stages.reports import status_of

    home = Home.from_env()
    names = [domain] if domain else list_domains(home.domains)
    show({"domains": [status_of(home, name) for name in names]}, json, render.status)


@app.command()
def ask(
    domain: DomainName,
    turn: Annotated[str, typer.Argument(metavar="TURN", help="The turn as JSON, or - for standard input.")],
    role: Annotated[str | None, typer.Option(help="Only this role's answer.")] = None,
    json: AsJson = False,
) -> None:
    """Answer one turn with what serves now: each role's promoted release, or its oracle.

    JSON keys: domain, roles: {role: {output, confidence, valid, engine, version, release, urn, fallback}}.

    Example: `slm ask support_triage '{"channel": "email", "subject": "Refund", "body": "I was charged twice"}'`
    """
    import orjson

    from slm_assets.cli import render
    from slm_assets.stages.answering import ask as answer

    try:
        value = orjson.loads(sys.stdin.buffer.read() if turn == "-" else turn)
    except ValueError as error:
        raise BadInputError(f"TURN is not JSON: {error}", cure='quote it for the shell: \'{"text": "…"}\'') from None
    found = answer(Home.from_env(), domain, value)
    if role is not None and role not in found:
        raise BadInputError(f"{domain} has no role {role!r}", cure=f"one of {', '.join(found)}")
    roles = {name: one for name, one in found.items() if role in (None, name)}
    show({"domain": domain, "roles": roles}, json, render.answers)


@app.command()
def why(
    domain: DomainName,
    role: Annotated[str | None, typer.Option(help="Only this role.")] = None,
    turn: Annotated[str | None, typer.Option(help="An answer's turn id: what it was learned from.")] = None,
    json: AsJson = False,
) -> None:
    """Which version serves, since when, flipped by whom, trained on what, by which gates, replacing what; or with
    `--turn` the way from an answer back to the rows, labels and verdicts behind it.

    Example: `slm why travel --role extract`
    """
    from slm_assets.cli import render
    from slm_assets.stages.reports import explain

    if turn is not None:
        from slm_assets.cli import questions
        from slm_assets.stages.experiments.turn import explain_turn

        show(explain_turn(registry_for(domain), domain, turn), json, questions.turn)
        return
    show(explain(registry_for(domain), domain, role), json, render.why)


@app.command()
def bench(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A folder of benchmarks/, such as travel_v3.")],
    final: Annotated[
        bool, typer.Option("--final", help="Score the test file and count the look in looks.jsonl.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with train.jsonl and the test file; default: $SLM_BENCH_DATA/NAME."),
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="With --final: write one line per test row, before any repair.")
    ] = None,
    permute_labels: Annotated[
        bool, typer.Option("--permute-labels", help="Sanity check: shuffle train labels; nothing is learned.")
    ] = False,
    recipe: Annotated[
        list[str] | None,
        typer.Option(help="Rung in place of the config's, as linear or encoder:quantize=int8; several with --curve."),
    ] = None,
    curve: Annotated[
        bool, typer.Option("--curve", help="Score over the amount of labels, on held-out train rows alone.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Measure a benchmark: cross-validation on train, grouped; with --final once on the test file.

    Example: `slm bench travel_v3`
    """
    from slm_assets.bench import run_benchmark
    from slm_assets.bench_curve import learning_curve
    from slm_assets.cli import render

    if curve and (final or predictions or permute_labels):
        raise BadInputError("--curve reads no test file", cure="leave out --final, --predictions and --permute-labels")
    if curve:
        show(learning_curve(name, recipes=recipe or (), data=data, tell=render.curve_point), json, render.curve)
        return
    if recipe and len(recipe) > 1:
        raise BadInputError("several recipes are compared by --curve alone", cure="give one --recipe, or --curve")
    result = run_benchmark(
        name,
        final=final,
        data=data,
        predictions=predictions,
        permute_labels=permute_labels,
        recipe=recipe[0] if recipe else None,
    )
    show(result, json, render.bench)


def _failure(message: str, kind: str) -> SlmError:
    return BadInputError(message) if kind == "bad_input" else SlmError(message)
