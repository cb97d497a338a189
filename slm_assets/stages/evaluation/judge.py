"""The gates: every combination of roles that a promotion could create, judged end to end.

Roles are promoted together where possible: the largest set of roles under which every gate of every
role in it passes, and no role that merely reads one of them gets worse.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from slm_assets.domain.domain import Domain
from slm_assets.domain.policies import PromotionGates
from slm_assets.gates import verdicts
from slm_assets.gates.decisive import decisive
from slm_assets.gates.latency import latency
from slm_assets.gates.paired import paired
from slm_assets.gates.types import Verdict
from slm_assets.gates.verdicts import Level, Place
from slm_assets.models.chain import Assignment
from slm_assets.stages.evaluation.latency import Timing
from slm_assets.stages.evaluation.rows import Mask
from slm_assets.stages.evaluation.scoring import EXACT, GOLDEN, TURN, VALIDITY, Compared, Scoreboard
from slm_assets.stages.evaluation.subjects import has_oracle
from slm_assets.stages.runtime import StageContext
from slm_assets.stages.table import BY_NAME

MAX_COMBINATIONS = 64
MIN_REPLAYED = 30
"""Fewer reviewed turns than this decide nothing; they are listed."""
BUILT_IN = (EXACT, TURN, VALIDITY, "latency_p50_ms", "latency_p95_ms", "checkpoint_bytes")

NOTHING_SHARED = "the contract of what serves does not name this: target and floor decide"


@dataclass(frozen=True)
class Judgement:
    """`outcomes`: role → pass, insufficient or fail. `together`: the roles that may be promoted at once.
    `gates`: one verdict per gate and role, the one that decides; `details`: all of them."""

    outcomes: dict[str, str]
    together: list[str]
    gates: list[Verdict]
    details: list[Verdict]


def judge(board: Scoreboard, ctx: StageContext, timing: Timing) -> Judgement:
    """Every gate of the policy for every role, at the confidence of this look."""
    judge_ = Judge(board, ctx.domain, int(ctx.request.params["look"]), set(ctx.request.params["first"]), timing)
    roles = [role.id for role in board.roles]
    everyone = judge_.verdicts_of(roles)
    chosen: tuple[str, ...] = ()
    verdicts_of: dict[tuple[str, ...], list[Verdict]] = {tuple(roles): everyone}
    for together in _combinations(roles):
        if judge_.hopeless(together):
            continue
        own = verdicts_of.get(together) or judge_.verdicts_of(together)
        verdicts_of[together] = own
        if all(judge_.outcome(own, role) == "pass" for role in together):
            chosen = together
            break
    details = [v for role in chosen for v in verdicts_of[chosen] if v.role == role]
    outcomes = dict.fromkeys(chosen, "pass")
    for role in roles:
        if role in chosen:
            continue
        own = [v for v in everyone if v.role == role]
        if judge_.outcome(own, role) == "pass":
            # Good enough among all; what stops it is what it does to the roles that stay as they are.
            alone = verdicts_of.get((role,)) or judge_.verdicts_of((role,))
            own = [v for v in alone if v.role == role]
            if judge_.outcome(own, role) == "pass":
                own.append(judge_.not_with(role, chosen))
        details += own
        outcomes[role] = judge_.outcome(own, role)
    outcomes = {role: outcomes[role] for role in roles}
    gates = [decisive(details, gate, role) for role in roles for gate in BY_NAME["evaluate"].gates]
    return Judgement(outcomes, list(chosen), gates, details)


def _combinations(roles: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Subsets, largest first, in the config's order; bounded for configs of many roles."""
    count = 0
    for size in range(len(roles), 0, -1):
        for subset in combinations(roles, size):
            yield subset
            count += 1
            if count >= MAX_COMBINATIONS:
                return


class Judge:
    """The gates on one board. `look`: which look at its rows this is; `first`: roles that were never promoted;
    `without`: gates of the policy that are not asked. Latency is asked only with a timing."""

    def __init__(
        self,
        board: Scoreboard,
        domain: Domain,
        look: int,
        first: Collection[str],
        timing: Timing | None = None,
        without: Collection[str] = (),
    ) -> None:
        self.board = board
        self.policy: PromotionGates = domain.gates
        self.domain = domain
        self.timing = timing
        self.look = look
        self.first = first
        self._asked = [gate for gate in self.policy.gates if gate not in without]
        self.before = board.all_of("incumbent")
        self._lost: set[tuple[str, frozenset[str]]] = set()

    def verdicts_of(self, together: Sequence[str]) -> list[Verdict]:
        """All verdicts where these roles are the challenger's and the others the incumbent's."""
        now = {role.id: "challenger" if role.id in together else "incumbent" for role in self.board.roles}
        found: list[Verdict] = []
        for role in together:
            own = list(self._role(role, now))
            if self.outcome(own, role) != "pass":
                self._lost.add(self._answers(role, together))
            found += own
        for reader in self.board.roles:
            upstream = set(self.board.book.ancestors(reader.id)) & set(together)
            if reader.id not in together and upstream:
                found += [v for source in sorted(upstream) for v in self._reader(source, reader.id, now)]
        return found

    def hopeless(self, together: Sequence[str]) -> bool:
        """Whether a role failed before on the very answers that it would give here; no need to ask for them."""
        return any(self._answers(role, together) in self._lost for role in together)

    def _answers(self, role: str, together: Sequence[str]) -> tuple[str, frozenset[str]]:
        """What the role's answers depend on: which of its ancestors are the challenger's."""
        return role, frozenset(self.board.book.ancestors(role)) & frozenset(together)

    def outcome(self, own: Sequence[Verdict], role: str) -> str:
        """pass, insufficient or fail, from the role's verdicts."""
        mine = [v for v in own if v.role == role]
        answer = verdicts.combine(mine, first_promotion=role in self.first)
        return {"PASS": "pass", "INSUFFICIENT": "insufficient", "FAIL": "fail"}[answer]

    def not_with(self, role: str, chosen: Sequence[str]) -> Verdict:
        """Why a role that passes among all is left out."""
        others = ", ".join(chosen) or "any other role as it serves now"
        return Verdict(
            gate="incumbent", role=role, verdict="FAIL", n=len(self.board.rows),
            reason=f"passes only together with roles that failed, not with {others}",
        )  # fmt: skip

    def _role(self, role: str, now: Assignment) -> Iterator[Verdict]:
        answers = {
            "floor": self._floor, "target": self._target, "incumbent": self._incumbent,
            "validity": self._validity, "slices": self._slices, "latency": self._latency,
        }  # fmt: skip
        for gate in BY_NAME["evaluate"].gates:
            if gate in self._asked:
                yield from answers[gate](role, now)
            else:
                yield _left_out(gate, role, "left out by the policy")

    def _floor(self, role: str, now: Assignment) -> Iterator[Verdict]:
        theirs = self.board.all_of("floor")
        for metric in self._gated(role):
            yield self._compare("floor", role, metric, now, theirs, oracle=self._oracle_answers(role, "floor"))

    def _target(self, role: str, now: Assignment) -> Iterator[Verdict]:
        mask = self.board.labelled(role)
        targets = [metric for metric in self.board.compared(role) if metric.target is not None]
        for metric in targets:
            assert metric.target is not None
            yield verdicts.target(
                self.board.correct(role, now, metric)[mask],
                self.board.groups_of(mask),
                place=Place("target", role, metric.id),
                target=metric.target,
                level=self._level(role),
                by=self.policy.target_by,
            )
        missing = [
            m.id
            for m in self.board.config.eval.metrics
            if (m.kind == "span_f1" or (m.path is None and m.id not in BUILT_IN))
            and (m.role or self.board.roles[0].id) == role
        ]
        yield from (verdicts.missing(Place("target", role, name)) for name in missing)
        if not targets and not missing:
            yield _left_out("target", role, "no target is configured")

    def _incumbent(self, role: str, now: Assignment) -> Iterator[Verdict]:
        oracle = self._oracle_answers(role, "incumbent")
        for metric in self._gated(role):
            yield self._against("incumbent", role, metric, now, self.before, oracle=oracle)
        primary = self.board.yardstick(role, "incumbent")
        if primary and (mask := self._judging(role, primary, oracle=oracle)).any():
            yield verdicts.not_worse(
                self.board.correct(role, now, primary)[mask],
                self.board.correct(role, self.before, primary)[mask],
                self.board.groups_of(mask),
                place=Place("incumbent", role, primary.id),
                level=self._level(role),
            )
        yield from self._replay(role, now)
        if "best" in self.board.engines[role]:
            best = {name: "best" if "best" in engines else "incumbent" for name, engines in self.board.engines.items()}
            for metric in self._gated(role):
                verdict = self._against("best", role, metric, now, best, oracle=False)
                yield verdict.model_copy(update={"reason": f"best ever promoted: {verdict.reason}"})

    def _replay(self, role: str, now: Assignment) -> Iterator[Verdict]:
        """The golden-replay set by itself. It was not drawn at random and grows with every review, so that it stops
        what it proves worse and only tells, with the turns that would decide, what it leaves open."""
        cases = self.board.rows.replayed(role)
        own = (self.board.shared(role, "incumbent", metric) for metric in self._gated(role)) if cases.any() else ()
        for metric in filter(None, own):
            verdict = verdicts.noninferiority(
                self.board.correct(role, now, metric)[cases],
                self.board.correct(role, self.before, metric)[cases],
                self.board.groups_of(cases),
                place=Place("incumbent", role, metric.id, GOLDEN),
                margin=self._margin(role, metric),
                level=self._level(role),
                min_n=MIN_REPLAYED,
            )
            decided = verdict.verdict != "INSUFFICIENT"
            yield verdict.model_copy(update={"blocking": decided, "reason": f"golden replay: {verdict.reason}"})

    def _validity(self, role: str, now: Assignment) -> Iterator[Verdict]:
        yield verdicts.target(
            self.board.valid(role, now),
            self.board.groups,
            place=Place("validity", role, VALIDITY),
            target=1.0,
            level=self._level(role),
        )

    def _slices(self, role: str, now: Assignment) -> Iterator[Verdict]:
        primary = self.board.yardstick(role, "incumbent")
        if primary is None:
            yield _left_out("slices", role, NOTHING_SHARED)
            return
        rows = self._judging(role, primary, oracle=self._oracle_answers(role, "incumbent"))
        for one in self.board.config.eval.slices:
            yield verdicts.slice_verdict(
                self.board.correct(role, now, primary),
                self.board.correct(role, self.before, primary),
                rows & self.board.in_slice(one.id),
                self.board.groups,
                place=Place("slices", role, primary.id, one.id),
                critical=one.critical,
                min_n=one.min_n,
                margin=self._margin(role, primary),
                level=self._level(role),
            )
        if not any(one.critical for one in self.board.config.eval.slices):
            yield _left_out("slices", role, "no critical slice is configured")

    def _latency(self, role: str, now: Assignment) -> Iterator[Verdict]:
        assert self.timing is not None
        budgets = [
            m.target
            for m in self.board.config.eval.metrics
            if m.id == "latency_p95_ms" and m.target is not None and (m.role or role) == role
        ]
        if self.policy.latency_p95_ms is not None:
            budgets.append(self.policy.latency_p95_ms)
        yield latency(
            self.timing.challenger[role],
            self.timing.incumbent[role],
            place=Place("latency", role, "latency_p95_ms"),
            ratio=self.policy.latency_ratio,
            budget_p95_ms=min(budgets, default=None),
            better=self._proven_better(role, now),
            mode=self.policy.latency,
            level=self._level(role),
        )

    def _reader(self, source: str, reader: str, now: Assignment) -> Iterator[Verdict]:
        """A role that stays as it is but reads a new one must not get worse."""
        if "incumbent" not in self._asked:
            return
        for metric in self._gated(reader):
            verdict = self._against("incumbent", reader, metric, now, self.before, oracle=False)
            yield verdict.model_copy(update={"role": source, "metric": f"{reader}.{metric.id}"})

    def _against(
        self, subject: str, role: str, metric: Compared, now: Assignment, theirs: Assignment, *, oracle: bool
    ) -> Verdict:
        """Non-inferiority to a release, on what its contract has too."""
        seen = self.board.shared(role, subject, metric)
        if seen is None:
            return _left_out("incumbent", role, NOTHING_SHARED, metric.id)
        verdict = self._compare("incumbent", role, seen, now, theirs, oracle=oracle)
        if not seen.apart:
            return verdict
        return verdict.model_copy(update={"reason": f"but for {', '.join(seen.apart)}: {verdict.reason}"})

    def _compare(
        self, gate: str, role: str, metric: Compared, now: Assignment, theirs: Assignment, *, oracle: bool
    ) -> Verdict:
        """Non-inferiority on the rows that may judge; `oracle`: the other side is the labelling oracle."""
        mask = self.board.labelled(role)
        independent = self.board.independent(role, metric) if oracle else np.ones(len(mask), dtype=np.bool_)
        return verdicts.floor(
            self.board.correct(role, now, metric)[mask],
            self.board.correct(role, theirs, metric)[mask],
            independent[mask],
            self.board.groups_of(mask),
            place=Place(gate, role, metric.id),
            margin=self._margin(role, metric),
            level=self._level(role),
        )

    def _proven_better(self, role: str, now: Assignment) -> bool:
        primary = self.board.yardstick(role, "incumbent")
        if primary is None:
            return False
        mask = self._judging(role, primary, oracle=self._oracle_answers(role, "incumbent"))
        ours, theirs = (self.board.correct(role, a, primary)[mask] for a in (now, self.before))
        return paired(ours, theirs, self.board.groups_of(mask), self._level(role).confidence).low > 0

    def _oracle_answers(self, role_id: str, subject: str) -> bool:
        """Whether the subject is the oracle that also labels: then its own labels cannot judge it."""
        role = next(r for r in self.board.roles if r.id == role_id)
        return has_oracle(self.domain, role) and (subject == "floor" or role_id in self.first)

    def _judging(self, role: str, metric: Compared, *, oracle: bool) -> Mask:
        mask = self.board.labelled(role)
        return mask & self.board.independent(role, metric) if oracle else mask

    def _gated(self, role: str) -> list[Compared]:
        own = [metric for metric in self.board.compared(role) if metric.id != EXACT or metric.target]
        return own or self.board.compared(role)

    def _margin(self, role: str, metric: Compared) -> float:
        own = self.policy.per_role.get(role)
        if metric.margin is not None:
            return metric.margin
        return own.margin if own and own.margin is not None else self.policy.margin

    def _level(self, role: str) -> Level:
        """How sure: the policy's confidence at this look, shared by the tests that the role faces."""
        own = self.policy.per_role.get(role)
        base = own.confidence if own and own.confidence is not None else self.policy.confidence
        gated = self._gated(role)
        targets = sum(metric.target is not None for metric in self.board.compared(role))
        critical = sum(one.critical for one in self.board.config.eval.slices)
        comparisons = 2 + ("best" in self.board.engines[role]) + bool(self.board.rows.replayed(role).any())
        return Level(
            confidence=verdicts.confidence_at_look(base, self.look),
            power=self.policy.power,
            family=comparisons * len(gated) + 1 + targets + critical,
        )


def _left_out(gate: str, role: str, reason: str, metric: str = "") -> Verdict:
    return verdicts.not_applicable(Place(gate, role, metric, blocking=False), reason)
