"""A pod's log as one unbroken stream, and into the Dagster run that waits for it, through Dagster Pipes.

The stage reports by the Pipes protocol: log records, and its progress as a custom message. Whatever else a pod
writes is text of the log and nothing more: results in it are not read, the receipt says those.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import orjson

from slm_assets.engines.kubernetes_api import Api, KubeError
from slm_assets.stages.runtime import Progress

READ_S = 20.0
"""A stream that says nothing for so long is opened anew: so a dead connection is noticed."""
MOST_LINE = 1 << 20
OVERLAP_S = 5
PROGRESS = "slm_progress"
_logger = logging.getLogger("slm_assets.kubernetes")


class PodLog:
    """What a pod has said since it was last asked, each line once, however often the stream is cut."""

    def __init__(self, api: Api, namespace: str, name: str, progress: Progress) -> None:
        self._api, self.namespace, self.name = api, namespace, name
        self._progress = progress
        self._seen = ""

    def lines(self) -> Iterator[bytes]:
        """Lines with their timestamps, until the stream ends or is cut; nothing is raised, the caller asks again."""
        rest = b""
        stream = self._api.log(self.namespace, self.name, self._since(), READ_S)
        with contextlib.suppress(KubeError), contextlib.closing(stream):
            for chunk in stream:
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    yield from self._new(line)
                if len(rest) > MOST_LINE:
                    rest = b""
        # What follows the last line's end was cut: it comes again.

    def _new(self, line: bytes) -> Iterator[bytes]:
        stamp, _, text = line.partition(b" ")
        at = stamp.decode(errors="replace")
        if not text or (self._seen and at <= self._seen):
            return
        self._seen = at
        if not self._told(text):
            yield line + b"\n"

    def _told(self, text: bytes) -> bool:
        """Whether the line was the stage's progress, which is passed on as such."""
        if PROGRESS.encode() not in text:
            return False
        try:
            share, note = orjson.loads(text)["params"]["payload"][PROGRESS]
            share = min(1.0, max(0.0, float(share)))
        except (orjson.JSONDecodeError, LookupError, TypeError, ValueError):
            return False
        self._progress(share, str(note)[:200])
        return True

    def _since(self) -> int | None:
        try:
            seen = datetime.fromisoformat(self._seen[:26].rstrip("Z") + "+00:00")
        except ValueError:
            return None
        return max(1, int((datetime.now(UTC) - seen).total_seconds()) + OVERLAP_S)


@contextlib.contextmanager
def streaming(log: PodLog) -> Iterator[Callable[[], None]]:
    """A function that passes on what the pod says until its stream ends: to the Dagster run that this code is part
    of, outside of one to the logger."""
    context = _dagster_context()
    if context is None:
        yield lambda: _to_logger(log)
        return
    import dagster as dg
    from dagster_k8s import PipesK8sPodLogsMessageReader

    context.log.info(f"pod {log.namespace}/{log.name}: kubectl -n {log.namespace} logs -f {log.name}")
    reader = PipesK8sPodLogsMessageReader()
    with warnings.catch_warnings():
        # One of its own properties is in preview; dagster is pinned exactly and the tests hold it.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        handler = dg.PipesMessageHandler(context, reader)
    with handler.handle_messages():

        def pass_on() -> None:
            # A command's stdout is its own; what the pod printed belongs to the run's captured logs.
            with contextlib.redirect_stdout(sys.stderr):
                reader.consume_pod_logs(context, _Source(log), log.name, log.namespace)

        yield pass_on


class _Source:
    """What the Pipes reader asks an API for: the log, here without its cuts."""

    def __init__(self, log: PodLog) -> None:
        self._log = log

    def read_namespaced_pod_log(self, *_names: str, **_how: Any) -> Iterator[bytes]:
        return self._log.lines()


def _to_logger(log: PodLog) -> None:
    for line in log.lines():
        _logger.info("%s", line.decode(errors="replace").rstrip())


def _dagster_context() -> Any:
    """The context of the asset that this code makes, if any."""
    import dagster as dg

    try:
        return dg.AssetExecutionContext.get()
    except dg.DagsterInvariantViolationError:
        return None
