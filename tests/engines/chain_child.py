"""Run every stage of tiny v1 (opening it where needed), and say when each begins: `chain_child.py`."""

import sys

from slm_assets.engines.in_process import make_cell
from slm_assets.registry.home import Home
from slm_assets.stages.plans import open_domain, open_version
from slm_assets.stages.table import STAGES


def main() -> None:
    domain, registry = open_domain(Home.from_env(), "tiny")
    plan = registry.plan("tiny", 1) or open_version(domain, registry, actor="tester")
    for stage in STAGES:
        sys.stdout.write(f"begin {stage.name}\n")
        sys.stdout.flush()

        def tell(share: float, note: str, name: str = stage.name) -> None:
            sys.stdout.write(f"at {name} {share:.2f} {note}\n")
            sys.stdout.flush()

        outcome = make_cell(registry, plan, stage.name, actor="tester", progress=tell)
        sys.stdout.write(f"end {stage.name} {outcome.receipt.status} {outcome.cached}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
