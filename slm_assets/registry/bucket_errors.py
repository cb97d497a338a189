"""What the clients of object stores complain about: whether another try may help, and what a person is told.

Their own words may name requests and keys, so that only kind and code of an error are repeated. The clients are
optional, so their errors are known by name.
"""

from __future__ import annotations

import errno

from slm_assets.errors import SlmError

_FINAL = (errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.ENAMETOOLONG, errno.EMSGSIZE, errno.EREMCHG, errno.ENOSPC)
_PASSING = {
    "HTTPClientError", "ConnectionError", "ClientError", "FSTimeoutError", "TimeoutError", "RequestException",
    "RetryError", "TransportError", "ServerError", "ChecksumError",
}  # fmt: skip


def passes(error: BaseException) -> bool:
    """Whether another try may not meet this error."""
    if isinstance(error, FileNotFoundError | PermissionError | FileExistsError | SlmError):
        return False
    found = code(error)
    if found.isdecimal():
        return int(found) >= 500 or int(found) in (408, 409, 429)
    if isinstance(error, OSError):
        return error.errno not in _FINAL
    return any(base.__name__ in _PASSING for base in type(error).__mro__)


def exists_already(error: BaseException) -> bool:
    """Whether a conditional write was refused because the object is there."""
    return isinstance(error, FileExistsError) or code(error) in ("PreconditionFailed", "412")


def code(error: BaseException) -> str:
    """What the store called it, such as AccessDenied; "" where it never answered."""
    response = getattr(error.__cause__, "response", None) or getattr(error, "response", None)
    if isinstance(response, dict):
        return str(response.get("Error", {}).get("Code", ""))
    return str(getattr(error, "code", "") or "")


def told(error: BaseException, place: str, patience: float) -> SlmError:
    """A client's complaint about a place, with its cure."""
    kind = code(error) or type(error).__name__
    if isinstance(error, PermissionError) or kind in ("401", "403", "Forbidden"):
        return SlmError(
            f"artifact store {place}: no permission ({kind})",
            cure="grant the credentials of this process to list the bucket, and to read, write and delete objects "
            "under the prefix of SLM_ARTIFACTS",
        )
    if "Credential" in kind or "Token" in kind or kind == "ProfileNotFound":
        return SlmError(
            f"artifact store {place}: no usable credentials ({kind})",
            cure="give this process credentials as its client expects them: a role, AWS_PROFILE, or "
            "GOOGLE_APPLICATION_CREDENTIALS",
        )
    if passes(error):
        return SlmError(
            f"artifact store {place}: no answer within {patience:.0f} seconds ({kind})",
            cure="check network and endpoint of the object store (AWS_ENDPOINT_URL); then run it again: it resumes",
        )
    return SlmError(f"artifact store {place}: refused ({kind})", cure="see the object store's own log for why")
