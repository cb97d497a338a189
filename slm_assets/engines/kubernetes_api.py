"""The few calls to a Kubernetes API server that pods of stages need, each with a time limit and an error of ours."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Generator, Iterator, Mapping
from typing import Any

from slm_assets.engines.kubernetes_pod import SELECTOR
from slm_assets.errors import BadInputError, SlmError

TAIL_LINES = 30
PAGE = 500
PAUSE_S = 0.5


class KubeError(SlmError):
    """The API server said no."""


class KubeAwayError(KubeError):
    """The API server did not answer, or asked to be left alone for now."""


class _ConflictError(KubeError):
    """A pod of that name is there."""


class _AbsentError(KubeError):
    """There is no such pod."""


class Api:
    """Pods of one cluster."""

    def __init__(self, core: Any, *, connect_s: float = 4.0, read_s: float = 15.0) -> None:
        """`core`: a CoreV1Api."""
        self.core = core
        self._limits = (connect_s, read_s)

    def create(self, namespace: str, body: Any) -> bool:
        """Create a pod; False where one of that name is there already."""
        try:
            with _told(f"create a pod in namespace {namespace}"):
                self.core.create_namespaced_pod(namespace, body, _request_timeout=self._limits)
        except _ConflictError:
            return False
        return True

    def get(self, namespace: str, name: str) -> Any:
        """The V1Pod, or None."""
        try:
            with _told(f"read pod {namespace}/{name}"):
                return self.core.read_namespaced_pod(name, namespace, _request_timeout=self._limits)
        except _AbsentError:
            return None

    def delete(self, namespace: str, name: str) -> None:
        """Delete a pod; one that is not there is fine."""
        with contextlib.suppress(_AbsentError), _told(f"delete pod {namespace}/{name}"):
            self.core.delete_namespaced_pod(name, namespace, _request_timeout=self._limits)

    def pods(self, namespace: str) -> dict[str, Any]:
        """Every pod of ours in a namespace by name, a page at a time."""
        found: dict[str, Any] = {}
        more: str | None = None
        while True:
            with _told(f"list the pods of namespace {namespace}"):
                page = self.core.list_namespaced_pod(
                    namespace,
                    label_selector=SELECTOR,
                    limit=PAGE,
                    _request_timeout=self._limits,
                    **({"_continue": more} if more else {}),
                )
            found |= {pod.metadata.name: pod for pod in page.items}
            more = page.metadata._continue
            if not more:
                return found

    def await_change(self, namespace: str, pod: Any, seconds: int) -> None:
        """Return when the pod has changed, after `seconds`, or when the watch is dropped; the caller looks again."""
        from kubernetes import watch

        watching = watch.Watch()
        began = time.monotonic()
        try:
            with _told(f"watch pod {namespace}/{pod.metadata.name}"):
                for event in watching.stream(
                    self.core.list_namespaced_pod,
                    namespace,
                    field_selector=f"metadata.name={pod.metadata.name}",
                    resource_version=pod.metadata.resource_version,
                    timeout_seconds=seconds,
                    _request_timeout=(self._limits[0], seconds + 1),
                ):
                    about = event["object"].metadata
                    if about.name == pod.metadata.name and about.resource_version != pod.metadata.resource_version:
                        return
        except KubeError:
            pass
        finally:
            watching.stop()
        if time.monotonic() - began < PAUSE_S:  # a watch that ends at once must not become a busy loop
            self.pause()

    def pause(self) -> None:
        """Wait a little before the server is asked again."""
        time.sleep(PAUSE_S)

    def log(self, namespace: str, name: str, since_s: int | None, read_s: float) -> Generator[bytes]:
        """The log of a pod from some seconds ago, as it comes; it ends with the container or with the connection."""
        given: dict[str, Any] = {"since_seconds": since_s} if since_s is not None else {}
        with _told(f"read the log of pod {namespace}/{name}"):
            answer = self.core.read_namespaced_pod_log(
                name, namespace, follow=True, timestamps=True, _preload_content=False,
                _request_timeout=(self._limits[0], read_s), **given,
            )  # fmt: skip
            try:
                yield from answer.stream(65_536)
            finally:
                answer.close()

    def tail(self, namespace: str, name: str) -> str:
        """The last lines that a pod said; nothing where they cannot be had."""
        try:
            with _told(f"read the log of pod {namespace}/{name}"):
                answer = self.core.read_namespaced_pod_log(
                    name, namespace, tail_lines=TAIL_LINES, _preload_content=False, _request_timeout=self._limits
                )
                data: bytes = answer.data
        except KubeError:
            return ""
        return data[-4_000:].decode(errors="replace").strip()


def connect(environment: Mapping[str, str] | None = None, *, read_s: float = 15.0) -> Api:
    """The cluster that this process runs in, else the one of the kubeconfig. BadInputError where there is none."""
    from kubernetes import client, config

    env = os.environ if environment is None else environment
    configuration = client.Configuration()
    # The client forgets NO_PROXY (kubernetes-client/python#2520).
    configuration.no_proxy = env.get("NO_PROXY") or env.get("no_proxy")
    try:
        if env.get("KUBERNETES_SERVICE_HOST"):
            config.load_incluster_config(client_configuration=configuration)
        else:
            config.load_kube_config(config_file=env.get("KUBECONFIG") or None, client_configuration=configuration)
    except (config.ConfigException, OSError) as error:
        raise BadInputError(
            f"there is no Kubernetes cluster to run stages in: {error}",
            cure="run inside of the cluster, set KUBECONFIG, or choose another engine for the stage",
        ) from None
    configuration.retries = 2
    return Api(client.CoreV1Api(client.ApiClient(configuration)), read_s=read_s)


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn what the client raises into KubeAwayError or KubeError, which say what was tried."""
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        if error.status == 404 and "namespaces" not in _reason(error):
            raise _AbsentError(f"could not {what}: it is not there") from None
        if error.status == 409:
            raise _ConflictError(f"could not {what}: it is there already") from None
        if error.status in (None, 0, 408, 429) or error.status >= 500:
            raise KubeAwayError(f"could not {what}: {error.status} {error.reason}") from None
        raise KubeError(f"could not {what}: {error.status} {_reason(error)}", cure=_cure(error.status)) from None
    except (HTTPError, OSError) as error:
        raise KubeAwayError(f"could not {what}: {type(error).__name__}") from None


def _reason(error: Any) -> str:
    """The server's own sentence, shortened."""
    body = error.body if isinstance(error.body, str) else ""
    import orjson

    with contextlib.suppress(orjson.JSONDecodeError, AttributeError, TypeError):
        return str(orjson.loads(body).get("message") or error.reason)[:500]
    return str(error.reason)[:500]


def _cure(status: int) -> str:
    if status in (401, 403):
        return "give the service account of this process the rights that deploy/ describes, in the stage's namespace"
    if status == 404:
        return "create the namespace, or name another in the stage's container block"
    return "see what the server says of the stage's container block and the file of SLM_CLUSTER"
