"""Decoding under a grammar: at each step only tokens by which the answer can still meet the contract.

The mask is computed by llguidance and applied in numpy; where the grammar leaves one way on, the model is not asked.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slm_assets.canonical import Json
from slm_assets.errors import SlmError
from slm_assets.models.lm import implied
from slm_assets.models.lm.bounding import Bounds, bounded
from slm_assets.models.lm.lark import Grammar, grammar
from slm_assets.models.lm.nodes import Node
from slm_assets.models.lm.observed import Observed
from slm_assets.models.lm.writing import write

Step = Callable[[Sequence[int]], NDArray[np.float32]]
"""Tokens that follow what the model has read → the logits of the next one."""
_KEPT = 64


class Decoded(NamedTuple):
    """`tokens` without the end; `log_probability`: of the choices the grammar left; `complete`: the grammar was
    satisfied before the limit; `mask_seconds`: of the CPU, spent on masks."""

    tokens: list[int]
    log_probability: float
    choices: int
    complete: bool
    mask_seconds: float


@dataclass(frozen=True)
class Rule:
    """A contract as one input leaves it: the tree, its grammar, and a matcher to copy."""

    node: Node
    grammar: Grammar
    matcher: Any = field(repr=False)


class Constraint:
    """A role's contract for one tokenizer. Unions that the input resolves have a grammar each, kept."""

    def __init__(self, schema: dict[str, Any], tokenizer: Any, bounds: Bounds, observed: Observed) -> None:
        """`tokenizer`: from `engine_tokenizer`. BadInputError for a contract that nothing can meet."""
        self.schema, self._tokenizer, self._bounds, self._observed = schema, tokenizer, bounds, observed
        self._asked = implied.places(schema)
        self._rules: OrderedDict[str, Rule] = OrderedDict()
        whole = bounded(schema, bounds, observed)
        self.lints = whole.lints
        self.max_tokens = grammar(whole.node).max_tokens

    def rule(self, given: Json) -> Rule:
        """The grammar that holds for an input."""
        key = implied.facts(self._asked, given)
        if key not in self._rules:
            node = bounded(self.schema, self._bounds, self._observed, given if self._asked else None).node
            made = grammar(node)
            self._rules[key] = Rule(node, made, self._matcher(made.text))
            if len(self._rules) > _KEPT:
                self._rules.popitem(last=False)
        self._rules.move_to_end(key)
        return self._rules[key]

    def write(self, given: Json, value: Json) -> str | None:
        """The text of a value, where decoding could write it; None otherwise."""
        rule = self.rule(given)
        text = write(rule.node, value)
        if text is None:
            return None
        tokens = self._tokenizer.tokenize_str(text)
        matcher = rule.matcher.deep_copy()
        return text if matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting() else None

    def _matcher(self, text: str) -> Any:
        import llguidance

        matcher = llguidance.LLMatcher(self._tokenizer, llguidance.LLMatcher.grammar_from_lark(text), log_level=0)
        if matcher.is_error():
            raise SlmError(f"the contract's grammar is refused: {matcher.get_error()[:400]}")
        return matcher


def engine_tokenizer(tokenizer_json: str, vocabulary: int, ends: Sequence[int]) -> Any:
    """llguidance's view of a tokenizer (tokenizer.json as text), for logits of that width."""
    import llguidance

    return llguidance.LLTokenizer(tokenizer_json, n_vocab=vocabulary, eos_token=list(ends))


def decode(rule: Rule, step: Step, *, limit: int, ends: Sequence[int]) -> Decoded:
    """Greedy decoding. `limit`: most tokens, where less room is left than the grammar's own maximum."""
    limit = min(limit, rule.grammar.max_tokens)
    matcher = rule.matcher.deep_copy()
    tokens: list[int] = []
    new: list[int] = []
    total, choices, spent = 0.0, 0, 0.0
    mask: NDArray[np.int32] | None = None
    while len(tokens) < limit:
        began = time.thread_time()
        forced = matcher.compute_ff_tokens()[: limit - len(tokens)]
        if forced and matcher.try_consume_tokens(forced) == len(forced):
            tokens += forced
            new += forced
        spent += time.thread_time() - began
        if matcher.is_stopped() or len(tokens) >= limit:
            break
        logits = step(new)
        began = time.thread_time()
        if mask is None:
            mask = np.empty((logits.shape[0] + 31) // 32, dtype=np.int32)
        matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        allowed = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")[: logits.shape[0]].view(bool))
        spent += time.thread_time() - began
        if allowed.size == 0:
            raise SlmError(f"decoding got stuck: {matcher.get_error()[:400] or 'no token is allowed'}")
        own = logits[allowed]
        best = int(own.argmax())
        if allowed.size > 1:
            choices += 1
            total -= float(np.log(np.exp(own - own[best], dtype=np.float64).sum()))
        token = int(allowed[best])
        if not matcher.consume_token(token):
            raise SlmError(f"decoding broke off: {matcher.get_error()[:400]}")
        if token in ends:
            break
        tokens.append(token)
        new = [token]
    complete = matcher.is_stopped() or matcher.is_accepting()
    return Decoded(tokens, total, choices, bool(complete), spent)
