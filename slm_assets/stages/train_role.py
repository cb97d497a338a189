"""Train one role and write its part of the checkpoint; also a process of its own, one a role.

`python -m slm_assets.stages.train_role CONFIG DATASET LABELS ROLE SEED OUT INCUMBENT` (a bundle's folder, or "")
writes the role's files to OUT and its report beside it, and a JSON line per step of progress to stdout.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from slm_assets.stages.climbing.climb import Climbed, climb
from slm_assets.stages.climbing.train import train_rung
from slm_assets.stages.rows_io import LabelledRow, labelled_rows

REPORT = "training.json"
_PASSED_ON = ("SLM_HOME", "SLM_ENCODERS", "HF_HOME", "HF_HUB_OFFLINE", "HTTPS_PROXY", "SSL_CERT_FILE")
"""What a rung needs to find an encoder and the vectors that are known."""
Tell = Callable[[float, str], None]


def train_role(
    domain: Domain,
    dataset: Path,
    labels: Path,
    role_id: str,
    *,
    seed: int,
    out: Path,
    tell: Tell,
    incumbent: Path | None = None,
) -> None:
    """Train the role on the rows that have a label for it, and write it to `out` with its report.

    `incumbent`: the release that serves it, with which `auto` compares. BadInputError where no train row has a label.
    The report's `train_seconds` is the time of training alone.
    """
    role = domain.role(role_id)
    train = [row for row in labelled_rows(dataset, labels, "train") if role_id in row.labels]
    if not train:
        raise BadInputError(
            f"domain {domain.name}: no train row has a label for role {role_id}",
            cure="give rows a gold label for it, or the role an oracle that answers them",
        )
    validation = [row for row in labelled_rows(dataset, labels, "validation") if role_id in row.labels]
    recipe = domain.config.model.recipe
    training = ladder.Training(
        _pairs(role, train),
        domain.output_schema(role_id),
        validation=_pairs(role, validation),
        groups=[row.group for row in train],
        hyperparams=own_hyperparams(domain.hyperparams(), recipe),
        seed=seed,
        progress=tell,
        validation_groups=[row.group for row in validation],
        independent=[row.sources.get(role_id, "oracle") != "oracle" for row in validation],
        oracle=partial(load_oracle, domain, role_id),
    )
    if recipe == "auto":
        inputs = {"dataset": dataset, "labels": labels}
        climbed = climb(
            domain, role_id, inputs | ({f"incumbent_{role_id}": incumbent} if incumbent else {}), training, out
        )
    else:
        trained = train_rung(recipe, training, out)
        climbed = Climbed(recipe, trained.seconds, trained.report)
    told = {"rung": climbed.rung, "train_seconds": climbed.seconds, "report": climbed.report}
    canonical.write_json(out.with_suffix(".report"), told | {"measured": climbed.measured})


def train_roles(
    domain: Domain,
    config: Path,
    dataset: Path,
    labels: Path,
    *,
    seed: int,
    out: Path,
    tell: Tell,
    incumbents: Mapping[str, Path],
) -> dict[str, dict[str, Any]]:
    """Train every role into `out`/<role>; roles are independent, so each has a process where cores allow.

    `incumbents`: role → the release that serves it. Returns role → {"rung", "train_seconds", "report", "measured"}.
    The number of processes changes no byte of the result.
    """
    roles = [role.id for role in domain.config.roles]
    shares = dict.fromkeys(roles, 0.0)

    def told(role: str, share: float, note: str) -> None:
        shares[role] = share
        tell(sum(shares.values()) / len(roles), f"{role}: {note}")

    workers = min(len(roles), os.cpu_count() or 1)
    if workers == 1:
        for role in roles:
            train_role(
                domain, dataset, labels, role, seed=seed, out=out / role, tell=partial(told, role),
                incumbent=incumbents.get(role),
            )  # fmt: skip
    else:
        arguments = [str(config), str(dataset), str(labels)]
        with ThreadPoolExecutor(workers) as pool:
            jobs = [
                pool.submit(
                    _child,
                    [*arguments, role, str(seed), str(out / role), str(incumbents.get(role, ""))],
                    partial(told, role),
                )
                for role in roles
            ]
            for job in jobs:
                job.result()
    reports: dict[str, dict[str, Any]] = {}
    for role in roles:
        side = (out / role).with_suffix(".report")
        reports[role] = canonical.read_json(side)
        side.unlink()
    return reports


def _pairs(role: Role, rows: Sequence[LabelledRow]) -> list[tuple[Json, Json]]:
    return [(role_input(role, row.turn, row.labels), row.labels[role.id]) for row in rows]


def _passed_on() -> dict[str, str]:
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def _child(arguments: list[str], tell: Tell) -> None:
    command = [sys.executable, "-m", "slm_assets.stages.train_role", *arguments]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command, env=clean_environment() | _passed_on(), stdout=subprocess.PIPE, stderr=errors, text=True
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


def _main(config: str, dataset: str, labels: str, role: str, seed: str, out: str, incumbent: str) -> None:
    def say(value: Json) -> None:
        sys.stdout.buffer.write(orjson.dumps(value) + b"\n")
        sys.stdout.buffer.flush()

    try:
        train_role(
            read_bundle(Path(config)), Path(dataset), Path(labels), role, seed=int(seed), out=Path(out),
            tell=lambda share, note: say({"share": share, "note": note}),
            incumbent=Path(incumbent) if incumbent else None,
        )  # fmt: skip
    except BadInputError as error:
        say({"bad_input": str(error)})
        raise SystemExit(2) from error


if __name__ == "__main__":
    _main(*sys.argv[1:])
