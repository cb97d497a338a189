"""A metric over versions: each point with its interval and n, as the registry has it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches

from slm_assets.errors import BadInputError
from slm_assets.registry import queries
from slm_assets.registry.registry import Plan, Registry, Row
from slm_assets.stages.experiments.naming import primary_metrics
from slm_assets.stages.plans import number_of

SUBJECTS = ("challenger", "incumbent", "floor", "majority", "ceiling", "baseline")
BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Point:
    """A version's number. Points of another `epoch` were measured on other eval rows."""

    version: str
    opened_at: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    epoch: int


@dataclass(frozen=True)
class Series:
    """One number over versions, oldest first. `role` "" is the whole turn, `slice` "" all rows; `mode`:
    end to end, on reference input, or "" for what has no input (latency)."""

    role: str
    metric: str
    subject: str
    slice: str
    mode: str
    points: list[Point]

    @property
    def trend(self) -> str:
        """The values as bars between the least and the greatest."""
        return sparkline([point.value for point in self.points])


@dataclass(frozen=True)
class History:
    """What was asked for, and the metrics and slices that the newest version offers."""

    domain: str
    series: list[Series]
    metrics: list[str]
    slices: list[str]


def history(
    registry: Registry,
    domain: str,
    *,
    metrics: Collection[str] = (),
    role: str | None = None,
    slice_id: str = "",
    subjects: Sequence[str] = ("challenger",),
    reference: bool = False,
    since: str | None = None,
) -> History:
    """Numbers over the versions of a domain.

    `metrics`: default each role's primary metric. `since`: a version, or a day or time (UTC) that it was
    opened on or after. `reference`: a role that reads another, on that one's labels instead of its
    answers. BadInputError for a name that the newest evaluated version does not have, with the nearest.
    """
    plans = registry.plans(domain)
    if not plans:
        raise BadInputError(f"{domain} has no version yet", cure=f"open one: slm run {domain}")
    offered, number = _offered(registry, domain, plans)
    primary = primary_metrics(registry, plans[-1])
    wanted = set(metrics) or set(primary.values())
    for what, names, known in (
        ("metric", set(metrics), {row["metric"] for row in offered}),
        ("role", {role} - {None}, {row["role"] for row in offered}),
        ("slice", {slice_id} - {""}, {row["slice"] for row in offered}),
        ("subject", set(subjects), set(SUBJECTS)),
    ):
        for name in sorted(str(n) for n in names - known):
            raise _unknown(f"{domain} {number}", what, name, known)
    rows = queries.metrics(
        registry,
        domain,
        since=_first(plans, since),
        metric=wanted,
        subject=subjects,
        slice=(slice_id,),
        mode=("reference",) if reference else ("", "end_to_end"),
        **({} if role is None else {"role": (role,)}),
    )
    if not metrics:
        rows = [row for row in rows if primary.get(row["role"]) == row["metric"]]
    shown = sorted({row["metric"] for row in offered if ":" not in row["metric"]})
    slices = sorted({row["slice"] for row in offered} - {""})
    opened = {plan.number: plan.opened_at for plan in plans}
    return History(domain, _series(rows, opened, list(primary), subjects), shown, slices)


def sparkline(values: Sequence[float | None]) -> str:
    """A bar per value, a space for one that is missing; a flat line where all are equal."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    low, spread = min(known), max(known) - min(known)

    def bar(value: float | None) -> str:
        if value is None:
            return " "
        return BARS[round((value - low) / spread * (len(BARS) - 1))] if spread else BARS[3]

    return "".join(map(bar, values))


_Key = tuple[str, str, str, str, str]


def _series(rows: Sequence[Row], opened: dict[int, str], roles: list[str], subjects: Sequence[str]) -> list[Series]:
    points: dict[_Key, list[Point]] = {}
    for row in rows:
        key = (row["role"], row["metric"], row["subject"], row["slice"], row["mode"])
        point = Point(
            f"v{row['number']}", opened[row["number"]], row["value"], row["low"], row["high"], row["n"], row["epoch"]
        )
        points.setdefault(key, []).append(point)

    def order(key: _Key) -> tuple[object, ...]:
        role = roles.index(key[0]) if key[0] in roles else len(roles)
        return role, key[0], key[1], list(subjects).index(key[2]), key[3:]

    return [Series(*key, points[key]) for key in sorted(points, key=order)]


def _offered(registry: Registry, domain: str, plans: Sequence[Plan]) -> tuple[list[Row], str]:
    """The names of the newest version that has numbers."""
    for plan in reversed(plans):
        rows = queries.metric_names(registry, domain, plan.number)
        if rows:
            return rows, plan.version
    raise BadInputError(
        f"no version of {domain} has been evaluated yet", cure=f"slm run {domain}, or see slm versions {domain}"
    )


def _first(plans: Sequence[Plan], since: str | None) -> int:
    """The first version that `since` lets in."""
    if since is None:
        return 1
    if since[:1] == "v":
        return number_of(since)
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        raise BadInputError(
            f"--since {since!r} is neither a version nor a date", cure="give v3, 2026-11-22 or 2026-11-22T14:00"
        ) from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    late = [plan.number for plan in plans if datetime.fromisoformat(plan.opened_at) >= moment]
    return min(late, default=plans[-1].number + 1)


def _unknown(where: str, what: str, name: str, known: Collection[str]) -> BadInputError:
    names = sorted(one for one in known if one)
    near = get_close_matches(name, names, 3) or [one for one in names if ":" not in one][:12]
    return BadInputError(f"{where} has no {what} {name!r}", cure=f"{what}s there: {', '.join(near) or 'none'}")
