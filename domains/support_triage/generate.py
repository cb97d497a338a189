"""Write the seed corpus of the support domain: `python generate.py [--out DIR] [--tickets N] [--seed TEXT]`.

Standard library only, seeded: the same call writes the same rows on every machine. A row is
{id, input, labels: {triage}, template, source}. The labels are gold: the generator chooses what the customer
means first and then the words. `template` names the phrasing of the problem, which is what the split keeps
together. Names, addresses, card and phone numbers are made up (reserved domains and ranges).
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from generator import policy, text
from generator.text import CASES, FRAME, TEXTS, Draft, said

TICKETS = 8000
SEED = "support-1"
SHARES = {"email": 0.55, "web_form": 0.2, "chat": 0.17, "phone_note": 0.08}
RARE = {"nothing": 0.5, "spam": 0.7, "misdirected": 0.7, "phishing": 0.8, "account_change": 0.8}
URGENT = ("account_hacked", "strange_view", "fault_hot", "fault_lockout")
HELD_UP = ("device_fault", "connectivity", "setup", "app", "account", "delivery")
SUED = ("returns", "billing", "subscription", "security", "delivery", "feedback")
LONG, SHORT = 200, 40
LANGUAGES = ("de", "fr", "es")


def a_ticket(rng: random.Random, channel: str, among: Sequence[str] = ()) -> dict[str, Any]:
    """One ticket of a channel: its input, its label and the template of its core. `among`: these cases only."""
    names = list(among or CASES)
    weights = [RARE.get(name, 1.25 if name in URGENT else 1.0) for name in names]
    name = rng.choices(names, weights=weights)[0]
    case = CASES[name]
    draft = Draft(rng)
    if channel in ("email", "web_form") and case["category"] != "out_of_scope" and rng.random() < 0.015:
        return _subject_only(draft, name, channel)
    foreign = [code for code in LANGUAGES if code in case]
    language = rng.choice(foreign) if foreign and channel != "phone_note" and rng.random() < 0.1 else "en"
    core, template = text.pick_core(rng, name, language)
    core = text.capital(text.fill(draft, core, case, own=True))
    meaning = {"impact": _impact(rng, case), "legal": case["category"] in SUED and rng.random() < 0.05}
    meaning["sentiment"], mood = _sentiment(rng, case)
    frame = language if language != "en" else rng.choice(LANGUAGES) if rng.random() < 0.05 else "en"
    if name == "nothing":
        fresh, follow = core, ""
        meaning |= {"impact": "normal"}
    else:
        reply = channel == "email" and rng.random() < 0.06
        fresh, follow = _fresh(draft, case, core, meaning, mood, channel, reply=reply)
    body, is_reply = _body(draft, fresh, follow, channel, frame, calm="calm" in case)
    subject = _subject(draft, case, name, channel, is_reply=is_reply)
    if rng.random() < 0.16:
        body = text.slip(rng, body, rng.randint(1, 4))
    if channel == "chat" and rng.random() < 0.7:
        body = body.lower()
    return _row(draft, case, meaning, body, subject, channel, is_reply, frame, template)


def _subject_only(draft: Draft, name: str, channel: str) -> dict[str, Any]:
    """A ticket that says it all in the subject and has no body."""
    case = CASES[name]
    subject = draft.rng.choice(case["subjects"])
    draft.product = case.get("implied", "none")
    meaning = {
        "impact": "normal",
        "legal": False,
        "sentiment": "positive" if case.get("mood") == "positive" else "neutral",
    }
    if case.get("mood") == "upset":
        meaning["sentiment"] = "frustrated"
    template = f"{name}/subject/{subject}"
    if case["about"] and draft.rng.random() < 0.5:
        named, draft.reference = text.reference(draft, case["about"], "subject")
        subject = f"{subject}: {named}"
    return _row(draft, case, meaning, "", subject, channel, False, "en", template)


def _impact(rng: random.Random, case: dict[str, Any]) -> str:
    if case["category"] in HELD_UP and rng.random() < 0.2:
        return "blocking"
    return "can_wait" if case["severity"] in (2, 3) and "mood" not in case and rng.random() < 0.1 else "normal"


def _sentiment(rng: random.Random, case: dict[str, Any]) -> tuple[str, str]:
    """What the customer feels, and the pool of texts that shows it."""
    if "calm" in case:
        return "neutral", ""
    if case.get("mood") == "positive":
        return "positive", "positive" if rng.random() < 0.4 else ""
    weights = {"neutral": 52, "frustrated": 22, "angry": 17, "positive": 9}
    if case.get("mood") == "upset":
        weights = {"frustrated": 45, "angry": 55}
    elif case["severity"] == 4:
        weights = {"neutral": 80, "frustrated": 7, "angry": 3, "positive": 10}
    feels = rng.choices(list(weights), weights=list(weights.values()))[0]
    pool = feels
    if feels == "angry":
        pool = rng.choices(["angry", "sarcasm", "cold"], weights=[6, 3, 2])[0]
    return feels, pool


def _fresh(
    draft: Draft, case: dict[str, Any], core: str, meaning: dict[str, Any], mood: str, channel: str, *, reply: bool
) -> tuple[str, str]:
    """The new text of a ticket and, where it only reminds of an earlier mail, that mail."""
    rng = draft.rng
    about = [core]
    has_product = any(p != "none" for p in case["products"])
    if draft.product == "none" and has_product and "implied" not in case and rng.random() < 0.35:
        product = rng.choice([p for p in case["products"] if p != "none"])
        draft.product = product
        about.append(text.capital(said(rng, TEXTS["mention"]["clause"]).replace("{p}", text.a_mention(rng, product))))
    told = rng.choices([0, 1, 2], weights=[20, 45, 35] if channel != "chat" else [35, 55, 10])[0]
    about += [
        text.expand(rng, line)[0] for line in rng.sample(case.get("details", []), told if "details" in case else 0)
    ]
    if case["about"] and draft.reference is None and rng.random() < 0.55:
        clause, draft.reference = text.reference(draft, case["about"], "clause")
        about.insert(rng.choice([len(about), len(about), 0]), clause)
    follow = ""
    if reply:
        follow = " ".join(about)
        about = [said(rng, FRAME["follow_up"])]
    asides = [said(rng, TEXTS["sentiment"][mood])] if mood else []
    if meaning["impact"] != "normal":
        asides.append(said(rng, TEXTS["clue"][meaning["impact"]]))
    if meaning["legal"]:
        asides.append(said(rng, TEXTS["clue"]["legal"]))
    if rng.random() < 0.07:
        asides.append(said(rng, TEXTS["clue"]["noise"]))
    rng.shuffle(asides)
    parts = [*about, *asides] if rng.random() < 0.8 else [*asides[:1], *about, *asides[1:]]
    parts = _padding(rng, [part for part in parts if part], channel)
    if not reply and rng.random() < 0.06:
        topic = rng.choice(TEXTS["clue"]["topics"])
        parts.insert(0, said(rng, TEXTS["clue"]["other_first"]).replace("{x}", topic))
    paragraphs = (
        [" ".join(parts)]
        if len(parts) < 6
        else [" ".join(parts[: len(parts) // 2]), " ".join(parts[len(parts) // 2 :])]
    )
    if rng.random() < 0.07 and not reply:
        paragraphs.append(f"{said(rng, TEXTS['clue']['second'])} {_another(draft, case)}")
    if rng.random() < 0.03:
        paragraphs.append(f"My card: {draft.keep(text.a_card(rng))}")
    return "\n\n".join(paragraphs), follow


def _padding(rng: random.Random, parts: list[str], channel: str) -> list[str]:
    """What customers tell besides: nothing, a sentence or two, or a long story."""
    if channel == "chat":
        return parts
    roll = rng.random()
    count = rng.randint(10, 26) if roll < 0.06 else rng.randint(1, 4) if roll < 0.5 else 0
    lines = TEXTS["filler"]["lines"]
    fillers = [text.expand(rng, line)[0] for line in rng.sample(lines, min(count, len(lines)))]
    if rng.random() < 0.12:
        parts = [said(rng, FRAME["opener"]), *parts]
    for line in fillers:
        parts.insert(rng.randint(0, len(parts)), line)
    return parts


def _another(draft: Draft, case: dict[str, Any]) -> str:
    """A problem of another case, told as an aside or in an earlier mail; its ids are not what is asked for."""
    rng = draft.rng
    names = [
        name for name, other in CASES.items() if other["category"] not in (case["category"], "out_of_scope", "feedback")
    ]
    other = CASES[rng.choice(names)]
    line = text.expand(rng, rng.choice(other["lines"]))[0]
    told = text.capital(text.fill(draft, line, other, own=False))
    if other["about"] and rng.random() < 0.4:
        value = text.an_id(rng, other["about"])
        clause = said(rng, TEXTS["reference"][other["about"]]["clause"]).replace("{id}", draft.keep(value))
        told = f"{told} {clause}"
    return told


def _body(draft: Draft, fresh: str, follow: str, channel: str, frame: str, *, calm: bool) -> tuple[str, bool]:
    """The body with what the channel puts around the text, and whether it answers an earlier mail."""
    rng = draft.rng
    if channel == "phone_note":
        return f"{rng.choice(FRAME['phone_note'])} {fresh}".strip(), False
    if channel != "email" or (calm and rng.random() < 0.6):
        greet = fresh and rng.random() < 0.3
        return (f"{rng.choice(FRAME['greeting'])} {fresh}" if greet else fresh), False
    words = FRAME.get(frame, FRAME) if frame != "en" else FRAME
    name = rng.choice(FRAME["names"])
    parts = []
    if rng.random() < 0.85:
        parts.append(rng.choice(words["greeting"]))
    parts.append(fresh)
    if rng.random() < 0.85:
        parts.append(f"{rng.choice(words['closing'])}\n{text.signature(rng, name)}")
    if rng.random() < 0.2:
        parts.append(f"{'-- ' if rng.random() < 0.5 else '___'}\n{rng.choice(FRAME['disclaimer'])}")
    body = "\n\n".join(parts)
    if follow:
        old = f"{rng.choice(FRAME['greeting'])}\n\n{follow}\n\n{name}"
        return f"{body}\n\n{text.quoted(rng, old, name)[0]}", True
    if rng.random() >= 0.17:
        return body, False
    return _with_history(draft, body, name), True


def _with_history(draft: Draft, body: str, name: str) -> str:
    """The body with an earlier mail about something else: the customer's own or the agent's."""
    rng = draft.rng
    if rng.random() < 0.35:
        author = "Larkhome Support"
        old = f"[Ticket {rng.randint(20000, 98999)}] Hello {name},\n\n{rng.choice(FRAME['agent'])}\n\nLarkhome Support"
    else:
        author = name
        old = f"{rng.choice(FRAME['greeting'])}\n\n{_another(draft, {'category': ''})}\n\n{name}"
    if rng.random() < 0.3:
        older = f"{rng.choice(FRAME['greeting'])}\n\n{_another(draft, {'category': ''})}\n\n{name}"
        old = f"{old}\n\n{text.quoted(rng, older, name)[0]}"
    block, style = text.quoted(rng, old, author)
    if style == "marks" and rng.random() < 0.2:
        return f"{block}\n\n{body}"
    return f"{body}\n\n{block}"


def _subject(draft: Draft, case: dict[str, Any], name: str, channel: str, *, is_reply: bool) -> str | None:
    """The subject line: about the case, of no help, of another case, or none."""
    rng = draft.rng
    if channel in ("chat", "phone_note"):
        return None
    roll = rng.random()
    if roll < 0.1:
        return "" if roll < 0.05 else None
    if roll < 0.62 or name == "nothing":
        subject = rng.choice(case["subjects"])
        if draft.reference is not None and rng.random() < 0.2:
            subject = f"{subject} ({text.reference(draft, case['about'], 'subject')[0]})"
    elif roll < 0.92:
        subject = rng.choice(FRAME["generic_subject"])
    else:
        subject = rng.choice(CASES[rng.choice(list(CASES))]["subjects"])
    if rng.random() < 0.05:
        subject = f"{rng.choice(['URGENT', 'ASAP', 'Important', 'URGENT!!!'])}: {subject}"
    if is_reply:
        ticket = f"[Ticket {rng.randint(20000, 98999)}] " if rng.random() < 0.4 else ""
        subject = f"Re: {ticket}{subject}"
    return subject


def _customer(rng: random.Random, category: str) -> dict[str, Any]:
    """What the account system knows, which may be nothing."""
    if rng.random() < (0.7 if category == "out_of_scope" else 0.05):
        return {}
    known: dict[str, Any] = {}
    if rng.random() < 0.9:
        known["tier"] = rng.choices(["free", "plus", "business"], weights=[42, 33, 25])[0]
    if rng.random() < 0.85:
        known["open_tickets"] = rng.choices([0, 1, 2, 3, 4, 5], weights=[48, 24, 13, 8, 4, 3])[0]
    if rng.random() < 0.8:
        known["region"] = rng.choice(["EU", "EU", "UK", "US", "APAC"])
    if rng.random() < 0.6:
        known["customer_since"] = rng.randint(2016, 2026)
    return known


def _row(
    draft: Draft, case: dict[str, Any], meaning: dict[str, Any], body: str, subject: str | None, channel: str,
    is_reply: bool, frame: str, template: str,
) -> dict[str, Any]:  # fmt: skip
    rng = draft.rng
    body = draft.finish(body)
    words = len(body.split())
    size = "long" if words > LONG else "short" if words < SHORT else "medium"
    ticket: dict[str, Any] = {"channel": channel, "body": body, "size": size}
    if subject is not None:
        ticket["subject"] = draft.finish(subject)
    if channel == "email":
        ticket["is_reply"] = is_reply
    if rng.random() < 0.85:
        ticket["language"] = frame
    customer = _customer(rng, case["category"])
    if customer:
        ticket["customer"] = customer
    label = policy.route(case, {**meaning, "product": draft.product, "reference": draft.reference}, customer)
    return {"input": ticket, "labels": {"triage": label}, "template": template, "source": "synthetic"}


def rows(channel: str, count: int, seed: str = SEED) -> Iterator[dict[str, Any]]:
    """The first `count` tickets of a channel; each has a seed of its own, so any prefix is stable."""
    for index in range(count):
        yield {"id": f"{channel}-{index:05d}", **a_ticket(random.Random(f"{seed}/{channel}/{index}"), channel)}


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as packed JSON Lines; equal rows are equal bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", mtime=0) as packed:
        for row in rows:
            line = json.dumps(row, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
            packed.write(line.encode() + b"\n")
    path.write_bytes(buffer.getvalue())


def main() -> None:
    """Write one file per channel."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "datasets" / "seed")
    parser.add_argument("--tickets", type=int, default=TICKETS)
    parser.add_argument("--seed", default=SEED)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for channel, share in SHARES.items():
        write(arguments.out / f"{channel}.jsonl.gz", rows(channel, round(arguments.tickets * share), arguments.seed))


if __name__ == "__main__":
    main()
