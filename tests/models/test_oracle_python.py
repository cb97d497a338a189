"""Python oracles run in a child with limits; `load_oracle` picks the engine; the majority baseline."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slm_assets.domain.config import PlaybookOracle, PythonOracle, Role, RulesOracle
from slm_assets.errors import BadInputError
from slm_assets.models import python_oracle
from slm_assets.models.oracle import MajorityBaseline, OraclePredictor, load_oracle

SOURCE = b"""
import os, sys, time
calls = []

def predict(value):
    calls.append(1)
    kind = value.get("do")
    if kind == "throw":
        raise ValueError("no such thing")
    if kind == "hang":
        while True:
            pass
    if kind == "sleep":
        time.sleep(60)
    if kind == "exit":
        os._exit(3)
    if kind == "leave":
        sys.exit("bye")
    if kind == "memory":
        return {"n": len(bytearray(1 << 34))}
    if kind == "set":
        return {1, 2}
    if kind == "nan":
        return {"x": float("nan")}
    if kind == "huge":
        return {"x": "a" * 5_000_000}
    if kind == "print":
        print("noise")
        os.write(1, b"{}\\n")
        return {"printed": True}
    if kind == "write":
        with open("file.txt", "w") as handle:
            handle.write("x" * 10)
        return {}
    if kind == "environment":
        packages = [path for path in sys.path if "site-packages" in path]
        return {"env": sorted(os.environ), "cwd": os.listdir("."), "path": packages}
    return {"calls": len(calls), "echo": value}
"""


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(python_oracle.ALLOW, "1")


@pytest.fixture
def oracle(allowed: None) -> Iterator[python_oracle.PythonOracle]:
    with python_oracle.PythonOracle(SOURCE, "predict", name="d/oracle.py", timeout_s=1.0, memory_mb=256) as made:
        yield made


def test_refused_unless_the_deployment_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(python_oracle.ALLOW, raising=False)
    with pytest.raises(BadInputError, match="SLM_ALLOW_PYTHON_ORACLES=1"):
        python_oracle.PythonOracle(SOURCE, "predict", name="d/oracle.py")


def test_one_child_answers_many_inputs(oracle: python_oracle.PythonOracle) -> None:
    big = {"text": "é" * 300_000}
    assert oracle.answer({}).output == {"calls": 1, "echo": {}}
    assert oracle.answer(big).output == {"calls": 2, "echo": big}


@pytest.mark.parametrize(
    ("do", "reason"),
    [
        ("throw", "ValueError: no such thing (line 9)"),
        ("leave", "SystemExit: bye"),
        ("memory", "MemoryError"),
        ("set", "not JSON serializable"),
        ("nan", "ValueError"),
        ("write", "OSError"),
    ],
)
def test_a_bad_answer_is_an_error_of_that_input_alone(oracle: python_oracle.PythonOracle, do: str, reason: str) -> None:
    output, error = oracle.answer({"do": do})
    assert output is None
    assert reason in error
    assert oracle.answer({}).output == {"calls": 2, "echo": {}}  # the same child


@pytest.mark.parametrize(
    ("do", "reason"),
    [("hang", "within 1 s"), ("sleep", "within 1 s"), ("exit", "exit code 3"), ("huge", "more than")],
)
def test_a_child_that_hangs_or_dies_is_replaced(oracle: python_oracle.PythonOracle, do: str, reason: str) -> None:
    started = time.monotonic()
    output, error = oracle.answer({"do": do})
    assert output is None
    assert reason in error
    assert time.monotonic() - started < 5
    assert oracle.answer({}).output == {"calls": 1, "echo": {}}  # a fresh child


def test_what_the_oracle_prints_is_not_taken_for_an_answer(oracle: python_oracle.PythonOracle) -> None:
    assert oracle.answer({"do": "print"}).output == {"printed": True}
    assert oracle.answer({}).output == {"calls": 2, "echo": {}}


def test_no_secrets_no_packages_an_empty_folder(
    oracle: python_oracle.PythonOracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    oracle.close()
    seen = oracle.answer({"do": "environment"}).output
    assert set(seen["env"]) <= {"PATH", "LANG", "LC_CTYPE"}
    assert seen["cwd"] == seen["path"] == []


def test_closing_ends_the_child(oracle: python_oracle.PythonOracle) -> None:
    child = oracle._child
    assert child is not None
    oracle.close()
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("source", "function", "reason"),
    [
        (b"def f(:", "f", "SyntaxError"),
        (b"import numpy", "f", "ModuleNotFoundError"),
        (b"def g(x): return x", "f", "KeyError: 'f'"),
        (b"import os; os._exit(1)", "f", "exit code 1"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_bad_input(allowed: None, source: bytes, function: str, reason: str) -> None:
    with pytest.raises(BadInputError, match=reason):
        python_oracle.PythonOracle(source, function, name="d/o.py")


SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}


def a_domain(oracle: Any, files: dict[str, bytes] | None = None, rules: Any = None) -> Any:
    role = Role(id="r", output_schema="o.json", deterministic_oracle=oracle)
    return SimpleNamespace(
        name="d", files=files or {}, role=lambda _: role, rules=lambda _: rules, output_schema=lambda _: SCHEMA
    )


def test_load_oracle_holds_answers_against_the_contract() -> None:
    rules = {"paths": {"n": {"path": "/n"}}, "default": {"n": "=n"}}
    oracle = load_oracle(a_domain(RulesOracle(kind="rules", path="r.yaml"), rules=rules), "r")
    assert isinstance(oracle, OraclePredictor)
    good, bad = oracle.predict_many([{"n": 1}, {"n": "one"}])
    assert (good.output, good.valid, good.confidence) == ({"n": 1}, True, 1.0)
    assert (bad.output, bad.valid, bad.confidence) == ({"n": "one"}, False, 0.0)
    assert "outside its contract" in oracle.answer({"n": "one"}).error


def test_load_oracle_runs_python(allowed: None) -> None:
    files = {"o.py": b"def predict(value):\n    return {'n': len(value)}\n"}
    oracle = load_oracle(a_domain(PythonOracle(kind="python", path="o.py"), files), "r")
    assert oracle is not None
    assert oracle.predict({"a": 1, "b": 2}).output == {"n": 2}
    oracle.close()


def test_no_oracle_and_an_oracle_that_runs_elsewhere() -> None:
    assert load_oracle(a_domain(None), "r") is None
    with pytest.raises(BadInputError, match=r"answered by NoETL(.|\n)*rules or python"):
        load_oracle(a_domain(PlaybookOracle(kind="playbook", path="a/b")), "r")


def test_the_majority_baseline_is_the_most_frequent_whole_output() -> None:
    outputs = [{"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 2}, {"a": 3}]
    baseline = MajorityBaseline.fit(outputs)
    assert baseline.predict({"any": "thing"}).output == {"a": 1, "b": 2}
    assert [p.confidence for p in baseline.predict_many([1, 2])] == [0.5, 0.5]
    assert MajorityBaseline.fit(["b", "a"]).output == "a"
    with pytest.raises(BadInputError):
        MajorityBaseline.fit([])


def test_the_child_needs_nothing_of_this_package() -> None:
    source = Path(python_oracle.python_oracle_child.__file__).read_text()
    assert "slm_assets" not in source.split('"""', 2)[2]
