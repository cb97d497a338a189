"""How a supplier writes amounts, rates, dates and reference numbers."""

from __future__ import annotations

import random
import re
import tomllib
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
WORLD: dict[str, Any] = tomllib.loads((HERE / "world.toml").read_text(encoding="utf-8"))
WORDING: dict[str, dict[str, Any]] = tomllib.loads((HERE / "wording.toml").read_text(encoding="utf-8"))
GLUE = "\x01"
"""Stands for a space that no line break may replace."""

GROUPS: dict[str, list[str]] = WORLD["writing"]["groups"]
DATES: dict[str, list[str]] = WORLD["writing"]["dates"]
NUMBERS: dict[str, list[str]] = WORLD["writing"]["numbers"]
ORDERS: list[str] = WORLD["writing"]["orders"]


@dataclass(frozen=True)
class Hand:
    """A supplier's way of writing. `money`: where the currency stands, or `bare`; `minus`: of credited amounts."""

    locale: str
    group: str
    decimal: str
    money: str
    sign: str
    minus: str
    rate: str
    date: str

    @property
    def language(self) -> str:
        """The language of the locale."""
        return self.locale[:2]


def a_hand(rng: random.Random, locale: str, sign: str) -> Hand:
    """A way of writing that is usual for the locale."""
    language, country = locale.split("-")
    key = "CH" if country == "CH" else language
    group = rng.choice(GROUPS[key])
    decimal = "." if key in ("CH", "en") else ","
    if sign.isalpha() or sign == "Fr.":
        places = ["before", "before", "after", "bare"]
    elif language == "en":
        places = ["tight", "tight", "tight", "bare"]
    else:
        places = ["after", "after", "after", "bare"]
    rates = {"en": ["{}%", "{}%", "{:.2f}%", "{:.1f} %"], "CH": ["{}%", "{} %", "{:.1f}%"]}
    rate = rng.choice(rates.get(key, ["{} %", "{}%", "{:.1f} %", "{:.2f} %"]))
    dates = DATES[locale] if locale in DATES else DATES[language]
    minus = rng.choice(["", "", "", "-{}", "-{}", "−{}", "{}-", "({})"])
    return Hand(locale, group, decimal, rng.choice(places), sign, minus, rate, rng.choice(dates))


def plain(hand: Hand, cents: int) -> str:
    """An amount without currency, two decimals: 1.234,56."""
    whole, rest = divmod(abs(cents), 100)
    groups: list[str] = []
    while whole >= 1000 and hand.group:
        whole, low = divmod(whole, 1000)
        groups.insert(0, f"{low:03}")
    separator = GLUE if hand.group == " " else hand.group
    return separator.join([str(whole), *groups]) + f"{hand.decimal}{rest:02}"


def signed(hand: Hand, cents: int, *, credited: bool) -> str:
    """An amount with the supplier's sign for credited ones; negative cents always get one."""
    text = plain(hand, cents)
    if cents < 0:
        return (hand.minus or "-{}").format(text)
    return (hand.minus or "{}").format(text) if credited else text


def money(hand: Hand, cents: int, *, credited: bool = False) -> str:
    """An amount with its currency, where the supplier writes one."""
    text = signed(hand, cents, credited=credited)
    match hand.money:
        case "before":
            return f"{hand.sign}{GLUE}{text}"
        case "after":
            return f"{text}{GLUE}{hand.sign}"
        case "tight":
            lead = text[0] if text[0] in "-−(" else ""
            return f"{lead}{hand.sign}{text[len(lead) :]}"
    return text


def rate(hand: Hand, points: int) -> str:
    """A rate in hundredths of a percent: 19 %, 8.1%, 5,50 %."""
    short = f"{points / 100:.2f}".rstrip("0").rstrip(".")
    digits = 0 if "." not in hand.rate else int(hand.rate[3])
    value = f"{points / 100:.{digits}f}" if digits and points % 10 ** (2 - digits) == 0 else short
    return re.sub(r"\{.*\}", value, hand.rate).replace(".", hand.decimal).replace(" ", GLUE)


def day(hand: Hand, when: date) -> str:
    """A date as the supplier writes it."""
    words = WORDING[hand.language]
    return hand.date.format(
        d=when.day,
        m=when.month,
        y=when.year,
        yy=when.year % 100,
        month=words["months"][when.month - 1],
        short=words["short_months"][when.month - 1],
        first="1er" if when.day == 1 else str(when.day),
    )


def reference(rng: random.Random, template: str, when: date) -> str:
    """A number after a template: {5} is five digits, {A} a letter, {y} {yy} {mm} the date."""

    def filled(match: re.Match[str]) -> str:
        match match.group(1):
            case "y":
                return str(when.year)
            case "yy":
                return f"{when.year % 100:02}"
            case "mm":
                return f"{when.month:02}"
            case "A":
                return rng.choice("ABDEGKLMRSTVW")
            case digits:
                return str(rng.randint(10 ** (int(digits) - 1), 10 ** int(digits) - 1))

    return re.sub(r"\{(\w+)\}", filled, template).replace(" ", GLUE)
