"""Values that identify nobody, as Faker invents them in five locales, and the sentences and records they stand in.

Faker knows nothing of the recognisers. The sentences say nothing of the kind of value either, but for names: those are
introduced as people introduce them, or stand in a sentence that does not.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from faker import Faker

LOCALES = ("en_US", "en_GB", "de_DE", "fr_FR", "es_ES")
SENTENCES = (
    "please use {} from now on",
    "{} is what I gave you last week",
    "It was changed to {}, then it stopped working.",
    "We had ({}) on file.",
    "hola, {} y gracias",
    "Bitte {} verwenden!",
    "first line\n{}\nlast line",
    "{}",
)
INTRODUCED = {
    "en": ("My name is {}.", "Kind regards,\n{}", "passenger: {}", "Please ask Mrs {} about it."),
    "de": ("Mein Name ist {}.", "Mit freundlichen Grüßen\n{}", "Passenger: {}", "Bitte fragen Sie Herrn {}."),
    "fr": ("Je m'appelle {}.", "Cordialement,\n{}", "passenger: {}", "Demandez à Mme {} s'il vous plaît."),
    "es": ("Me llamo {}.", "Saludos,\n{}", "passenger: {}", "Pregunte a la señora {} por favor."),
}
WINDOW = 6
NATIONAL = {"en_US": "ssn", "en_GB": "ssn", "de_DE": "ssn", "fr_FR": "ssn", "es_ES": "nif"}


@dataclass(frozen=True)
class Planted:
    """A value of a kind, and a sentence that holds it."""

    kind: str
    locale: str
    value: str
    text: str

    def left(self, stored: str) -> list[str]:
        """The pieces of the value that are still there: words and numbers of three characters or more, and any six
        characters in a row."""
        around = self.text.replace(self.value, "\0")
        frame, there = set(_pieces(around)), set(_pieces(stored))
        words = [piece for piece in _pieces(self.value) if piece in there and piece not in frame]
        windows = {self.value[at : at + WINDOW] for at in range(max(1, len(self.value) - WINDOW + 1))}
        return words + sorted(window for window in windows if window in stored and window not in around)


def _pieces(text: str) -> list[str]:
    return re.findall(r"\w{3,}", text)


def _kinds(fake: Faker, locale: str, rng: random.Random) -> dict[str, Callable[[], str]]:
    national = getattr(fake, NATIONAL[locale])
    return {
        "email": fake.email,
        "phone": fake.phone_number,
        "iban": fake.iban,
        "card": fake.credit_card_number,
        "national_id": national,
        "ip": lambda: fake.ipv6() if rng.random() < 0.5 else fake.ipv4_public(),
        "url with credentials": lambda: (
            f"https://{fake.user_name()}:{fake.password(special_chars=False)}@{fake.domain_name()}/{fake.uri_path()}"
        ),
        "name, introduced": fake.name,
        "name, in a sentence": lambda: f"{fake.first_name()} {fake.last_name()}",
        "address": lambda: fake.address().strip(),
    }


def planted(n: int, seed: int, kinds: tuple[str, ...] = ()) -> list[Planted]:
    """`n` values of each kind and locale, or of the kinds named; the same for the same seed."""
    found = []
    for locale in LOCALES:
        fake, rng = Faker(locale), random.Random(f"{seed}/{locale}")
        fake.seed_instance(seed)
        for kind, make in _kinds(fake, locale, rng).items():
            if kinds and kind not in kinds:
                continue
            frames = INTRODUCED[locale[:2]] if kind == "name, introduced" else SENTENCES
            for _ in range(n):
                value = make()
                found.append(Planted(kind, locale, value, rng.choice(frames).format(value)))
    return found


def record(rng: random.Random, one: Planted) -> dict[str, Any]:
    """The text of a planted value somewhere in what people, models and tools write: {input, output, error, feedback},
    one of them. A name that nothing introduces stands alone, in a place that says that names stand there."""
    if one.kind == "name, in a sentence":
        named = rng.choice(("customer_name", "FullName", "contact-name"))
        places: tuple[dict[str, Any], ...] = (
            {"input": {"form": [{named: one.value}]}},
            {"output": {"arguments": {named: one.value, "seats": 2}}},
            {"input": {"traveller": {"called": one.value}}},
            {"feedback": {"detail": {named: [one.value]}}},
        )
        return rng.choice(places)
    number = one.value.replace(" ", "").replace("-", "")
    return rng.choice(
        (
            {"input": {"text": one.text}},
            {"input": {"thread": [{"author": "user", "parts": [{"body": one.text}]}]}},
            {"input": {"slots": {one.text: True}}},
            {"input": {"value": int(number) if one.kind == "card" and number[0] != "0" else one.text}},
            {"output": {"bot_message": one.text}},
            {"output": {"tool_requests": [{"name": "send", "arguments": {"to": one.text, "n": 2}}]}},
            {"error": f"ValueError: cannot use <{one.text}>"},
            {"feedback": {"detail": {"note": one.text}}},
        )
    )
