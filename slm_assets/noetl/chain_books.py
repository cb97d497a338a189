"""The playbooks that call the stages' own: `pipeline`, and `retrain_orchestrator` around it.

Locally a called playbook hands nothing back, so each stage leaves its outcome in the run folder, and a step
reads it and branches: `go`, `held`, `deferred`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slm_assets.domain.compute import StageRun
from slm_assets.noetl.guard import check_step
from slm_assets.noetl.stage_book import CONTAINER_VALUES, code, container_values, inputs_of, name_of
from slm_assets.noetl.steps import (
    HOME_LOG,
    LOCAL,
    MINUTE,
    OPENED,
    Arc,
    Step,
    arc,
    book,
    call,
    chosen,
    ends,
    handed_on,
    noop,
    shell,
    value,
    var,
)  # fmt: skip
from slm_assets.stages.table import WATCH, Stage

MONITOR = tuple(stage.name for stage in WATCH)
"""Stages that run ahead of a version: whether to retrain at all. They are in the orchestrator and not in the
pipeline."""

OUTCOMES = ("promoted", "held", "deferred")
_WINDOW_HELD = f'{{"outcome":"held","window":"{var("window")}"}}'
_KEPT = ("version", "run_dir")
"""Read again at every step that sets something: a server forgets what an earlier step set under `vars`."""
_WINDOW = {"window": "version", "window_dir": "run_dir"}
"""The same of a window, under names of its own: a stage tells both alike."""

_NAMED = '${version:+--version "$version"} ${run_dir:+--run-dir "$run_dir"} --json'
"""What a caller named, for `slm open`."""
_BASE: dict[str, Any] = {
    "domain": "name", "version": "version?", "run_dir": "path?",
    OPENED["version"]: "version?", OPENED["run_dir"]: "path?",
}  # fmt: skip


def pipeline(stages: Sequence[Stage], run: StageRun) -> Step:
    """Every stage of a version, each behind the gates of the one before."""
    chain = [stage for stage in stages if stage.name not in MONITOR]
    stage_steps: list[Step] = []
    for index, stage in enumerate(chain):
        after = chain[index + 1].name if index + 1 < len(chain) else "promoted"
        passed = {"domain": value("domain"), **handed_on(var("version"), var("run_dir"))}
        stage_steps.append(
            call(
                stage.name, stage.title, name_of(stage), inputs_of(stage, passed), arc(f"gate_{stage.name}"),
                result="verify_receipt", timeout_s=run.timeout_s + 20 * MINUTE,
            )
        )  # fmt: skip
        stage_steps.append(_gate(stage, after))
    steps = [
        noop("start", "A version from its dataset to its deployment", arc("check")),
        *check_step({**_checked(stages), **_BASE}, [arc("open")]),
        _open("Open the version, or take the one that is open", arc(chain[0].name)),
        *stage_steps,
        *_outcomes(),
        *ends(),
    ]
    return book("pipeline", "Dataset to deployment of one version", code(), _workload(stages, run), steps)


def retrain_orchestrator(stages: Sequence[Stage], run: StageRun) -> Step:
    """Whether to retrain, the pipeline, and what came of it."""
    watching = [stage for stage in stages if stage.name in MONITOR]
    steps: list[Step] = []
    for index, stage in enumerate(watching):
        last = index + 1 == len(watching)
        after = "open" if last else watching[index + 1].name
        passed = {"domain": value("domain"), **handed_on(var("window"), var("window_dir"))}
        steps += [
            call(
                stage.name, stage.title, name_of(stage), inputs_of(stage, passed), arc(f"gate_{stage.name}"),
                result="verify_receipt", timeout_s=run.timeout_s + 20 * MINUTE,
            ),
            shell(
                f"gate_{stage.name}",
                f"What {stage.name} said",
                _read(f"{var('window_dir')}/{stage.name}.json", '"gate":', ("go", "held", "deferred")),
                arc(after, "vars.gate == 'go'"),
                arc("not_due" if last else "window_held", "vars.gate == 'held'"),
                arc("failed"),
                results={"gate": "gate", **_WINDOW},
            ),
        ]  # fmt: skip
    quiet = [
        shell("waits", "Cooldown, weekly limit or budget forbid it", """echo '{"outcome":"deferred"}'""", arc("end")),
        shell("not_due", "No trigger fired", """echo '{"outcome":"not_due"}'""", arc("end")),
        shell("window_held", "A gate held the window: nothing is learnt from it", f"echo '{_WINDOW_HELD}'", arc("end")),
    ]
    inputs = {
        **{key: value(key) for key in ("runtime", "pb_prefix", "pb_suffix", "domain")},
        **handed_on(var("version"), var("run_dir")),
        "mode": value("mode"),
        **{key: value(key) for key in CONTAINER_VALUES},
    }
    chain_s = (run.timeout_s + 20 * MINUTE) * len(stages)
    whole = [
        noop("start", "Watch, retrain, judge, promote", arc("check")),
        *check_step({**_checked(stages), **_BASE}, [arc("open_window")]),
        _open_window(arc(watching[0].name)),
        *steps,
        *quiet,
        _open_due(),
        call("retrain", "The whole chain of that version", "pipeline", inputs, arc("read_outcome"),
             result="outcome", timeout_s=chain_s),
        shell(
            "read_outcome",
            "What came of it",
            _read(f"{var('run_dir')}/pipeline.json", '"outcome":', OUTCOMES),
            *(arc(name, f"vars.outcome == '{name}'") for name in OUTCOMES),
            arc("failed"),
            results=("outcome", "version"),
        ),
        *(shell(name, f"The version is {name}", f"echo '{_outcome(name)}'", arc("end")) for name in OUTCOMES),
        *ends(),
    ]  # fmt: skip
    description = "Retrain a domain where it is due, and promote what passes its gates"
    return book("retrain_orchestrator", description, code(), _workload(stages, run), whole)


def _workload(stages: Sequence[Stage], run: StageRun) -> dict[str, Any]:
    own: dict[str, Any] = {**LOCAL, "domain": "", "version": "", "run_dir": ""}
    own |= dict.fromkeys(OPENED.values(), "")
    if any(stage.gpu for stage in stages) and run.container is not None:
        own |= {"mode": "local"} | container_values(run.container)
    return own


def _checked(stages: Sequence[Stage]) -> dict[str, Any]:
    gpu = {"mode": ["local", "container"], **CONTAINER_VALUES} if any(stage.gpu for stage in stages) else {}
    return {"runtime": ["local", "distributed"], **gpu}


def _open(desc: str, then: Arc) -> Step:
    script = f"exec slm open '{value('domain')}' {_NAMED}"
    return shell("open", desc, script, then, results=_KEPT, prelude=chosen(*_KEPT), log=HOME_LOG, timeout_s=10 * MINUTE)


def _open_due() -> Step:
    """The version of the retrain that is due, by the decision of `slm`. Where one was named, that one and no other."""
    said = _said('"gate": ', ("go", "deferred", "held"))
    return shell(
        "open",
        "Open the version of the retrain that is due, or the one that was asked for",
        f"outcome=$(slm open '{value('domain')}' --retrain {_NAMED})\n{said}",
        arc("retrain", "vars.gate == 'go'"),
        arc("waits", "vars.gate == 'deferred'"),
        arc("not_due", "vars.gate == 'held'"),
        arc("failed"),
        results=("gate", *_KEPT), prelude=chosen(*_KEPT), log=HOME_LOG, timeout_s=10 * MINUTE,
    )  # fmt: skip


def _open_window(then: Arc) -> Step:
    script = f"exec slm open '{value('domain')}' --window --json"
    return shell(
        "open_window", "Gather what is new in the domain's traffic", script, then,
        results=("window", "window_dir"), log=HOME_LOG, timeout_s=30 * MINUTE,
    )  # fmt: skip


def _gate(stage: Stage, after: str) -> Step:
    return shell(
        f"gate_{stage.name}",
        f"What {stage.asset} and its gates said, from the receipt",
        _read(f"{var('run_dir')}/{stage.name}.json", '"gate":', ("go", "held", "deferred")),
        arc(after, "vars.gate == 'go'"),
        arc("held", "vars.gate == 'held'"),
        arc("deferred", "vars.gate == 'deferred'"),
        arc("failed"),
        results=("gate", "stage", *_KEPT),
    )


def _outcomes() -> list[Step]:
    told = {
        "promoted": "Every gate let at least one role go on, and its flag was flipped",
        "held": "A gate said no: the version stays registered, nothing is promoted",
        "deferred": "It waits, for an approval or for budget",
    }
    ways = [
        shell(
            name,
            told[name],
            f"echo '{_outcome(name)}' > '{var('run_dir')}/pipeline.json'",
            arc("outcome"),
        )
        for name in OUTCOMES
    ]
    return [*ways, shell("outcome", "The last word", f"cat '{var('run_dir')}/pipeline.json'", arc("end"))]


def _outcome(name: str) -> str:
    return f'{{"outcome":"{name}","version":"{var("version")}"}}'


def _read(path: str, key: str, words: Sequence[str]) -> str:
    """Print a JSON file whose `key` has one of these words. A local condition must not see any other: a value
    with an operator in it, such as `go == go`, decides for itself."""
    return f"outcome=$(cat '{path}')\n{_said(key, words)}"


def _said(key: str, words: Sequence[str]) -> str:
    known = "|".join(f"*'{key}\"{word}\"'*" for word in words)
    return f"""case "$outcome" in {known}) printf '%s\\n' "$outcome" ;; *) exit 65 ;; esac"""
