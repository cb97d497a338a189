"""Rules of a step and its tool: kinds per runtime, required fields, what is ignored, sub-playbooks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from slm_assets.noetl.lint_rules.book import (
    LOCAL_KINDS,
    LOCAL_ONLY_KINDS,
    SERVER_KINDS,
    Book,
    Step,
    mapping,
)
from slm_assets.noetl.lint_rules.header import nearest
from slm_assets.noetl.lint_rules.rule import Hit, Place, check, rule, show, words

STEP_KEYS = words("step desc when input tool next case loop set vars spec args retry")
RESERVED = words("workload vars input args ctx iter steps env execution_id result loop")
REQUIRED = {"http": ("url",), "rhai": ("code",), "playbook": ("path",), "workbook": ("name",)}

_SERVER_ALONE = SERVER_KINDS - LOCAL_KINDS - {"noop"}

TOOL_MISSING = rule(
    "tool-missing", "error", "server", "a server refuses a step without `tool`", "write `tool: {kind: noop}`"
)
TOOL_SHAPE = rule("tool-shape", "error", "any", "a tool is a mapping with a `kind`", "write `tool: {kind: …}`")
TOOL_LIST = rule("tool-list-locally", "error", "local", "the local runtime refuses a list of tools", "one tool a step")
TOOL_TASK = rule(
    "tool-list-shape", "error", "server", "each task of a tool list is `{name, kind, …}` or one `{label: {kind, …}}`",
    "mend the task",
)  # fmt: skip
KIND_UNKNOWN = rule(
    "tool-kind-unknown", "error", "any", "no runtime has this kind: skipped in silence locally, refused by a server",
    "use an existing kind",
)  # fmt: skip
KIND_SERVER = rule(
    "tool-kind-on-server", "error", "server", "the server does not know this kind", "use another kind, or shell"
)
KIND_LOCAL = rule(
    "tool-kind-locally", "error", "local",
    "the local runtime skips this kind in silence, takes `next` and reports ok (duckdb fails)",
    "put the step behind an arc with a condition, so that a local run goes another way",
)  # fmt: skip
TOOL_FIELD = rule("tool-field-missing", "error", "any", "both runtimes refuse the tool without it", "add the field")
HTTP_FIELD = rule(
    "http-field", "error", "local", "the local runtime refuses an http tool whose field has this shape",
    "`headers` and `params` are maps of texts, `body` is a text (JSON in quotes)",
)  # fmt: skip
END_WORK = rule(
    "end-step-has-work", "error", "local", "the local runtime never runs the tool of a step named `end`",
    "do the work in a step before it; let `end` be `noop`",
)  # fmt: skip
CASE = rule("step-case", "error", "server", "a server refuses `case`", "write `next: {arcs: [{step, when}]}`")
LOOP_LOCAL = rule(
    "loop-locally", "error", "local", "the local runtime ignores `loop`: the body runs once, its item unresolved",
    "loop in the shell, or lint with --runtime server",
)  # fmt: skip
LOOP_SHAPE = rule(
    "loop-shape", "error", "any", "refused: a loop has `in` (a template, or `cursor`), `iterator` and `spec.mode`",
    "write `loop: {in: \"{{ list }}\", iterator: item, spec: {mode: sequential}}`",
)  # fmt: skip
RETRY = rule(
    "retry-ignored", "warning", "any", "no runtime retries because of it",
    "retry from outside; on a server also by `spec.policy.rules` of a tool in a list",
)  # fmt: skip
SPEC_TIMEOUT = rule(
    "spec-timeout", "error", "server", "the server refuses a `spec.timeout` that is no text", 'write `timeout: "30s"`'
)
STEP_KEY = rule(
    "step-unknown-key", "warning", "any", "both runtimes ignore an unknown key", "drop it, or mend its name"
)
STEP_WHEN = rule(
    "step-when-ends-branch", "warning", "local",
    "a false `when` of a step also skips everything after it, and the run reports ok",
    "put the condition on the arcs that lead here, with another way round",
)  # fmt: skip
STEP_NAME = rule(
    "step-name", "warning", "any",
    "a name that is no identifier of ≤ 63 characters cannot be read in templates or become a Kubernetes label",
    "use letters, digits and _, not beginning with a digit",
)  # fmt: skip
STEP_RESERVED = rule("step-name-reserved", "warning", "any", "templates use this name for something else", "rename it")
PLAYBOOK_RESULT = rule(
    "playbook-result", "error", "server", "without `return_result: true` a server starts the sub-playbook and goes on",
    "add `return_result: true`, `result_step` and `timeout`",
)  # fmt: skip
PLAYBOOK_STEP = rule(
    "playbook-result-step", "error", "server", "without `result_step` any last step's result is taken for the outcome",
    "add `result_step: <a step of the sub-playbook>`",
)  # fmt: skip
PLAYBOOK_TIMEOUT = rule(
    "playbook-timeout", "error", "server",
    "the wait ends after 180 s by default; a timeout that is not a literal whole number is refused",
    "add `timeout: <seconds>`",
)  # fmt: skip
PLAYBOOK_PATH_LOCAL = rule(
    "playbook-path-locally", "error", "local",
    "the local runtime reads a file, relative to this one and with its extension; a catalog path is none",
    "template the path: `{{ workload.pb_prefix }}name{{ workload.pb_suffix }}`",
)  # fmt: skip
PLAYBOOK_PATH_SERVER = rule(
    "playbook-path-on-server", "error", "server", "a server looks the path up in its catalog; a file name is not there",
    "template the path: `{{ workload.pb_prefix }}name{{ workload.pb_suffix }}`",
)  # fmt: skip


@check
def steps(book: Book) -> Iterator[Hit]:
    """Keys and names of a step."""
    for step in book.steps:
        name = step.name
        for key in step.raw:
            if key not in STEP_KEYS and key != "<<":
                yield STEP_KEY.at((*step.place, key), show(key), step=name, mend=nearest(key, STEP_KEYS))
        if name and not re.fullmatch(r"[A-Za-z_]\w{0,62}", name, re.ASCII):
            yield STEP_NAME.at((*step.place, "step"), show(name), step=name)
        if name in RESERVED:
            yield STEP_RESERVED.at((*step.place, "step"), show(name), step=name)
        if step.raw.get("case") is not None:
            yield CASE.at((*step.place, "case"), step=name)
        if "when" in step.raw and (step.arcs or step.kind != "noop"):
            yield STEP_WHEN.at((*step.place, "when"), step=name)
        if step.raw.get("retry") is not None:
            yield RETRY.at((*step.place, "retry"), step=name)
        for place, tool in step.tools:
            if tool.get("retry") is not None:
                yield RETRY.at((*place, "retry"), step=name)
        timeout = mapping(step.raw, "spec").get("timeout")
        if timeout is not None and not isinstance(timeout, str):
            yield SPEC_TIMEOUT.at((*step.place, "spec", "timeout"), show(timeout), step=name)
        yield from _loop(step)


def _loop(step: Step) -> Iterator[Hit]:
    loop, here = step.raw.get("loop"), (*step.place, "loop")
    if loop is None:
        return
    yield LOOP_LOCAL.at(here, step=step.name)
    mode = mapping(loop, "spec").get("mode", "sequential")
    if not isinstance(loop, dict) or not isinstance(loop.get("iterator"), str) or not loop["iterator"]:
        yield LOOP_SHAPE.at(here, "no `iterator`", step=step.name)
    elif mode not in ("sequential", "parallel", "cursor"):
        yield LOOP_SHAPE.at((*here, "spec", "mode"), f"mode {show(mode)}", step=step.name)
    elif mode == "cursor" and not mapping(loop, "cursor").get("claim"):
        yield LOOP_SHAPE.at(here, "mode cursor without `cursor.claim`", step=step.name)
    elif mode != "cursor" and not (isinstance(loop.get("in"), str) and loop["in"].strip()):
        yield LOOP_SHAPE.at(here, "no `in`, or one that is no text", step=step.name)


@check
def tools(book: Book) -> Iterator[Hit]:
    """Presence, shape and kind of a step's tool."""
    freely = book.by_default()
    for step in book.steps:
        tool, here, name = step.raw.get("tool"), (*step.place, "tool"), step.name
        if tool is None:
            yield TOOL_MISSING.at(here if "tool" in step.raw else step.place, step=name)
        elif isinstance(tool, list):
            yield TOOL_LIST.at(here, step=name)
            yield from _tasks(step, tool)
        elif not isinstance(tool, dict) or not isinstance(tool.get("kind"), str):
            yield TOOL_SHAPE.at(here, show(tool), step=name)
        elif step.kind in _SERVER_ALONE and name in freely:
            yield KIND_LOCAL.at((*here, "kind"), show(step.kind), step=name)
        for place, own in step.tools:
            yield from _kind(own, place, name)
        if name == "end" and tool is not None and step.kind != "noop":
            yield END_WORK.at(here, step=name)


def _tasks(step: Step, tool: list[Any]) -> Iterator[Hit]:
    if not tool:
        yield TOOL_TASK.at((*step.place, "tool"), "an empty list", step=step.name)
    for index, item in enumerate(tool):
        labelled = (
            isinstance(item, dict)
            and len(item) == 1
            and all(isinstance(v, dict) and "kind" in v for v in item.values())
        )
        if not labelled and not (isinstance(item, dict) and "kind" in item):
            yield TOOL_TASK.at((*step.place, "tool", index), show(item), step=step.name)


def _kind(tool: dict[str, Any], place: Place, name: str | None) -> Iterator[Hit]:
    kind = tool.get("kind")
    if not isinstance(kind, str):
        return
    if kind in LOCAL_ONLY_KINDS:
        yield KIND_SERVER.at((*place, "kind"), show(kind), step=name)
    elif kind not in SERVER_KINDS:
        mend = nearest(kind.lower(), SERVER_KINDS)
        yield KIND_UNKNOWN.at((*place, "kind"), show(kind), step=name, mend=mend)
    for key in REQUIRED.get(kind, ()):
        if not isinstance(tool.get(key), str) or not tool[key]:
            yield TOOL_FIELD.at((*place, key) if key in tool else place, f"no {show(key)}", step=name)
    if kind == "http":
        body = tool.get("body")
        if body is not None and not isinstance(body, str):
            yield HTTP_FIELD.at((*place, "body"), "`body` is no text", step=name)
        for key in ("headers", "params"):
            own = tool.get(key)
            if own is not None and not (isinstance(own, dict) and all(isinstance(v, str) for v in own.values())):
                yield HTTP_FIELD.at((*place, key), f"{show(key)} is no map of texts", step=name)


@check
def subplaybooks(book: Book) -> Iterator[Hit]:
    """A sub-playbook is waited for, in time, under a path that the runtime knows."""
    for step in book.steps:
        for place, tool in step.tools:
            if tool.get("kind") == "playbook":
                yield from _result(tool, place, step.name)
                yield from _path(book, tool, place, step.name)


def _result(tool: dict[str, Any], place: Place, name: str | None) -> Iterator[Hit]:
    if tool.get("return_result") is not True:
        yield PLAYBOOK_RESULT.at((*place, "return_result") if "return_result" in tool else place, step=name)
    elif not isinstance(tool.get("result_step"), str) or not tool["result_step"]:
        yield PLAYBOOK_STEP.at((*place, "result_step") if "result_step" in tool else place, step=name)
    timeout = tool.get("timeout")
    if not isinstance(timeout, int) or isinstance(timeout, bool) or timeout <= 0:
        found = "missing" if timeout is None else show(timeout)
        yield PLAYBOOK_TIMEOUT.at((*place, "timeout") if "timeout" in tool else place, found, step=name)


def _path(book: Book, tool: dict[str, Any], place: Place, name: str | None) -> Iterator[Hit]:
    path = tool.get("path")
    if not isinstance(path, str) or not path:
        return
    keys = re.findall(r"\{\{\s*workload\.(\w+)\s*\}\}", path)
    filled = re.sub(r"\{\{\s*workload\.(\w+)\s*\}\}", lambda m: str(book.workload.get(m.group(1), "")), path)
    file = bool(re.search(r"\.ya?ml\Z", filled))
    if "{{" in filled or any(key not in book.workload for key in keys):
        return
    if not file and (not keys or book.workload.get("runtime") == "local"):
        yield PLAYBOOK_PATH_LOCAL.at((*place, "path"), show(path), step=name)
    elif file and path.endswith((".yaml", ".yml")):
        yield PLAYBOOK_PATH_SERVER.at((*place, "path"), show(path), step=name)
