"""The release bundle: all that is needed to answer, in one folder, refused when a byte differs.

manifest.json   format, domain, version, roles, sources, answers, files: {path: sha256}
model_card.md   what it is, from what, how well
probes.jsonl    {"id", "turn", "outputs"}: turns and the answers it must give
config/         contracts, prompts, vocabulary, oracle, policies: the resolved config
model/          the checkpoint
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slm_assets import canonical
from slm_assets.domain.loading import Domain, read_bundle
from slm_assets.errors import ArtifactError
from slm_assets.models.base import Predictor
from slm_assets.stages.clean_process import load_engines

FORMAT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Bundle:
    """A verified bundle, loaded: its manifest, its domain, and an engine per role."""

    manifest: dict[str, Any]
    domain: Domain
    engines: Mapping[str, Predictor]
    probes: list[dict[str, Any]]


def seal(folder: Path, head: dict[str, Any]) -> None:
    """Write the manifest over everything that lies in the folder."""
    files = {
        path.relative_to(folder).as_posix(): canonical.digest_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    canonical.write_json(folder / MANIFEST, {"format": FORMAT, **head, "files": files})


def check(folder: Path) -> dict[str, Any]:
    """The manifest, after every file was hashed. ArtifactError names what is missing, altered or extra."""
    try:
        manifest: dict[str, Any] = canonical.read_json(folder / MANIFEST)
        files: dict[str, str] = manifest["files"]
    except (OSError, ValueError, KeyError) as error:
        raise ArtifactError(f"bundle {folder.name} has no readable {MANIFEST}: {error}") from error
    if manifest.get("format") != FORMAT:
        raise ArtifactError(f"bundle format {manifest.get('format')!r}; this release reads {FORMAT}")
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {MANIFEST}
    if there != set(files):
        odd = sorted(there ^ set(files))
        raise ArtifactError(f"bundle of {manifest['domain']}: files missing or added: {odd}")
    for name, sha in files.items():
        found = canonical.digest_file(folder / name)
        if found != sha:
            raise ArtifactError(
                f"bundle of {manifest['domain']} {manifest['version']}: {name} is altered "
                f"(found {found[:12]}, expected {sha[:12]}); it is refused",
                cure="restore the artifact store, or package the version again",
            )
    return manifest


def open_bundle(folder: Path) -> Bundle:
    """Verify and load a bundle."""
    manifest = check(folder)
    domain = read_bundle(folder / "config")
    probes = list(canonical.read_jsonl(folder / "probes.jsonl"))
    return Bundle(manifest, domain, load_engines(domain, folder / "model"), probes)
