"""The seam between the work and whoever runs it: request in, receipt out.

`slm stage run STAGE --request request.json --run-dir DIR` is the one entry every engine calls. The
request alone is the cache key; who runs it, where and for which tenant travels in the envelope.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from slm_assets import canonical

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
VersionName = Annotated[str, StringConstraints(pattern=r"^v[1-9][0-9]{0,8}$")]
StageName = Literal["dataset", "label", "finetune", "evaluate", "package", "deploy", "rollback"]


class Frozen(BaseModel):
    """Immutable, strict about keys: a request with a key nobody reads is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
    tenant: Name = "local"
    project: Name = "default"
    actor: str = "system"


class MetricValue(Frozen):
    """One number with its one-sided-by-one-sided interval at the policy's confidence.

    `role` "" means the whole turn; `slice` "" all rows; `subject` who was measured: challenger,
    incumbent, floor (the oracle) or majority. `mode`: reference input, or end to end.
    """

    role: str = ""
    subject: str = "challenger"
    metric: str
    slice: str = ""
    mode: Literal["", "reference", "end_to_end"] = ""
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0


VerdictName = Literal["PASS", "FAIL", "INSUFFICIENT", "NOT_APPLICABLE", "NOT_INDEPENDENT"]


class Verdict(Frozen):
    """A gate's answer for one role, with the number it was read off and one sentence why.

    `n_needed`: turns that would decide an INSUFFICIENT one (for an equal challenger, at the policy's
    power). `blocking` False is a warning: shown, never a no.
    """

    gate: str
    role: str
    verdict: VerdictName
    value: float | None = None
    low: float | None = None
    high: float | None = None
    threshold: float | None = None
    n: int = 0
    n_needed: int | None = None
    metric: str = ""
    slice: str = ""
    blocking: bool = True
    reason: str = ""


class StageResult(Frozen):
    """What a stage function returns; its outputs lie in the folders it was given."""

    rows: dict[str, int] = {}
    metrics: list[MetricValue] = []
    verdicts: list[Verdict] = []
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
    error_kind: Literal["", "bad_input", "fault", "deferred", "held"] = ""
