"""Whether a vocabulary, its contract and what the oracle can emit agree."""

from __future__ import annotations

from collections.abc import Iterator

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.config import Vocabulary
from slm_assets.domain.documents import Place, show
from slm_assets.domain.domain import vocabulary_values
from slm_assets.domain.places import Spot, has_place
from slm_assets.domain.view import View, nowhere
from slm_assets.errors import Fault


def vocabulary_faults(view: View) -> Iterator[Fault]:
    """Faults and warnings of every entry of `vocab`."""
    for name, entry in view.config.vocab.items():
        at: Place = ("vocab", name)
        if isinstance(entry, list) and len(set(entry)) < len(entry):
            twice = sorted({value for value in entry if entry.count(value) > 1})
            yield view.fault(at, "a value stands twice", found=show(twice))
        if isinstance(entry, Vocabulary):
            if entry.role in view.role_ids:
                yield from _vocabulary(view, at, name, entry)
            else:
                yield from view.unknown_role((*at, "role"), entry.role)


def _vocabulary(view: View, at: Place, name: str, entry: Vocabulary) -> Iterator[Fault]:
    """A vocabulary bound to a place: equal to the contract's list there, and reachable by the oracle."""
    spots = view.spots(entry.role)
    if not spots:
        return
    if has_place(spots, entry.path) is False:
        yield nowhere(view, (*at, "path"), entry.role, entry.path)
        return
    values = spots.get(entry.path, Spot()).values
    contract = None if values is None else [value for value in values if value is not None]
    listed = None
    if entry.file is not None:
        file = entry.file
        listed = view.readable(lambda: vocabulary_values(view.domain.document(file)) or [])
    if contract is None:
        message = "the contract leaves this place open"
        cure = "give it an enum in the output schema" if listed else "give it an enum, or a file here"
        make = view.warning if listed else view.fault
        yield make((*at, "path"), message, found=entry.path, cure=cure)
    elif listed is not None:
        for ours, theirs, message in (
            (listed, contract, "values that the contract does not allow"),
            (contract, listed, "values of the contract that the file lacks"),
        ):
            if missing := _missing(ours, theirs):
                cure = "bring both in line, or leave out `file`: the contract's enum is then the vocabulary"
                yield view.fault((*at, "file"), message, found=show(missing, 400), cure=cure)
    emitted = _emitted(view, entry.role)
    if emitted is not None and (missing := _missing(listed or contract or [], emitted)):
        message = "values that no rule of the oracle can emit"
        cure = "only rows with given labels can teach them"
        yield view.warning(at, message, found=show(missing, 400), cure=cure)


def _missing(values: list[Json], others: list[Json]) -> list[Json]:
    known = {canonical.text(value) for value in others}
    return [value for value in values if canonical.text(value) not in known]


def _emitted(view: View, role_id: str) -> list[Json] | None:
    """`emitted_literals` of the role's rules, or None where its oracle is of another kind."""
    oracle = view.domain.role(role_id).deterministic_oracle
    if oracle is None or oracle.kind != "rules":
        return None
    rules = view.readable(lambda: view.domain.rules(role_id))
    return None if rules is None else emitted_literals(rules)


def emitted_literals(rules: Json) -> list[Json]:
    """What a rules document is able to emit by itself: its literals outside of conditions, and the quoted
    parts of its expressions. An over-estimate, so that what is missing is surely never emitted."""
    found: list[Json] = []
    stack: list[Json] = [rules]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            stack.extend(value for key, value in node.items() if key not in {"when", "regex", "path", "id"})
        elif isinstance(node, list):
            stack.extend(node)
        elif isinstance(node, str):
            found.append(node)
            found.extend(part for quote in "'\"" for part in node.split(quote)[1::2])
        else:
            found.append(node)
    return found
