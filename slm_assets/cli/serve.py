"""`slm serve`: the HTTP service."""

from __future__ import annotations

from typing import Annotated

import typer

serve_app = typer.Typer()


@serve_app.command()
def serve(
    domain: Annotated[list[str] | None, typer.Argument(metavar="[DOMAIN]...", help="Which; default: all.")] = None,
    host: Annotated[str, typer.Option(help="Address to bind to.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0: any free one, told on standard error.")] = 8080,
    token: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TENANT=ALIAS",
            envvar="SLM_TOKENS",
            help="A tenant's bearer token by the alias of an environment variable or file in SLM_SECRETS; tenant * is "
            "the operator. Needed unless bound to loopback.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(envvar="SLM_ALLOW_HOSTS", help="Names that the service may be asked under.")
    ] = None,
) -> None:
    """Answer over HTTP with what serves: each role's promoted release or its oracle, by the engine flags.

    A flip is followed within a second. See docs/serving.md for the paths. Ends gracefully on SIGTERM.

    Example: `slm serve travel --port 8080`
    """
    from slm_assets.serving.run import run

    run(tuple(domain or ()), host=host, port=port, tokens=tuple(token or ()), allow_hosts=tuple(allow_host or ()))
