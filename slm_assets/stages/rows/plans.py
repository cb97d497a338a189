"""Where plans over rows run: in this process, or on a Ray cluster where the deployment names one.

`SLM_RAY_ADDRESS` is a setting of the deployment and no key of a domain's config: where a plan runs changes
no digest, and so must not be part of a version.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

from slm_assets.errors import BadInputError, SlmError

ADDRESS = "SLM_RAY_ADDRESS"
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
        try:
            daft.set_runner_ray(address, noop_if_initialized=True)
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            raise SlmError(
                f"Ray cluster {address}: {type(error).__name__}",
                cure=f"check that it is up and of the same Ray version, or unset {ADDRESS} to work in this process",
            ) from error
    return daft


def spread(frame: Any) -> Any:
    """A frame in pieces that a cluster works on at once; in this process it is left whole."""
    return frame.into_partitions(PARTITIONS) if os.environ.get(ADDRESS) else frame
