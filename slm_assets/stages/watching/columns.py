"""Live turns as columns: one pass over the captured traffic, a few bytes a turn kept, everything else counted.

Rates are of the uniform sample alone (turns that were also kept for their outcome are not in it); what is counted
and listed (new values, new confident turns) is of all that was captured.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from slm_assets.canonical import Json
from slm_assets.domain.domain import Domain
from slm_assets.domain.outcomes import GOOD, SIGNALS
from slm_assets.stages.watching.fields import NEW_PLACE, NEW_VALUE, Known, is_number, unseen_values
from slm_assets.stages.watching.matching import UNKNOWN, Matching, Serves
from slm_assets.stages.watching.profile import stratum_of

OTHERS_VALUE, WORDS, UNSURE = 4, 8, 16
"""New to the version: a value in another's output, too many strange words, less sure than on nearly all eval rows."""
NEW_BITS = {
    "value": NEW_VALUE, "place": NEW_PLACE, "other_output": OTHERS_VALUE, "words": WORDS, "unsure": UNSURE,
}  # fmt: skip
NOBODY, OWN, INSTEAD, OTHER, FOREIGN = 0, 1, 2, 3, 4
"""Who answered a role: nobody, what serves it now, the oracle in the place of it, another version or the oracle by
itself, an engine that is none of ours."""
_TRIED = frozenset({"error", "invalid", "low_confidence"})


@dataclass(frozen=True)
class Bounds:
    """From when on turns are of the baseline, from when on judged; which window is the newest."""

    before: str
    judged: str
    newest: int


@dataclass
class RoleColumns:
    """Of one role, a value per sampled turn of the judged days: who answered, whether within the contract, whether
    right (or UNKNOWN), and the class it gave. `names` of the classes."""

    by: array[int] = field(default_factory=lambda: array("b"))
    valid: array[int] = field(default_factory=lambda: array("b"))
    right: array[int] = field(default_factory=lambda: array("b"))
    stratum: array[int] = field(default_factory=lambda: array("i"))
    names: dict[str, int] = field(default_factory=dict)


class Reading:
    """One pass over the turns; `serves` role → what serves it, `known` what training held, or None.

    Of the sampled turns of the judged days: `newest` (whether the newest window brought it), `conversation`, `said`
    (its outcomes, a bit each), `new` (NEW_BITS) and the columns `of` each role; `before`, `said_before` and `earlier`
    are conversation, outcomes and columns of each role of those of the baseline; `earlier` only where answers are
    judged by their outcomes, which are then compared with those before.
    """

    def __init__(
        self,
        domain: Domain,
        serves: Mapping[str, Serves],
        known: Known | None,
        unknown_words: float | None,
        reviews: Mapping[tuple[str, str], Json],
    ) -> None:
        self.roles = {role.id: role for role in domain.config.roles}
        self.serves, self.known = serves, known
        self.matching = Matching(domain, serves, reviews)
        self.signals = sorted(SIGNALS | set((domain.config.improvement.capture or _NoCapture).outcome_signals))
        self._bit = {signal: 1 << number for number, signal in enumerate(self.signals)}
        self.bad = sum(bit for signal, bit in self._bit.items() if signal not in GOOD)
        self._below = domain.config.serving.fallback_below or 0.0
        self._unknown_words = unknown_words
        self.before, self.said_before = array("q"), array("q")
        self.newest, self.conversation = array("b"), array("q")
        self.said, self.new = array("q"), array("b")
        self.of = {role: RoleColumns() for role in self.roles}
        by_outcome = domain.triggers.quality.reference == "outcome"
        self.earlier = {role: RoleColumns(names=own.names) for role, own in self.of.items() if by_outcome}
        self.cut = min((own.cut for own in serves.values()), default=0)
        self._unsure_under = {
            role: own.score["confidence"]["cut"] if own.score else None for role, own in serves.items()
        }
        self.turns = 0
        self.first = self.last = ""
        self.confident = array("Q")
        self._alone = 0

    def read(self, turns: Iterable[tuple[int, dict[str, Any]]], bounds: Bounds) -> None:
        """Take all turns in."""
        cut, newest = self.cut, bounds.newest
        roles, earlier = list(self.of.items()), list(self.earlier.items())
        for window, turn in turns:
            at = turn["at"]
            said = self._said(turn) if turn["outcomes"] else 0
            if window > cut and self._stands(turn, said):
                self.confident.append(_hash(orjson.dumps(turn["input"])))
            if at < bounds.judged:
                if at >= bounds.before and turn["sampled"]:
                    self.before.append(self._conversation(turn["conversation"]))
                    self.said_before.append(said)
                    for role, columns in earlier:
                        self._role(role, columns, turn)
                continue
            self.turns += 1
            self.first, self.last = min(self.first or at, at), max(self.last, at)
            new = self._new(turn)
            if turn["sampled"]:
                for role, columns in roles:
                    new |= self._role(role, columns, turn)
                self.newest.append(window == newest)
                self.conversation.append(self._conversation(turn["conversation"]))
                self.said.append(said)
                self.new.append(new)

    def _said(self, turn: Mapping[str, Any]) -> int:
        said = 0
        for outcome in turn["outcomes"]:
            said |= self._bit.get(outcome["signal"], 0)
        return said

    def _conversation(self, name: str) -> int:
        if not name:
            self._alone += 1
            return -self._alone
        return _hash(name.encode()) >> 1

    def _stands(self, turn: Mapping[str, Any], said: int) -> bool:
        """Whether a turn gives the next dataset a label: its answers are valid and sure enough and nobody complained,
        or one was corrected within the contract."""
        answers = turn["answers"]
        if turn.get("unanswered"):
            return False
        if said & self.bad:
            return any(self.matching.corrected(role, turn) is not None for role in answers)
        for role, answer in answers.items():
            confidence = answer["confidence"]
            unsure = is_number(confidence) and confidence < self._below
            if unsure or not answer["valid"] or answer["error"] or self._is_unsure(role, confidence):
                return False
        return bool(answers)

    def _is_unsure(self, role: str, confidence: Json) -> bool:
        cut = self._unsure_under.get(role)
        return cut is not None and is_number(confidence) and confidence < cut

    def _new(self, turn: Mapping[str, Any]) -> int:
        """What is new in the input, and in what others answered and users corrected."""
        new = 0
        if self.known is not None:
            value = turn["input"]
            role = self.roles.get(turn["role"] or "")
            if role is not None and role.reads and isinstance(value, dict):
                value = value.get("turn")
            found, unknown = self.known.look(value, int(turn["sampled"]))
            new |= found
            if self._unknown_words is not None and unknown > self._unknown_words:
                new |= WORDS
        for role_id, answer in turn["answers"].items():
            if answer["engine"] != "release":
                new |= self._others(role_id, answer["output"])
        for outcome in turn["outcomes"]:
            if outcome["role"] and isinstance(outcome["detail"], dict):
                new |= self._others(outcome["role"], outcome["detail"])
        return new

    def _others(self, role: str, output: Json) -> int:
        labels = self.serves[role].labels if role in self.serves else None
        new = 0
        for at, value in unseen_values(output, labels) if labels else ():
            new = OTHERS_VALUE
            if self.known is not None:
                self.known.note(f"{role}:{at}", value)
        return new

    def _role(self, role: str, columns: RoleColumns, turn: Mapping[str, Any]) -> int:
        answer = turn["answers"].get(role)
        by, valid, right, stratum, new = NOBODY, 1, UNKNOWN, -1, 0
        if answer is not None:
            serves = self.serves[role]
            by = _by(answer, serves, turn["at"])
            instead = _fallback(answer) if by == INSTEAD else {}
            valid = bool(answer["valid"]) and instead.get("reason") not in ("invalid", "error")
            if by in (OWN, INSTEAD) and self._is_unsure(role, (instead or answer).get("confidence")):
                new = UNSURE
            if by == OWN and serves.score is not None:
                name = stratum_of(answer["output"], serves.score["place"])
                stratum = columns.names.setdefault(name, len(columns.names))
                right = self.matching.right(role, turn, len(columns.by))
        columns.by.append(by)
        columns.valid.append(valid)
        columns.right.append(right)
        columns.stratum.append(stratum)
        return new

    def distinct_confident(self) -> int:
        """New confident turns with different inputs."""
        return len(np.unique(np.asarray(self.confident)))


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


class _NoCapture:
    outcome_signals: Sequence[str] = ()


def _by(answer: Mapping[str, Any], serves: Serves, at: str) -> int:
    engine = answer["engine"]
    if engine not in ("release", "oracle"):
        return FOREIGN
    if serves.version is None:
        return OWN if engine == "oracle" else OTHER
    if engine == "release":
        return OWN if answer["version"] == serves.version else OTHER
    # Such an answer does not name the version that it stands in for: it is the one that served at the time.
    instead = engine == "oracle" and _fallback(answer).get("reason") in _TRIED and at[:19] >= serves.since[:19]
    return INSTEAD if instead else OTHER


def _fallback(answer: Mapping[str, Any]) -> dict[str, Any]:
    found = answer["fallback"]
    return found if isinstance(found, dict) else {}
