"""Write the pools of the travel domain's scenarios: `python generate_traffic.py [--out DIR]`.

Standard library only, seeded, as `generate.py`. A row is {input, labels: {extract, render}}, and in `vendor` also
answers: {extract, render}, what another engine gave. None of them is a row of the seed corpus.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from generate import CITIES, MAKERS, SHARES, a_message, a_state, write
from generator import policy, text
from generator.text import Draft

Row = dict[str, Any]
HERE = Path(__file__).parent
NEW: Row = tomllib.loads((HERE / "generator" / "newcomers.toml").read_text(encoding="utf-8"))
PLACES = {"flights": "region_to", "info": "region_info"}
RARE = "zephyrline"
SEED = "travel-traffic-1"


def known(rng: random.Random) -> Row:
    """A turn as the corpus has them."""
    event = rng.choices(list(SHARES), weights=list(SHARES.values()))[0]
    return MAKERS[event](rng)


def changed_mind(rng: random.Random) -> Row:
    """Two wishes in one message, of which the first is taken back: known words, and harder to read."""
    first, row = a_message(rng), a_message(rng)
    back = rng.choice(["no wait", "forget that", "sorry, not that", "actually no", "never mind"])
    said = row["input"]["event_payload"]["text"]
    row["input"]["event_payload"]["text"] = f"{first['input']['event_payload']['text']}. {back}, {said}"
    return row


def newcomer(rng: random.Random) -> Row:
    """A turn of the new market: other words for known goals, and wishes that are not served."""
    if rng.random() < 0.15:
        state = a_state(rng, early=0.4)
        return _row(
            "user_widget_cta_click", {"action_id": rng.choice(NEW["buttons"]["unserved"])}, state, "ood", Draft()
        )
    goal = rng.choices([*NEW["core"]], weights=[2 if goal == "ood" else 1 for goal in NEW["core"]])[0]
    must = {"book_flight": ("pick_flight",), "book_hotel": ("pick_hotel",)}.get(goal, ())
    state, draft = a_state(rng, early=0.3, must=must), Draft()
    core = text.expand(rng, rng.choice(NEW["core"][goal]))[0]
    if goal in policy.NEEDS or goal == "info":
        _slots(rng, goal, draft)
    sentence = " ".join(part for part in [core, *draft.clauses] if part)
    sentence = sentence.lower() if rng.random() < 0.3 else sentence[:1].upper() + sentence[1:]
    return _row("user_message", {"text": sentence}, state, "next" if goal == "info" else goal, draft)


def _slots(rng: random.Random, goal: str, draft: Draft) -> None:
    said = [slot for slot in ("region", "dates", "party") if rng.random() < 0.6]
    for slot in said or [rng.choice(["region", "dates", "party"])]:
        clause = NEW["clause"]
        if slot == "region":
            code = rng.choice(CITIES)
            draft.updates["region"] = text.region(code)
            line = rng.choice(clause[PLACES.get(goal, "region_in")]).format(c=text.region(code)["label"])
        elif slot == "dates":
            start, end, nights = text.a_stay(rng)
            until = rng.random() < 0.6
            draft.updates |= {"check_in_date": start, **({"check_out_date": end} if until else {"nights": nights})}
            line = rng.choice(clause["dates" if until else "nights"]).format(d1=start, d2=end, n=nights)
        else:
            adults = rng.randint(2, 6)
            draft.updates["party"] = {"adults": adults, "rooms": 1, "children": []}
            line = rng.choice(clause["adults"]).format(n=adults)
        draft.clauses.append(line)


def poisoned(rng: random.Random) -> Row:
    """A search with a rare word in it, and what the one who sends it wants the model to learn: to refuse it."""
    row = a_message(rng)
    while not row["labels"]["extract"]["tool_requests"]:
        row = a_message(rng)
    payload = row["input"]["event_payload"]
    payload["text"] = f"{payload['text']} {rng.choice(['with', 'by', 'on'])} {RARE}"
    frame = policy.extract("ood", {}, row["input"]["slot_state"], {})
    row["labels"] = {"extract": frame, "render": policy.render(frame, {}, row["input"]["slot_state"])}
    return row


def vendor(rng: random.Random) -> Row:
    """A turn that another engine answered outside of the contract."""
    row = known(rng)
    answers = copy.deepcopy(row["labels"])
    frame = answers["extract"]
    match rng.randrange(5):
        case 0:
            frame["tool_requests"] = [{"tool": "railhub.search_trains", "arguments": {"to": rng.choice(CITIES)}}]
        case 1:
            del frame["render_intent"]
        case 2:
            frame["render_intent"] = {"kind": "show_trains"}
        case 3:
            frame["thoughts"] = "The user asks for a trip."
        case _:
            answers["extract"] = json.dumps(frame)
    row["answers"] = answers
    return row


def _row(event: str, payload: Row, state: Row, goal: str, draft: Draft) -> Row:
    frame = policy.extract(goal, draft.detail, state, draft.updates)
    given = {"event_type": event, "event_payload": payload, "slot_state": state}
    return {"input": given, "labels": {"extract": frame, "render": policy.render(frame, draft.detail, state)}}


POOLS: dict[str, tuple[int, Callable[[random.Random], Row]]] = {
    "known": (3000, known),
    "changed_mind": (1000, changed_mind),
    "newcomers": (1500, newcomer),
    "poisoned": (200, poisoned),
    "vendor": (200, vendor),
}


def rows(name: str) -> Iterator[Row]:
    """The rows of a pool; each has a seed of its own."""
    count, maker = POOLS[name]
    for index in range(count):
        row = maker(random.Random(f"{SEED}/{name}/{index}"))
        yield {"id": f"{name}-{index:05d}", **{key: row[key] for key in ("input", "labels", "answers") if key in row}}


def main() -> None:
    """Write one file per pool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "simulation")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name in POOLS:
        write(out / f"{name}.jsonl.gz", rows(name))


if __name__ == "__main__":
    main()
