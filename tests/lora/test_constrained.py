"""Whatever the contract and however bad the model: what is decoded meets the contract, and ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from slm_assets.domain.contracts import Validator, check_schema
from slm_assets.models.lm.bounding import Bounds
from slm_assets.models.lm.decoding import Constraint, decode, engine_tokenizer
from tests.lora.fuzzed import contracts
from tests.lora.tiny import byte_tokenizer

pytest.importorskip("llguidance", reason="constrained decoding needs slm-assets[lora]: make test-lora")

GENERATIONS = 20
_counted = {"contracts": 0, "generations": 0}


def _engine() -> tuple[Any, int, int]:
    tokenizer = byte_tokenizer()
    end, width = tokenizer.token_to_id("<|im_end|>"), tokenizer.get_vocab_size()
    return engine_tokenizer(tokenizer.to_str(), width, [end]), width, end


ENGINE, WIDTH, END = _engine()


def wild(seed: int) -> Any:
    """A model that knows nothing, and would rather open something than end."""
    random = np.random.default_rng(seed)
    return lambda _tokens: random.normal(size=WIDTH).astype(np.float32) * 3


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    derandomize=True,
)
@given(schema=contracts)
def test_random_models_under_random_contracts(schema: dict[str, Any]) -> None:
    assert not check_schema(schema)
    constraint = Constraint(schema, ENGINE, Bounds(text=24, items=3, depth=1), {})
    rule, check = constraint.rule(None), Validator(schema)
    unheld = [lint for lint in constraint.lints if "not told apart" in lint or "not held" in lint]
    for seed in range(GENERATIONS):
        found = decode(rule, wild(seed), limit=10**6, ends=[END])
        text = byte_tokenizer().decode(found.tokens, skip_special_tokens=False)
        assert found.complete and len(found.tokens) < rule.grammar.max_tokens, (schema, text)
        value = orjson.loads(text)
        assert unheld or check.is_valid(value), (schema, text, check.errors(value))
        assert unheld or constraint.write(None, value) is not None, (schema, text)
    if not unheld:
        _counted["contracts"] += 1
        _counted["generations"] += GENERATIONS


def test_enough_were_decoded() -> None:
    """A thousand generations over fifty contracts whose every keyword is held."""
    assert _counted["contracts"] >= 50, _counted
    assert _counted["generations"] >= 1000, _counted
