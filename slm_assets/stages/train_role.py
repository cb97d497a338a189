"""Train roles and write their parts of the checkpoint; also a process of its own, one a role or one for all.

`python -m slm_assets.stages.train_role CONFIG DATASET LABELS ROLES SEED OUT STATE INCUMBENTS` (roles by comma,
incumbents as JSON) writes each role's files and report under OUT, and a JSON line per step of progress to stdout.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.config import Role
from slm_assets.domain.ladder import own_hyperparams
from slm_assets.domain.loading import Domain, read_bundle
from slm_assets.domain.turns import role_input
from slm_assets.errors import BadInputError, SlmError
from slm_assets.models import ladder
from slm_assets.models.oracle import load_oracle
from slm_assets.stages.clean_process import clean_environment
from slm_assets.stages.climbing.climb import climb
from slm_assets.stages.climbing.train import train_rung, train_together
from slm_assets.stages.rows_io import LabelledRow, labelled_rows

REPORT = "training.json"
_PASSED_ON = ("SLM_ENCODERS", "HF_HOME", "HF_HUB_OFFLINE", "HTTPS_PROXY", "SSL_CERT_FILE")
"""What a rung needs to find an encoder and the vectors that are known."""
Tell = Callable[[float, str], None]


@dataclass(frozen=True)
class Job:
    """What is trained from where. `state`: a folder that outlives a kill; `incumbents`: role → the release that
    serves it."""

    config: Path
    dataset: Path
    labels: Path
    out: Path
    seed: int = 0
    state: Path | None = None
    incumbents: Mapping[str, Path] = field(default_factory=dict)


def train_group(domain: Domain, job: Job, roles: Sequence[str], tell: Tell) -> None:
    """Train roles on the rows that have a label for them, by one model where there are several, and write each to
    `out`/<role> with its report beside it.

    BadInputError where no train row has one. The report's `train_seconds` is the time of training alone, shared out.
    """
    recipe = domain.config.model.recipe
    trainings = {role: _training(domain, job, role, roles, tell) for role in roles}
    if len(roles) > 1:
        for role, trained in train_together(recipe, trainings, job.out).items():
            _told(job, role, recipe, trained.seconds, trained.report, trained.measured)
        return
    [role] = roles
    if recipe == "auto":
        inputs = {"dataset": job.dataset, "labels": job.labels}
        if role in job.incumbents:
            inputs[f"incumbent_{role}"] = job.incumbents[role]
        climbed = climb(domain, role, inputs, trainings[role], job.out / role)
        measured = {f"{rung}.{name}": n for rung, own in climbed.measured.items() for name, n in own.items()}
        _told(job, role, climbed.rung, climbed.seconds, climbed.report, measured)
    else:
        trained = train_rung(recipe, trainings[role], job.out / role)
        _told(job, role, recipe, trained.seconds, trained.report, trained.measured)


def _told(
    job: Job, role: str, rung: str, seconds: float, report: Mapping[str, Any], measured: Mapping[str, float]
) -> None:
    told = {"rung": rung, "train_seconds": seconds, "report": report, "measured": measured}
    canonical.write_json((job.out / role).with_suffix(".report"), told)


def _training(domain: Domain, job: Job, role_id: str, roles: Sequence[str], tell: Tell) -> ladder.Training:
    role, model = domain.role(role_id), domain.config.model
    train = [row for row in labelled_rows(job.dataset, job.labels, "train") if role_id in row.labels]
    if not train:
        raise BadInputError(
            f"domain {domain.name}: no train row has a label for role {role_id}",
            cure="give rows a gold label for it, or the role an oracle that answers them",
        )
    validation = [row for row in labelled_rows(job.dataset, job.labels, "validation") if role_id in row.labels]
    serving = job.incumbents.get(role_id)
    return ladder.Training(
        _pairs(role, train),
        domain.output_schema(role_id),
        validation=_pairs(role, validation),
        groups=[row.group for row in train],
        hyperparams=own_hyperparams(domain.hyperparams(), model.recipe),
        seed=job.seed,
        progress=tell,
        validation_groups=[row.group for row in validation],
        independent=[row.sources.get(role_id, "oracle") != "oracle" for row in validation],
        oracle=partial(load_oracle, domain, role_id),
        recipe=model.recipe,
        role=role_id,
        base=(model.base_family, model.base_size),
        prompt=domain.prompt(role_id),
        incumbent=serving / "model" / role_id if serving else None,
        state=job.state / "-".join(roles) if job.state else None,
    )


def train_roles(domain: Domain, job: Job, tell: Tell) -> dict[str, dict[str, Any]]:
    """Train every role into `out`/<role>; roles are independent, so each has a process where cores allow. Language
    models have one after another, or one for all roles where the config's layout says so.

    Returns role → {"rung", "train_seconds", "report", "measured"}. The number of processes changes no byte of the
    result.
    """
    roles = [role.id for role in domain.config.roles]
    model = domain.config.model
    lm = model.recipe in ladder.LANGUAGE_MODELS
    groups = [roles] if lm and model.role_layout == "single_multitask" else [[role] for role in roles]
    shares = dict.fromkeys(map(tuple, groups), 0.0)

    def told(group: tuple[str, ...], share: float, note: str) -> None:
        shares[group] = share
        tell(sum(shares.values()) / len(groups), f"{', '.join(group)}: {note}")

    workers = 1 if lm else min(len(roles), os.cpu_count() or 1)
    if workers == 1 and not lm:
        for role in roles:
            train_group(domain, job, [role], partial(told, (role,)))
    else:
        with ThreadPoolExecutor(workers) as pool:
            children = [
                pool.submit(_child, _arguments(job, group), _processes(domain), partial(told, tuple(group)))
                for group in groups
            ]
            for child in children:
                child.result()
    reports: dict[str, dict[str, Any]] = {}
    for role in roles:
        side = (job.out / role).with_suffix(".report")
        reports[role] = canonical.read_json(side)
        side.unlink()
    return reports


def _processes(domain: Domain) -> int:
    """How many GPUs a language model is to be trained on."""
    wanted = domain.hyperparams().get("processes", 1)
    return wanted if domain.config.model.recipe in ladder.LANGUAGE_MODELS and isinstance(wanted, int) else 1


def _arguments(job: Job, roles: Sequence[str]) -> list[str]:
    places = (job.config, job.dataset, job.labels)
    incumbents = canonical.text({role: str(path) for role, path in job.incumbents.items()})
    return [*map(str, places), ",".join(roles), str(job.seed), str(job.out), str(job.state or ""), incumbents]


def _pairs(role: Role, rows: Sequence[LabelledRow]) -> list[tuple[Json, Json]]:
    return [(role_input(role, row.turn, row.labels), row.labels[role.id]) for row in rows]


def _environment() -> dict[str, str]:
    return clean_environment() | {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def _child(arguments: list[str], processes: int, tell: Tell) -> None:
    launch = ["accelerate.commands.launch", "--num_processes", str(processes), "-m"] if processes > 1 else []
    command = [sys.executable, "-m", *launch, "slm_assets.stages.train_role", *arguments]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command, env=_environment(), stdout=subprocess.PIPE, stderr=errors, text=True
        ) as child,
    ):
        assert child.stdout is not None
        told: dict[str, Any] = {}
        for line in child.stdout:
            told = orjson.loads(line)
            if "share" in told:
                tell(told["share"], told["note"])
        child.wait()
        errors.seek(0)
        last_words = errors.read()[-2000:]
    if child.returncode != 0:
        if "bad_input" in told:
            raise BadInputError(told["bad_input"])
        raise SlmError(f"training ended with exit code {child.returncode}:\n{last_words}")


def _main(config: str, dataset: str, labels: str, roles: str, seed: str, out: str, state: str, incumbents: str) -> None:
    def say(value: Json) -> None:
        sys.stdout.buffer.write(orjson.dumps(value) + b"\n")
        sys.stdout.buffer.flush()

    job = Job(
        Path(config), Path(dataset), Path(labels), Path(out), int(seed), Path(state) if state else None,
        {role: Path(folder) for role, folder in orjson.loads(incumbents).items()},
    )  # fmt: skip
    try:
        train_group(
            read_bundle(job.config), job, roles.split(","), lambda share, note: say({"share": share, "note": note})
        )
    except BadInputError as error:
        say({"bad_input": str(error)})
        raise SystemExit(2) from error


if __name__ == "__main__":
    _main(*sys.argv[1:])
