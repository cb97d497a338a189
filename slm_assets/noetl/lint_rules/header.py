"""Rules of what stands above the workflow: kind, metadata, executor, workload, keychain."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from slm_assets.noetl.lint_rules.book import Book, items, mapping, texts
from slm_assets.noetl.lint_rules.rule import Hit, Place, check, rule, show, words

ROOT_KEYS = words("apiVersion kind metadata executor keychain workbook workload workflow vars")
LOCAL_REQUIRES = ("shell", "http", "duckdb", "rhai", "playbook", "auth", "sink", "agent")
LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?\Z")
_LABEL_PREFIX = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*\Z")
_SECRET_KEY = re.compile(
    r"(?:^|[_.-])(?:token|password|passwd|pwd|passphrase|api_?key|access_?key|secret_?key|private_?key|client_?secret|"
    r"bearer|credentials?)\Z"
)
_SECRET_VALUE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{20,}|\beyJ[\w-]{10,400}\.[\w-]{10,}|"
    r"\bsk-[A-Za-z0-9_-]{20,}|\bxox[abprs]-[\w-]{10,}|://[^/\s:@{}$]+:[^/\s:@{}$]+@"
)

NO_PLAYBOOK = rule("not-a-playbook", "error", "any", "a playbook is a mapping", "write apiVersion, kind, metadata, …")
API_VERSION = rule("api-version", "error", "server", "a server executes `noetl.io/v2` only", "write `noetl.io/v2`")
KIND = rule("kind", "error", "server", "a server executes `kind: Playbook` only", "write `kind: Playbook`")
METADATA_NAME = rule(
    "metadata-name", "error", "any", "`metadata.name` must be a text", "name the playbook under metadata"
)
METADATA_VERSION = rule(
    "metadata-version", "warning", "any", "nothing reads it: a server counts versions itself, per path", "drop it"
)
METADATA_LABELS = rule(
    "metadata-labels", "error", "server", "the server reads labels as a map of texts, and refuses anything else",
    "write `labels: {key: \"text\"}`",
)  # fmt: skip
LABEL_LIMITS = rule(
    "label-limits", "warning", "server", "beyond Kubernetes' limits for labels",
    "name: ≤ 63 of A-Za-z0-9_.- between letters or digits, prefix/ ≤ 253 as a DNS name; value: the same 63",
)  # fmt: skip
ROOT_KEY = rule(
    "root-unknown-key", "warning", "any", "both runtimes ignore an unknown key", "drop it, or mend its name"
)
WORKLOAD_SHAPE = rule(
    "workload-shape", "error", "any", "`workload` must be a mapping", "write `workload: {key: value}`"
)
WORKLOAD_SECRET = rule(
    "secret-in-playbook", "error", "any",
    "a secret in clear text: playbooks are stored in the catalog and shown with each execution",
    "name a keychain entry, a Kubernetes Secret (`value_from`) or an environment variable",
)  # fmt: skip
PROFILE = rule(
    "executor-profile", "warning", "local", "an unknown profile or runtime version runs with a warning only",
    "`profile: local`, `distributed` or `auto`; `version: noetl-runtime/1`",
)  # fmt: skip
PROFILE_DISTRIBUTED = rule(
    "executor-profile-distributed", "error", "local", "the local runtime refuses `profile: distributed`",
    "drop the profile, or lint with --runtime server",
)  # fmt: skip
REQUIRES = rule(
    "executor-requires", "error", "local", "the local runtime refuses a playbook that requires this",
    f"require only {', '.join(LOCAL_REQUIRES)}; leave out what only a server runs",
)  # fmt: skip
EXECUTOR_STEP = rule("executor-step", "error", "local", "no step has this name", "name an existing step")
ENTRY = rule(
    "entry-differs", "error", "dual",
    "a server begins at `start`, the local runtime at the first step (or `executor.spec.entry_step`)",
    "put the step `start` first",
)  # fmt: skip
KEYCHAIN = rule(
    "keychain-shape", "error", "server", "the server reads the keychain as a list of mappings with a `name`",
    "write `keychain: [{name: alias, credential: …}]`",
)  # fmt: skip
NOETL_URI = rule(
    "noetl-uri", "error", "server", "`noetl://` only locates step results; the registry refuses it",
    "write `registry://<tenant>/<project>/<kind>/<name>/<version>`",
)  # fmt: skip
REGISTRY_URI = rule(
    "registry-uri", "error", "server", "the registry cannot resolve this reference",
    "`registry://[<tenant>/<project>/]<model|dataset|eval|release>/<name>/<number|latest>`",
)  # fmt: skip
_URI = re.compile(r"\b(noetl|registry)://([^\s\"'<>|;)]*)")
_REGISTRY = re.compile(r"(?:[^/]+/[^/]+/)?(?:model|dataset|eval|release)/[^/]+/(?:[0-9]+|latest)\Z")
_RESULT = re.compile(r"[^/]+/[^/]+/results(?:/|\Z)")


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean x?`, or nothing; also nothing where there is too much to compare."""
    names = sorted(known)
    close = difflib.get_close_matches(word[:80], names, n=1) if len(names) <= 300 else []
    return f"did you mean `{close[0]}`?" if close else ""


@check
def heading(book: Book) -> Iterator[Hit]:
    """apiVersion, kind, unknown keys."""
    version, kind = book.root.get("apiVersion"), book.root.get("kind")
    if version != "noetl.io/v2":
        yield API_VERSION.at(("apiVersion",), show(version) if "apiVersion" in book.root else "missing")
    if kind != "Playbook":
        yield KIND.at(("kind",), show(kind) if "kind" in book.root else "missing")
    for key in book.root:
        if key not in ROOT_KEYS and key != "<<":
            yield ROOT_KEY.at((key,), show(key), mend=nearest(key, ROOT_KEYS))


@check
def metadata(book: Book) -> Iterator[Hit]:
    """Name, labels, version."""
    own = mapping(book.root, "metadata")
    name = own.get("name")
    if not isinstance(name, str) or not name.strip():
        yield METADATA_NAME.at(("metadata", "name") if "name" in own else ("metadata",), "missing" if not name else "")
    if "version" in own:
        yield METADATA_VERSION.at(("metadata", "version"))
    labels = own.get("labels")
    if labels is not None and not isinstance(labels, dict):
        yield METADATA_LABELS.at(("metadata", "labels"), show(labels))
    for key, value in mapping(own, "labels").items():
        place = ("metadata", "labels", key)
        prefix, slash, tail = key.rpartition("/")
        if not isinstance(value, str):
            yield METADATA_LABELS.at(place, f"{show(key)} is {show(value)}")
        if not tail or not LABEL_VALUE.match(tail) or (slash and not _LABEL_PREFIX.match(prefix)):
            yield LABEL_LIMITS.at(place, f"the name {show(key)}")
        elif isinstance(value, str) and not LABEL_VALUE.match(value):
            yield LABEL_LIMITS.at(place, f"the value {show(value)}")


@check
def executor(book: Book) -> Iterator[Hit]:
    """Profile, requirements, entry and final step: read by the local runtime alone."""
    own = mapping(book.root, "executor")
    profile, version = own.get("profile", "auto"), own.get("version", "noetl-runtime/1")
    if profile == "distributed":
        yield PROFILE_DISTRIBUTED.at(("executor", "profile"))
    elif profile not in ("local", "auto"):
        yield PROFILE.at(("executor", "profile"), show(profile))
    if version != "noetl-runtime/1":
        yield PROFILE.at(("executor", "version"), show(version))
    for index, tool in enumerate(items(mapping(own, "requires"), "tools")):
        if tool not in LOCAL_REQUIRES:
            yield REQUIRES.at(("executor", "requires", "tools", index), show(tool))
    spec = mapping(own, "spec")
    for key in ("entry_step", "final_step"):
        if spec.get(key) is not None and spec[key] not in list(book.by_name):
            yield EXECUTOR_STEP.at(
                ("executor", "spec", key), show(spec[key]), mend=nearest(str(spec[key]), book.by_name)
            )
    first = spec.get("entry_step") or (book.steps[0].name if book.steps else None)
    if "start" in book.by_name and first in list(book.by_name) and first != "start":
        yield ENTRY.at(("executor", "spec", "entry_step") if "entry_step" in spec else ("workflow", 0), show(first))


@check
def workload(book: Book) -> Iterator[Hit]:
    """A mapping, and no secret in it or in an environment."""
    if book.root.get("workload") is not None and not isinstance(book.root["workload"], dict):
        yield WORKLOAD_SHAPE.at(("workload",), show(book.root["workload"]))
    yield from _secrets(book.root.get("workload"), ("workload",))
    for step in book.steps:
        for place, tool in step.tools:
            env = tool.get("env")
            yield from _secrets(env, (*place, "env"), step.name)
            for index, item in enumerate(env if isinstance(env, list) else []):
                name, value = (item.get("name"), item.get("value")) if isinstance(item, dict) else (None, None)
                if isinstance(name, str):
                    yield from _secrets({name: value}, (*place, "env", index), step.name)


def _secrets(value: Any, place: Place, step: str | None = None) -> Iterator[Hit]:
    for at, text in texts(value, place):
        name = next((part for part in reversed(at) if isinstance(part, str)), "")
        literal = text.strip() and "{{" not in text and not text.startswith("$") and "://" not in text
        if _SECRET_VALUE.search(text):
            yield WORKLOAD_SECRET.at(at, f"the value of {show(name)}", step=step)
        elif literal and not text.isdigit() and _SECRET_KEY.search(name.lower()):
            yield WORKLOAD_SECRET.at(at, f"a literal under {show(name)}", step=step)


@check
def keychain(book: Book) -> Iterator[Hit]:
    """A list of named mappings."""
    chain = book.root.get("keychain")
    if chain is None:
        return
    if not isinstance(chain, list):
        yield KEYCHAIN.at(("keychain",), show(chain))
    for index, item in enumerate(items(book.root, "keychain")):
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            yield KEYCHAIN.at(("keychain", index), show(item))


@check
def references(book: Book) -> Iterator[Hit]:
    """`noetl://` and `registry://` anywhere."""
    steps = {step.place: step.name for step in book.steps}
    for place, text in texts(book.root, ()):
        if place[0] == "metadata":
            continue
        for scheme, rest in _URI.findall(text):
            if "{{" in rest or "$" in rest:
                continue
            if scheme == "noetl" and not _RESULT.match(rest):
                yield NOETL_URI.at(place, show(f"noetl://{rest}"), step=steps.get(place[:2]))
            if scheme == "registry" and not _REGISTRY.match(rest):
                yield REGISTRY_URI.at(place, show(f"registry://{rest}"), step=steps.get(place[:2]))
