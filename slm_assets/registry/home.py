"""Where state lives: one folder by default, addresses from the environment in production.

| variable | default | what |
|---|---|---|
| `SLM_HOME` | `./.slm` | all state of one machine |
| `SLM_DOMAINS` | `./domains` | the folder of domain folders |
| `SLM_REGISTRY` | `sqlite:///$SLM_HOME/registry.db` | URL of the registry: SQLite, or Postgres, in a schema too |
| `SLM_ARTIFACTS` | `$SLM_HOME/artifacts` | folder of the artifact store, or s3://, gs://, file:// URL |
| `SLM_ENCODERS` | `$SLM_HOME/encoders` | folders of sentence encoders that a config may name |
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """The addresses of one deployment."""

    root: Path
    domains: Path
    registry_url: str = field(repr=False)  # may hold a password
    artifacts_url: str

    @classmethod
    def from_env(cls, root: Path | None = None) -> Home:
        """The home that the environment names, or `root` in place of SLM_HOME."""
        base = (root or Path(os.environ.get("SLM_HOME", ".slm"))).absolute()
        return cls(
            root=base,
            domains=Path(os.environ.get("SLM_DOMAINS", "domains")).absolute(),
            registry_url=os.environ.get("SLM_REGISTRY") or f"sqlite:///{base / 'registry.db'}",
            artifacts_url=os.environ.get("SLM_ARTIFACTS", str(base / "artifacts")),
        )

    @property
    def runs(self) -> Path:
        """Scratch of stages in flight; receipts and logs of the ended ones."""
        return self.root / "runs"

    @property
    def locks(self) -> Path:
        """One lock file per open version."""
        return self.root / "locks"

    @property
    def cache(self) -> Path:
        """What can be computed again; may be deleted at any time."""
        return self.root / "cache"

    @property
    def dagster(self) -> Path:
        """DAGSTER_HOME: the instance that `slm run` and the UI share."""
        return self.root / "dagster"

    def environment(self) -> dict[str, str]:
        """The variables by which a process in another folder sees the same home."""
        registry, artifacts = self.registry_url, self.artifacts_url
        if registry.startswith("sqlite:///") and not registry.startswith("sqlite:////"):
            registry = f"sqlite:///{Path(registry.removeprefix('sqlite:///')).absolute()}"
        return {
            "SLM_HOME": str(self.root),
            "SLM_DOMAINS": str(self.domains),
            "SLM_REGISTRY": registry,
            "SLM_ARTIFACTS": artifacts if "://" in artifacts else str(Path(artifacts).absolute()),
        }
