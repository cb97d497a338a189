"""What answers for each domain, kept up with the engine flags while requests are answered.

A domain's engines are one immutable snapshot. A thread asks the registry whether any flag moved, loads and
verifies what the flags name now, and swaps the snapshot; a request that holds the old one finishes on it. A
release that is not the gated one is refused: the engine that answered goes on, or the oracle, and says so.
"""

from __future__ import annotations

import gc
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from slm_assets.domain.config import DomainConfig
from slm_assets.domain.loading import Domain, domain_folder, list_domains, load_domain
from slm_assets.errors import BadInputError
from slm_assets.registry import erasures, queries
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Flag, Registry
from slm_assets.serving.problems import Problem, shown
from slm_assets.serving.snapshot import LOG, Snapshot, make_snapshot
from slm_assets.stages.bundle import Bundle, open_bundle
from slm_assets.stages.plans import registry_for
from slm_assets.stages.traffic.records import Scope

POLL_SECONDS = 0.25
"""Between two looks at the flags: with the loading of a release a flip is answered by within a second."""
RETRY_SECONDS = 30.0
"""Between two attempts at a release that was refused: its artifact may have been restored."""
RESERVED = frozenset({"chat", "feedback", "models"})
"""Names of the service's own paths under /v1/."""


class Engines:
    """The snapshots of every domain of a home. `start` begins to load; nothing blocks a request."""

    def __init__(self, home: Home, names: Iterable[str] = (), poll: float = POLL_SECONDS) -> None:
        self._home, self._poll = home, poll
        self.names = sorted(set(names) or list_domains(home.domains))
        self.faults: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.registry_fault = ""
        self._bases: dict[str, tuple[Domain, Registry]] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._seen: dict[tuple[str, str], int] = {}
        self._erased: dict[tuple[str, str], int] = {}
        self.on_erasure: Callable[[Scope, str], None] = lambda _scope, _pseudonym: None
        self._lock = threading.Lock()
        self._retry_at = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._scratch = tempfile.TemporaryDirectory(prefix="slm-serve-")

    @property
    def ready(self) -> bool:
        """Whether every domain was loaded or found faulty."""
        return len(self._snapshots) + len(self.faults) >= len(self.names)

    def snapshots(self) -> list[Snapshot]:
        """Those loaded so far, by name."""
        return [self._snapshots[name] for name in sorted(self._snapshots)]

    def registries(self, tenant: str) -> list[tuple[DomainConfig, Registry]]:
        """Config and registry of each domain that a tenant may see, by name."""
        return [
            (domain.config, registry)
            for _, (domain, registry) in sorted(self._bases.items())
            if tenant in ("*", registry.tenant)
        ]

    @contextmanager
    def lease(self, name: str, tenant: str) -> Iterator[Snapshot]:
        """The domain's engines for the time of one request. Problem 404 for what the caller may not see."""
        with self._lock:
            snapshot = self._snapshots.get(name)
            if snapshot is not None and tenant in ("*", snapshot.tenant):
                snapshot.leases += 1
            else:
                snapshot = None
        if snapshot is None:
            raise self._missing(name, tenant)
        try:
            yield snapshot
        finally:
            with self._lock:
                snapshot.leases -= 1
                over = snapshot.retired and not snapshot.leases
            if over:
                snapshot.close()

    def _missing(self, name: str, tenant: str) -> Problem:
        """The same words for a domain of another tenant as for none at all."""
        if tenant == "*" and name in self.faults:
            return Problem(503, "unavailable", f"domain {name} cannot be served: {self.faults[name]}")
        if tenant == "*" and name in self.names and name not in self._snapshots:
            return Problem(503, "loading", f"domain {name} is being loaded", headers={"retry-after": "1"})
        return Problem(404, "domain", f"there is no domain {shown(name)} for this token")

    def start(self) -> None:
        """Load everything in a thread, then follow the flags."""
        self._thread = threading.Thread(target=self._follow, name="slm-engines", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop following; end the oracles' processes."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        for snapshot in self._snapshots.values():
            snapshot.close()
        self._scratch.cleanup()

    def _follow(self) -> None:
        self.load()
        settled: dict[str, Snapshot] = {}
        while True:
            if settled != self._snapshots:
                settled = dict(self._snapshots)
                _settle()
            if self._stop.wait(self._poll):
                return
            self.refresh()

    def load(self) -> None:
        """Read every domain and load what answers for it; a broken one is its own fault alone."""
        for name in self.names:
            if not self._stop.is_set():
                self._reached(partial(self._begin, name))

    def refresh(self) -> None:
        """Follow the flags of every domain whose tenant and project had a flip since the last look; try again
        what could not be loaded. While the registry cannot be read everything stays as it is."""
        self._reached(self._look)

    def _reached(self, step: Callable[[], None]) -> None:
        try:
            step()
            self.registry_fault = ""
        except Exception as error:
            if not self.registry_fault:
                LOG.error("registry unreachable", extra={"fields": {"error": str(error)[:500]}})
            self.registry_fault = str(error)[:500] or type(error).__name__

    def _begin(self, name: str) -> None:
        try:
            if name in RESERVED:
                raise BadInputError(f"{name} is a path of the service itself", cure="rename the domain")
            domain = load_domain(domain_folder(self._home.domains, name))
            registry = registry_for(self._home, domain.config)
        except BadInputError as error:
            self.faults[name] = error.message
            LOG.error("domain refused", extra={"fields": {"domain": name, "error": error.message}})
            return
        self._renew(domain, registry)
        self._bases[name] = domain, registry

    def _look(self) -> None:
        for name in self.names:
            if name not in self._bases and name not in self.faults:
                self._begin(name)  # the registry was away when it was its turn
        again: set[str] = set()
        if self.refused and time.monotonic() >= self._retry_at:
            again, self._retry_at = {key.partition(".")[0] for key in self.refused}, time.monotonic() + RETRY_SECONDS
        scopes = {(registry.tenant, registry.project): registry for _, registry in self._bases.values()}
        newest = {scope: queries.last_flip(registry) for scope, registry in scopes.items()}
        for name, (domain, registry) in self._bases.items():
            scope = (registry.tenant, registry.project)
            if name in again or newest[scope] != self._seen.get(scope):
                self._renew(domain, registry, again=name in again)
        self._seen |= newest
        for scope, registry in scopes.items():
            self._tell_erasures(scope, registry)

    def _tell_erasures(self, scope: tuple[str, str], registry: Registry) -> None:
        last = erasures.last(registry)
        before = self._erased.setdefault(scope, last)
        if last != before:
            for name in (name for name, (_, own) in self._bases.items() if (own.tenant, own.project) == scope):
                for row in erasures.erasures(registry, name):
                    if row["id"] > before:
                        self.on_erasure(Scope(*scope, name), row["pseudonym"])
            self._erased[scope] = last

    def _renew(self, base: Domain, registry: Registry, *, again: bool = False) -> None:
        old = self._snapshots.get(base.name)
        found = registry.flags(base.name)
        flags = {role.id: found.get(role.id, Flag(role.id, "oracle")) for role in base.config.roles}
        if old is not None and old.flags == flags and not again:
            return
        new = make_snapshot(base, registry, flags, old, partial(self._open, registry), self.refused)
        with self._lock:
            self._snapshots[base.name] = new
            if old is not None:
                old.retired = True
            over = old is not None and not old.leases
        if old is not None and over:
            old.close()
        for release in set(old.bundles if old else ()) - set(new.bundles):
            shutil.rmtree(self._folder(registry, release), ignore_errors=True)
        told = {role: s.version or s.engine for role, s in new.engines.items()}
        LOG.info("serving", extra={"fields": {"domain": base.name, "engines": told, "refused": dict(self.refused)}})

    def _open(self, registry: Registry, release: str) -> Bundle:
        folder = self._folder(registry, release)
        registry.store.get(release, folder)
        return open_bundle(folder)

    def _folder(self, registry: Registry, release: str) -> Path:
        return Path(self._scratch.name) / f"{registry.tenant}-{registry.project}-{release}"


def _settle() -> None:
    """Take what was loaded out of the garbage collector's sight: it would stop every request for as long as it
    walks through all models, tens of milliseconds each, and find nothing."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
