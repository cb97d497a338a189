"""A playbook as the checks see it: steps and arcs in whatever shape they were written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from slm_assets.noetl.lint_rules.rule import Place, Runtime, words

SERVER_KINDS = words(
    "http postgres duckdb ducklake python workbook playbook playbooks secrets iterator container script snowflake "
    "transfer snowflake_transfer gcs gateway nats shell artifact noop task_sequence rhai subscription wasm"
)
LOCAL_KINDS = words("shell http rhai playbook sink auth agent provider")
LOCAL_ONLY_KINDS = words("agent provider auth sink mcp")


_TEST = re.compile(
    r"\s*(?:\{\{)?\s*workload\.(?P<key>\w+)\s*(?P<op>==|!=)\s*(?:(['\"])(?P<text>[^'\"]*)\3|(?P<word>[\w.-]+))\s*(?:\}\})?\s*"
)


@dataclass(frozen=True)
class Arc:
    """A way from a step to another; `raw` is the mapping it was written as, if it was one."""

    place: Place
    target: Any
    when: Any = None
    raw: Any = None

    @property
    def conditional(self) -> bool:
        """Whether something must hold for the arc to be taken."""
        return isinstance(self.when, str)


def _cases(case: Any, place: Place) -> Iterator[Arc]:
    """The arcs of the older `case: [{when, then, else}]`, which the local runtime still reads."""
    for index, item in enumerate(case if isinstance(case, list) else []):
        if isinstance(item, dict):
            for key in ("then", "else"):
                yield from _then(item.get(key), (*place, index), item.get("when") if key == "then" else "else")


def _then(value: Any, place: Place, when: Any) -> Iterator[Arc]:
    inner = value.get("next", value) if isinstance(value, dict) else value
    for item in inner if isinstance(inner, list) else [inner]:
        if isinstance(item, dict) and isinstance(item.get("step"), str):
            yield Arc(place, item["step"], when)


@dataclass(frozen=True)
class Step:
    """One mapping of the workflow. `name` is None where it has none."""

    place: Place
    raw: dict[str, Any]

    @property
    def name(self) -> str | None:
        name = self.raw.get("step")
        return name if isinstance(name, str) and name else None

    @property
    def tool(self) -> dict[str, Any]:
        """The tool's mapping; empty for any other shape."""
        tool = self.raw.get("tool")
        return tool if isinstance(tool, dict) else {}

    @property
    def kind(self) -> str | None:
        kind = self.tool.get("kind")
        return kind if isinstance(kind, str) else None

    @cached_property
    def tools(self) -> list[tuple[Place, dict[str, Any]]]:
        """Every tool mapping with its place: one, or those of a list (flat, or under a label)."""
        tool = self.raw.get("tool")
        if isinstance(tool, dict):
            return [((*self.place, "tool"), tool)]
        found: list[tuple[Place, dict[str, Any]]] = []
        for index, item in enumerate(tool if isinstance(tool, list) else []):
            here = (*self.place, "tool", index)
            if isinstance(item, dict) and "kind" in item:
                found.append((here, item))
            elif isinstance(item, dict):
                found.extend(((*here, label), inner) for label, inner in item.items() if isinstance(inner, dict))
        return found

    @property
    def exclusive(self) -> bool:
        """Whether only the first matching arc is taken."""
        follow, spec = self.raw.get("next"), self.raw.get("spec")
        inner = follow.get("spec") if isinstance(follow, dict) else None
        mode = inner.get("mode") if isinstance(inner, dict) else None
        if mode is None and isinstance(spec, dict):
            mode = spec.get("next_mode")
        return mode != "inclusive"

    @cached_property
    def arcs(self) -> list[Arc]:
        """The ways out that at least one runtime would see; those of `case` and `then` have no `raw`."""
        follow, here = self.raw.get("next"), (*self.place, "next")
        found = list(_cases(self.raw.get("case"), (*self.place, "case")))
        if isinstance(follow, str):
            found.append(Arc(here, follow))
        for index, item in enumerate(follow if isinstance(follow, list) else items(follow, "arcs")):
            at = (*here, index) if isinstance(follow, list) else (*here, "arcs", index)
            if isinstance(follow, list) and isinstance(item, dict) and "then" in item and "step" not in item:
                found.extend(_then(item["then"], at, item.get("when")))
            elif isinstance(item, dict):
                found.append(Arc(at, item.get("step"), item.get("when"), item))
            elif isinstance(follow, list) and isinstance(item, str):
                found.append(Arc(at, item))
        return found

    @cached_property
    def live_arcs(self) -> list[Arc]:
        """The arcs that can be taken: in exclusive mode none after an unconditional one."""
        live: list[Arc] = []
        for arc in self.arcs:
            live.append(arc)
            if self.exclusive and not arc.conditional:
                break
        return live


@dataclass(frozen=True)
class Book:
    """A whole playbook, and for which runtimes it is linted."""

    root: dict[str, Any]
    runtime: Runtime

    @cached_property
    def steps(self) -> list[Step]:
        """The workflow's mappings, in order."""
        return [
            Step(("workflow", i), raw) for i, raw in enumerate(items(self.root, "workflow")) if isinstance(raw, dict)
        ]

    @cached_property
    def by_name(self) -> dict[str, Step]:
        """The first step of each name."""
        found: dict[str, Step] = {}
        for step in self.steps:
            if step.name:
                found.setdefault(step.name, step)
        return found

    @cached_property
    def workload(self) -> dict[str, Any]:
        """The workload's mapping; empty for any other shape."""
        return mapping(self.root, "workload")

    @cached_property
    def entries(self) -> set[str]:
        """Where the demanded runtimes begin: locally the first step or the executor's, on a server `start`; and
        the executor's final step."""
        names: list[Any] = ["start"] if self.runtime != "local" else []
        if self.runtime != "server":
            spec = mapping(mapping(self.root, "executor"), "spec")
            names += [spec.get("entry_step") or (self.steps[0].name if self.steps else None), spec.get("final_step")]
        return {name for name in names if isinstance(name, str) and name in self.by_name}

    def reach(self, *roots: str) -> set[str]:
        """Names of the steps that can be reached from some steps."""
        return self._closure(roots, self.targets)

    def by_default(self) -> set[str]:
        """Names of the steps that a local run reaches for certain with the workload's defaults."""
        return self._closure(self.entries, self._certain)

    def _closure(self, roots: Iterable[str], onward: Callable[[str], list[str]]) -> set[str]:
        seen: set[str] = set()
        open_ = [name for name in roots if name in self.by_name]
        while open_:
            if (name := open_.pop()) not in seen:
                seen.add(name)
                open_.extend(onward(name))
        return seen

    def _certain(self, name: str) -> list[str]:
        """Targets of the arcs that hold by default; in exclusive mode only the first one."""
        step, found = self.by_name[name], list[str]()
        for arc in step.live_arcs:
            holds = self._holds(arc.when) if isinstance(arc.when, str) else True
            if holds and isinstance(arc.target, str) and arc.target in self.by_name:
                found.append(arc.target)
            if holds and step.exclusive:
                break
        return found

    def _holds(self, when: str) -> bool | None:
        """Whether a local test of one workload value against a literal holds by default; None where unknown."""
        test = _TEST.fullmatch(when)
        if not test or test["key"] not in self.workload:
            return None
        value = self.workload[test["key"]]
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return (text == (test["text"] or test["word"] or "")) == (test["op"] == "==")

    def targets(self, name: str) -> list[str]:
        """Existing steps that the live arcs of a step lead to."""
        found = (arc.target for arc in self.by_name[name].live_arcs)
        return [target for target in found if isinstance(target, str) and target in self.by_name]

    def cycles(self, names: set[str]) -> list[set[str]]:
        """The strongly connected components that hold a cycle (Kosaraju, without recursion)."""
        order: list[str] = []
        seen: set[str] = set()
        for root in sorted(names):
            stack = [(root, False)]
            while stack:
                name, done = stack.pop()
                if done:
                    order.append(name)
                elif name not in seen:
                    seen.add(name)
                    stack.append((name, True))
                    stack.extend((target, False) for target in self.targets(name))
        back: dict[str, list[str]] = {}
        for name in order:
            for target in self.targets(name):
                back.setdefault(target, []).append(name)
        found: list[set[str]] = []
        placed: set[str] = set()
        for root in reversed(order):
            component: set[str] = set()
            open_ = [root]
            while open_:
                if (name := open_.pop()) not in placed:
                    placed.add(name)
                    component.add(name)
                    open_.extend(back.get(name, ()))
            if len(component) > 1 or any(name in self.targets(name) for name in component):
                found.append(component)
        return found


def mapping(value: Any, key: str) -> dict[str, Any]:
    """The mapping at a key; empty where there is none."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def items(value: Any, key: str) -> list[Any]:
    """The list at a key; empty where there is none."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []


def texts(value: Any, place: Place) -> Iterator[tuple[Place, str]]:
    """Every text inside a value, with its place."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, child in value.items():
            yield from texts(child, (*place, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from texts(child, (*place, index))
