"""The code location of the loop's daemon test: stages that answer at once, and drift that always finds some."""

import sys
from pathlib import Path
from types import ModuleType

sys.path.insert(0, str(Path(__file__).parents[1] / "dagster"))
import fake_stages

from slm_assets import canonical
from slm_assets.definitions import defs
from slm_assets.gates.types import Trigger
from slm_assets.stages.contract import StageResult
from slm_assets.stages.runtime import StageContext


def drift(ctx: StageContext) -> StageResult:
    canonical.write_json(ctx.out["drift"] / "report.json", {"window": ctx.request.version})
    return StageResult(triggers=[Trigger(trigger="outcome", verdict="FIRED", n=9, sentence="twice as many")])


fake_stages.install()
module = ModuleType("slm_assets.stages.drift")
module.run = drift  # type: ignore[attr-defined]
sys.modules[module.__name__] = module

__all__ = ["defs"]
