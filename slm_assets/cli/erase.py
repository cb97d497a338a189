"""`slm erase`: forget a user or a conversation, down to the bytes."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from slm_assets.cli.common import Actor, AsJson, DomainName, actor_of, show
from slm_assets.errors import BadInputError
from slm_assets.registry.home import Home


def erase(
    domain: DomainName,
    user: Annotated[str | None, typer.Option(help="A user's id, as clients sent it.")] = None,
    conversation: Annotated[str | None, typer.Option(help="A conversation's id, as clients sent it.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    by: Actor = None,
    json: AsJson = False,
) -> None:
    """Remove every captured turn of a user or a conversation: from the traffic, from datasets, labels and reports
    made of it, and from the review queue. The bytes are gone; it cannot be undone.

    Models keep what they have learned: the versions trained on such turns are named, and where one of them serves the
    next version is asked for, as by a trigger.

    Example: `slm erase travel --user 4711 --yes`
    """
    from slm_assets.cli import render
    from slm_assets.engines.forget import forget
    from slm_assets.stages.plans import open_domain
    from slm_assets.stages.traffic.records import Scope, pseudonym

    given = [("user", user), ("conversation", conversation)]
    named = [(kind, name) for kind, name in given if name]
    if len(named) != 1:
        raise BadInputError("who is to be forgotten?", cure="give either --user or --conversation")
    ((kind, name),) = named
    if not yes and (json or not typer.confirm(f"Forget {kind} {name} of {domain} for good?")):
        raise BadInputError("nothing was erased", cure="say --yes")
    loaded, registry = open_domain(Home.from_env(), domain)
    who = pseudonym(Scope(registry.tenant, registry.project, domain), kind, name)
    done, left = forget(loaded, registry, "user" if kind == "user" else "conversation", who, actor=actor_of(by))
    detail = done["detail"]
    result = {"domain": domain, "kind": kind, "pseudonym": who, "open_segments": left}
    result |= {key: detail[key] for key in ("turns", "files", "versions")}

    def told(found: dict[str, Any]) -> None:
        render.CONSOLE.print(f"{found['turns']} turns erased, {found['files']} stored files rewritten without them")
        if found["versions"]:
            named = ", ".join(found["versions"])
            render.CONSOLE.print(f"trained on them: {named}; what becomes of it: slm triggers {domain}")
        if left:
            render.CONSOLE.print(f"{left} segments are still being written: theirs go when they are read")

    show(result, json, told)
