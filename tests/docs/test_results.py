"""docs/results.md is what the measured numbers give, and every kind of number finds its way onto it."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def _report():
    spec = importlib.util.spec_from_file_location("bench_report", ROOT / "benchmarks" / "report.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


report = _report()
HOW = {
    "command": "slm bench mail",
    "date": "2026-01-02",
    "commit": "abc123",
    "machine": {"cpu": "A CPU", "cores": 2, "memory_gb": 8, "python": "3.11.9"},
    "load": 0.25,
    "seconds": 12.4,
}


LOOK = {
    "benchmark": "mail",
    "permuted_labels": False,
    "recipe": "linear",
    "date": "2026-01-01",
    "commit": "c0ffee",
    "n_test": 400,
    "metrics": {"topic": 0.96},
    "train_seconds": 3.0,
    "latency_ms": {"p50": 0.5, "p95": 1.0},
}


def _metric(value, **more):
    return {"value": value, "low": value - 0.05, "high": min(value + 0.02, 1), "n": 400} | more


def _score(value, **more):
    return _metric(value, published=0.9, majority=0.2, target=0.95, by_point="PASS", by_bound="INSUFFICIENT", **more)


def _bench(kind, **metrics):
    result = {
        "benchmark": "mail",
        "n_train": 1000,
        "n_test": 400,
        "metrics": metrics,
        "train_seconds": 3.25,
        "latency_ms": {"p50": 0.5, "p95": 1.25},
        "checkpoint_bytes": 250_000,
    }
    return {f"{kind}:mail": HOW | {"name": f"{kind}:mail", "result": result}}


def _version(name, fraction, outcome, value, gates=()):
    metrics = [
        _metric(value, role="triage", metric="topic", subject="challenger"),
        _metric(0.6, role="triage", metric="topic", subject="floor"),
        _metric(value, role="", metric="turn_exact", subject="challenger"),
    ]
    return {
        "version": name,
        "train_fraction": fraction,
        "outcome": outcome,
        "approved": name == "v1",
        "gates": list(gates),
        "run_seconds": 20.0,
        "train_rows": 100,
        "eval": {"n": 400, "groups": 90},
        "measured": {
            "train_seconds_triage": 4.0,
            "train_seconds": 4.0,
            "latency_p50_ms": 0.5,
            "latency_p95_ms": 1.5,
            "checkpoint_bytes": 2_500_000.0,
        },
        "metrics": metrics,
    }


def _domain():
    failed = [{"gate": gate, "verdict": "FAIL"} for gate in ("floor", "target", "floor")]
    result = {
        "domain": "desk",
        "dataset": {"read": 1234},
        "versions": [_version("v1", 0.01, "held", 0.4, failed), _version("v2", 1.0, "promoted", 0.9)],
        "unchanged_run_seconds": 5.0,
        "switch_seconds": [0.2, 0.3],
    }
    return {"domain:desk": HOW | {"name": "domain:desk", "result": result}}


def _gates(*lines):
    result = {"runs": 10_000, "margin": 0.02, "accuracy": 0.97, "lines": list(lines)}
    return {"gates": HOW | {"name": "gates", "result": result}}


def _line(rate, demanded="<= 0.05", claim="equal: FAIL"):
    return {"claim": claim, "rate": rate, "runs": 10_000, "demanded": demanded}


def test_the_page_is_what_the_results_give():
    page = report.current()
    assert (ROOT / "docs" / "results.md").read_text() == page, "stale: run `python benchmarks/report.py`"


def test_every_result_says_how_it_was_measured_and_lies_where_its_name_says():
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        record = json.loads(path.read_text())
        assert set(record) == {*HOW, "name", "result"}
        assert path.stem == record["name"].replace(":", "-")
        assert record["machine"]["cores"] >= 1 and record["seconds"] > 0


def test_each_rung_of_a_benchmark_shows_its_own_numbers_and_the_curve_stands_beside_them():
    own, other = _bench("final", topic=_score(0.91)), _bench("final", topic=_score(0.94))
    points = [
        {"recipe": rung, "share": share, "n_train": n, "train_seconds": 1.0, "metrics": {"topic": _metric(value)}}
        for rung, values in (("linear", (0.7, 0.9)), ("encoder", (0.8, 0.93)))
        for share, n, value in zip((0.05, 1.0), (50, 1000), values, strict=True)
    ]
    curve = {"curve:mail": HOW | {"name": "curve:mail", "result": {"benchmark": "mail", "points": points}}}
    looks = [LOOK, LOOK | {"recipe": "encoder"}]
    page = report.page(own | {"final:mail:encoder": other["final:mail"]} | curve, looks, {})
    assert page.count("### mail\n") == 1 and page.count("#### mail, recipe encoder\n") == 1
    assert "Looks at the test file: 2: 2026-01-01 at commit `c0ffee` (linear); 2026-01-01" in page
    before, after = page.split("#### mail, recipe encoder")
    assert "| `topic` | .910 " in before and "| `topic` | .940 " in after and ".940" not in before
    assert "| linear | 5 % | 50 | .700 [.650, .720] |" in page
    assert "| encoder | all | 1,000 | .930 [.880, .950] |" in page


def test_a_domain_shows_its_floor_each_version_and_why_one_was_held():
    page = report.page(_domain(), [], {"desk": "Made of air."})
    assert "Made of air." in page and "1,234 rows; 400 frozen eval turns in 90 groups." in page
    assert "| triage: topic | .600 [.550, .620] | .400 [.350, .420] | .900 [.850, .920] |" in page
    assert "| every role exact |  | .400 [.350, .420] | .900 [.850, .920] |" in page
    assert "| **verdict** |  | held (FAIL: floor, target) | promoted |" in page
    assert "a rollback 0.20 s, forward again 0.30 s" in page and "2.5 MB" in page


def test_redaction_shows_misses_changes_cost_and_what_a_model_loses():
    result = {
        "recall": [{"kind": "phone", "of_each": 50, "en_US": 0, "de_DE": 3}],
        "clean": {"turns": 2000, "tokens": 170_000, "changed": 7},
        "cost": [{"domain": "desk", "turns": 90, "cpu_ms": 0.25}],
        "skew": [
            {"domain": "desk", "turns": 400, "changed": 12, "metrics": {"topic": {"raw": 0.9, "redacted": 0.895}}}
        ],
    }
    page = report.page({"redaction": HOW | {"name": "redaction", "result": result}}, [], {})
    assert "50 of each kind and locale" in page and "| phone | 0 | 3 |" in page
    assert "Of 170,000 words in 2,000 turns of travel that hold no such value, 7 changed." in page
    assert "| desk | 90 | 0.25 |" in page and "| `topic` | .900 | .895 |" in page and "changes 12 of them" in page


def test_a_benchmark_shows_value_interval_target_verdicts_and_what_is_published():
    page = report.page(_bench("final", topic=_score(0.96)), [LOOK], {})
    assert "| `topic` | .960 | [.910, .980] | 400 | .950 | PASS | INSUFFICIENT | .900 |" in page
    assert "Looks at the test file: 1: 2026-01-01 at commit `c0ffee` (linear)." in page
    assert "Training took 3.2 s; p50 0.50 ms and p95 1.25 ms a turn, 250 kB." in page


def test_a_look_without_its_record_shows_its_numbers_beside_the_published_ones():
    known = {"mail": {"topic": {"value": 0.9, "source": "A Paper, 2020"}}}
    again = LOOK | {"date": "2026-01-03"}
    page = report.page({}, [LOOK, again, LOOK | {"permuted_labels": True}], {}, known)
    assert "Looks at the test file: 2:" in page and "2026-01-03" in page
    assert "| `topic` | .960 | 400 | .900 |" in page and "Published: A Paper, 2020." in page


def test_a_busy_machine_is_named():
    record = _bench("cv", topic=_score(0.95, folds=[0.94, 0.96]))
    assert "busy" not in report.page(record, [], {})
    record["cv:mail"]["load"] = 7.5
    assert "Measured on a busy machine (load 7.5 on 2 cores)" in report.page(record, [], {})


def test_without_a_look_the_page_says_so_and_shows_cross_validation():
    page = report.page(_bench("cv", topic=_score(0.95, folds=[0.94, 0.96])), [], {})
    assert "none yet" in page and "in 2 folds" in page and "± .035" in page


def test_a_simulated_rate_beyond_its_bar_is_named():
    fine = report.page(_gates(_line(0.01), _line(0.051)), [], {})
    assert "| an equal challenger fails one gate | ≤ 0.05 | 0.0100 to 0.0510 | 2 settings |" in fine
    bad = report.page(_gates(_line(0.01), _line(0.08)), [], {})
    assert "2 settings, 1 beyond by more than chance" in bad
    assert "1 beyond" in report.page(_gates(_line(0.7, ">= 0.80")), [], {})


def test_rows_and_the_machine_are_shown():
    line = {"size": 10_000, "stage": "dataset", "rows_per_s": 15_000, "seconds": 0.67, "peak_mb": 300, "recall": 0.97}
    page = report.page({"scale": HOW | {"name": "scale", "result": [line]}}, [], {})
    assert "| 10,000 | dataset | 15,000 | 0.67 | 300 | 0.97 |" in page
    assert "| `slm bench mail` | 2026-01-02 | `abc123` | 2 × A CPU, 8 GB, Python 3.11.9 | 0.2 | 12 s |" in page


def test_without_results_there_is_a_page():
    assert report.page({}, [], {}).startswith("# Results")


@pytest.mark.slow
def test_a_domain_is_measured_from_an_empty_home(workplace, tmp_path):
    import subprocess
    import sys

    out = tmp_path / "out.json"
    script = ROOT / "benchmarks" / "domains.py"
    command = [sys.executable, str(script), "tiny", "--fractions", "1.0", "--json", str(out)]
    done = subprocess.run(command, env=workplace.env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert result["versions"][0]["outcome"] == "promoted" and result["switch_seconds"] == []
    page = report.page({"domain:tiny": HOW | {"name": "domain:tiny", "result": result}}, [], {})
    assert "| triage: intent | ." in page and "promoted" in page


def test_every_measurement_has_a_name_and_a_command(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import measure

    known = measure.commands()
    assert {"domain:travel", "cv:travel_v3", "final:travel_v3", "gates"} <= set(known)
    assert not [name for name in measure._chosen([], known) if name.startswith("final:")], "a look is asked for by name"
    with pytest.raises(SystemExit, match="no measurement 'speed'"):
        list(measure._chosen(["speed"], known))
    monkeypatch.delenv("SLM_BENCH_DATA", raising=False)
    assert "SLM_BENCH_DATA" in measure._skipped("cv:travel_v3") and not measure._skipped("gates")
