"""The first step of every emitted playbook: values are checked before any of them meets a shell.

Both runtimes paste workload values into scripts as they are. A `rhai` step gets them as data instead, in
either runtime, and throws at the first that is not what it should be; only then does a shell step run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

Kind = Literal["name", "name?", "version", "version?", "engine?", "path", "path?", "text", "count", "url?"]
"""What a value must be; `?` allows the empty text."""

_FUNCTIONS = {
    "only": """
        fn only(text, allowed, most) {
          if text.len > most { return false; }
          for c in text { if !allowed.contains(c) { return false; } }
          true
        }""",
    "name": """
        fn is_name(text) {
          text.len > 0 && only(text, "abcdefghijklmnopqrstuvwxyz0123456789_", 63)
        }""",
    "version": """
        fn is_version(text) {
          let known = text.starts_with("v") || text.starts_with("w");
          text.len > 1 && known && only(text.sub_string(1), "0123456789", 9)
        }""",
    "engine": """
        fn is_engine(text) { text == "oracle" || is_version(text) }""",
    "count": """
        fn is_count(text) { text.len > 0 && only(text, "0123456789", 4) }""",
    "text": """
        fn is_text(text) {
          text.len > 0 && only(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/:@-", 400)
        }""",
    "path": """
        fn is_path(text) {
          let allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/@+, -";
          if text.starts_with("-") || text.starts_with(" ") || text.ends_with(" ") { return false; }
          text.len > 0 && !text.contains("..") && only(text, allowed, 1000)
        }""",
    "url": """
        fn is_url(text) { (text.starts_with("http://") || text.starts_with("https://")) && is_text(text) }""",
}
_NEEDS = {"engine": ("version",), "url": ("text",)}


def check_step(
    values: Mapping[str, Kind | Sequence[str]],
    then: Sequence[Mapping[str, str]],
    either: Sequence[tuple[str, str]] = (),
) -> list[dict[str, Any]]:
    """The steps `check` and `refused`. `values`: workload key → kind, or the list of what it may be; `then`:
    the arcs of a run whose values are right; `either`: pairs of which one must not be empty."""
    tests = [_test(name, kind) for name, kind in values.items()]
    tests += [f'if {one} == "" && {other} == "" {{ throw "{one}: missing"; }}' for one, other in either]
    code = [*_functions(values), *tests, '#{ checked: "yes" }']
    return [
        {
            "step": "check",
            "desc": "Refuse values that are no ids or paths, before any shell sees them",
            "tool": {
                "kind": "rhai",
                "args": {name: f"{{{{ workload.{name} }}}}" for name in values},
                "code": "\n".join(code) + "\n",
            },
            "vars": {"checked": "{{ result.checked }}"},
            "set": {"vars": {"checked": "{{ check.checked }}"}},
            "next": {
                "spec": {"mode": "exclusive"},
                "arcs": [
                    {"step": "refused", "when": "{{ vars.checked != 'yes' }}"},
                    *({"step": arc["step"], **({"when": arc["when"]} if "when" in arc else {})} for arc in then),
                ],
            },
        },
        {
            "step": "refused",
            "desc": "A value was refused",
            "tool": shell_tool("echo 'a workload value was refused: see the step check' >&2\nexit 64\n", 60),
        },
    ]


def shell_tool(script: str, timeout_s: int) -> dict[str, Any]:
    """A shell tool for both runtimes: one reads `cmds`, the other `command`."""
    return {"kind": "shell", "shell": "bash", "timeout_seconds": timeout_s, "cmds": [script], "command": script}


def _functions(values: Mapping[str, Kind | Sequence[str]]) -> list[str]:
    wanted = {kind.rstrip("?") for kind in values.values() if isinstance(kind, str)}
    wanted |= {need for kind in list(wanted) for need in _NEEDS.get(kind, ())} | ({"only"} if wanted else set())
    return [_dedented(text) for name, text in _FUNCTIONS.items() if name in wanted]


def _dedented(text: str) -> str:
    return "\n".join(line[8:] for line in text.strip("\n").splitlines())


def _test(name: str, kind: Kind | Sequence[str]) -> str:
    if not isinstance(kind, str):
        listed = ", ".join(f'"{value}"' for value in kind)
        return f'if !([{listed}].contains({name})) {{ throw "{name}: expected {" or ".join(kind)}"; }}'
    bare = kind.rstrip("?")
    test = f"is_{bare}({name})"
    if kind.endswith("?"):
        test = f'{name} == "" || {test}'
    return f'if !({test}) {{ throw "{name}: no {bare}"; }}'
