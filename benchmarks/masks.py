"""What constrained decoding costs a token: filling and applying the mask, over the shipped domains' contracts.

    python benchmarks/masks.py [--write]

The tokenizer is SmolLM2's (49,152 tokens), times are CPU milliseconds; logits are random, so that every branch of a
grammar is walked.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from slm_assets.domain.loading import load_domain
from slm_assets.models.lm import decoding
from slm_assets.models.lm.base import locate
from slm_assets.models.lm.bounding import Bounds
from slm_assets.models.lm.chat import Chat
from slm_assets.models.lm.checkpoint import engine_of, tokenizer_of

HERE = Path(__file__).parent
DOMAINS = ("travel", "support_triage", "invoice_fields")
GENERATIONS, LIMIT = 20, 400


def measured(schema: dict[str, Any], engine: Any, width: int, ends: list[int]) -> dict[str, Any]:
    """Mean, median and worst generation's milliseconds of CPU a choice of one contract."""
    constraint = decoding.Constraint(schema, engine, Bounds(), {})
    rule = constraint.rule(None)
    random = np.random.default_rng(0)
    noise = random.normal(size=(64, width)).astype(np.float32)
    costs, choices = [], 0
    for _ in range(GENERATIONS):
        found = decoding.decode(rule, lambda _tokens: noise[random.integers(64)], limit=LIMIT, ends=ends)
        choices += found.choices
        costs.append(1000 * found.mask_seconds / max(1, found.choices))
    return {
        "tokens": choices, "ms_mean": round(float(np.mean(costs)), 4), "ms_median": round(float(np.median(costs)), 4),
        "ms_worst": round(max(costs), 4), "max_tokens": constraint.max_tokens,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="keep the numbers in benchmarks/results/masks.json")
    write = parser.parse_args().write
    base = locate("smollm2", "135M")
    width = int(base.config()["vocab_size"])
    ends = Chat(tokenizer_of(base.tokenizer_json()), "any", None).ends
    engine = engine_of(base.tokenizer_json(), width, tuple(ends))
    rows = []
    for name in DOMAINS:
        domain = load_domain(HERE.parent / "domains" / name)
        for role in domain.config.roles:
            rows.append(
                {"domain": name, "role": role.id, **measured(domain.output_schema(role.id), engine, width, ends)}
            )
            print(rows[-1])
    head = {"measured": datetime.now(UTC).date().isoformat(), "python": platform.python_version()}
    machine = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2), "vocabulary": width}
    if write:
        text = json.dumps({**head, "machine": machine, "rows": rows}, indent=1) + "\n"
        (HERE / "results" / "masks.json").write_text(text)


if __name__ == "__main__":
    main()
