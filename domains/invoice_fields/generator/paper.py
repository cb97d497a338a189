"""A document in the making: the pieces that all layouts share, and the gold labels of what was written.

A label is set where its value is written, so that a value that stands nowhere is null or absent.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from generator.facts import Facts, Supplier
from generator.written import GLUE, WORLD, day, money, plain, rate, signed

Pair = tuple[str, str]


@dataclass
class Paper:
    """Supplier, facts, the dice, and the labels so far."""

    supplier: Supplier
    facts: Facts
    rng: random.Random
    gold: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.gold = {
            "document_type": self.facts.kind, "supplier": self.supplier.name, "invoice_number": None,
            "issue_date": None, "due_date": None, "currency": self.supplier.currency, "net_total": None,
            "vat_total": None, "gross_total": None, "vat_lines": [],
        }  # fmt: skip

    @property
    def credited(self) -> bool:
        """Whether amounts take the sign of credited ones."""
        return self.facts.kind == "credit_note"

    def word(self, key: str) -> str:
        """The supplier's wording, by the kind of document where that differs."""
        words = self.supplier.words
        return words.get(f"{key}_{self.facts.kind}", words.get(key, ""))

    def label(self, key: str) -> str:
        """A label with the supplier's colon."""
        text = self.word(key)
        text = text.upper() if self.supplier.traits["upper"] else text
        return text + self.supplier.traits["colon"].replace(" ", GLUE)

    def name(self) -> str:
        """The supplier's name, which no line break splits."""
        return self.supplier.name.replace(" ", GLUE)

    # Single values; each notes its label.

    def number(self) -> str:
        """The document's number."""
        self.gold["invoice_number"] = self.facts.number.replace(GLUE, " ")
        return self.facts.number

    def issued(self) -> str:
        """The date of issue."""
        self.gold["issue_date"] = self.facts.issued.isoformat()
        return day(self.supplier.hand, self.facts.issued)

    def due(self) -> str:
        """The date by which to pay."""
        assert self.facts.due is not None
        self.gold["due_date"] = self.facts.due.isoformat()
        return day(self.supplier.hand, self.facts.due)

    def order(self) -> str:
        """The buyer's order."""
        assert self.facts.order is not None
        self.gold["purchase_order"] = self.facts.order.replace(GLUE, " ")
        return self.facts.order

    def amount(self, cents: int) -> str:
        """An amount with its currency and sign."""
        return money(self.supplier.hand, cents, credited=self.credited)

    # Blocks.

    def head(self) -> list[str]:
        """The letterhead, as far as it holds text."""
        places = self.supplier.places
        match self.supplier.head:
            case "top":
                return [self.name(), places["street"], places["town"]]
            case "caps":
                phone = f"{self.supplier.words['footer_labels0']} {places['phone']}"
                return [self.name().upper(), places["street"], phone]
            case "line":
                dot = [" · ", " - ", " | ", " · ", ", "][self.supplier.traits["dot"]]
                return [dot.join([self.name(), places["street"], places["town"]]), ""]
            case "label":
                return [f"{self.label('seller')} {self.name()}", places["street"], places["town"]]
        return []

    def title(self) -> list[str]:
        """What the document calls itself; an invoice may say nothing."""
        traits = self.supplier.traits
        if traits["untitled"] and self.facts.kind == "invoice":
            return []
        text = self.word("title")
        if traits["spaced"]:
            text = GLUE.join(text.upper().replace(" ", GLUE))
        if self.number_apart():
            return [f"{text} {self.number()}"]
        return [text]

    def number_apart(self) -> bool:
        """Whether the number stands in the title and has no label."""
        traits = self.supplier.traits
        untitled = traits["untitled"] and self.facts.kind == "invoice"
        return bool(traits["number_in_title"] and self.facts.kind != "reminder" and not untitled)

    def meta(self) -> list[Pair]:
        """Labelled facts in the supplier's order: the asked ones and others."""
        facts, traits, hand = self.facts, self.supplier.traits, self.supplier.hand
        pairs: list[Pair] = []
        if not self.number_apart():
            pairs.append((self.label("number"), self.number()))
        if not traits["date_apart"]:
            pairs.append((self.label("date"), self.issued()))
        if facts.due and traits["due"] == "label":
            pairs.append((self.label("due"), self.due()))
        if facts.order:
            pairs.append((self.label("po"), self.order()))
        if self.credited and self.rng.random() < 0.7:
            pairs.append((self.label("original"), facts.original))
        if facts.kind != "invoice" and facts.original_date and self.rng.random() < 0.4:
            pairs.append((self.label("original_date"), day(hand, facts.original_date)))
        for key in traits["extras"]:
            value = ""
            if key == "delivery" and facts.delivered:
                value = day(hand, facts.delivered)
            elif key == "period" and facts.period:
                value = " - ".join(day(hand, when) for when in facts.period)
            elif key == "contact":
                value = facts.people["contact"]
            elif key in facts.numbers:
                value = facts.numbers[key]
            if value:
                pairs.append((self.label(key), value))
        random.Random(traits["order_seed"]).shuffle(pairs)
        return pairs

    def date_line(self) -> list[str]:
        """Town and date, where the date has no label."""
        if not self.supplier.traits["date_apart"]:
            return []
        return [self.placed_date()]

    def placed_date(self) -> str:
        """Town, without its code, and date."""
        words = self.supplier.places["town"].split(",")[0].split()
        town = " ".join(word for word in words if not any(map(str.isdigit, word)))
        return self.word("place_date").format(town=town, date=self.issued())

    def buyer(self) -> list[str]:
        """Who pays."""
        people = self.facts.people
        lead = [self.label("buyer")] if self.rng.random() < 0.4 else []
        return [*lead, people["buyer"], people["street"], people["town"]]

    def note(self) -> list[str]:
        """The currency, where amounts are written without it; and the exchange rate, unless it stood before."""
        own, bare = self.supplier.currency, self.supplier.hand.money == "bare"
        said = [self.word("all_amounts").format(currency=own)] if bare else []
        return said if self.supplier.traits["rate_first"] else [*said, *self._exchange()]

    def before_totals(self) -> list[str]:
        """The exchange rate, where it stands before the sums."""
        return [*self._exchange(), ""] if self.supplier.traits["rate_first"] and self._exchange() else []

    def _exchange(self) -> list[str]:
        """What the home currency is worth, for suppliers who charge in another one: no amount that is asked for."""
        own, hand, traits = self.supplier.currency, self.supplier.hand, self.supplier.traits
        home = WORLD["countries"][hand.locale]["currency"]
        if home == own or not traits["exchange"]:
            return []
        one, other = (home, own) if traits["rate_turned"] else (own, home)
        worth = WORLD["worth"]
        day_factor = 0.96 + (self.facts.issued.toordinal() % 81) / 1000
        written = f"{worth[one] / worth[other] * day_factor:.4f}".replace(".", hand.decimal)
        return [self.word("exchange").format(one=one, other=other, rate=written)]

    def totals(self, *, net: bool = True) -> tuple[list[Pair], list[str], list[list[str]]]:
        """(sums with labels, sentences about tax, a table of the tax: header and rows)."""
        facts, hand, tax = self.facts, self.supplier.hand, self.supplier.tax
        if facts.kind == "reminder":
            return self._claims(), [], []
        pairs: list[Pair] = []
        notes: list[str] = []
        table: list[list[str]] = []
        if facts.discount or facts.shipping:
            pairs.append((self.label("sum_before"), self.amount(facts.net + facts.discount - facts.shipping)))
        if facts.discount:
            text = self.word("discount").format(rate=rate(hand, facts.discount_rate))
            against = self.credited and hand.minus  # a credit that is written below zero is lessened upwards
            pairs.append((text, money(hand, facts.discount if against else -facts.discount)))
        if facts.shipping:
            pairs.append((self.label("shipping"), self.amount(facts.shipping)))
        if tax in ("base", "simple", "reverse") or (tax == "table" and net):
            self.gold["net_total"] = facts.net / 100
            pairs.append((self.label("net"), self.amount(facts.net)))
        if tax == "table":
            table.append([self.supplier.words[f"table_vat{n}"] for n in range(3)])
        for points, base, amount in facts.taxes if tax != "exempt" else []:
            written = {"rate": rate(hand, points), "base": self.amount(base), "amount": self.amount(amount)}
            if tax == "table":
                signs = [signed(hand, value, credited=self.credited) for value in (base, amount)]
                table.append([written["rate"], *signs])
            elif tax == "incl":
                notes.append(self.word("incl").format(**written))
            else:
                text = self.word("vat_row_base" if tax == "base" else "vat_row").format(**written)
                pairs.append((text + self.supplier.traits["colon"].replace(" ", GLUE), written["amount"]))
            shown = tax in ("base", "table")
            self.gold["vat_lines"].append(
                {"rate": points / 100, "base": base / 100 if shown else None, "amount": amount / 100}
            )
        self._tax_sum(pairs)
        self.gold["gross_total"] = facts.gross / 100
        due = self.supplier.traits["gross_due"] and facts.kind == "invoice"
        pairs.append((self.label("gross_due" if due else "gross"), self.amount(facts.gross)))
        if tax in ("exempt", "reverse"):
            notes.append(self.word(tax))
        return pairs + self._balance(), notes, table

    def _tax_sum(self, pairs: list[Pair]) -> None:
        """The sum of the tax: a line of its own, or else the only amount of tax."""
        facts, tax = self.facts, self.supplier.tax
        if tax == "exempt":
            return
        total = sum(amount for _, _, amount in facts.taxes)
        summed = tax == "table" or (tax in ("base", "simple") and len(facts.taxes) > 1)
        if self.supplier.traits["vat_total"] and summed:
            pairs.append((self.label("vat_total"), self.amount(total)))
        elif len(facts.taxes) > 1:
            return
        self.gold["vat_total"] = total / 100

    def _claims(self) -> list[Pair]:
        facts = self.facts
        pairs = []
        if facts.fee:
            pairs.append((self.label("open_amount"), self.amount(facts.gross)))
            pairs.append((self.label("fee"), self.amount(facts.fee)))
        self.gold["gross_total"] = (facts.gross + facts.fee) / 100
        return [*pairs, (self.label("gross"), self.amount(facts.gross + facts.fee))]

    def _balance(self) -> list[Pair]:
        facts, hand = self.facts, self.supplier.hand
        if facts.deposit:
            return [
                (self.label("deposit"), money(hand, -facts.deposit)),
                (self.label("balance"), self.amount(facts.gross - facts.deposit)),
            ]
        if facts.previous:
            return [
                (self.label("previous"), self.amount(facts.previous)),
                (self.label("payable"), self.amount(facts.gross + facts.previous)),
            ]
        return []

    def terms(self) -> list[str]:
        """Sentences about payment."""
        facts, traits, hand = self.facts, self.supplier.traits, self.supplier.hand
        said: list[str] = []
        if facts.due and self.gold["due_date"] is None:
            said.append(self.word("terms_date").format(due=self.due()))
        elif traits["due"] == "days" and facts.kind == "invoice":
            said.append(self.word("terms_days").format(days=self.rng.choice([7, 8, 14, 20, 21, 30])))
        if facts.kind == "invoice" and facts.due and traits["cash"]:
            early = facts.issued + (facts.due - facts.issued) / 2
            less = self.amount(facts.gross * 2 // 100)
            said.append(self.word("cash_discount").format(date=day(hand, early), amount=less))
        return said

    def footer(self) -> list[str]:
        """Contact, tax number, bank; the name where it stood nowhere, or not as it is written."""
        places, said = self.supplier.places, []
        labels = [self.supplier.words[f"footer_labels{n}"] for n in range(4)]
        if self.supplier.head in ("footer", "caps") or self.supplier.traits["footer"]:
            dot = [" · ", " · ", " | ", " - ", ", "][self.supplier.traits["dot"]]
            said.append(dot.join([self.name(), places["street"], places["town"]]))
        if self.supplier.traits["footer"]:
            said.append(f"{labels[0]} {places['phone']}   {labels[1]} {places['mail']}")
            said.append(f"{labels[2]} {places['vat_id']}   {labels[3]} {places['iban']}")
        if self.supplier.traits["thanks"]:
            said.insert(0, self.word("thanks"))
        if self.supplier.traits["terms"] == 1:
            said.append(self.word("terms"))
        else:
            said += [self.supplier.words[f"terms{n}"] for n in range(self.supplier.traits["terms"])]
        return said

    def columns(self) -> list[str]:
        """The headings of the items' table."""
        return [self.supplier.words[f"columns{n}"] for n in range(4)]

    def priced(self, cents: int) -> str:
        """An amount in the items' table: no currency."""
        return signed(self.supplier.hand, cents, credited=self.credited)

    def quantity(self, hundredths: int) -> str:
        """A quantity: whole, or with two decimals."""
        return str(hundredths // 100) if hundredths % 100 == 0 else plain(self.supplier.hand, hundredths)
