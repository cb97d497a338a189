"""What no single key can say: whether the parts of a config fit together."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Iterator

from slm_assets.domain.config import Metric
from slm_assets.domain.cron import cron_fault
from slm_assets.domain.documents import Place, show
from slm_assets.domain.domain import Domain
from slm_assets.domain.places import has_place
from slm_assets.domain.providers import PROVIDERS
from slm_assets.domain.secrets import credential_fault, url_fault
from slm_assets.domain.view import View, nowhere
from slm_assets.domain.vocabularies import vocabulary_faults
from slm_assets.errors import Fault

BUILT_IN_METRICS = (
    "exact",
    "turn_exact",
    "output_validity",
    "latency_p50_ms",
    "latency_p95_ms",
    "checkpoint_bytes",
)
_ROW_PARTS = ("input", "labels", "source", "id")


def check_domain(domain: Domain, *, count_rows: bool = False) -> list[Fault]:
    """Every fault and warning of a domain as a whole, sorted by place.

    With `count_rows` the corpus is counted too, to say which targets its eval part is too small to
    certify: a warning, or a fault under `eval.certify: strict`.
    """
    view = View(domain)
    parts: list[Callable[[View], Iterable[Fault]]] = [
        _identity,
        _roles,
        vocabulary_faults,
        _data,
        _teachers,
        _metrics,
        _slices,
        _serving,
        _loop,
    ]
    found = [fault for part in parts for fault in part(view)]
    if count_rows:
        found += _targets(view)
    return sorted(set(found), key=lambda fault: (fault.severity, fault.file, fault.line or 0, fault.path))


def _identity(view: View) -> Iterator[Fault]:
    folder = view.domain.folder
    if folder is not None and folder.name != view.config.name:
        cure = "give the folder the domain's name: commands find a domain by its folder"
        yield view.warning(("name",), "folder of another name", found=show(folder.name), cure=cure)


def _roles(view: View) -> Iterator[Fault]:
    yield from view.repeated(("roles",), view.role_ids, "roles")
    for index, role in enumerate(view.config.roles):
        for number, earlier in enumerate(role.reads):
            at: Place = ("roles", index, "reads", number)
            if earlier == "turn":
                yield view.fault(at, "the turn is always read", cure="leave it out")
            elif earlier not in view.role_ids:
                yield view.unknown(at, "no such role", earlier, view.role_ids[:index])
            elif view.role_ids.index(earlier) >= index:
                cure = f"list {earlier} before {role.id}"
                yield view.fault(at, "reads a role that is not earlier", found=show(earlier), cure=cure)
        oracle = role.deterministic_oracle
        if oracle is not None and oracle.kind == "playbook":
            at = ("roles", index, "deterministic_oracle")
            cure = "elsewhere the role has no labels from it and the floor is the majority baseline"
            yield view.warning(at, "answered by NoETL only", found=oracle.path, cure=cure)
        if oracle is None and view.config.eval.floor == "deterministic_oracle":
            at = ("roles", index)
            message = f"role {role.id} has no deterministic_oracle"
            yield view.warning(at, message, cure="its floor is the majority baseline")


def _data(view: View) -> Iterator[Fault]:
    data, sets = view.config.data, view.config.eval.eval_sets
    if data.split.kind == "fixed":
        if sets.holdout is None:
            cure = "name the eval rows in eval.eval_sets.holdout"
            yield view.fault(("data", "split"), "a fixed split without eval rows", cure=cure)
    elif not 0 < data.split.eval_ratio < 1 and (data.split.eval_ratio == 1 or sets.holdout is None):
        found = str(data.split.eval_ratio)
        place: Place = ("data", "split", "eval_ratio")
        yield view.fault(place, "leaves no rows to train or to judge on", found=found)
    labels = data.fields.labels
    if isinstance(labels, dict):
        for role_id in labels:
            yield from view.unknown_role(("data", "fields", "labels", role_id), role_id)
    if data.seed_corpus is None and data.adversarial is None and data.event_log_replay is None:
        yield view.warning(("data",), "no source of rows", cure="name files or a folder in data.seed_corpus")
    if data.incomplete_labels == "complete":
        for role in view.config.roles:
            if role.deterministic_oracle is None or role.deterministic_oracle.kind == "playbook":
                cure = f"give {role.id} rules or a function, or leave data.incomplete_labels at quarantine"
                found = f"{role.id} without an oracle that answers while labelling"
                yield view.warning(("data", "incomplete_labels"), "nobody completes labels", found=found, cure=cure)


def _teachers(view: View) -> Iterator[Fault]:
    ids = [teacher.id for teacher in view.config.teachers]
    yield from view.repeated(("teachers",), ids, "teachers")
    for index, teacher in enumerate(view.config.teachers):
        at: Place = ("teachers", index)
        for role_id in teacher.role_prompts:
            yield from view.unknown_role((*at, "role_prompts", role_id), role_id)
        for role_id in teacher.models:
            if role_id != "fallback":
                yield from view.unknown_role((*at, "models", role_id), role_id)
        if parts := credential_fault(teacher.credential):
            yield view.fault((*at, "credential"), **parts)
        if parts := url_fault(teacher.base_url):
            yield view.fault((*at, "base_url"), **parts)
        if teacher.provider is not None and teacher.provider not in PROVIDERS and teacher.base_url is None:
            yield view.unknown((*at, "provider"), "no address is known of", teacher.provider, list(PROVIDERS))
    yield from _taught(view, ids)


def _taught(view: View, ids: list[str]) -> Iterator[Fault]:
    """Who is named as a teacher, and where; and the server of a release, which is asked in the same way."""
    if (server := view.config.serving.endpoint) is not None:
        for key, parts in (
            ("credential", credential_fault(server.credential)),
            ("base_url", url_fault(server.base_url)),
        ):
            if parts:
                yield view.fault(("serving", "endpoint", key), **parts)
    for key in ("ceiling", "baseline"):
        named = getattr(view.config.eval, key)
        if named is not None and (named.removeprefix("teacher.") not in ids or not named.startswith("teacher.")):
            known = [f"teacher.{teacher_id}" for teacher_id in ids]
            yield view.unknown(("eval", key), "no such teacher", named, known)
    labels, live = view.config.labels, view.config.improvement.relabel.teacher
    named_at: dict[Place, str | None] = {
        ("labels", "teacher"): labels.teacher,
        ("improvement", "relabel", "teacher"): live,
        ("serving", "teacher"): view.config.serving.teacher,
    }
    for place, name in named_at.items():
        if name is not None and name not in ids:
            yield view.unknown(place, "no such teacher", name, ids)
    if labels.teacher is None and live is None and "teacher" in labels.order:
        yield view.fault(("labels", "order"), "no teacher is asked", found="teacher", cure="name one in labels.teacher")
    if len(set(labels.order)) < len(labels.order):
        yield view.fault(("labels", "order"), "a source twice", found=", ".join(labels.order), cure="keep one of each")


def _metrics(view: View) -> Iterator[Fault]:
    metrics = view.config.eval.metrics
    yield from view.repeated(("eval", "metrics"), [metric.id for metric in metrics], "metrics")
    if not metrics:
        cure = "without one, only not being worse than the incumbent is demanded"
        yield view.warning(("eval",), "no metric is gated", cure=cure)
    for index, metric in enumerate(metrics):
        at: Place = ("eval", "metrics", index)
        if metric.role is not None and metric.role not in view.role_ids:
            yield from view.unknown_role((*at, "role"), metric.role)
            continue
        yield from _metric(view, at, metric)
    for role_id in view.role_ids:
        primary = [metric.id for metric in metrics if metric.primary and metric.role in {role_id, None}]
        if len(primary) > 1:
            message = f"role {role_id} has more than one primary metric"
            yield view.fault(("eval", "metrics"), message, found=", ".join(primary), cure="keep one")


def _metric(view: View, at: Place, metric: Metric) -> Iterator[Fault]:
    if "ceiling" in (metric.target_relative or "") and view.config.eval.ceiling is None:
        yield view.fault((*at, "target_relative"), "no ceiling to compare with", cure="set eval.ceiling")
    if metric.path is None:
        if metric.id not in BUILT_IN_METRICS:
            message = f"nothing can measure {metric.id}"
            cure = "a missing metric is a FAIL; give it role and path"
            if close := difflib.get_close_matches(metric.id, BUILT_IN_METRICS, n=1, cutoff=0.8):
                cure = f"did you mean {close[0]}? {cure}"
            expected = f"a path, or one of {', '.join(BUILT_IN_METRICS)}"
            yield view.warning(at, message, expected=expected, cure=cure)
        return
    roles = view.role_ids if metric.role is None else [metric.role]
    known = [spots for role_id in roles if (spots := view.spots(role_id))]
    leads = [has_place(spots, metric.path) for spots in known]
    if True in leads or len(known) < len(roles):
        return
    if None in leads:
        message = "the contract cannot tell whether anything stands here"
        yield view.warning((*at, "path"), message, found=metric.path)
    else:
        yield nowhere(view, (*at, "path"), roles[0], metric.path)


def _slices(view: View) -> Iterator[Fault]:
    slices = view.config.eval.slices
    yield from view.repeated(("eval", "slices"), [part.id for part in slices], "slices")
    for index, part in enumerate(slices):
        head = part.path.split("/")[1] if part.path else ""
        if head not in _ROW_PARTS:
            expected = ", ".join(f"/{name}" for name in _ROW_PARTS)
            at: Place = ("eval", "slices", index, "path")
            yield view.fault(at, "leads nowhere", found=show(part.path), expected=f"a path under {expected}")


def _serving(view: View) -> Iterator[Fault]:
    for role_id in view.config.serving.engine_flags:
        yield from view.unknown_role(("serving", "engine_flags", role_id), role_id)


def _loop(view: View) -> Iterator[Fault]:
    schedule = view.config.improvement.schedule
    if schedule is not None and (reason := cron_fault(schedule)):
        at: Place = ("improvement", "schedule")
        yield view.fault(at, reason, found=show(schedule), expected='five fields, such as "0 3 * * 0"')
    gates = view.readable(lambda: view.domain.gates)
    for role_id in gates.per_role if gates else ():
        for fault in view.unknown_role((), role_id):
            policy = view.config.improvement.promotion_gates or ""
            file = view.domain.path(policy)
            yield Fault(file, f"$.per_role.{role_id}", fault.message, expected=fault.expected, cure=fault.cure)


def _targets(view: View) -> Iterator[Fault]:
    from slm_assets.domain.rows import eval_rows

    n = eval_rows(view.domain)
    if not n:
        return
    confidence = 1 - (1 - view.domain.gates.confidence) / 2  # what the first look at an eval epoch is judged at
    for index, metric in enumerate(view.config.eval.metrics):
        if metric.target is None or metric.target > 1 or metric.id.startswith(("latency", "checkpoint")):
            continue
        needed = rows_to_certify(metric.target, confidence)
        if needed > n:
            make = view.fault if view.config.eval.certify == "strict" else view.warning
            message = f"{metric.id}: too few eval rows to certify the target"
            cure = f"even with every row right it takes {needed} rows, each in a group of its own, at the first look"
            at: Place = ("eval", "metrics", index, "target")
            yield make(at, message, found=f"about {n} eval rows", expected=f"at least {needed}", cure=cure)


def rows_to_certify(target: float, confidence: float) -> int:
    """Fewest rows, all of them right, whose one-sided lower bound reaches a target share.

    Exact binomial (Clopper and Pearson 1934): all of n right gives the bound (1 − confidence)^(1/n).
    0 for a target of 1 or more, which is a count and nothing to certify, and for one of 0 or less.
    """
    if not 0 < target < 1:
        return 0
    return math.ceil(math.log(1 - confidence) / math.log(target) - 1e-9)
