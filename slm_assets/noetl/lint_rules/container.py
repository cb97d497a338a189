"""Rules of `kind: container`: what the tool reads into a Kubernetes Job, and what Kubernetes refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from slm_assets.noetl.lint_rules.book import Book, items, mapping
from slm_assets.noetl.lint_rules.header import LABEL_VALUE, nearest
from slm_assets.noetl.lint_rules.rule import Hit, Place, Rule, check, rule, show, words

FIELDS = words(
    "kind name desc image command args env resources timeout_seconds service_account namespace backoff_limit "
    "restart_policy node_selector tolerations volumes volume_mounts auth output_select eval spec"
)
SOURCES = ("empty_dir", "persistent_volume_claim", "config_map", "secret")

IMAGE = rule("container-image", "error", "server", "`image` must be a text that is not empty", "name the image")
COMMAND = rule("container-command", "error", "server", "`command` and `args` must be lists of texts", "write a list")
ENV = rule(
    "container-env", "error", "server",
    "an entry has a `name` and either `value` (a text) or `value_from` {secret_name, secret_key}, never both",
    "mend the entry",
)  # fmt: skip
TIMEOUT = rule(
    "container-timeout", "error", "server",
    "`timeout_seconds` must be a literal whole number above 0 (a template renders to a text)", "write a number",
)  # fmt: skip
VOLUMES = rule(
    "container-volumes", "error", "server",
    "a volume has a `name` and exactly one source (" + ", ".join(SOURCES) + ") with what names it", "mend the volume",
)  # fmt: skip
MOUNTS = rule(
    "container-mounts", "error", "server",
    "a mount names one of the volumes and an absolute `mount_path`; Kubernetes refuses the Job otherwise",
    "mend the mount",
)  # fmt: skip
TEXT_MAP = rule(
    "container-text-map", "error", "server", "resources and node_selector are maps of texts", "quote the value"
)
RESTART = rule(
    "container-restart", "error", "server", "a Job has `restart_policy` Never or OnFailure and a whole `backoff_limit`",
    "write `restart_policy: Never`, `backoff_limit: 0`",
)  # fmt: skip
TOLERATION = rule(
    "container-toleration", "error", "server",
    "`operator` is Exists (then without `value`) or Equal; `effect` NoSchedule, PreferNoSchedule or NoExecute",
    "mend the toleration",
)  # fmt: skip
FIELD = rule(
    "container-unknown-field", "warning", "server", "the tool drops an unknown field in silence", "mend its name"
)
LABEL = rule(
    "container-step-label", "error", "server",
    "the step's name becomes a label of the Job, and Kubernetes refuses it: at most 63 of A-Za-z0-9_.- between letters "
    "or digits",
    "rename the step",
)  # fmt: skip


@check
def containers(book: Book) -> Iterator[Hit]:
    """Every container tool."""
    for step in book.steps:
        for place, tool in step.tools:
            if tool.get("kind") != "container":
                continue
            if step.name and not LABEL_VALUE.match(step.name):
                yield LABEL.at((*step.place, "step"), show(step.name), step=step.name)
            for own, at, found in (*_plain(tool, place), *_env(tool, place), *_volumes(tool, place)):
                yield own.at(at, found, step=step.name)
            for key in tool:
                if key not in FIELDS:
                    snake = re.sub(r"(?<!^)([A-Z])", r"_\1", key).lower()
                    yield FIELD.at((*place, key), show(key), step=step.name, mend=nearest(snake, FIELDS))


Fault = tuple[Rule, Place, str]


def _plain(tool: dict[str, Any], place: Place) -> Iterator[Fault]:
    if not isinstance(tool.get("image"), str) or not tool["image"].strip():
        yield IMAGE, (*place, "image") if "image" in tool else place, "missing or empty"
    for key in ("command", "args"):
        own = tool.get(key)
        if own is not None and not (isinstance(own, list) and all(isinstance(item, str) for item in own)):
            yield COMMAND, (*place, key), f"{show(key)} is {show(own)}"
    timeout = tool.get("timeout_seconds")
    if timeout is not None and (not isinstance(timeout, int) or isinstance(timeout, bool) or timeout <= 0):
        yield TIMEOUT, (*place, "timeout_seconds"), show(timeout)
    if tool.get("restart_policy", "Never") not in ("Never", "OnFailure"):
        yield RESTART, (*place, "restart_policy"), show(tool["restart_policy"])
    backoff = tool.get("backoff_limit", 0)
    if not isinstance(backoff, int) or isinstance(backoff, bool) or backoff < 0:
        yield RESTART, (*place, "backoff_limit"), show(backoff)
    for keys in (("resources", "requests"), ("resources", "limits"), ("node_selector",)):
        own = mapping(tool, "resources").get(keys[1]) if len(keys) > 1 else tool.get(keys[0])
        if own is not None and not (isinstance(own, dict) and all(isinstance(v, str) for v in own.values())):
            yield TEXT_MAP, (*place, *keys), show(own)
    for index, item in enumerate(items(tool, "tolerations")):
        operator = item.get("operator", "Equal") if isinstance(item, dict) else None
        effect = item.get("effect") if isinstance(item, dict) else None
        wrong = operator not in ("Exists", "Equal") or effect not in (
            None, "NoSchedule", "PreferNoSchedule", "NoExecute",
        )  # fmt: skip
        if wrong or (operator == "Exists" and item.get("value")):
            yield TOLERATION, (*place, "tolerations", index), show(item)


def _env(tool: dict[str, Any], place: Place) -> Iterator[Fault]:
    env = tool.get("env")
    if env is not None and not isinstance(env, list):
        yield ENV, (*place, "env"), "`env` is no list"
    for index, item in enumerate(items(tool, "env")):
        here = (*place, "env", index)
        if not isinstance(item, dict) or not isinstance(item.get("name"), str) or not item["name"]:
            yield ENV, here, show(item)
            continue
        value, source = item.get("value"), item.get("value_from")
        if value is not None and source is not None:
            yield ENV, here, f"{show(item['name'])} has both"
        elif value is not None and not isinstance(value, str):
            yield ENV, here, f"the value of {show(item['name'])} is {show(value)}"
        elif source is not None and not (
            isinstance(source, dict) and all(isinstance(source.get(k), str) for k in ("secret_name", "secret_key"))
        ):
            yield ENV, here, f"the value_from of {show(item['name'])}"
        elif value is None and source is None:
            yield ENV, here, f"{show(item['name'])} has neither"


def _volumes(tool: dict[str, Any], place: Place) -> Iterator[Fault]:
    names: set[Any] = set()
    for index, item in enumerate(items(tool, "volumes")):
        own = item if isinstance(item, dict) else {}
        sources = [key for key in SOURCES if own.get(key) is not None]
        named = {"persistent_volume_claim": "claim_name", "config_map": "name", "secret": "secret_name"}
        missing = [k for k in sources if k in named and not isinstance(mapping(own, k).get(named[k]), str)]
        if not isinstance(own.get("name"), str) or len(sources) != 1 or missing:
            yield VOLUMES, (*place, "volumes", index), show(item)
        if isinstance(own.get("name"), str):
            names.add(own["name"])
    for index, item in enumerate(items(tool, "volume_mounts")):
        own = item if isinstance(item, dict) else {}
        path = own.get("mount_path")
        volume = own.get("name")
        known = isinstance(volume, str) and volume in names
        if not known or not isinstance(path, str) or not path.startswith(("/", "{{")):
            yield MOUNTS, (*place, "volume_mounts", index), show(item)
