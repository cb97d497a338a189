"""Label tiny v1, and say how it ended: `label_child.py`. The parent kills it whenever it likes."""

import os
import sys

from slm_assets.engines.in_process import make_cell
from slm_assets.models.teacher import asking
from slm_assets.registry.home import Home
from slm_assets.stages.plans import open_domain


def main() -> None:
    asking._FIRST_WAIT_S = float(os.environ["FIRST_WAIT"])
    _, registry = open_domain(Home.from_env(), "tiny")
    plan = registry.plan("tiny", 1)
    assert plan is not None
    outcome = make_cell(registry, plan, "label", actor="tester")
    sys.stdout.write(f"{outcome.receipt.status} {outcome.receipt.error}\n")


if __name__ == "__main__":
    main()
