"""Suppliers and what their documents state, before any of it is written down."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from generator.written import NUMBERS, ORDERS, WORDING, WORLD, Hand, a_hand, reference

LOCALES = {
    "en-GB": 20, "en-US": 13, "en-IE": 5, "de-DE": 22, "de-AT": 6, "de-CH": 6, "fr-FR": 20, "fr-BE": 5, "fr-CH": 5,
}  # fmt: skip
FAMILIES = {"columns": 24, "grid": 16, "letter": 17, "receipt": 13, "email": 14, "stacked": 16}
TAXES = {
    "columns": ["table", "base", "base", "base", "simple", "simple", "incl", "exempt", "reverse"],
    "grid": ["table", "table", "table", "base", "simple", "simple", "reverse"],
    "letter": ["base", "base", "simple", "incl", "exempt"],
    "receipt": ["table", "table", "incl", "incl", "simple"],
    "email": ["base", "simple", "simple", "incl", "incl", "exempt"],
    "stacked": ["table", "base", "base", "simple", "reverse"],
}
"""How tax is stated: a table; with or without base in the totals; within the gross; not at all; at zero."""

HEADS = {
    "columns": ["top", "top", "top", "line", "footer", "caps"],
    "grid": ["top", "top", "label", "line", "footer", "caps"],
    "letter": ["top", "top", "line", "footer"],
    "receipt": ["top", "top", "top", "caps"],
    "email": ["sender", "sender", "signature"],
    "stacked": ["top", "top", "label", "label", "footer", "caps"],
}
"""Where the supplier's name stands."""


WHOLE = ("columns", "table_vat", "mail", "change", "footer_labels", "terms")
"""Wordings of which a supplier uses every entry."""


@dataclass(frozen=True)
class Supplier:
    """Who writes, in which layout, with which words. `words`: the wording that it keeps to."""

    key: str
    name: str
    family: str
    hand: Hand
    currency: str
    tax: str
    head: str
    words: dict[str, str]
    places: dict[str, str]
    traits: dict[str, Any]
    rates: tuple[int, ...]


@dataclass(frozen=True)
class Item:
    """A line of a document: hundredths of pieces, cents, and which of the supplier's rates holds."""

    text: str
    quantity: int
    unit: int
    total: int
    rate: int


@dataclass
class Facts:
    """What one document states. Amounts in cents; `taxes`: (rate in hundredths of a percent, base, amount)."""

    kind: str
    number: str
    issued: date
    due: date | None
    order: str | None
    items: list[Item]
    discount: int
    discount_rate: int
    shipping: int
    taxes: list[tuple[int, int, int]]
    net: int
    gross: int
    deposit: int = 0
    previous: int = 0
    fee: int = 0
    original: str = ""
    original_date: date | None = None
    delivered: date | None = None
    period: tuple[date, date] | None = None
    people: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, str] = field(default_factory=dict)


def _digits(rng: random.Random, text: str) -> str:
    return "".join(str(rng.randint(0, 9)) if char == "#" else char for char in text)


def a_name(rng: random.Random, language: str, legal: str) -> str:
    """An invented company's name."""
    pool = WORLD["names"]
    own = pool[language]
    coined = "".join(rng.sample(pool["syllables"], rng.choice([1, 2, 2]))) + rng.choice(pool["endings"])
    coined = coined.title() if rng.random() < 0.8 else coined.upper()
    surname, other = rng.sample(own["surnames"], 2)
    trade = rng.choice(own["trades"])
    joint = {"en": "&", "de": "&", "fr": "et"}[language]
    patterns = [
        f"{surname} {joint} {other}", f"{coined} {trade}", f"{surname} {trade}", f"{trade} {surname}", coined,
        f"{rng.choice(own['first'])} {surname}, {trade}", f"{coined} {joint} {surname}",
    ]  # fmt: skip
    return f"{rng.choice(patterns)} {legal}".strip()


def an_address(rng: random.Random, locale: str) -> tuple[str, str]:
    """Street and town of a country."""
    street = rng.choice(WORLD["names"][locale[:2]]["streets"])
    house = rng.randint(1, 148)
    written = f"{street} {house}" if locale.startswith("de") else f"{house} {street}"
    return written, rng.choice(WORLD["countries"][locale]["towns"])


def a_supplier(rng: random.Random, taken: set[str]) -> Supplier:
    """A supplier whose name is not taken; its way of writing and its layout stay the same in all its documents."""
    locale = rng.choices(list(LOCALES), weights=list(LOCALES.values()))[0]
    family = rng.choices(list(FAMILIES), weights=list(FAMILIES.values()))[0]
    language, country = locale[:2], WORLD["countries"][locale]
    name = a_name(rng, language, rng.choice(country["legal"]))
    while name in taken:
        name = a_name(rng, language, rng.choice(country["legal"]))
    taken.add(name)
    currency = rng.choice(country["abroad"]) if rng.random() < 0.25 and family != "receipt" else country["currency"]
    sign = rng.choice(WORLD["symbols"][currency])
    hand = a_hand(rng, locale, sign)
    words = some_words(rng, locale)
    street, town = an_address(rng, locale)
    mail = "".join(char for char in name.split()[0].lower() if char.isascii() and char.isalpha()) or "office"
    places = {
        "street": street, "town": town, "phone": _digits(rng, rng.choice(country["phone"])),
        "mail": f"{rng.choice(['info', 'accounts', 'office', mail])}@{rng.choice(['', mail + '.'])}example.org",
        "vat_id": _digits(rng, country["vat_id"]), "iban": country["iban"],
    }  # fmt: skip
    tax = rng.choice(TAXES[family])
    if locale == "en-US" and tax == "reverse":
        tax = "simple"
    rates = tuple(country["rates"]) if locale != "en-US" else (rng.choice(country["rates"]),)
    traits = some_traits(rng, language, family)
    return Supplier(
        f"{name}/{family}", name, family, hand, currency, tax, rng.choice(HEADS[family]), words, places, traits, rates
    )


def some_words(rng: random.Random, locale: str) -> dict[str, str]:
    """The wording a supplier keeps to; of WHOLE lists every entry, numbered."""
    wording = WORDING[locale[:2]]
    words: dict[str, str] = {}
    for key, value in wording.items():
        if isinstance(value, str):
            words[key] = value
            continue
        words[key] = rng.choice(value)
        if key in WHOLE:
            own = wording.get(f"{key}_us", value) if locale == "en-US" else value
            words |= {f"{key}{n}": text for n, text in enumerate(own)}
    if locale == "en-US":
        words |= {key.removesuffix("_us"): text for key, text in words.items() if key.endswith("_us")}
    return words


def some_traits(rng: random.Random, language: str, family: str) -> dict[str, Any]:
    """Habits of a supplier: what its documents hold, and how they are laid out."""

    def often(share: float) -> bool:
        return rng.random() < share

    traits: dict[str, Any] = {
        "number": rng.choice(NUMBERS[language]),
        "order": rng.choice(ORDERS),
        "colon": rng.choice([":", ":", ":", " :", ""]),
        "due": rng.choice(["label", "label", "sentence", "days", "none"]),
        "columns": rng.choice([2, 3, 4, 4]),
        "terms": rng.choices([0, 1, 3, 5], weights=[84, 8, 4, 4])[0],
        "scale": rng.choice([1, 1, 1, 4, 20]),
        "width": rng.randint(0, 12),
        "order_seed": rng.random(),
        "extras": rng.sample(["customer", "sales_order", "delivery", "period", "contact"], rng.randint(0, 3)),
        "dot": rng.randrange(5),
        "upper": often(0.12),
        "spaced": often(0.04),
        "untitled": often(0.1),
        "number_in_title": often(0.3),
        "date_apart": often(0.15),
        "orders": often(0.5),
        "numbered": family != "receipt" or often(0.75),
        "many": family != "email" and often(0.1),
        "positions": often(0.4),
        "two_rates": often(0.35),
        "vat_total": often(0.5),
        "deposits": often(0.15),
        "balances": often(0.08),
        "gross_due": often(0.3),
        "cash": often(0.12),
        "exchange": often(0.35),
        "rate_first": often(0.5),
        "rate_turned": often(0.5),
        "footer": often(0.6),
        "thanks": often(0.5),
        "scanned": family != "email" and often(0.2),
    }
    if traits["deposits"] or traits["balances"]:
        traits["gross_due"] = False  # the label then means what is left to pay
    return traits


def _share(cents: int, points: int) -> int:
    """A rate of an amount, halves rounded away from zero."""
    return (cents * points + 5000) // 10000


def _items(rng: random.Random, supplier: Supplier) -> list[Item]:
    traits, pool = supplier.traits, WORDING[supplier.hand.language]["items"]
    count = rng.randint(11, 28) if traits["many"] else rng.choice([1, 1, 2, 2, 3, 3, 4, 5])
    texts = rng.sample(pool, count)
    receipt = supplier.family == "receipt"
    multi = traits["two_rates"] and len(supplier.rates) > 1 and supplier.tax in ("table", "base", "simple", "incl")
    several = rng.choice([2, 2, 3]) if len(supplier.rates) > 2 else 2
    used = rng.sample(range(len(supplier.rates)), several) if multi else [0]
    found = []
    for index, text in enumerate(texts):
        quantity = rng.choice([100, 100, 200, 300, 500, 1000]) if rng.random() < 0.9 else rng.randint(1, 30) * 25
        unit = rng.randint(90, 2500) if receipt else rng.randint(300, 18000) * traits["scale"]
        unit = unit if rng.random() < 0.6 else max(100, unit // 100 * 100)
        place = used[index % len(used)]
        found.append(Item(text, quantity, unit, (unit * quantity + 50) // 100, place))
    return found


def some_facts(rng: random.Random, supplier: Supplier) -> Facts:
    """What a document of the supplier states."""
    traits = supplier.traits
    kinds = {"invoice": 65, "credit_note": 25, "reminder": 0 if supplier.family in ("receipt", "grid") else 10}
    kind = rng.choices(list(kinds), weights=list(kinds.values()))[0]
    issued = date(2025, 1, 2) + timedelta(days=rng.randrange(700))
    items = _items(rng, supplier)
    within = supplier.tax == "incl" or supplier.family == "receipt"  # prices hold the tax already
    total = sum(item.total for item in items)
    one = len({item.rate for item in items}) == 1
    discount_rate = rng.choice([200, 500, 1000, 1500]) if one and not within and rng.random() < 0.12 else 0
    discount = _share(total, discount_rate)
    shipping = rng.choice([490, 650, 1200, 1890]) if not within and rng.random() < 0.12 else 0
    sums: dict[int, int] = {}
    for item in items:
        sums[item.rate] = sums.get(item.rate, 0) + item.total
    first = items[0].rate
    sums[first] += shipping - discount
    taxes = []
    for place, base in sorted(sums.items()):
        points = 0 if supplier.tax in ("reverse", "exempt") else supplier.rates[place]
        amount = base - (base * 10000 + (10000 + points) // 2) // (10000 + points) if within else _share(base, points)
        taxes.append((points, base - amount if within else base, amount))
    net, tax = sum(base for _, base, _ in taxes), sum(amount for _, _, amount in taxes)
    facts = Facts(
        kind, reference(rng, traits["number"], issued), issued, None, None, items, discount, discount_rate, shipping,
        taxes, net, net + tax,
    )  # fmt: skip
    _dates(rng, supplier, facts)
    _others(rng, supplier, facts)
    return facts


def _dates(rng: random.Random, supplier: Supplier, facts: Facts) -> None:
    """Due date, and dates that are none of the asked ones."""
    if facts.kind != "credit_note" and supplier.traits["due"] in ("label", "sentence") and supplier.family != "receipt":
        facts.due = facts.issued + timedelta(days=rng.choice([7, 10, 14, 14, 20, 30, 30, 45, 60]))
    if facts.kind == "reminder" and facts.due is None and rng.random() < 0.7:
        facts.due = facts.issued + timedelta(days=rng.choice([5, 7, 10, 14]))
    facts.delivered = facts.issued - timedelta(days=rng.randint(1, 25))
    start = (facts.issued.replace(day=1) - timedelta(days=1)).replace(day=1)
    facts.period = (start, facts.issued.replace(day=1) - timedelta(days=1))
    facts.original_date = facts.issued - timedelta(days=rng.randint(21, 90))
    facts.original = reference(rng, supplier.traits["number"], facts.original_date)


def _others(rng: random.Random, supplier: Supplier, facts: Facts) -> None:
    """Buyer, people, numbers of other things, and amounts that are none of the asked ones."""
    locale, traits = supplier.hand.locale, supplier.traits
    own, country = WORLD["names"][locale[:2]], WORLD["countries"][locale]
    if rng.random() < 0.3:
        buyer = f"{rng.choice(own['first'])} {rng.choice(own['surnames'])}"
    else:
        buyer = a_name(rng, locale[:2], rng.choice(country["legal"]))
    street, town = an_address(rng, locale)
    first, contact = rng.choice(own["first"]), rng.choice(own["first"])
    facts.people = {
        "buyer": buyer, "street": street, "town": town, "first": first,
        "person": f"{first} {rng.choice(own['surnames'])}", "contact": f"{contact} {rng.choice(own['surnames'])}",
    }  # fmt: skip
    facts.numbers = {
        "customer": str(rng.randint(10_000, 99_999)), "sales_order": reference(rng, rng.choice(ORDERS), facts.issued),
    }  # fmt: skip
    if traits["orders"] and facts.kind != "reminder" and supplier.family != "receipt" and rng.random() < 0.75:
        facts.order = reference(rng, traits["order"], facts.issued)
    if facts.kind == "invoice":
        if traits["deposits"] and rng.random() < 0.6:
            facts.deposit = facts.gross * rng.choice([20, 30, 50]) // 100
        elif traits["balances"] and rng.random() < 0.7:
            facts.previous = rng.randint(1_000, 60_000)
    if facts.kind == "reminder":
        facts.fee = rng.choice([0, 500, 1000, 1500, 4000])
