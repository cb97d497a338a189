"""A domain with some of its files replaced: what a contract change is, without touching the domain itself."""

from __future__ import annotations

import shutil
from pathlib import Path

from slm_assets.domain.domain import Domain
from slm_assets.domain.files import Folder, Refused
from slm_assets.domain.loading import load_domain
from slm_assets.domain.simulation import Scenario
from slm_assets.errors import BadInputError


def overlaid_copy(domain: Domain, name: str, scenario: Scenario, root: Path) -> dict[str, list[str]]:
    """Copy a domain's folder to `<root>/<domain>` with the scenario's files over its own, and load it.

    Returns the files that were `replaced` and `added`. BadInputError where the scenario has no overlay, the target
    is there already, or the overlay changes nothing; ConfigError where the copy is no sound domain.
    """
    if scenario.overlay is None or domain.folder is None:
        raise BadInputError(f"scenario {name} of {domain.name} changes no file", cure="leave --copy-to out")
    target = root / domain.name
    if target.exists():
        raise BadInputError(f"{target} is there already", cure="name a new folder")
    if root.resolve().is_relative_to(domain.folder.resolve()):
        raise BadInputError(f"{root} is inside of the domain's own folder", cure="name one beside it")
    try:
        shutil.copytree(domain.folder, target)
        done = _laid_over(Folder.at(domain.folder), scenario.overlay, target)
        if not any(done.values()):
            raise BadInputError(f"the overlay of {name} is what {domain.name} has already", cure="write what changes")
        load_domain(target)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return done


def _laid_over(folder: Folder, overlay: str, target: Path) -> dict[str, list[str]]:
    done: dict[str, list[str]] = {"replaced": [], "added": []}
    root = folder.locate(overlay)
    for path in sorted(item for item in root.rglob("*") if item.is_file()):
        relative = path.relative_to(root).as_posix()
        try:
            data = folder.read(f"{overlay}/{relative}")
        except Refused as refused:
            raise BadInputError(f"{refused.message}: {refused.found}", cure=refused.cure) from None
        place = target / relative
        if place.is_file() and place.read_bytes() == data:
            continue
        done["replaced" if place.exists() else "added"].append(relative)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return done
