"""Rules of `kind: shell`: `cmds` is read locally, `command` by a server, and values are pasted in unescaped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from slm_assets.noetl.lint_rules.book import Book, Step
from slm_assets.noetl.lint_rules.braces import Braces, braces, is_go
from slm_assets.noetl.lint_rules.rule import Hit, Place, check, rule, show, words

CMDS = rule(
    "shell-cmds", "error", "local",
    "the local runtime runs `cmds` only; without them the step is skipped in silence, status ok",
    "add `cmds: [<the script>]`",
)  # fmt: skip
COMMAND = rule(
    "shell-command", "error", "server", "a worker runs `command` only, a text, and refuses the tool without it",
    "add `command: <the script>`",
)  # fmt: skip
CMDS_SHAPE = rule("shell-cmds-shape", "error", "local", "`cmds` is a list of texts", "write `cmds: [<the script>]`")
DIFFER = rule(
    "shell-scripts-differ", "error", "dual", "`cmds` and `command` differ, so the runtimes do different work",
    "make them equal (`{{ step.result }}` here and `{{ step.stdout }}` there count as equal)",
)  # fmt: skip
SPLIT = rule(
    "shell-cmds-split", "error", "local",
    "the local runtime runs each line of a text in a bash of its own: variables, `cd`, `set -e`, heredocs and blocks "
    "do not last, and only the last line's output is kept",
    "write a list: `cmds: [<the whole script>]`",
)  # fmt: skip
SEPARATE = rule(
    "shell-cmds-separate", "error", "local",
    "each item of `cmds` runs in a bash of its own, so what this one sets is gone in the next",
    "put the lines into one item",
)  # fmt: skip
ERREXIT = rule(
    "shell-no-errexit", "warning", "any", "only the last command's exit code counts in a script without `set -e`",
    "begin with `set -euo pipefail`",
)  # fmt: skip
BASH = rule(
    "shell-bash", "error", "server", "a worker runs `sh` unless told otherwise, and this is bash", "add `shell: bash`"
)
INJECTION = rule(
    "shell-injection", "warning", "any",
    "values are pasted into the script unescaped: whoever writes this value runs commands",
    "pass only checked paths and ids; hand text over in a file",
)  # fmt: skip
IGNORED = rule(
    "shell-field-locally", "error", "local",
    "the local runtime ignores this field",
    "set it inside of the script, or read each variable with a default: `${NAME:-}`",
)  # fmt: skip
FIELD = rule(
    "shell-unknown-field", "warning", "server", "the worker ignores this field of a shell tool",
    "it has command, shell, cwd, env, timeout_seconds, capture",
)  # fmt: skip

FIELDS = words("kind name desc cmds command shell cwd env timeout_seconds capture auth output_select eval spec retry")
_BASH = re.compile(r"\bset\s+-\w*o\s+pipefail|\[\[\s|<<<|\bmapfile\b|\breadarray\b|<\(|\bdeclare\s+-|&>", re.MULTILINE)
_STATE = re.compile(
    r"^[ \t]*(?:export[ \t]+)?[A-Za-z_]\w*=\S*[ \t]*$|^[ \t]*(?:cd|set|export|source|\.|trap|umask|shopt|ulimit)[ \t]|"
    r"^[ \t]*(?:if|for|while|until|case|function|select)\b|<<-?[ \t]*['\"]?\w|\\$|(?:&&|\|)[ \t]*$",
    re.MULTILINE,
)
_KEPT = re.compile(
    r"^[ \t]*(?:export[ \t]+([A-Za-z_]\w*)=|([A-Za-z_]\w*)=\S*[ \t]*$|(cd)[ \t]+\S+[ \t]*$)", re.MULTILINE
)
_HEREDOC = re.compile(r"<<-?[ \t]*['\"]?(\w+)")
_SAFE = re.compile(r"[A-Za-z0-9_./:@=+,%~-]*\Z")


@check
def shells(book: Book) -> Iterator[Hit]:
    """Every shell tool."""
    for step in book.steps:
        for place, tool in step.tools:
            if tool.get("kind") == "shell":
                yield from _present(tool, place, step)
                yield from _cmds(tool, place, step)
                yield from _scripts(book, tool, place, step)
                for key in _missed(tool):
                    yield IGNORED.at((*place, key), show(key), step=step.name)
                for key in tool:
                    if key not in FIELDS:
                        yield FIELD.at((*place, key), show(key), step=step.name)


def _missed(tool: dict[str, Any]) -> Iterator[str]:
    """Fields that the script cannot do without; variables that it reads with a default only, it can."""
    env, script = tool.get("env"), str(tool.get("cmds"))
    names = [re.escape(str(name)) for name in env] if isinstance(env, dict) else ["a text has no names"]
    if env and any(not _count(rf"\b{name}\b", script) == _count(rf"\$\{{{name}:-", script) > 0 for name in names):
        yield "env"
    if tool.get("cwd"):
        yield "cwd"


def _count(pattern: str, text: str) -> int:
    return len(re.findall(pattern, text))


def _present(tool: dict[str, Any], place: Place, step: Step) -> Iterator[Hit]:
    cmds, command = tool.get("cmds"), tool.get("command")
    if not cmds:
        yield CMDS.at((*place, "cmds") if "cmds" in tool else place, step=step.name)
    if not isinstance(command, str) or not command.strip():
        found = "missing" if command is None else show(command)
        yield COMMAND.at((*place, "command") if "command" in tool else place, found, step=step.name)
    elif cmds and _same(cmds) != _same(command):
        yield DIFFER.at((*place, "command"), step=step.name)


def _same(script: Any) -> str:
    parts = script if isinstance(script, list) else [script]
    text = "\n".join(str(part).strip() for part in parts)
    return re.sub(r"(\{\{ \w+)\.(?:result|stdout)( \}\})", r"\1\2", text)


def _cmds(tool: dict[str, Any], place: Place, step: Step) -> Iterator[Hit]:
    cmds, here = tool.get("cmds"), (*place, "cmds")
    if isinstance(cmds, list):
        if any(not isinstance(item, str) for item in cmds):
            yield CMDS_SHAPE.at(here, show(next(i for i in cmds if not isinstance(i, str))), step=step.name)
        yield from _separate([item for item in cmds if isinstance(item, str)], here, step)
    elif isinstance(cmds, str):
        lines = [line for line in cmds.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        if len(lines) > 1:
            state = _STATE.search(cmds)
            yield SPLIT.at(here, show(state.group(0).strip()) if state else f"{len(lines)} lines", step=step.name)
    elif cmds is not None:
        yield CMDS_SHAPE.at(here, show(cmds), step=step.name)


def _separate(own: list[str], here: Place, step: Step) -> Iterator[Hit]:
    later: set[str] = set()
    for index in range(len(own) - 1, -1, -1):
        for match in _KEPT.finditer(own[index]):
            moved = match.group(3) and index < len(own) - 1
            if moved or (match.group(1) or match.group(2)) in later:
                yield SEPARATE.at((*here, index), show(match.group(0).strip()), step=step.name)
                break
        later.update(re.findall(r"\$\{?([A-Za-z_]\w*)", own[index]))


def _scripts(book: Book, tool: dict[str, Any], place: Place, step: Step) -> Iterator[Hit]:
    cmds, command = tool.get("cmds"), tool.get("command")
    scripts: list[tuple[Place, str, bool]] = []
    if book.runtime != "server":
        listed = (
            cmds if isinstance(cmds, list) else [cmds] if isinstance(cmds, str) and "\n" not in cmds.strip() else []
        )
        scripts += [((*place, "cmds", i), item, False) for i, item in enumerate(listed) if isinstance(item, str)]
    if book.runtime != "local" and isinstance(command, str):
        scripts.append(((*place, "command"), command, True))
    told: set[tuple[str, str]] = set()
    for at, script, server in scripts:
        if server and tool.get("shell") != "bash" and (found := _BASH.search(script)):
            yield BASH.at(at, show(found.group(0)), step=step.name)
        hits = [INJECTION.at(at, found, step=step.name) for found in _injected(book, script)]
        if _unchecked(script):
            hits.append(ERREXIT.at(at, step=step.name))
        for hit in hits:
            if (hit.rule.id, hit.found) not in told:
                told.add((hit.rule.id, hit.found))
                yield hit


def _unchecked(script: str) -> bool:
    """More than one command, and nothing that stops at the first that fails."""
    lines = list(_commands(script))
    quiet = all(re.match(r"(?:echo|printf|exit)\b|\w+=\S*\Z", line) for line in lines[:-1])
    return len(lines) > 1 and not quiet and not re.search(r"\bset\s+-\w*e|\bset\s+-o\s+errexit|\bbash\s+-\w*e", script)


def _commands(script: str) -> Iterator[str]:
    """The first lines of commands: no comment, continuation or heredoc body."""
    goes_on, until = False, ""
    for line in script.splitlines():
        bare = line.strip()
        if until:
            until = "" if bare == until else until
        elif bare and not bare.startswith("#"):
            if not goes_on:
                yield bare
            goes_on = bare.endswith(("\\", "&&", "|"))
            heredoc = _HEREDOC.search(bare)
            until = heredoc.group(1) if heredoc else ""


def _injected(book: Book, script: str) -> Iterator[str]:
    """Templates whose value can become a command: not in single quotes, and no workload path or id."""
    for found, quote in _quoted(script):
        inner = found.inner.strip()
        if is_go(inner) or inner == "execution_id" or quote == "'":
            continue
        key = re.fullmatch(r"workload\.(\w+)(?:\s*\|.*)?", inner)
        if not key:
            yield show("{{ " + inner + " }}")
        else:
            default = book.workload.get(key.group(1), "")
            if isinstance(default, str) and not _SAFE.match(default):
                yield f"{show('{{ ' + inner + ' }}')}, whose default is no plain path or id"


def _quoted(script: str) -> Iterator[tuple[Braces, str]]:
    """Each {{ … }} with the quote it stands in: ', " or none."""
    state, index = "", 0
    for found in braces(script):
        while index < found.start:
            char = script[index]
            if char == "\\" and state != "'":
                index += 1
            elif char in "'\"" and state in ("", char):
                state = "" if state else char
            elif char == "#" and not state and (index == 0 or script[index - 1].isspace()):
                end = script.find("\n", index)
                index = found.start if end < 0 else min(end, found.start)
            index += 1
        yield found, state
        index = found.end
