"""Texts of the travellers: a phrase grammar, slot clauses, slips of the finger."""

from __future__ import annotations

import random
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
WORLD: dict[str, Any] = tomllib.loads((HERE / "world.toml").read_text(encoding="utf-8"))
PHRASES: dict[str, Any] = tomllib.loads((HERE / "phrases.toml").read_text(encoding="utf-8"))
CLAUSE: dict[str, list[str]] = PHRASES["clause"]
WORDS: list[str] = WORLD["numbers"]["words"]
ORDINALS = ["first", "second", "third"]

_CHOICE = re.compile(r"\(([^()]*)\)")
_FILL = {"cat": ("categories", "category"), "sport": ("sports", "sport")}
_FILL |= {"cabin": ("cabins", "cabin"), "pickup": ("pickups", "pickup")}


@dataclass
class Draft:
    """A text in the making, and what it means."""

    updates: dict[str, Any] = field(default_factory=dict)
    detail: dict[str, Any] = field(default_factory=dict)
    clauses: list[str] = field(default_factory=list)


def region(code: str) -> dict[str, str]:
    """The region object of a served city."""
    label, country = WORLD["cities"][code][:2]
    return {"label": label, "city_code": code, "country_code": country, "kind": "city"}


def alias(rng: random.Random, code: str) -> str:
    """One of the names of a city, mostly the common one; written with or without capitals."""
    names = WORLD["cities"][code][2:]
    name: str = names[0] if rng.random() < 0.8 else rng.choice(names)
    return name.title() if rng.random() < 0.6 and "'" not in name else name


def expand(rng: random.Random, line: str) -> tuple[str, list[str]]:
    """A line with its alternatives chosen, and the choices."""
    choices = []
    while match := _CHOICE.search(line):
        choices.append(rng.choice(match.group(1).split("|")))
        line = line[: match.start()] + choices[-1] + line[match.end() :]
    return line, choices


def pick_core(rng: random.Random, goal: str) -> tuple[str, str]:
    """A core phrase of a goal, and its template: the line and the choices made in it."""
    lines = PHRASES["core"][goal]
    index = rng.randrange(len(lines))
    text, choices = expand(rng, lines[index])
    return text, "/".join([goal, str(index), *choices])


def fill(rng: random.Random, text: str, draft: Draft) -> str:
    """Fill what a core phrase leaves open, noting what it means."""
    for name, (table, key) in _FILL.items():
        if "{" + name + "}" in text:
            value = rng.choice(sorted(WORLD[table]))
            draft.detail[key] = value
            text = text.replace("{" + name + "}", rng.choice(WORLD[table][value]))
    for digits in (1, 2, 3, 4):
        while "{d" + str(digits) + "}" in text:
            low, high = 10 ** (digits - 1), 10**digits - 1
            text = text.replace("{d" + str(digits) + "}", str(rng.randint(low, high)), 1)
    names = ["ada", "noor", "jens", "mei", "tomas", "lucia", "omar", "ines"]
    surnames = ["Berg", "Okafor", "Silva", "Novak", "Haddad", "Lind"]
    text = text.replace("{name}", rng.choice(names)).replace("{Name}", rng.choice(names).title())
    return text.replace("{Surname}", rng.choice(surnames))


def number(rng: random.Random, value: int) -> str:
    """A number in figures or as a word."""
    return WORDS[value - 1] if value <= len(WORDS) and rng.random() < 0.45 else str(value)


def clause(rng: random.Random, name: str, **values: str) -> str:
    """A clause of a kind, filled in."""
    return expand(rng, rng.choice(CLAUSE[name]))[0].format(**values)


def a_date(rng: random.Random) -> str:
    """An ISO date of the next travel year."""
    return f"{rng.choice([2026, 2027])}-{rng.randint(1, 12):02d}-{rng.randint(1, 21):02d}"


def a_stay(rng: random.Random) -> tuple[str, str, int]:
    """Check-in, check-out and the nights between them."""
    start, nights = a_date(rng), rng.randint(1, 7)
    return start, f"{start[:8]}{int(start[8:]) + nights:02d}", nights


def a_party(rng: random.Random) -> dict[str, Any]:
    """A party of adults, rooms and children."""
    adults = rng.choice([1, 2, 2, 2, 3, 4, 5, 6])
    children = [{"age": rng.randint(1, 15)} for _ in range(rng.choice([0, 0, 0, 1, 2]))]
    return {"adults": adults, "rooms": rng.choice([1, 1, 1, 2, 3]), "children": children}


def add_region(rng: random.Random, draft: Draft, kind: str, cities: list[str]) -> None:
    """A clause that names where to go: served, not served, or corrected within the sentence."""
    if rng.random() < 0.07:
        draft.detail["unserved"] = True
        draft.clauses.append(clause(rng, kind, c=rng.choice(WORLD["places"]["unserved"])))
        return
    code = rng.choice(cities)
    draft.updates["region"] = region(code)
    if rng.random() < 0.07:
        wrong = rng.choice([other for other in cities if other != code])
        draft.clauses.append(clause(rng, "region_fix", c=alias(rng, code), w=alias(rng, wrong)))
    else:
        draft.clauses.append(clause(rng, kind, c=alias(rng, code)))


def add_dates(rng: random.Random, draft: Draft) -> None:
    """A clause with two dates, a date and a number of nights, or a holiday."""
    roll = rng.random()
    start, end, nights = a_stay(rng)
    if roll < 0.15:
        name = rng.choice(sorted(WORLD["holidays"]))
        start, end, *names = WORLD["holidays"][name]
        draft.updates |= {"check_in_date": start, "check_out_date": end}
        draft.clauses.append(rng.choice(names))
    elif roll < 0.35:
        draft.updates |= {"check_in_date": start, "nights": nights}
        draft.clauses.append(clause(rng, "nights", d1=start, n=number(rng, nights)))
    else:
        draft.updates |= {"check_in_date": start, "check_out_date": end}
        draft.clauses.append(clause(rng, "dates", d1=start, d2=end))


def add_party(rng: random.Random, draft: Draft) -> None:
    """A clause about who travels; what is not said counts as one room and no children."""
    party: dict[str, Any] = {"adults": 1, "rooms": 1, "children": []}
    roll = rng.random()
    if roll < 0.12:
        said = [clause(rng, "solo")]
    elif roll < 0.27:
        party["adults"] = 2
        said = [clause(rng, "couple")]
    else:
        party["adults"] = rng.randint(2, 8)
        said = [clause(rng, "adults", n=number(rng, party["adults"]))]
    roll = rng.random()
    if roll < 0.10:
        ages = [rng.randint(1, 15), rng.randint(1, 15)]
        party["children"] = [{"age": age} for age in ages]
        said.append(clause(rng, "kids", a=str(ages[0]), b=str(ages[1])))
    elif roll < 0.2:
        age = rng.randint(1, 15)
        party["children"] = [{"age": age}]
        said.append(clause(rng, "kid", a=str(age)))
    if rng.random() < 0.15:
        party["rooms"] = rng.choice([2, 3, 4])
        said.append(clause(rng, "rooms", r=number(rng, party["rooms"])))
    draft.updates["party"] = party
    draft.clauses.append(" ".join(said))


def assemble(rng: random.Random, core: str, draft: Draft) -> str:
    """The sentence: core and clauses in some order, an opener and a closer, and slips."""
    rng.shuffle(draft.clauses)
    parts = [core, *draft.clauses] if rng.random() < 0.8 else [*draft.clauses, core]
    joiner = rng.choice([" ", " ", ", "])
    text = joiner.join(part for part in parts if part)
    if rng.random() < 0.06:
        chat = rng.choice(CLAUSE["chat"])
        text = f"{chat}. {text}" if rng.random() < 0.5 else f"{text}. {chat}"
    if rng.random() < 0.25:
        text = f"{rng.choice(CLAUSE['opener'])} {text}"
    if rng.random() < 0.3:
        text = f"{text} {rng.choice(CLAUSE['closer'])}".replace(" ?", "?").replace(" !", "!")
    roll = rng.random()
    if roll < 0.25:
        text = text.lower()
    elif roll < 0.75:
        text = text[:1].upper() + text[1:]
    elif roll < 0.78:
        text = text.upper()
    return slip(rng, text) if rng.random() < 0.07 else text


def slip(rng: random.Random, text: str) -> str:
    """One or two slips of the finger in longer words: a letter doubled, lost or swapped with the next."""
    words = text.split(" ")
    long_ones = [index for index, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    for index in rng.sample(long_ones, min(len(long_ones), rng.choice([1, 1, 2]))):
        word = words[index]
        at = rng.randint(1, len(word) - 2)
        changed = [
            word[:at] + word[at] + word[at:],
            word[:at] + word[at + 1 :],
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        ]
        words[index] = rng.choice(changed)
    return " ".join(words)
