"""What the checks look at: a domain, the lines of its config and the places of its contracts."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import TypeVar

from slm_assets.domain.documents import Document, Place, read_document, show
from slm_assets.domain.domain import CONFIG_NAME, Domain
from slm_assets.domain.files import Refused
from slm_assets.domain.places import Spot, places
from slm_assets.errors import Fault

T = TypeVar("T")


class View:
    """A domain, the lines of its config and its contracts' places, each worked out once."""

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        self.config = domain.config
        self.document: Document = read_document(domain.files[CONFIG_NAME], CONFIG_NAME)
        self.role_ids = [role.id for role in domain.config.roles]
        self._spots: dict[str, dict[str, Spot]] = {}

    def fault(self, place: Place, message: str, **parts: str) -> Fault:
        """An error at a place under `slm_domain`."""
        return self.document.fault(("slm_domain", *place), message, **parts)

    def warning(self, place: Place, message: str, **parts: str) -> Fault:
        """The same, as a warning."""
        return self.fault(place, message, severity="warning", **parts)

    def spots(self, role_id: str) -> dict[str, Spot]:
        """Places of a role's output; none at all where its contract is unreadable."""
        if role_id not in self._spots:
            schema = self.readable(lambda: self.domain.output_schema(role_id))
            self._spots[role_id] = {} if schema is None else places(schema)
        return self._spots[role_id]

    def readable(self, read: Callable[[], T]) -> T | None:
        """What a file says, or None for one that has faults of its own, reported by the loader."""
        try:
            return read()
        except (Refused, KeyError):
            return None

    def unknown_role(self, place: Place, role_id: str) -> Iterator[Fault]:
        """A fault where no role has that id."""
        if role_id not in self.role_ids:
            yield self.unknown(place, "no such role", role_id, self.role_ids)

    def unknown(self, place: Place, message: str, name: str, known: list[str]) -> Fault:
        """A fault for a name that nothing has, with the nearest that something has."""
        close = difflib.get_close_matches(name, known, n=1)
        expected = ", ".join(known) or "none is declared"
        cure = f"did you mean {close[0]}?" if close else ""
        return self.fault(place, message, found=show(name), expected=expected, cure=cure)

    def repeated(self, place: Place, ids: list[str], what: str) -> Iterator[Fault]:
        """A fault for each id that an earlier item of the list has."""
        for index, name in enumerate(ids):
            if name in ids[:index]:
                first = f"{show(name)}, first at index {ids.index(name)}"
                yield self.fault((*place, index, "id"), f"two {what} of one id", found=first, cure="rename one")


def nowhere(view: View, at: Place, role_id: str, path: str) -> Fault:
    """A fault for a pointer into a role's output that its contract has no place for."""
    known = list(view.spots(role_id))
    close = difflib.get_close_matches(path, known, n=1, cutoff=0.5)
    expected = f"a place of {role_id}'s output schema"
    cure = f"did you mean {close[0]}?" if close else f"such as {', '.join(known[1:6])}"
    return view.fault(at, "leads nowhere", found=show(path), expected=expected, cure=cure)
