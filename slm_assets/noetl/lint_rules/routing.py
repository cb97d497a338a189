"""Rules of the graph: names, the shapes of `next`, targets, reachability, cycles."""

from __future__ import annotations

from collections.abc import Iterator

from slm_assets.noetl.lint_rules.book import Book, Step, items, mapping
from slm_assets.noetl.lint_rules.header import nearest
from slm_assets.noetl.lint_rules.rule import Hit, check, rule, show

MAX_JOINS = 1000
"""Beyond so many steps the joins of a fan-out are not looked for: that grows with their square."""
ARC_KEYS = frozenset({"step", "when", "set", "args"})

WORKFLOW = rule("workflow-missing", "error", "any", "`workflow` must be a list with a step in it", "write the steps")
START = rule(
    "start-step", "error", "server", "a server begins at the step named `start`", "name the first step `start`"
)
STEP_SHAPE = rule("step-shape", "error", "any", "a step is a mapping with its name, a text, under `step`", "name it")
STEP_TWICE = rule(
    "step-duplicate", "error", "any", "a server refuses a second step of a name; locally the first wins in silence",
    "rename one",
)  # fmt: skip
NEXT_LOCAL = rule(
    "next-dropped-locally", "error", "local",
    "the local runtime drops this shape of `next` in silence: the branch ends here, status ok",
    "write `next: {spec: {mode: exclusive}, arcs: [{step: …}]}`",
)  # fmt: skip
NEXT_THEN = rule(
    "next-then-on-server", "error", "server", "a server refuses `next: [{when, then}]`",
    "write `next: {spec: {mode: exclusive}, arcs: [{step: …, when: …}]}`",
)  # fmt: skip
NEXT_SHAPE = rule(
    "next-shape", "error", "any", "dropped in silence, or refused: no runtime reads this shape of `next`",
    "write `next: {spec: {mode: exclusive}, arcs: [{step: …}]}`",
)  # fmt: skip
NEXT_KEY = rule(
    "next-unknown-key", "error", "any", "`next` has `spec` and `arcs`; the rest is dropped", "mend its name"
)
NEXT_MODE = rule(
    "next-mode", "error", "any", "any mode but `inclusive` means `exclusive` (a wrong `spec.next_mode` is refused)",
    "write `exclusive` or `inclusive`",
)  # fmt: skip
ARC_KEY = rule("arc-unknown-key", "error", "any", "an unknown key of an arc is dropped in silence", "mend its name")
ARC_TARGET = rule(
    "arc-target", "error", "any", "no step has this name: a server refuses the playbook, a local run fails there",
    "name an existing step",
)  # fmt: skip
ARC_DEAD = rule(
    "arc-never-taken", "error", "any", "in exclusive mode no arc after an unconditional one is ever taken",
    "put the arc without `when` last",
)  # fmt: skip
ARC_SET = rule(
    "arc-set-locally",
    "error",
    "local",
    "the local runtime ignores `set` on an arc",
    "set it on the step, beside `vars`",
)
ARC_ARGS = rule(
    "arc-args-on-server", "error", "server", "the server ignores `args` on an arc", "use the step's `vars` and `set`"
)
UNREACHABLE = rule("step-unreachable", "warning", "any", "no way leads to this step", "add an arc to it, or drop it")
CYCLE = rule(
    "cycle-without-exit", "error", "any", "nothing leads out of this cycle, and neither runtime bounds it",
    "add an arc that leaves it, before any unconditional one",
)  # fmt: skip
NO_TERMINAL = rule(
    "no-terminal", "error", "any", "no step that can be reached ends the run", "end at a step without `next`"
)
JOIN = rule(
    "inclusive-join", "warning", "any",
    "two branches of an inclusive fan-out meet here, and the local runtime runs a join once per branch",
    "join after one branch only, or make the step repeatable",
)  # fmt: skip


@check
def steps(book: Book) -> Iterator[Hit]:
    """Presence, shape, names."""
    if not items(book.root, "workflow"):
        yield WORKFLOW.at(("workflow",) if "workflow" in book.root else ())
        return
    for index, raw in enumerate(items(book.root, "workflow")):
        if not isinstance(raw, dict) or not isinstance(raw.get("step"), str) or not raw["step"].strip():
            yield STEP_SHAPE.at(("workflow", index), show(raw.get("step") if isinstance(raw, dict) else raw))
    if "start" not in book.by_name:
        yield START.at(("workflow",), mend=nearest("start", book.by_name))
    for step in book.steps:
        if step.name and book.by_name[step.name] is not step:
            yield STEP_TWICE.at((*step.place, "step"), step=step.name)


@check
def shapes(book: Book) -> Iterator[Hit]:
    """What `next` may look like."""
    for step in book.steps:
        follow, here = step.raw.get("next"), (*step.place, "next")
        spec = mapping(step.raw, "spec")
        if spec.get("next_mode") not in (None, "exclusive", "inclusive"):
            yield NEXT_MODE.at((*step.place, "spec", "next_mode"), show(spec["next_mode"]), step=step.name)
        if isinstance(follow, str):
            yield NEXT_LOCAL.at(here, show(f"next: {follow}"), step=step.name)
        elif isinstance(follow, list):
            yield from _list(step, follow)
        elif isinstance(follow, dict):
            yield from _router(step, follow)
        elif follow is not None:
            yield NEXT_SHAPE.at(here, show(follow), step=step.name)


def _list(step: Step, follow: list[object]) -> Iterator[Hit]:
    here = (*step.place, "next")
    words = [isinstance(item, str) for item in follow]
    if words and all(words):
        yield NEXT_LOCAL.at(here, show(f"next: {follow}"), step=step.name)
    elif any(not isinstance(item, dict) for item in follow):
        yield NEXT_SHAPE.at(here, "names, mappings or other values mixed in one list", step=step.name)
    for index, item in enumerate(follow):
        if isinstance(item, dict) and "then" in item and "step" not in item:
            yield NEXT_THEN.at((*here, index), step=step.name)
    yield from _arcs(step)


def _router(step: Step, follow: dict[str, object]) -> Iterator[Hit]:
    here = (*step.place, "next")
    arcs = follow.get("arcs")
    if "step" in follow and arcs is None:
        yield NEXT_SHAPE.at(here, "`next: {step: …}`", step=step.name)
        return
    for key in follow:
        if key not in ("spec", "arcs"):
            yield NEXT_KEY.at((*here, key), show(key), step=step.name, mend=nearest(key, ("spec", "arcs")))
    mode = mapping(follow, "spec").get("mode")
    if mode not in (None, "exclusive", "inclusive"):
        yield NEXT_MODE.at((*here, "spec", "mode"), show(mode), step=step.name)
    if not isinstance(arcs, list):
        yield NEXT_SHAPE.at((*here, "arcs") if "arcs" in follow else here, "`arcs` must be a list", step=step.name)
        return
    for index, arc in enumerate(arcs):
        if not isinstance(arc, dict):
            yield NEXT_SHAPE.at((*here, "arcs", index), f"the arc {show(arc)}", step=step.name)
    yield from _arcs(step)


def _arcs(step: Step) -> Iterator[Hit]:
    router = isinstance(step.raw.get("next"), dict)
    for arc in step.arcs:
        if not isinstance(arc.raw, dict):
            continue
        if not isinstance(arc.target, str):
            yield NEXT_SHAPE.at(arc.place, "an arc without a `step`, or with one that is no text", step=step.name)
        for key in arc.raw:
            if key not in ARC_KEYS:
                yield ARC_KEY.at((*arc.place, key), show(key), step=step.name, mend=nearest(key, ARC_KEYS))
        if arc.raw.get("set") is not None:
            yield ARC_SET.at((*arc.place, "set"), step=step.name)
        if router and arc.raw.get("args") is not None:
            yield ARC_ARGS.at((*arc.place, "args"), step=step.name)


@check
def targets(book: Book) -> Iterator[Hit]:
    """Each arc leads to a step, and can be taken."""
    for step in book.steps:
        for arc in step.arcs:
            if isinstance(arc.target, str) and arc.target not in book.by_name:
                yield ARC_TARGET.at(arc.place, show(arc.target), step=step.name, mend=nearest(arc.target, book.by_name))
        live = len(step.live_arcs)
        plain = isinstance(step.raw.get("next"), list) and all(isinstance(i, str) for i in step.raw["next"])
        for arc in [] if plain else step.arcs[live:]:
            yield ARC_DEAD.at(arc.place, f"the arc to {show(arc.target)}", step=step.name)


@check
def graph(book: Book) -> Iterator[Hit]:
    """Unreachable steps, cycles without an exit, no end, joins of a fan-out."""
    if not book.entries:
        return
    reached = book.reach(*book.entries)
    for name, step in book.by_name.items():
        if name not in reached:
            yield UNREACHABLE.at((*step.place, "step"), step=name)
    if all(book.by_name[name].arcs for name in reached):
        yield NO_TERMINAL.at(("workflow",))
    for cycle in book.cycles(reached):
        ways = [arc.target for name in cycle for arc in book.by_name[name].live_arcs]
        if all(isinstance(target, str) and target in cycle for target in ways):
            first = min(cycle, key=lambda name: book.by_name[name].place)
            yield CYCLE.at((*book.by_name[first].place, "next"), " → ".join(sorted(cycle)), step=first)
    if len(book.steps) <= MAX_JOINS:
        before: dict[str, set[str]] = {}
        for name in book.by_name:
            for target in book.targets(name):
                before.setdefault(target, set()).add(name)
        for name in reached:
            yield from _joins(book, book.by_name[name], before)


def _joins(book: Book, step: Step, before: dict[str, set[str]]) -> Iterator[Hit]:
    branches = book.targets(step.name) if step.name else []
    if step.exclusive or len(branches) < 2:
        return
    onward = [book.reach(branch) for branch in dict.fromkeys(branches)]
    met = {name for i, one in enumerate(onward) for other in onward[:i] for name in one & other}
    for name in met - {"end"}:
        if not before[name] - {name} <= met:
            yield JOIN.at((*book.by_name[name].place, "step"), f"the branches of {show(step.name)}", step=name)
