"""A role's deterministic engine: the oracle its config names, or the majority baseline where it has none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import orjson

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain import config
from slm_assets.errors import BadInputError
from slm_assets.models.base import Prediction
from slm_assets.models.rules import Answer, RulesOracle


class Answerer(Protocol):
    """What stands behind an oracle: rules, or a function in a child process."""

    def answer(self, value: Json) -> Answer:
        """An output, or None and the reason."""
        ...


class OracleDomain(Protocol):
    """The part of a loaded domain that an oracle needs."""

    @property
    def name(self) -> str: ...
    @property
    def files(self) -> Any: ...
    def role(self, role_id: str) -> config.Role: ...
    def rules(self, role_id: str) -> Any: ...
    def output_schema(self, role_id: str) -> Any: ...


class OraclePredictor:
    """An oracle whose answers are held against the role's contract."""

    def __init__(self, engine: Answerer, is_valid: Callable[[Json], bool]) -> None:
        self._engine = engine
        self._is_valid = is_valid

    def answer(self, value: Json) -> Answer:
        """The output, with an error text when there is none or when it breaks the contract."""
        answer = self._engine.answer(value)
        if not answer.error and not self._is_valid(answer.output):
            shown = canonical.text(answer.output)[:200]
            return Answer(answer.output, f"the oracle answered outside its contract: {shown}")
        return answer

    def predict(self, value: Json) -> Prediction:
        """Confidence 1 for a valid answer; no answer is output None; both failures have `valid` False."""
        output, error = self.answer(value)
        return Prediction(output, 0.0, valid=False) if error else Prediction(output)

    def predict_many(self, values: Sequence[Json]) -> list[Prediction]:
        """One answer per input, in order."""
        return [self.predict(value) for value in values]

    def close(self) -> None:
        """End the child process, where there is one."""
        close = getattr(self._engine, "close", None)
        if close is not None:
            close()


def load_oracle(domain: OracleDomain, role_id: str) -> OraclePredictor | None:
    """The oracle of a role, or None where the config names none.

    Raises ConfigError for a rules file with faults, and BadInputError for an oracle that cannot run here.
    """
    import jsonschema_rs

    oracle = domain.role(role_id).deterministic_oracle
    if oracle is None:
        return None
    engine: Answerer
    if isinstance(oracle, config.RulesOracle):
        engine = RulesOracle(domain.rules(role_id), file=oracle.path, domain=domain.name)
    elif isinstance(oracle, config.PythonOracle):
        from slm_assets.models.python_oracle import PythonOracle

        engine = PythonOracle(
            domain.files[oracle.path],
            oracle.function,
            name=f"{domain.name}/{oracle.path}",
            timeout_s=oracle.timeout_s,
            memory_mb=oracle.memory_mb,
        )
    else:
        raise BadInputError(
            f"domain {domain.name}, role {role_id}: oracle {oracle.path} is a playbook, answered by NoETL",
            cure="to run one here give it an oracle of kind rules or python, or none (majority floor)",
        )
    return OraclePredictor(engine, jsonschema_rs.validator_for(domain.output_schema(role_id)).is_valid)


class MajorityBaseline:
    """Always the most frequent output of the training rows: the floor of a role without an oracle."""

    def __init__(self, output: Json, share: float) -> None:
        self.output = output
        self._prediction = Prediction(output, share)

    @classmethod
    def fit(cls, outputs: Sequence[Json]) -> MajorityBaseline:
        """The most frequent whole output (ties: the smallest canonical text). BadInputError on none."""
        return cls.of_counts(Counter(map(canonical.dumps, outputs)))

    @classmethod
    def of_counts(cls, counts: Mapping[bytes, int]) -> MajorityBaseline:
        """As `fit`, from how often each output occurs, by its canonical bytes."""
        if not counts:
            raise BadInputError("no outputs to take a majority of", cure="give the role labelled rows")
        best = min(counts, key=lambda key: (-counts[key], key))
        return cls(orjson.loads(best), counts[best] / sum(counts.values()))

    def predict(self, value: Json) -> Prediction:
        """The majority output; confidence is its share of the training rows."""
        return self._prediction

    def predict_many(self, values: Sequence[Json]) -> list[Prediction]:
        """The majority output, once per input."""
        return [self._prediction] * len(values)
