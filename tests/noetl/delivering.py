"""Deliver the outbox of SLM_HOME to NOETL_SERVER_URL until nothing is left.

A process of its own, so that a test can kill it.
"""

from __future__ import annotations

import sys

from slm_assets.noetl import handoffs
from slm_assets.noetl.server import server_from_env
from slm_assets.registry import outbox
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry


def main() -> None:
    registry = Registry(Home.from_env())
    server = server_from_env(timeout_s=5)
    assert server is not None
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    handoffs.LONGEST_WAIT_S = 0.0  # the faults here pass at once
    while outbox.counts(registry).keys() & set(outbox.OPEN):
        handoffs.deliver(registry, server)


if __name__ == "__main__":
    main()
