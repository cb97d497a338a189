"""Where plans over rows run: in this process, or on a Ray cluster where the deployment names one.

`SLM_RAY_ADDRESS` is a setting of the deployment and no key of a domain's config: where a plan runs changes
no digest, and so must not be part of a version.
"""

from __future__ import annotations

import os
import socket
from importlib.util import find_spec
from typing import Any

from slm_assets.errors import BadInputError, SlmError

ADDRESS = "SLM_RAY_ADDRESS"
_OWN = ("auto", "local")
"""The cluster that this machine belongs to, and one that lives as long as this process."""
KNOCK_SECONDS = 10
PARTITIONS = 16
"""In how many pieces a frame is spread over a cluster."""


def daft() -> Any:
    """Daft, its plans bound to where they run. SlmError where the cluster cannot be reached."""
    os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")
    os.environ.setdefault("DAFT_PROGRESS_BAR", "0")
    import daft

    address = os.environ.get(ADDRESS)
    if address:
        if find_spec("ray") is None:
            raise BadInputError(
                f"{ADDRESS} names a Ray cluster, and Ray is not installed", cure="pip install 'slm-assets[ray]'"
            )
        _knock(address)
        daft.set_runner_ray(address, noop_if_initialized=True)
    return daft


def spread(frame: Any) -> Any:
    """A frame in pieces that a cluster works on at once; in this process it is left whole."""
    return frame.into_partitions(PARTITIONS) if os.environ.get(ADDRESS) else frame


def _knock(address: str) -> None:
    """SlmError where nobody listens: Ray itself would try for minutes."""
    if address in _OWN:
        return
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS).close()
    except (OSError, ValueError) as error:
        raise SlmError(
            f"Ray cluster {address}: {error}",
            cure=f"check that it is up, or unset {ADDRESS} to work in this process; expected ray://HOST:PORT, "
            "HOST:PORT, auto or local",
        ) from None
