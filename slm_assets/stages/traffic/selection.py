"""Which captured turns the next dataset takes: those that matter, and a share of the uniform sample.

Two readings of the traffic: the first keeps a few numbers of each candidate, the second the chosen turns. The choice
is by hash, so that the same traffic gives the same turns, and more traffic mostly the same ones and more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from slm_assets.domain.outcomes import GOOD
from slm_assets.domain.relabel import Relabel
from slm_assets.stages.rows.fields import hash64

NEGATIVE, BROKEN, UNCOVERED, DISAGREES, UNSURE, AUDIT = range(6)
WHY = ("outcome", "invalid", "uncovered", "disagreement", "low_confidence", "audit")
REVIEW = "review"
"""Drawn for a person to look at, whatever became of it."""
AUDITED = 0.25
"""The audit may take so much of the room before what matters; the rest of it comes after."""

Turn = dict[str, Any]
Asked = Callable[[Turn], bool]


class _Candidate(NamedTuple):
    rank: int
    order: int
    position: int
    user: str
    conversation: str


@dataclass(frozen=True)
class Chosen:
    """A turn that was chosen, and why: names of WHY, and REVIEW."""

    turn: Turn
    why: tuple[str, ...]


@dataclass
class Selection:
    """The turns, oldest part first; `counts`: how many there were, mattered, and fell to which cap."""

    turns: list[Chosen]
    counts: dict[str, int]


def select(
    read: Callable[[], Iterable[Turn]],
    policy: Relabel,
    most: int,
    *,
    usable: Asked,
    uncovered: Asked,
    disagrees: Asked,
) -> Selection:
    """Choose at most `most` turns. `read` starts a reading; `usable`: a turn that can become a row; `uncovered`: it
    is of a kind that the given rows lack; `disagrees`: the reference says otherwise (asked last, as it costs most)."""
    counts = Counter({"turns": 0, "usable": 0, "mattered": 0})
    found: list[_Candidate] = []
    reasons: dict[int, tuple[str, ...]] = {}
    for index, turn in enumerate(read()):
        counts["turns"] += 1
        if not usable(turn):
            continue
        counts["usable"] += 1
        why = tuple(_why(turn, policy, uncovered, disagrees))
        if why:
            counts["mattered"] += why[0] not in (WHY[AUDIT], REVIEW)
            reasons[index] = why
            order = hash64(f"select\0{turn['turn_id']}".encode())
            rank = WHY.index(why[0]) if why[0] in WHY else AUDIT
            found.append(_Candidate(rank, order, index, turn["user"], turn["conversation"]))
    chosen = _capped(sorted(found), policy, most, counts)
    turns = [Chosen(turn, reasons[index]) for index, turn in enumerate(read()) if index in chosen]
    return Selection(turns, dict(sorted(counts.items())))


def _why(turn: Turn, policy: Relabel, uncovered: Asked, disagrees: Asked) -> Iterator[str]:
    answers = turn["answers"].values()
    matters = True
    if any(outcome["signal"] not in GOOD for outcome in turn["outcomes"]):
        yield WHY[NEGATIVE]
    elif turn.get("unanswered") or any(answer["error"] or not answer["valid"] for answer in answers):
        yield WHY[BROKEN]
    elif uncovered(turn):
        yield WHY[UNCOVERED]
    elif any(answer["confidence"] is not None and answer["confidence"] < policy.confidence_below for answer in answers):
        yield WHY[UNSURE]
    else:
        matters = False
    if turn["sampled"]:
        if not matters and disagrees(turn):
            yield WHY[DISAGREES]
        if drawn(turn, "audit", policy.audit_share):
            yield WHY[AUDIT]
        if drawn(turn, REVIEW, policy.review_share):
            yield REVIEW


def drawn(turn: Turn, purpose: str, share: float) -> bool:
    """Whether a turn is in the share drawn for a purpose; it stays so for ever."""
    return hash64(f"{purpose}\0{turn['turn_id']}".encode()) < int(share * 2**64)


def _capped(ordered: list[_Candidate], policy: Relabel, most: int, counts: Counter[str]) -> set[int]:
    """Indices of the chosen: by rank and hash, no more than the caps of user, conversation and number allow."""
    audited = [one for one in ordered if one.rank == AUDIT]
    early = audited[: int(AUDITED * most)]
    chosen: set[int] = set()
    users: Counter[str] = Counter()
    conversations: Counter[str] = Counter()
    for one in [*early, *(one for one in ordered if one.rank != AUDIT), *audited[len(early) :]]:
        # One that names neither user nor conversation is held by the number alone.
        if one.user and users[one.user] >= policy.per_user:
            counts["over_user_cap"] += 1
        elif one.conversation and conversations[one.conversation] >= policy.per_conversation:
            counts["over_conversation_cap"] += 1
        elif len(chosen) >= most:
            counts["over_number"] += 1
        else:
            chosen.add(one.position)
            users[one.user] += 1
            conversations[one.conversation] += 1
    counts["chosen"] = len(chosen)
    return chosen
