"""What runs by itself: the outbox is delivered to the NoETL server, where the deployment names one."""

import os

import dagster as dg

from slm_assets.noetl.address import URL
from slm_assets.registry.home import Home
from slm_assets.stages.plans import registries

TICK_S = 20.0
"""How long a tick delivers: well below the minute after which Dagster gives a tick up."""


class DeadLetterError(Exception):
    """Handoffs that the server refused: a person must look, so the tick shows as failed, once."""


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=f"Deliver finished assets and flips to the NoETL server that {URL} names; without one they wait.",
)
def deliver_handoffs(_context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Deliver what is due; no run is started."""
    if not os.environ.get(URL):
        return dg.SkipReason(f"{URL} names no server: handoffs wait in the outbox")
    from slm_assets.noetl.handoffs import Report, deliver
    from slm_assets.noetl.server import server_from_env

    server = server_from_env()
    assert server is not None
    total = Report()
    until = server.clock.now() + TICK_S
    with server:
        for registry in registries(Home.from_env()):
            left = until - server.clock.now()
            if total.away or left <= 0:
                break
            total.add(deliver(registry, server, seconds=left))
    if total.dead:
        raise DeadLetterError(
            f"{total.dead} handoffs were refused; see `slm handoffs list --state dead`:\n" + "\n".join(total.errors)
        )
    return dg.SkipReason(f"{total.delivered} delivered, {total.delayed} delayed {total.away}".strip())
