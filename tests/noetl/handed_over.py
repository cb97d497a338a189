"""What a worker's `slm` does with a stage that was handed over: `handed_over.py RUN_DIR`."""

from __future__ import annotations

import sys
from pathlib import Path

from slm_assets import canonical
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry
from slm_assets.stages.contract import Envelope, StageRequest
from slm_assets.stages.runner import execute


def main(folder: Path) -> None:
    request = StageRequest.model_validate(canonical.read_json(folder / "request.json"))
    envelope = Envelope.model_validate(canonical.read_json(folder / "envelope.json"))
    execute(request, envelope, Registry(Home.from_env(), envelope.tenant, envelope.project), folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
