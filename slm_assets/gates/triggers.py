"""The seven retrain triggers: each reads a measured number against its threshold and says so in one sentence.

Four are statistics (quality, outcome, validity, distribution) and fire on a confidence bound; volume, contract and
staleness are counted, compared and timed, and fire on the number itself.

A trigger may look at several numbers (roles, signals, the whole window and its newest part) and fires when any of
them does, so each is judged at `confidence_of_each`: by Bonferroni's inequality the four together fire on traffic at
their thresholds with at most 1 - confidence, and on traffic that is as it was far more seldom.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from slm_assets.domain.triggers import RetrainTriggers
from slm_assets.gates.types import Fired, Trigger, TriggerName

STATISTICAL: tuple[TriggerName, ...] = ("quality", "outcome", "validity", "distribution")
ALL: tuple[TriggerName, ...] = (*STATISTICAL, "volume", "contract", "staleness")


@dataclass(frozen=True)
class Measured:
    """A number that a trigger looks at: of `n` turns, `about` whom or what, in words, `within` which turns."""

    value: float
    bound: float
    n: int
    about: str = ""
    within: str = ""
    against: float | None = None


_Said = Callable[[Measured, bool], str]


def confidence_of_each(confidence: float, numbers: int) -> float:
    """The one-sided confidence of each of a trigger's numbers, so that the statistical ones hold together."""
    return 1.0 - (1.0 - confidence) / (len(STATISTICAL) * max(numbers, 1))


def off(name: TriggerName, policy: RetrainTriggers, why: str = "") -> Trigger | None:
    """The answer of a trigger that is switched off, or does not apply for the reason given; else None."""
    if not getattr(policy, name).enabled:
        return Trigger(trigger=name, verdict="NOT_APPLICABLE", sentence="Switched off by the policy.")
    if why:
        return Trigger(trigger=name, verdict="NOT_APPLICABLE", sentence=f"Does not apply: {why}.")
    return None


def quality(policy: RetrainTriggers, found: Sequence[Measured]) -> Trigger:
    """Fires when live answers match surely more than `drop` less than the promoted score."""
    limit, by = policy.quality.drop, policy.quality.reference

    def said(m: Measured, fired: bool) -> str:
        live, promoted = (m.against or 0.0) - m.value, m.against or 0.0
        told = (
            f"{m.about}: {_share(live)} of {m.n:,} live answers match by {by}{m.within}, where {_share(promoted)} was "
            "promoted for such turns"
        )
        if m.value <= 0:
            return f"{told}: no less."
        sure = "surely more than" if fired else "not surely more than"
        return f"{told}: {_points(m.value)} less, {sure} the {_points(limit)} allowed (at least {_points(m.bound)})."

    return _statistical("quality", policy, found, limit, said)


def outcome(policy: RetrainTriggers, found: Sequence[Measured]) -> Trigger:
    """Fires when a bad outcome is surely more than `ratio` times as frequent as in the baseline."""
    limit = policy.outcome.ratio

    def said(m: Measured, fired: bool) -> str:
        sure = "surely above" if fired else "not surely above"
        return (
            f"{m.about} in {_share(m.against or 0.0)} of {m.n:,} turns{m.within}: {m.value:.2f} times the baseline, "
            f"{sure} {limit:g} times (at least {m.bound:.2f})."
        )

    return _statistical("outcome", policy, found, limit, said)


def validity(policy: RetrainTriggers, found: Sequence[Measured]) -> Trigger:
    """Fires when the share of answers within their contract is surely under `least`."""
    limit = policy.validity.least

    def said(m: Measured, fired: bool) -> str:
        sure = "surely under" if fired else "not surely under"
        return (
            f"{m.about}: {_share(m.value)} of {m.n:,} answers{m.within} meet the contract, {sure} {_share(limit)} "
            f"(at most {_share(m.bound)})."
        )

    return _statistical("validity", policy, found, limit, said, under=True)


def distribution(policy: RetrainTriggers, found: Sequence[Measured]) -> Trigger:
    """Fires when surely more than `share` of the turns are new to the version."""
    limit = policy.distribution.share

    def said(m: Measured, fired: bool) -> str:
        sure = "surely more than" if fired else "not surely more than"
        return (
            f"{_share(m.value)} of {m.n:,} turns{m.within} are new to what serves, {sure} {_share(limit)} "
            f"(at least {_share(m.bound)})."
        )

    return _statistical("distribution", policy, found, limit, said)


def volume(policy: RetrainTriggers, new: int, wanted: int) -> Trigger:
    """Fires when enough new confident turns came since the dataset of what serves was cut."""
    fired = new >= wanted
    return _counted(
        "volume", policy, fired, float(new), float(wanted), new,
        f"{new:,} new confident turns since the last dataset, {'at least' if fired else 'fewer than'} {wanted:,}.",
    )  # fmt: skip


def contract(policy: RetrainTriggers, changed: Sequence[str]) -> Trigger:
    """Fires when the contract of any role is not the one that the serving version was trained under."""
    told = f"The contract of {', '.join(changed)} changed since" if changed else "No contract changed since"
    sentence = f"{told} what serves was trained."
    return _counted("contract", policy, bool(changed), float(len(changed)), 0.0, len(changed), sentence)


def staleness(policy: RetrainTriggers, ages: Mapping[str, float]) -> Trigger:
    """Fires when the oldest serving version was opened longer ago than `days`; `ages`: role → days."""
    role, age = max(ages.items(), key=lambda item: (item[1], item[0]))
    limit = policy.staleness.days
    sentence = f"What serves for {role} was opened {age:.1f} days ago, {'over' if age > limit else 'within'} {limit:g}."
    return _counted("staleness", policy, age > limit, round(age, 4), limit, 0, sentence)


def _statistical(
    name: TriggerName,
    policy: RetrainTriggers,
    found: Sequence[Measured],
    limit: float,
    said: _Said,
    under: bool = False,
) -> Trigger:
    stopped = off(name, policy)
    if stopped:
        return stopped
    enough = [m for m in found if m.n >= policy.min_turns]
    if not enough:
        most = max((m.n for m in found), default=0)
        return Trigger(
            trigger=name, verdict="INSUFFICIENT", threshold=limit, n=most,
            sentence=f"{most:,} turns are too few to say; {policy.min_turns:,} are needed.",
        )  # fmt: skip
    # The first stands for the whole window, so it speaks unless another is further over.
    worst = min(enough, key=lambda m: m.bound) if under else max(enough, key=lambda m: m.bound)
    fired = worst.bound < limit if under else worst.bound > limit
    shown = worst if fired else enough[0]
    verdict: Fired = "FIRED" if fired else "QUIET"
    return Trigger(
        trigger=name, verdict=verdict, value=shown.value, bound=shown.bound, threshold=limit, n=shown.n,
        sentence=said(shown, fired),
    )  # fmt: skip


def _counted(
    name: TriggerName, policy: RetrainTriggers, fired: bool, value: float, limit: float, n: int, sentence: str
) -> Trigger:
    return off(name, policy) or Trigger(
        trigger=name, verdict="FIRED" if fired else "QUIET", value=value, bound=value, threshold=limit, n=n,
        sentence=sentence,
    )  # fmt: skip


def _share(value: float) -> str:
    return f"{100 * value:.4g} %"


def _points(value: float) -> str:
    return f"{100 * max(value, 0.0):.3g} points"
