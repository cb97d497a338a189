"""Train roles and write their parts of the checkpoint; also a process of its own, one a role or one for all.

`python -m slm_assets.stages.train_role CONFIG DATASET LABELS ROLES SEED OUT STATE INCUMBENTS` (roles by comma,
incumbents as JSON) writes each role's files and report under OUT, and a JSON line per step of progress to stdout.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import orjson

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.config import Role
from slm_assets.domain.loading import Domain, read_bundle
from slm_assets.domain.turns import role_input
from slm_assets.errors import BadInputError, SlmError
from slm_assets.models import ladder
from slm_assets.stages.clean_process import clean_environment
from slm_assets.stages.rows_io import LabelledRow, labelled_rows

REPORT = "training.json"
Tell = Callable[[float, str], None]


@dataclass(frozen=True)
class Job:
    """What is trained from where. `state`: a folder that outlives a kill; `incumbents`: role → its serving release."""

    config: Path
    dataset: Path
    labels: Path
    out: Path
    seed: int = 0
    state: Path | None = None
    incumbents: Mapping[str, Path] = field(default_factory=dict)


def train_group(domain: Domain, job: Job, roles: Sequence[str], tell: Tell) -> None:
    """Train roles on the rows that have a label for them, by one model where there are several, and write each to
    `out`/<role> with its report.

    BadInputError where no train row has one. The report's `train_seconds` is the time of training alone, shared out.
    """
    recipe = domain.config.model.recipe
    rung = ladder.rung(recipe)
    trainings = {role: _training(domain, job, role, roles, tell) for role in roles}
    started = time.perf_counter()
    with _one_thread() if recipe not in ladder.LANGUAGE_MODELS else nullcontext():
        if len(roles) == 1:
            models = {roles[0]: rung.train(trainings[roles[0]])}
        else:
            models = dict(cast(ladder.TogetherRung, rung).train_together(trainings))
    seconds = (time.perf_counter() - started) / len(roles)
    for role, model in models.items():
        out = job.out / role
        out.mkdir(parents=True, exist_ok=True)
        rung.save(model, out)
        told = {"train_seconds": round(seconds, 3), "report": model.report, "measured": getattr(model, "measured", {})}
        canonical.write_json(out.with_suffix(".report"), told)


def _training(domain: Domain, job: Job, role_id: str, roles: Sequence[str], tell: Tell) -> ladder.Training:
    role, model = domain.role(role_id), domain.config.model
    train = [row for row in labelled_rows(job.dataset, job.labels, "train") if role_id in row.labels]
    if not train:
        raise BadInputError(
            f"domain {domain.name}: no train row has a label for role {role_id}",
            cure="give rows a gold label for it, or the role an oracle that answers them",
        )
    validation = [row for row in labelled_rows(job.dataset, job.labels, "validation") if role_id in row.labels]
    return ladder.Training(
        _pairs(role, train),
        domain.output_schema(role_id),
        validation=_pairs(role, validation),
        groups=[row.group for row in train],
        hyperparams=domain.hyperparams(),
        seed=job.seed,
        progress=tell,
        recipe=model.recipe,
        role=role_id,
        base=(model.base_family, model.base_size),
        prompt=domain.prompt(role_id),
        incumbent=job.incumbents.get(role_id),
        state=None if job.state is None else job.state / "-".join(roles),
    )


def _one_thread() -> AbstractContextManager[Any]:
    """One thread for every linear algebra library, whoever trains: how a sum is split over threads is in its last
    bits, and a checkpoint must not depend on the machine's cores. Only libraries that are loaded can be told so."""
    import sklearn.linear_model  # noqa: F401
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(1)
    return limits


def train_roles(domain: Domain, job: Job, tell: Tell) -> dict[str, dict[str, Any]]:
    """Train every role into `out`/<role>; roles are independent, so each has a process where cores allow. Language
    models have one after another, or one for all roles where the config's layout says so.

    Returns role → {"train_seconds", "report", "measured"}. The number of processes changes no byte of the result.
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


def _child(arguments: list[str], processes: int, tell: Tell) -> None:
    launch = ["accelerate.commands.launch", "--num_processes", str(processes), "-m"] if processes > 1 else []
    command = [sys.executable, "-m", *launch, "slm_assets.stages.train_role", *arguments]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command, env=clean_environment(), stdout=subprocess.PIPE, stderr=errors, text=True
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
