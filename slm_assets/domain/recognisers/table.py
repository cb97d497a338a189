"""Kind → what finds it, in the order in which the kinds name what two of them claim."""

from __future__ import annotations

from slm_assets.domain.recognisers import numbers, people, phones, streets
from slm_assets.domain.recognisers.spans import Find


def recognisers(kinds: set[str], regions: list[str]) -> list[tuple[str, Find]]:
    """The recognisers of some kinds. Loading their libraries takes a moment: once for a policy."""
    known = {
        "secret": numbers.secrets,
        "email": numbers.emails,
        "iban": numbers.ibans,
        "card": numbers.cards,
        "ip": numbers.addresses_of_machines,
        "national_id": numbers.national_ids,
        "phone": lambda: phones.phones(regions),
        "address": streets.streets,
        "name": people.people,
    }
    return [(kind, make()) for kind, make in known.items() if kind in kinds]
