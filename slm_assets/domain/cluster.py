"""What a deployment gives every pod of the `kubernetes` engine: defaults, and what no domain may choose.

The file that `SLM_CLUSTER` names. Its `container` block is the domains' own block: a domain's key comes before
the deployment's, key by key. Secrets are named here alone, so that no config reaches for one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, ValidationError

from slm_assets.domain.block import Block
from slm_assets.domain.compute import Container, KubeName
from slm_assets.domain.documents import Unreadable, read_document
from slm_assets.errors import BadInputError

VARIABLE = "SLM_CLUSTER"
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$")]
SecretItem = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,253}$")]
Address = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9+.-]{0,19}://[!-~]{1,500}$")]


class SecretKey(Block):
    """One key of a Kubernetes Secret."""

    secret: KubeName = Field(description="Name of the Secret, in the pod's namespace.")
    key: SecretItem = Field(default="url", description="Its key.")


class Cluster(Block):
    """The deployment's side of a pod."""

    container: Container = Field(default=Container(), description="Defaults of every stage's container block.")
    registry: SecretKey = Field(
        default=SecretKey(secret="slm-registry"),  # noqa: S106 - the name of a Secret, not one
        description="Where the pod finds the registry's URL.",
    )
    artifacts: Address | None = Field(
        default=None, description="URL of the artifact store for the pods; default: SLM_ARTIFACTS, which is theirs too."
    )
    secrets: KubeName | None = Field(
        default=None, description="Secret mounted as SLM_SECRETS: tokens by alias, the store's credentials."
    )
    env: dict[VariableName, str] = Field(
        default={}, description="Plain variables, such as AWS_SHARED_CREDENTIALS_FILE: /var/run/slm/secrets/aws."
    )
    image_pull_secrets: list[KubeName] = Field(default=[], description="Secrets for the image's registry.")
    pending_s: int = Field(
        default=86_400, ge=1, le=604_800, description="Longest time that a pod may wait for a node, such as a free GPU."
    )


def cluster_from_env(environment: Mapping[str, str] | None = None) -> Cluster:
    """The file that SLM_CLUSTER names, or the built-in defaults. BadInputError with every fault."""
    path = (os.environ if environment is None else environment).get(VARIABLE, "")
    return read_cluster(Path(path)) if path else Cluster()


def read_cluster(path: Path) -> Cluster:
    """A deployment's file. BadInputError with every fault."""
    try:
        cluster = Cluster.model_validate(read_document(path.read_bytes(), path.name).value)
    except OSError as error:
        raise BadInputError(f"{VARIABLE} {path}: {error.strerror or error}") from None
    except Unreadable as error:
        raise BadInputError(f"{VARIABLE} {path} cannot be used: {error.faults[0]}") from None
    except ValidationError as error:
        lines = [f"$.{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors(include_input=False)]
        raise BadInputError(f"{VARIABLE} {path} describes no cluster\n  " + "\n  ".join(lines)) from None
    return cluster


def merged(own: Container | None, defaults: Container) -> Container:
    """A domain's block over the deployment's, key by key; a list or map of the domain replaces the other."""
    written = own.model_dump(exclude_unset=True) if own is not None else {}
    return Container.model_validate({**defaults.model_dump(), **written})
