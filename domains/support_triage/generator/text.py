"""Texts of the tickets: a phrase grammar, mentions, references, mail frames, slips of the finger."""

from __future__ import annotations

import random
import re
import textwrap
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CASES: dict[str, Any] = tomllib.loads((HERE / "cases.toml").read_text(encoding="utf-8"))
TEXTS: dict[str, Any] = tomllib.loads((HERE / "texts.toml").read_text(encoding="utf-8"))
FRAME: dict[str, Any] = TEXTS["frame"]
DEVICES = ["hub", "camera", "doorbell", "thermostat", "lock", "sensor"]

_CHOICE = re.compile(r"\(([^()]*)\)")
_KEPT = re.compile(r"⟦(\d+)⟧")
_SERIAL = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"
_PLANS = ["Basic", "Home", "Family", "Studio", "Estate", "Solo", "Team", "Archive"]
_DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri"]
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun"]


@dataclass
class Draft:
    """A ticket in the making. `kept`: pieces that are put in last; `product`, `reference`: what is meant."""

    rng: random.Random
    kept: list[str] = field(default_factory=list)
    product: str = "none"
    reference: str | None = None

    def keep(self, piece: str) -> str:
        """A placeholder for a piece that neither case nor slips may change."""
        self.kept.append(piece)
        return f"⟦{len(self.kept) - 1}⟧"

    def finish(self, text: str) -> str:
        """The text with the kept pieces in their places."""
        return _KEPT.sub(lambda match: self.kept[int(match.group(1))], text)


def expand(rng: random.Random, line: str) -> tuple[str, list[str]]:
    """A line with its alternatives chosen, and the choices."""
    choices = []
    while match := _CHOICE.search(line):
        choices.append(rng.choice(match.group(1).split("|")))
        line = line[: match.start()] + choices[-1] + line[match.end() :]
    return line, choices


def said(rng: random.Random, lines: list[str]) -> str:
    """One of the lines, its alternatives chosen."""
    return expand(rng, rng.choice(lines))[0]


def pick_core(rng: random.Random, name: str, language: str) -> tuple[str, str]:
    """A core line of a case, and its template: the line and the choices made in it."""
    key = "lines" if language == "en" else language
    index = rng.randrange(len(CASES[name][key]))
    text, choices = expand(rng, CASES[name][key][index])
    return text, "/".join([name, f"{language}{index}", *choices])


def an_id(rng: random.Random, kind: str) -> str:
    """An identifier of a kind, as customers copy it."""
    number = rng.randint
    forms = {
        "order": lambda: f"{number(20000, 98999)}",
        "invoice": lambda: rng.choice([f"INV-{number(10000, 99999)}", f"2026-{number(1000, 9999)}"]),
        "serial": lambda: "-".join("".join(rng.choice(_SERIAL) for _ in range(4)) for _ in range(2)),
        "code": lambda: rng.choice(
            [f"E-{number(100, 499)}", f"E{number(10, 99)}", f"C{number(1, 9)}-{number(10, 99)}"]
        ),
        "version": lambda: f"{number(4, 9)}.{number(0, 12)}.{number(0, 9)}",
        "plan": lambda: rng.choice(_PLANS),
        "ticket": lambda: f"T-{number(10000, 99999)}",
    }
    return forms[kind]()


def fill(draft: Draft, line: str, case: dict[str, Any], *, own: bool) -> str:
    """Fill what a core line leaves open. `own`: it is what the ticket is about, so note what it says."""
    rng = draft.rng
    product = case.get("implied", "none")
    if "{p}" in line:
        product = rng.choice([name for name in case["products"] if name != "none"] or DEVICES)
        line = line.replace("{p}", a_mention(rng, product))
    if own:
        draft.product = product
    if "{ref}" in line:
        inline, value = reference(draft, case["about"], "inline")
        line = line.replace("{ref}", inline)
        if own:
            draft.reference = value
    while "{n}" in line:
        line = line.replace("{n}", str(rng.randint(4, 30)), 1)
    amount = f"{rng.randint(5, 480)}.{rng.choice(['00', '90', '99', '50'])}"
    return line.replace("{amt}", rng.choice([f"${amount}", f"{amount} EUR", f"{amount} euros"]))


def a_mention(rng: random.Random, product: str) -> str:
    """A product by one of its names, with an article."""
    return f"{rng.choice(TEXTS['mention']['owner'])} {rng.choice(TEXTS['products'][product])}"


def reference(draft: Draft, kind: str, form: str) -> tuple[str, str]:
    """A text that names a new identifier of a kind (inline, clause or subject), and the identifier."""
    value = draft.reference if draft.reference is not None and form != "inline" else an_id(draft.rng, kind)
    line = said(draft.rng, TEXTS["reference"][kind][form])
    return line.replace("{id}", draft.keep(value)), value


def capital(text: str) -> str:
    """The text with a capital at its start."""
    return text[:1].upper() + text[1:]


def slip(rng: random.Random, text: str, count: int) -> str:
    """Slips of the finger in longer words: a letter doubled, lost or swapped with the next."""
    words = text.split(" ")
    long_ones = [index for index, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    for index in rng.sample(long_ones, min(len(long_ones), count)):
        word = words[index]
        at = rng.randint(1, len(word) - 2)
        words[index] = rng.choice(
            [
                word[:at] + word[at] + word[at:],
                word[:at] + word[at + 1 :],
                word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            ]
        )
    return " ".join(words)


def a_card(rng: random.Random) -> str:
    """A made-up card number with a valid check digit."""
    digits = [4, 0, 0, 0, *(rng.randint(0, 9) for _ in range(11))]
    total = sum(d if place % 2 else sum(divmod(2 * d, 10)) for place, d in enumerate(digits))
    digits.append(-total % 10)
    text = "".join(map(str, digits))
    return " ".join(text[at : at + 4] for at in range(0, 16, 4))


def a_phone(rng: random.Random) -> str:
    """A number from the range that is kept for fiction."""
    return f"+1 {rng.randint(201, 989)} 555-01{rng.randint(0, 99):02d}"


def an_address(name: str) -> str:
    """The mail address of a person, in a reserved domain."""
    return f"{name.lower().replace(' ', '.')}@{('example.org', 'example.net', 'example.com')[len(name) % 3]}"


def signature(rng: random.Random, name: str) -> str:
    """A name with some of phone, address and street below."""
    lines = [name]
    if rng.random() < 0.45:
        lines.append(f"Tel. {a_phone(rng)}")
    if rng.random() < 0.35:
        lines.append(an_address(name))
    if rng.random() < 0.3:
        lines.append(f"{rng.choice(FRAME['streets'])}, {rng.choice(FRAME['towns'])}")
    if rng.random() < 0.15:
        lines.append(f"Customer no. K-{rng.randint(1000, 9999)}")
    return "\n".join(lines)


def quoted(rng: random.Random, text: str, author: str) -> tuple[str, str]:
    """An earlier mail as mail programs quote it, and its style: marks, original or german."""
    style = rng.choices(["marks", "original", "german"], weights=[6, 3, 1])[0]
    day, month, hour = rng.randint(1, 28), rng.randrange(6), rng.randint(7, 21)
    time = f"{hour}:{rng.randint(0, 59):02d}"
    if style == "original":
        sent = f"Sent: {day} {_MONTHS[month]} 2026 {time}"
        return f"-----Original Message-----\nFrom: {author} <{an_address(author)}>\n{sent}\n\n{text}", style
    lines = [wrapped for line in text.split("\n") for wrapped in (textwrap.wrap(line, 72) or [""])]
    marked = "\n".join(f"> {line}".rstrip() for line in lines)
    if style == "german":
        return f"Am {day}.{month + 1}.2026 um {time} schrieb {author}:\n{marked}", style
    weekday = rng.choice(_DAYS)
    return (
        f"On {weekday}, {day} {_MONTHS[month]} 2026 at {time}, {author} <{an_address(author)}> wrote:\n{marked}",
        style,
    )
