"""Windows of live traffic: opened with what is new, and the one request that each of their cells has."""

from __future__ import annotations

import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slm_assets.domain.domain import Domain
from slm_assets.errors import BadInputError, BusyError
from slm_assets.registry import watching, windows
from slm_assets.registry.registry import Registry
from slm_assets.registry.windows import Window
from slm_assets.stages.contract import StageRequest
from slm_assets.stages.plans import frozen_config
from slm_assets.stages.traffic import intake
from slm_assets.stages.watching.reference import drift_inputs, drift_params


def next_window(domain: Domain, registry: Registry, *, actor: str, reason: str = "asked for") -> Window:
    """The window to work on: the newest, where its traffic is not captured yet or nothing has changed since;
    otherwise a new one with what has come since.

    BusyError where another process is opening one.
    """
    with registry.alone(f"window {domain.name}") as mine:
        if not mine:
            raise BusyError(f"the traffic of {domain.name} is being read by another process")
        newest = windows.latest(registry, domain.name)
        if newest is not None and windows.traffic_of(registry, newest) is None:
            return newest
        with tempfile.TemporaryDirectory(prefix="slm-window-") as scratch:
            folder = Path(scratch) / "incoming"
            folder.mkdir()
            before = newest.taken if newest else []
            found = intake.gather(domain, registry, folder, before)
            new = [entry for entry in found.taken if entry not in before]
            config = frozen_config(domain, registry)
            serving = watching.serving(registry, domain.name).get(domain.name, {})
            as_of = datetime.now(UTC).isoformat(timespec="milliseconds")
            if (
                newest
                and not new
                and (config, serving, as_of[:10]) == (newest.config, newest.serving, newest.as_of[:10])
            ):
                intake.consume(found)  # a kill may have left behind what the newest window holds
                return newest
            incoming = registry.store.put(folder).sha256 if any(folder.iterdir()) else None
            previous = windows.traffic_of(registry, newest) if newest else None

            def make(_number: int) -> dict[str, Any]:
                columns = {"config": config, "previous": previous, "incoming": incoming, "taken": found.taken}
                return {**columns, "serving": serving, "as_of": as_of, "reason": reason}

            opened = windows.open_window(registry, domain.name, actor=actor, make=make)
        intake.consume(found)
        return opened


def window_of(registry: Registry, domain: str, version: str) -> Window:
    """The window by its name, such as w3. BadInputError where there is none."""
    is_one = re.fullmatch(r"w[1-9][0-9]{0,8}", version)
    found = windows.window(registry, domain, int(version[1:])) if is_one else None
    if found is None:
        raise BadInputError(f"{domain} {version} was never opened", cure=f"open the next one: slm watch {domain}")
    return found


def captured_by(registry: Registry, window: Window) -> str:
    """The digest of the traffic up to a window. BadInputError where it was not captured yet."""
    found = windows.traffic_of(registry, window)
    if found is None:
        raise BadInputError(
            f"{window.domain} {window.version}: its traffic was not captured yet",
            cure=f"materialise captured_traffic of {window.domain} first, or `slm watch {window.domain}`",
        )
    return found


def window_request(registry: Registry, window: Window, stage: str) -> StageRequest:
    """The request of one of a window's cells."""
    inputs: dict[str, str] = {}
    params: dict[str, Any] = {"as_of": window.as_of}
    if stage == "capture":
        inputs |= {"previous": window.previous} if window.previous else {}
        inputs |= {"incoming": window.incoming} if window.incoming else {}
        params["window"] = window.number
    else:
        inputs["traffic"] = captured_by(registry, window)
        inputs |= drift_inputs(registry, window)
        params |= drift_params(registry, window)
    return StageRequest(
        stage=stage, domain=window.domain, version=window.version, config=window.config, inputs=inputs, params=params
    )  # fmt: skip
