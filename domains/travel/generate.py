"""Write the seed corpus of the travel domain: `python generate.py [--out DIR] [--turns N] [--seed TEXT]`.

Standard library only, seeded: the same call writes the same rows on every machine. A row is
{id, input: {event_type, event_payload, slot_state}, labels: {extract, render}, template, source}. The
labels are gold: the generator chooses the meaning first and then the words. `template` names the phrasing
(or the event and the state it meets), which is what the split keeps together.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from generator import policy, text
from generator.text import WORLD, Draft

TURNS = 8500
SEED = "travel-1"
SHARES = {"user_message": 0.68, "user_widget_submit": 0.15, "user_widget_cta_click": 0.17}
CITIES = sorted(WORLD["cities"])
GOALS = {
    "flights": 11, "hotels": 11, "activities": 8, "transfers": 7, "places": 8, "info": 5,
    "flight_detail": 4, "book_flight": 4, "book_hotel": 4, "book_it": 3, "pick_flight": 3, "pick_hotel": 3,
    "pick_any": 2, "order_status": 4, "summary": 4, "summarize": 4, "map": 3, "calendar": 4,
    "contradiction": 3, "visa": 2, "ood": 4, "pii": 3,
}  # fmt: skip
NEEDED = {
    "pick_flight": ("flights",), "pick_hotel": ("hotels",), "pick_any": ("flights",),
    "flight_detail": ("pick_flight",), "book_flight": ("pick_flight",), "book_hotel": ("pick_hotel",),
    "order_status": ("order",),
}  # fmt: skip
SEARCHES = ("flights", "hotels", "activities", "transfers", "places")


def an_id(rng: random.Random, prefix: str) -> str:
    """An identifier such as off_3k9d2a."""
    return prefix + "_" + "".join(rng.choice("0123456789abcdefghjkmnpqrstuvwxyz") for _ in range(6))


def a_state(rng: random.Random, *, early: float, must: tuple[str, ...] = ()) -> dict[str, Any]:
    """A slot state: with probability `early` some of region, dates and party are open and little has been
    searched. `must` names what is there in any case."""
    is_early = rng.random() < early and not must
    basic, searched, chosen = (0.5, 0.15, 0.2) if is_early else (1.0, 0.6, 0.5)
    state: dict[str, Any] = {"origin_city_code": rng.choice(CITIES)}

    def has(key: str, share: float) -> bool:
        return key in must or rng.random() < share

    if has("region", basic):
        state["region"] = text.region(rng.choice(CITIES))
    if has("dates", basic):
        start, end, nights = text.a_stay(rng)
        state |= {"check_in_date": start, "check_out_date": end}
        if rng.random() < 0.15:
            del state["check_out_date"]
            state["nights"] = nights
    if has("party", basic):
        state["party"] = text.a_party(rng)
    ready = {"region", "check_in_date", "party"} <= set(state)
    if "region" in state and has("places", searched):
        state["places_seen"] = [an_id(rng, "plc") for _ in range(rng.randint(1, 3))]
    if (ready and has("flights", searched)) or "pick_flight" in must or "order" in must:
        offers = state["flight_search_results"] = [{"id": an_id(rng, "off")} for _ in range(3)]
        if has("pick_flight", chosen) or "order" in must:
            state["picked_flight_offer_id"] = rng.choice(offers)["id"]
            if has("order", 0.4):
                state["order_id"] = an_id(rng, "ord")
    if (ready and has("hotels", searched)) or "pick_hotel" in must:
        hotels = state["hotel_search_results"] = [{"id": an_id(rng, "htl")} for _ in range(3)]
        if has("pick_hotel", chosen):
            state["picked_hotel_id"] = rng.choice(hotels)["id"]
    if rng.random() < (0.3 if is_early else 0.1):
        state["pending_goal"] = rng.choice(["flights", "hotels", "activities", "transfers"])
    if rng.random() < 0.04:
        state["providers_down"] = [rng.choice(["duffel", "hotelbeds", "google-places"])]
    return state


def a_message(rng: random.Random) -> dict[str, Any]:
    """A turn in which the traveller writes."""
    goal = rng.choices(list(GOALS), weights=list(GOALS.values()))[0]
    must: tuple[str, ...] = ()
    if goal in NEEDED and (goal.startswith("pick_") or rng.random() < 0.75):
        must = NEEDED[goal]
    state = a_state(rng, early={"info": 0.7, "book_it": 0.2}.get(goal, 0.2), must=must)
    draft = Draft()
    core, template = text.pick_core(rng, goal)
    core = text.fill(rng, core, draft)
    if goal in SEARCHES or goal == "info":
        _slots(rng, goal, state, draft)
    if goal in SEARCHES:
        core = _aside(rng, goal, core)
    if "{ord}" in core:
        core = _pick(rng, goal, core, state, draft)
    if rng.random() < 0.06 and goal not in policy.REFUSALS:
        draft.detail["brief"] = True
        draft.clauses.append(text.clause(rng, "brief"))
    meaning = {"info": "next", "order_status": "order_detail"}.get(goal, goal)
    if goal.startswith("pick_"):
        meaning = "flight_detail" if "picked_flight_offer_id" in draft.updates else "summary"
    sentence = text.assemble(rng, core, draft)
    return _turn("user_message", {"text": sentence}, state, meaning, draft, template)


def _slots(rng: random.Random, goal: str, state: dict[str, Any], draft: Draft) -> None:
    """What the traveller says about region, dates and party: mostly what is not known yet."""
    kind = {"flights": "region_to", "info": "region_info"}.get(goal, "region_in")
    known = 0.25 if goal == "info" else 0.15
    adders = {
        "region": lambda: text.add_region(rng, draft, kind, CITIES),
        "dates": lambda: text.add_dates(rng, draft),
        "party": lambda: text.add_party(rng, draft),
    }
    slot = {"region": "region", "dates": "check_in_date", "party": "party"}
    said = [need for need in adders if rng.random() < (known if slot[need] in state else 0.65)]
    for need in said or ([rng.choice(sorted(adders))] if goal == "info" else []):
        adders[need]()
    if goal == "flights" and rng.random() < 0.12:
        code = rng.choice(CITIES)
        draft.updates["origin_city_code"] = code
        draft.clauses.append(text.clause(rng, "origin", o=text.alias(rng, code)))


def _aside(rng: random.Random, goal: str, core: str) -> str:
    """Mention another service that is not wanted, or to be looked at later."""
    if rng.random() >= 0.07:
        return core
    names = {"flights": "flights", "hotels": "a hotel", "transfers": "a taxi", "activities": "tours"}
    other = names[rng.choice(sorted(set(names) - {goal}))]
    aside = text.clause(rng, "sorted_out", x=other)
    return rng.choice([f"{aside}. {core}", f"{core}. {aside}", f"{core}, {aside}", f"{core} before {other}"])


def _pick(rng: random.Random, goal: str, core: str, state: dict[str, Any], draft: Draft) -> str:
    """Choose one of the results that the state lists."""
    flight = goal == "pick_flight" or (goal == "pick_any" and "hotel_search_results" not in state)
    key, slot = ("flight_search_results", "picked_flight_offer_id")
    if not flight:
        key, slot = ("hotel_search_results", "picked_hotel_id")
    index = rng.randrange(len(state[key]))
    draft.updates[slot] = state[key][index]["id"]
    return core.replace("{ord}", text.ORDINALS[index])


def a_submit(rng: random.Random) -> dict[str, Any]:
    """A turn in which a widget's form is sent."""
    action = rng.choice(["region"] * 4 + ["dates"] * 4 + ["party"] * 4 + ["trip"] * 2 + ["cabin", "origin"])
    action = rng.choice([action] * 5 + ["category", "sport", "pickup"])
    state = a_state(rng, early=0.6)
    draft, goal = Draft(), "next"
    start, end, nights = text.a_stay(rng)
    span = {"from": start, "to": end, "nights": nights}
    stay = {"check_in_date": start, "check_out_date": end, "nights": nights}
    region, party = text.region(rng.choice(CITIES)), text.a_party(rng)
    value: Any
    if action == "region":
        value, draft.updates = region, {"region": region}
    elif action == "dates":
        value, draft.updates = span, stay
    elif action == "party":
        value, draft.updates = party, {"party": party}
    elif action == "trip":
        value = {"region": region, "dates": span, "party": party}
        draft.updates = {"region": region, **stay, "party": party}
    elif action == "origin":
        value, goal = {"city_code": rng.choice(CITIES)}, "flights"
        draft.updates = {"origin_city_code": value["city_code"]}
    else:
        tables = {"cabin": "flights", "category": "places", "sport": "activities", "pickup": "transfers"}
        table = {"category": "categories"}.get(action, action + "s")
        goal = tables[action]
        draft.detail[action] = rng.choice(sorted(WORLD[table]))
        value = {action: draft.detail[action]}
    payload = {"action_id": f"submit_{action}", "submitted_value": value}
    return _turn("user_widget_submit", payload, state, goal, draft, f"submit/{action}/{_family(state)}")


def a_click(rng: random.Random) -> dict[str, Any]:
    """A turn in which a button of a widget is pressed."""
    draft = Draft()
    offers = ["view_offer", "pick_offer", "book_offer"]
    plain = {
        "open_calendar": "calendar", "open_map": "map", "show_summary": "summary", "compare": "summarize",
        "view_order": "order_detail", "change_region": "change_region", "change_dates": "change_dates",
        "change_party": "change_party", "search_flights": "flights", "search_hotels": "hotels",
        "search_activities": "activities", "search_transfers": "transfers", "search_places": "places",
        "book_now": "book_it", "continue": "next",
    }  # fmt: skip
    action = rng.choice([*offers * 2, *["pick_hotel", "book_hotel"] * 2, "explore", *plain])
    wanted = "flights" if action in offers else "hotels" if action.endswith("_hotel") else None
    state = a_state(rng, early=0.4, must=(wanted,) if wanted else ())
    action_id, goal = action, plain.get(action, "next")
    if wanted:
        key, slot = f"{wanted[:-1]}_search_results", "picked_flight_offer_id"
        slot = slot if wanted == "flights" else "picked_hotel_id"
        draft.updates[slot] = rng.choice(state[key])["id"]
        action_id = f"{action}:{draft.updates[slot]}"
        goal = "flight_detail" if wanted == "flights" else "summary"
        goal = action.replace("offer", "flight") if action.startswith("book_") else goal
    elif action == "explore":
        draft.detail["category"] = rng.choice(sorted(WORLD["categories"]))
        action_id, goal = f"explore:{draft.detail['category']}", "places"
    template = f"click/{action}/{_family(state)}"
    return _turn("user_widget_cta_click", {"action_id": action_id}, state, goal, draft, template)


def _family(state: dict[str, Any]) -> str:
    """Which of the slots are filled: states that differ only in values are one family."""
    short = ["".join(word[0] for word in key.split("_")) for key in sorted(state)]
    return "+".join([*short, str(state.get("pending_goal", ""))])


def _turn(
    event: str, payload: dict[str, Any], state: dict[str, Any], goal: str, draft: Draft, template: str
) -> dict[str, Any]:
    frame = policy.extract(goal, draft.detail, state, draft.updates)
    return {
        "input": {"event_type": event, "event_payload": payload, "slot_state": state},
        "labels": {"extract": frame, "render": policy.render(frame, draft.detail, state)},
        "template": template,
        "source": "synthetic",
    }


MAKERS = {"user_message": a_message, "user_widget_submit": a_submit, "user_widget_cta_click": a_click}


def rows(event: str, count: int, seed: str = SEED) -> Iterator[dict[str, Any]]:
    """The first `count` turns of an event type; each has a seed of its own, so any prefix is stable."""
    for index in range(count):
        row = MAKERS[event](random.Random(f"{seed}/{event}/{index}"))
        yield {"id": f"{event}-{index:05d}", **row}


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as packed JSON Lines; equal rows are equal bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", mtime=0) as packed:
        for row in rows:
            line = json.dumps(row, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
            packed.write(line.encode() + b"\n")
    path.write_bytes(buffer.getvalue())


def main() -> None:
    """Write one file per event type."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "datasets" / "seed")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--seed", default=SEED)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for event, share in SHARES.items():
        write(arguments.out / f"{event}.jsonl.gz", rows(event, round(arguments.turns * share), arguments.seed))


if __name__ == "__main__":
    main()
