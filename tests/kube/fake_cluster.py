"""A Kubernetes API server (kmock) in a thread, and a small kubelet that runs each pod's command as a process here.

It proves the protocol, the pod's shape and what becomes of faults; not scheduling, image pulls, rights or GPUs.
A pod's volumes are folders below `folder`; the paths of the mounts in its command and variables are rewritten.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import os
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kmock

PODS = kmock.resource("", "v1", "pods")
LOG_PATH = re.compile(r"/api/v1/namespaces/([^/]+)/pods/([^/]+)/log")
RUN, HERE, HANG, EVICT, OOM, NO_IMAGE, DEADLINE, UNSCHEDULABLE, NO_SECRET, VANISH, CRASH, IDLE = (
    "run", "here", "hang", "evict", "oom", "no_image", "deadline", "unschedulable", "no_secret", "vanish", "crash",
    "idle",
)  # fmt: skip
"""What becomes of a pod: its command is run, as a process or by `work` here; or it runs for ever; or something
happens to it; or it ends well and has done nothing."""


def stamp(moment: datetime | None = None) -> str:
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def refused(status: int, message: str = "planted") -> kmock.KubernetesError:
    return kmock.KubernetesError(status=status, reason="Planted", message=message)


class _Emulator(kmock.KubernetesEmulator):  # type: ignore[misc]
    """Selectors and resource versions, which kmock leaves out; then the cluster's own faults."""

    cluster: FakeCluster

    async def _handle(self, request: Any) -> Any:
        return await self.cluster._handle(request, super()._handle)

    async def _serve_list(self, request: Any) -> Any:
        answer = await super()._serve_list(request)
        params = dict(request.params or {})
        for key, where in (("labelSelector", "labels"), ("fieldSelector", "")):
            for part in filter(None, params.get(key, "").split(",")):
                name, value = part.split("=", 1)
                answer["items"] = [
                    item
                    for item in answer["items"]
                    if (item["metadata"].get(where, {}).get(name) if where else item["metadata"]["name"]) == value
                ]
        return {"kind": "PodList", "apiVersion": "v1", **answer}

    async def _serve_watch(self, request: Any) -> AsyncIterator[Any]:
        if self.cluster.drop_watches:
            self.cluster.dropped += 1
            yield b""
            return
        async for event in super()._serve_watch(request):
            yield event


class FakeCluster:
    """A cluster for one test; use as a context manager."""

    def __init__(self, folder: Path, *, secrets: dict[str, dict[str, str]] | None = None) -> None:
        self.folder = folder
        self.secrets = secrets or {}
        self.fate: Callable[[dict[str, Any]], str] = lambda _pod: RUN
        self.work: Callable[[dict[str, Any]], None] = lambda _pod: None
        """What a pod of fate HERE, or one that the machine kills at its end, does in a thread."""
        self.fault: Callable[[Any], Any] = lambda _request: None
        """Of a request: a KubernetesError in place of its answer, a number of seconds to sleep first, or "lost": it is
        done and the answer is an error."""
        self.drop_watches = False
        self.cut_logs = 0
        """How many log streams are cut in the middle of a line still."""
        self.dropped = 0
        self.calls: Counter[str] = Counter()
        self.seen: list[dict[str, Any]] = []
        """Every pod that was created, as it came."""
        self.deleted: list[str] = []
        self.logs: dict[str, list[bytes]] = {}
        self.log_streams = 0
        self._done: dict[str, asyncio.Event] = {}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._version = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self.url = ""

    def __enter__(self) -> FakeCluster:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        assert not self._thread.is_alive()

    # What tests ask and do ----------------------------------------------------------------------

    def pods(self) -> dict[str, dict[str, Any]]:
        """The pods that are there, by name."""
        return {name: o.raw for (_r, _ns, name), o in dict(self._emulator.objects).items() if not o.deleted}

    def finish(self, name: str, status: dict[str, Any]) -> None:
        """Give a pod this status now."""
        asyncio.run_coroutine_threadsafe(self._set(name, status), self._loop).result(10)

    def evict(self, name: str) -> None:
        """The node takes the pod away."""
        self._kill(name)
        self.finish(name, {"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory."})

    def remove(self, name: str) -> None:
        """Somebody deletes the pod."""
        asyncio.run_coroutine_threadsafe(self._remove(name), self._loop).result(10)

    def until(self, found: Callable[[], Any], seconds: float = 60.0) -> Any:
        """Wait for something of the cluster to become true."""
        until = time.monotonic() + seconds
        while not (value := found()):
            assert time.monotonic() < until, f"not within {seconds} s: {self.pods()}"
            time.sleep(0.02)
        return value

    # The server ----------------------------------------------------------------------------------

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._emulator = _Emulator()
        self._emulator.cluster = self
        verbs = ["get", "list", "watch", "create", "delete"]
        self._emulator.resources[PODS] = {
            "kind": "Pod", "namespaced": True, "verbs": verbs, "subresources": ["log", "status"]
        }  # fmt: skip
        self._emulator["get", LOG_PATH] << self._log
        async with self._emulator, kmock.Server(self._emulator) as server:
            self.url = str(server.url).rstrip("/")
            self._ready.set()
            await self._stop.wait()
            for name in list(self._processes):
                self._kill(name)

    async def _handle(self, request: Any, serve: Callable[[Any], Any]) -> Any:
        if dict(request.params or {}).get("watch") == "True":  # as Python's client writes it; kmock knows "true" alone
            object.__setattr__(request, "action", kmock.action.WATCH)
        is_log = LOG_PATH.match(str(request.url.path))
        action = "log" if is_log else str(getattr(request.action, "value", request.action)).lower()
        self.calls[action] += 1
        planted = self.fault(request)
        if isinstance(planted, int | float):
            await asyncio.sleep(planted)
        elif planted is not None and planted != "lost":
            raise planted
        if action == "create":
            meta = request.data["metadata"]
            meta |= {"namespace": request.namespace, "uid": meta["name"], "creationTimestamp": stamp()}
            meta["resourceVersion"] = self._next()
            request.data["status"] = {"phase": "Pending"}
        answer = await serve(request)
        if action == "create":
            raw = copy.deepcopy(request.data)
            self.seen.append(raw)
            self._begin(raw)
        if action == "delete":
            self.deleted.append(request.name)
            self._kill(request.name)
        if planted == "lost":
            raise refused(504)
        return answer

    async def _log(self, request: Any) -> AsyncIterator[bytes]:
        name = LOG_PATH.match(str(request.url.path))[2]  # type: ignore[index]
        params = dict(request.params or {})
        self.log_streams += 1
        if "tailLines" in params:
            for line in self.logs.get(name, [])[-int(params["tailLines"]) :]:
                yield line.partition(b" ")[2]
            return
        yield b""
        since = datetime.now(UTC) - timedelta(seconds=int(params.get("sinceSeconds", 10**6)))
        at, said = 0, 0
        while True:
            ended = self._done[name].is_set()
            lines = self.logs.get(name, [])
            while at < len(lines):
                line, at = lines[at], at + 1
                if line[:26].decode() < stamp(since)[:26]:
                    continue
                if self.cut_logs and said == 2:
                    self.cut_logs -= 1
                    yield line[: len(line) // 2]
                    return
                said += 1
                yield line
            if ended:
                return
            await asyncio.sleep(0.02)

    # The kubelet ---------------------------------------------------------------------------------

    def _begin(self, raw: dict[str, Any]) -> None:
        name = raw["metadata"]["name"]
        self.logs[name], self._done[name] = [], asyncio.Event()
        self._tasks = [t for t in getattr(self, "_tasks", []) if not t.done()]
        self._tasks.append(asyncio.create_task(self._pod(raw, name)))

    async def _pod(self, raw: dict[str, Any], name: str) -> None:
        fate = self.fate(raw)
        container = raw["spec"]["containers"][0]
        if fate == UNSCHEDULABLE:
            said = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": said}
            await self._set(name, {"phase": "Pending", "conditions": [condition]})
            return
        started = {"startTime": stamp(), "phase": "Pending"}
        try:
            env = self._environment(raw, name)
        except KeyError as error:
            fate, missing = NO_SECRET, f"secret {error} not found"
        waiting = {NO_IMAGE: ("ImagePullBackOff", f'Back-off pulling image "{container["image"]}"')}
        if fate == NO_SECRET:
            waiting[NO_SECRET] = ("CreateContainerConfigError", missing)
        if fate in waiting:
            reason, said = waiting[fate]
            await self._set(name, started | self._container({"waiting": {"reason": reason, "message": said}}))
            return
        running = started | {"phase": "Running"} | self._container({"running": {"startedAt": stamp()}})
        await self._set(name, running, node="node-7")
        if fate == RUN:
            code = await self._run(container, env, name)
            reason = "Completed" if code == 0 else "Error"
        elif fate == HANG:
            return
        else:
            if fate == HERE or fate.startswith("after "):
                await asyncio.to_thread(self.work, raw)
                fate = fate.removeprefix("after ")
            self.say(name, b"the last words of the pod")
            code = {HERE: 0, IDLE: 0, CRASH: 1}.get(fate, 137)
            reason = {OOM: "OOMKilled", HERE: "Completed", IDLE: "Completed"}.get(fate, "Error")
        if fate == VANISH:
            await self._remove(name)
            return
        over = {"exitCode": code, "reason": reason, "startedAt": stamp(), "finishedAt": stamp()}
        status: dict[str, Any] = {"phase": "Succeeded" if code == 0 else "Failed"}
        if fate == EVICT:
            status |= {"reason": "Evicted", "message": "The node was low on resource: memory."}
        if fate == DEADLINE:
            status |= {"reason": "DeadlineExceeded", "message": "Pod was active on the node longer than the deadline"}
        await self._set(name, status | self._container({"terminated": over}))
        self._done[name].set()

    async def _run(self, container: dict[str, Any], env: dict[str, str], name: str) -> int:
        words = [*container["command"], *container.get("args", [])]
        words = [self._here(word, name) for word in words]
        if words[0] == "slm":
            words = [sys.executable, "-m", "slm_assets.cli", *words[1:]]
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            *words, env=env, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            limit=2**24, start_new_session=True,
        )  # fmt: skip
        self._processes[name] = process
        assert process.stdout is not None
        async for line in process.stdout:
            self.say(name, line)
        code = await process.wait()
        self._processes.pop(name, None)
        return code

    def say(self, name: str, line: bytes) -> None:
        """A line of a pod's log, at a time of its own."""
        moment = time.time_ns()
        lines = self.logs[name]
        at = f"{datetime.fromtimestamp(moment // 10**9, UTC):%Y-%m-%dT%H:%M:%S}.{moment % 10**9:09d}Z"
        if lines and at.encode() <= lines[-1].partition(b" ")[0]:
            at = lines[-1].partition(b" ")[0].decode()[:-1]
            at = f"{at[:20]}{int(at[20:]) + 1:09d}Z"
        lines.append(f"{at} ".encode() + line.rstrip(b"\n") + b"\n")

    def _environment(self, raw: dict[str, Any], name: str) -> dict[str, str]:
        """The machine's variables without its SLM_ ones, and the container's, Secrets looked up. KeyError for one that
        is not there."""
        env = {key: value for key, value in os.environ.items() if not key.startswith("SLM_")}
        for item in raw["spec"]["containers"][0].get("env", []):
            source = item.get("valueFrom", {}).get("secretKeyRef")
            value = self.secrets[source["name"]][source["key"]] if source else item.get("value", "")
            env[item["name"]] = self._here(value, name)
        for volume in raw["spec"].get("volumes", []):
            if "secret" in volume:
                folder = Path(self._here("/var/run/slm/secrets", name))
                folder.mkdir(parents=True, exist_ok=True)
                for key, value in self.secrets[volume["secret"]["secretName"]].items():
                    (folder / key).write_text(value)
        return env

    def _here(self, text: str, name: str) -> str:
        """A path of the pod as one of this machine."""
        for mount in ("/work", "/var/run/slm/secrets"):
            if text == mount or text.startswith(f"{mount}/"):
                return f"{self.folder / name}{text}"
        return text

    def _kill(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if name in self._done:
            self._done[name].set()

    @staticmethod
    def _container(state: dict[str, Any]) -> dict[str, Any]:
        ready = "running" in state
        status = {"name": "stage", "image": "", "imageID": "", "ready": ready, "restartCount": 0, "state": state}
        return {"containerStatuses": [status]}

    async def _set(self, name: str, status: dict[str, Any], node: str = "") -> None:
        key = next((k for k in dict(self._emulator.objects) if k[2] == name), None)
        if key is None or self._emulator.objects[key].deleted:
            return
        found = self._emulator.objects[key]
        more = {"spec": {"nodeName": node}} if node else {}
        found.patch({"status": status, "metadata": {"resourceVersion": self._next()}, **more})
        await self._emulator._buses[PODS].put({"type": "MODIFIED", "object": found.raw})

    async def _remove(self, name: str) -> None:
        self._kill(name)
        key = next(k for k in dict(self._emulator.objects) if k[2] == name)
        raw = self._emulator.objects[key].raw
        self._emulator.objects[key].delete()
        await self._emulator._buses[PODS].put({"type": "DELETED", "object": raw})

    def _next(self) -> str:
        self._version += 1
        return str(self._version)
