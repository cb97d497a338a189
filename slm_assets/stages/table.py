"""The one list of stages: which asset each makes, from what, and under which names others know it."""

from __future__ import annotations

from dataclasses import dataclass

from slm_assets.stages.contract import StageName


@dataclass(frozen=True)
class Stage:
    """A row of the table.

    `kind` is the output's name and registry kind; `needs` the stages whose outputs are its inputs; `reads` those
    that watch the traffic and of which it takes what the version's plan froze;
    `gates` the gate names that it may answer, each a blocking check of its asset; `playbook` the
    catalog path of its NoETL mirror. A stage that can use a GPU is also mirrored as a container.
    """

    name: StageName
    asset: str
    kind: str
    needs: tuple[StageName, ...]
    gates: tuple[str, ...]
    playbook: str
    title: str
    gpu: bool = False
    reads: tuple[StageName, ...] = ()


WATCH: tuple[Stage, ...] = (
    Stage(
        "capture", "captured_traffic", "traffic", (), ("envelope", "pii"),
        "automation/mlops/slm/traffic_capture",
        "Live turns of every source, redacted, each once, with its outcomes",
    ),
    Stage(
        "drift", "drift_report", "drift", ("capture",), (),
        "automation/mlops/slm/drift_monitor",
        "What live traffic says of the serving version, and which triggers fire",
    ),
)  # fmt: skip
"""The stages that watch a domain's traffic, window by window; no version is theirs."""

STAGES: tuple[Stage, ...] = (
    Stage(
        "dataset", "dataset", "dataset", (), ("leakage", "coverage"),
        "automation/mlops/slm/dataset_build",
        "Train, validation and frozen eval rows, split by group, without leakage",
        reads=("capture",),
    ),
    Stage(
        "label", "labels", "labels", ("dataset",), ("contract", "vocabulary"),
        "automation/mlops/slm/label",
        "One label per row and role, each with its source, all valid",
    ),
    Stage(
        "finetune", "challenger", "model", ("dataset", "label"), ("loads",),
        "automation/mlops/slm/finetune",
        "A checkpoint trained on the labels, which loads in a clean process",
        gpu=True,
    ),
    Stage(
        "evaluate", "eval_report", "eval", ("dataset", "label", "finetune"),
        ("floor", "target", "incumbent", "validity", "slices", "latency"),
        "automation/mlops/slm/eval",
        "Challenger, incumbent, oracle and majority on the same rows; the gates' verdicts",
    ),
    Stage(
        "package", "release", "release", ("dataset", "finetune", "evaluate"), ("answers",),
        "automation/mlops/slm/package",
        "One bundle, one digest, proven to answer as the evaluated model did",
    ),
    Stage(
        "shadow", "shadow_report", "shadow", ("dataset", "package"), ("shadow", "untrained"),
        "automation/mlops/slm/shadow_eval",
        "Challenger and incumbent on live turns that came after the dataset, judged as they arrive",
        reads=("capture",),
    ),
    Stage(
        "deploy", "deployment", "deployment", ("evaluate", "package", "shadow"), ("smoke", "drill"),
        "automation/mlops/slm/deploy",
        "The engine flag of each role that passed, flipped in one transaction",
    ),
)  # fmt: skip

"""The stages of a version, in order."""

BY_NAME: dict[str, Stage] = {stage.name: stage for stage in (*WATCH, *STAGES)}
