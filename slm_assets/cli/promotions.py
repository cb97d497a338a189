"""What a person decides about versions that serve or are to: approve, override, hold, shadow, watch, roll back."""

from __future__ import annotations

from typing import Annotated

import typer

from slm_assets.cli.common import Actor, AsJson, DomainName, actor_of, registry_for, show
from slm_assets.errors import BadInputError

Version = Annotated[str, typer.Argument(help="The version, such as v1.")]
Roles = Annotated[list[str] | None, typer.Option(help="Only these roles; default: all.")]


def approve(
    domain: DomainName,
    version: Version,
    by: Annotated[str, typer.Option("--by", help="Your name; it stands in the audit.")],
    role: Annotated[list[str] | None, typer.Option(help="Only these roles.")] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(
            help="A gate whose no you outweigh, as often as needed: floor, target, incumbent, slices, latency, shadow."
        ),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; with --override at least 10 characters.")] = "",
    json: AsJson = False,
) -> None:
    """Approve a version by name: a first promotion, or a verdict that was INSUFFICIENT; a FAIL only with --override.

    Bound to the digests of verdicts and release: it does not carry over to anything else.

    Example: `slm approve travel v1 --by "A. Lovelace"`
    """
    from slm_assets.cli import render
    from slm_assets.stages.approvals import approve as record

    registry = registry_for(domain)
    result = record(registry, domain, version, roles=role, actor=by, reason=reason, override=override or [])
    show(result, json, render.approval)


def hold(
    domain: DomainName,
    version: Version,
    reason: Annotated[str, typer.Option(help="Why; it stands in the audit.")],
    off: Annotated[bool, typer.Option("--off", help="Let it go again.")] = False,
    by: Actor = None,
    json: AsJson = False,
) -> None:
    """Hold a version back: whatever its gates say, it is not deployed until somebody lets it go.

    Example: `slm hold travel v4 --reason "until the new contract is live"`
    """
    from slm_assets.cli import render
    from slm_assets.stages.approvals import hold as record

    registry = registry_for(domain)
    result = record(registry, domain, version, held=not off, actor=actor_of(by), reason=reason)
    show(result, json, render.held)


def shadow(
    domain: DomainName,
    version: Annotated[str | None, typer.Argument(help="The version, such as v4; none needed with --off.")] = None,
    off: Annotated[bool, typer.Option("--off", help="Nobody answers beside what serves any more.")] = False,
    sample: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the turns.")] = 0.2,
    reason: Annotated[str, typer.Option(help="Why, for the audit.")] = "",
    by: Actor = None,
    json: AsJson = False,
) -> None:
    """Let a packaged version answer beside what serves, off the response path; its answers are captured, not given.

    Example: `slm shadow travel v4 --sample 0.2`
    """
    from slm_assets.cli import render
    from slm_assets.stages.live_shadow import switch_shadow

    if off == (version is not None):
        raise BadInputError("which version?", cure=f"slm shadow {domain} v4, or slm shadow {domain} --off")
    registry = registry_for(domain)
    result = switch_shadow(registry, domain, version, sample=sample, actor=actor_of(by), reason=reason)
    show(result, json, render.shadow)


def watch_promotion(domain: DomainName, by: Actor = None, json: AsJson = False) -> None:
    """Look at the live answers of a fresh promotion, and take it back where they go wrong more often than before.

    Reads the newest captured traffic. Exits 3 when something was rolled back.

    Example: `slm watch-promotion travel`
    """
    from slm_assets.cli import render
    from slm_assets.engines.watching import watch_domain
    from slm_assets.registry.home import Home
    from slm_assets.stages.plans import open_domain

    loaded, registry = open_domain(Home.from_env(), domain)
    found = watch_domain(loaded, registry, actor=actor_of(by))
    result = {"domain": domain, "roles": [one.as_dict() for one in found]}
    show(result, json, render.watched)
    if any(one.rolled_back for one in found):
        raise typer.Exit(3)


def rollback(
    domain: DomainName,
    role: Roles = None,
    to: Annotated[str | None, typer.Option(help="A version that served before, or `oracle`.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for the audit.")] = "",
    by: Actor = None,
    json: AsJson = False,
) -> None:
    """Flip the flags back to what served before, or to a deployed version. Nothing is rebuilt.

    Example: `slm rollback travel` or, forward again, `slm rollback travel --to v3`
    """
    from slm_assets.cli import render
    from slm_assets.engines.rolling_back import roll_back

    result = roll_back(registry_for(domain), domain, roles=role, to=to, reason=reason, actor=actor_of(by))
    show(result, json, render.rollback)


def teacher(
    domain: DomainName,
    role: Annotated[str, typer.Argument(help="The role that it answers for.")],
    reason: Annotated[str, typer.Option(help="Why; it stands in the audit.")],
    off: Annotated[bool, typer.Option("--off", help="Let answer again what did before.")] = False,
    by: Actor = None,
    json: AsJson = False,
) -> None:
    """Let the teacher of `serving.teacher` answer for a role, once its server is shown to be ready.

    Example: `slm teacher travel extract --reason "until v1 is there"`
    """
    from slm_assets.cli import render
    from slm_assets.registry.home import Home
    from slm_assets.stages.live_teacher import switch
    from slm_assets.stages.plans import open_domain

    loaded, registry = open_domain(Home.from_env(), domain)
    flag = switch(registry, loaded, role, on=not off, actor=actor_of(by), reason=reason)
    result = {"domain": domain, "role": role, "engine": flag.engine, "release": flag.release}
    show(result, json, lambda found: render.CONSOLE.print(f"{domain}.{role}: answered by {found['engine']}"))
