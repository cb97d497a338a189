"""The mirror of the asset graph: one playbook per stage of the table, and the four that work with them.

`playbooks()` is pure and byte-stable; what it gives lies committed under `deploy/noetl/`, and a test holds both
equal. A playbook serves every domain: domain, version and the cluster's single texts are workload values.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from slm_assets import canonical
from slm_assets.domain.compute import StageRun
from slm_assets.errors import BadInputError
from slm_assets.noetl.chain_books import pipeline, retrain_orchestrator
from slm_assets.noetl.flag_books import resolve_engine, rollback
from slm_assets.noetl.stage_book import DEFAULT_RUN, stage_book
from slm_assets.noetl.steps import Step
from slm_assets.stages.table import BY_NAME, STAGES, WATCH, Stage

FOLDER = "slm"
_HEAD = "# Made by `slm playbooks emit` from the stage table; changes here are lost.\n"


def playbooks(stages: Sequence[Stage] = (*WATCH, *STAGES), run: StageRun = DEFAULT_RUN) -> dict[str, str]:
    """File name relative to deploy/noetl (`slm/dataset_build.yaml`) → YAML text, every playbook."""
    books = [
        *(stage_book(stage, compute(stage, run)) for stage in stages),
        pipeline(stages, run),
        retrain_orchestrator(stages, run),
        rollback(),
        resolve_engine(),
    ]
    return {f"{FOLDER}/{book['metadata']['path'].rpartition('/')[2]}.yaml": _text(book) for book in books}


def read_run(path: Path) -> StageRun:
    """A deployment's defaults from a YAML file, as the config's `stages.<stage>` block. BadInputError with every
    fault."""
    try:
        return StageRun.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise BadInputError(f"{path}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} is no YAML: {error}") from None
    except ValidationError as error:
        lines = [f"$.{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors()]
        raise BadInputError(f"{path} describes no stage's compute\n  " + "\n  ".join(lines)) from None


def stage_playbook(name: str, run: StageRun | None = None) -> tuple[str, str]:
    """Catalog path and YAML of a stage's playbook: the committed one, or for a domain's own compute one beside it.

    What a cluster must give holds lists, maps and a timeout, which no workload value can carry. So another block
    is another playbook, under a path of its own: what the deployment has registered stays the newest there.
    """
    stage, run = BY_NAME[name], run or StageRun()
    own = run.model_dump(mode="json", include={"timeout_s", "container"})
    if own == StageRun().model_dump(mode="json", include=set(own)):
        return stage.playbook, _text(stage_book(stage, compute(stage, DEFAULT_RUN)))
    book = stage_book(stage, run)
    book["metadata"]["path"] = f"{stage.playbook}/{canonical.digest(own)[:12]}"
    return book["metadata"]["path"], _text(book)


def compute(stage: Stage, run: StageRun) -> StageRun:
    """A deployment's defaults for one stage: only what can use a GPU gets a container."""
    return run if stage.gpu else run.model_copy(update={"container": None})


def differences(folder: Path, wanted: dict[str, str]) -> dict[str, str]:
    """File → `missing`, `changed` or `not emitted`, of what lies in a folder against what would be emitted."""
    found = {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8")
        for path in sorted((folder / FOLDER).glob("*.yaml"))
    }
    told = {name: "not emitted" for name in found if name not in wanted}
    for name, text in wanted.items():
        if found.get(name) != text:
            told[name] = "changed" if name in found else "missing"
    return dict(sorted(told.items()))


def write(folder: Path, wanted: dict[str, str]) -> None:
    """Write every playbook; those of earlier emissions that are no longer made are removed."""
    for name, why in differences(folder, wanted).items():
        path = folder / name
        if why == "not emitted":
            if path.read_text(encoding="utf-8").startswith(_HEAD):
                path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[name], encoding="utf-8")


class _Dumper(yaml.SafeDumper):
    """Scripts as blocks, and no anchors: a reader sees each step whole."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _block)


def _text(book: Step) -> str:
    return _HEAD + yaml.dump(book, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
