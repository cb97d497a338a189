"""The seam between the work and whoever runs it: request in, receipt out.

`slm stage run STAGE --request request.json --run-dir DIR` is the one entry every engine calls. The
request alone is the cache key; who runs it, where and for which tenant travels in the envelope.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from slm_assets import canonical
from slm_assets.gates.types import Frozen, LiveMetric, MetricValue, Trigger, Verdict, VerdictName
from slm_assets.tracing import TRACEPARENT

__all__ = [
    "Artifact",
    "Envelope",
    "Frozen",
    "LiveMetric",
    "MetricValue",
    "Name",
    "Sha256",
    "StageName",
    "StageReceipt",
    "StageRequest",
    "StageResult",
    "Trigger",
    "Verdict",
    "VerdictName",
    "VersionName",
]

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
ScopeName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
VersionName = Annotated[str, StringConstraints(pattern=r"^[vw][1-9][0-9]{0,8}$")]
"""A version, v3; or for the stages that watch the traffic a window of it, w3."""
StageName = Literal[
    "capture", "drift", "dataset", "label", "finetune", "evaluate", "package", "shadow", "deploy", "rollback"
]  # fmt: skip


class Artifact(Frozen):
    """A folder of files in the artifact store, by the digest of its manifest."""

    sha256: Sha256
    bytes: int = Field(default=0, ge=0)
    rows: int | None = Field(default=None, ge=0)
    urn: str | None = None


class StageRequest(Frozen):
    """What is to be done. Equal requests give equal output digests (GPU training aside)."""

    stage: StageName
    domain: Name
    version: VersionName
    config: Sha256 = Field(description="Digest of the resolved config's artifact.")
    inputs: dict[Name, Sha256] = {}
    params: dict[str, Any] = {}

    @property
    def digest(self) -> str:
        """The cache key."""
        return canonical.digest(self.model_dump(mode="json"))


class Envelope(Frozen):
    """What travels beside a request and must not change its result."""

    run_id: str
    engine: str = "in_process"
    tenant: ScopeName = "local"
    project: ScopeName = "default"
    actor: str = "system"
    traceparent: Annotated[str, StringConstraints(pattern=TRACEPARENT)] = ""
    """The trace that the stage is part of, in W3C's words."""


class StageResult(Frozen):
    """What a stage function returns; its outputs lie in the folders it was given."""

    rows: dict[str, int] = {}
    metrics: list[MetricValue] = []
    verdicts: list[Verdict] = []
    live: list[LiveMetric] = Field(default=[], description="Of a window of traffic.")
    triggers: list[Trigger] = Field(default=[], description="Of a window of traffic.")
    roles: dict[str, str] = Field(default={}, description="Outcome per role, where the stage decides one.")
    summary: dict[str, Any] = Field(default={}, description="What a person wants to see: flat numbers, tables.")
    measured: dict[str, float] = Field(default={}, description="Seconds, bytes, money: never in an artifact.")


class StageReceipt(Frozen):
    """Proof of a stage: written last, atomically. Success means its outputs re-hash to these digests."""

    request: StageRequest
    request_digest: Sha256
    status: Literal["succeeded", "failed", "deferred"]
    outputs: dict[Name, Artifact] = {}
    result: StageResult = StageResult()
    seconds: float = 0.0
    code_version: str = ""
    log: str = ""
    error: str = ""
    error_kind: Literal["", "bad_input", "fault", "deferred", "held", "submitted"] = ""
