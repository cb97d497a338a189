"""What is right: the frame and the widgets of a turn whose meaning is known.

The generator knows what its traveller means (`goal`, `detail`, `updates`); nothing here reads a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Frame = dict[str, Any]

TRIP = ("region", "dates", "party")
NEEDS = {"places": ("region",), "flights": TRIP, "hotels": TRIP, "activities": TRIP, "transfers": TRIP}
INTENTS = {
    "places": "show_places",
    "flights": "show_flights",
    "hotels": "show_hotels",
    "activities": "show_activities",
    "transfers": "show_transfers",
    "book_flight": "order_confirmation",
    "book_hotel": "hotel_confirmation",
    "summary": "summary",
    "calendar": "calendar_live",
    "map": "trip_map",
}
REFUSALS = {
    "pii": ("error", "pii_redacted"),
    "ood": ("error", "out_of_domain"),
    "contradiction": ("clarify", "contradictory_constraints"),
    "visa": ("clarify", "blocker_needs_verification"),
}


def merge(state: Frame, updates: Frame) -> Frame:
    """The slot state after the turn; a new length of stay replaces the old end, and the reverse."""
    after = {**state, **updates}
    if "nights" in updates and "check_out_date" not in updates:
        after.pop("check_out_date", None)
    if "check_out_date" in updates and "nights" not in updates:
        after.pop("nights", None)
    return after


def missing(needs: Sequence[str], after: Frame, *, unserved: bool) -> list[str]:
    """Which of the needs the state does not meet; a city that is not served has to be chosen again."""
    have = {
        "region": "region" in after and not unserved,
        "dates": "check_in_date" in after and ("check_out_date" in after or "nights" in after),
        "party": "party" in after,
    }
    return [need for need in needs if not have[need]]


def extract(goal: str, detail: Frame, state: Frame, updates: Frame) -> Frame:
    """The frame of the extract role."""
    if goal in REFUSALS:
        kind, reason = REFUSALS[goal]
        return _frame({}, {"kind": kind, "reason": reason})
    after = merge(state, updates)
    unserved = bool(detail.get("unserved"))
    goal = _resolve(goal, after, unserved=unserved)
    if goal == "unselected":
        return _frame(updates, {"kind": "clarify", "reason": "confirmation_required"})
    if goal in ("order_detail", "flight_detail", "summarize"):
        return _frame(updates, {"kind": goal})
    lacking = missing(NEEDS.get(goal, ()), after, unserved=unserved)
    if goal.startswith("change_"):
        lacking = [goal.removeprefix("change_")]
    if lacking:
        return _frame(updates, {"kind": "collect_missing", "missing": lacking})
    if any(TOOLS.get(goal, "").startswith(provider) for provider in state.get("providers_down", ())):
        return _frame(updates, {"kind": "error", "reason": "provider_unavailable"})
    return _frame(updates, {"kind": INTENTS[goal]}, _request(goal, detail, after))


def _resolve(goal: str, after: Frame, *, unserved: bool) -> str:
    """The goal that a vague one comes down to in this state."""
    if goal == "next":
        lacking = missing(TRIP, after, unserved=unserved)
        return "flights" if lacking else str(after.get("pending_goal", "summary"))
    if goal == "book_it":
        flight = "picked_flight_offer_id" in after and "order_id" not in after
        goal = "book_flight" if flight else "book_hotel"
    if goal == "book_flight" and "order_id" in after:
        return "order_detail"
    selected = {
        "book_flight": ("picked_flight_offer_id",),
        "book_hotel": ("picked_hotel_id",),
        "flight_detail": ("picked_flight_offer_id",),
        "order_detail": ("order_id",),
        "summarize": ("places_seen", "flight_search_results", "hotel_search_results"),
    }
    unselected = goal in selected and not any(key in after for key in selected[goal])
    return "unselected" if unselected else goal


def _frame(updates: Frame, intent: Frame, request: Frame | None = None) -> Frame:
    return {
        "slot_updates": updates,
        "tool_requests": [request] if request else [],
        "render_intent": intent,
    }


def _stay_end(after: Frame) -> Frame:
    key = "check_out_date" if "check_out_date" in after else "nights"
    return {key: after[key]}


TOOLS = {
    "places": "google-places.search_text",
    "flights": "duffel.search_offers",
    "book_flight": "duffel.create_order",
    "hotels": "hotelbeds.search_hotels",
    "book_hotel": "hotelbeds.book_hotel",
    "activities": "hotelbeds-activities.search_activities",
    "transfers": "hotelbeds-transfers.search_transfers",
}


def _request(goal: str, detail: Frame, after: Frame) -> Frame | None:
    """The tool call of a goal, filled from the state after the turn."""
    if goal not in TOOLS:
        return None
    city, party = after.get("region", {}).get("city_code"), after.get("party", {})
    start = after.get("check_in_date")
    arguments: Frame = {}
    match goal:
        case "places":
            arguments = {"query": detail.get("category", "top sights"), "city_code": city}
        case "flights":
            arguments = {
                "origin": after["origin_city_code"],
                "destination": city,
                "departure_date": start,
                "adults": party["adults"],
                "cabin_class": detail.get("cabin", "economy"),
            }
        case "book_flight":
            arguments = {"offer_id": after["picked_flight_offer_id"], "adults": party["adults"]}
        case "hotels":
            rooms = {"adults": party["adults"], "rooms": party["rooms"]}
            arguments = {"city_code": city, "check_in_date": start, **_stay_end(after), **rooms}
        case "book_hotel":
            hotel = {"hotel_id": after["picked_hotel_id"], "rooms": party["rooms"]}
            arguments = {"check_in_date": start, **_stay_end(after), **hotel}
        case "activities":
            category = {"category": detail["sport"]} if "sport" in detail else {}
            arguments = {"city_code": city, "from_date": start, **category}
        case "transfers":
            pickup = detail.get("pickup", "airport")
            arguments = {"city_code": city, "pickup": pickup, "date": start, "adults": party["adults"]}
    return {"tool": TOOLS[goal], "arguments": arguments}


ASK = {"region": "place_autocomplete_input", "dates": "date_range_picker", "party": "party_picker"}
MESSAGES = {
    "show_places": "Here are places worth seeing.",
    "show_flights": "Here are flights for your dates.",
    "flight_detail": "Here is your flight in detail.",
    "order_confirmation": "Your flight is being booked.",
    "order_detail": "Here is your order.",
    "show_hotels": "Here are hotels with free rooms.",
    "hotel_confirmation": "Your room is being booked.",
    "show_activities": "Here is what you can do there.",
    "show_transfers": "Here are rides for your arrival.",
    "summary": "This is your trip so far.",
    "summarize": "This is what we have looked at.",
    "calendar_live": "Here is your schedule.",
    "trip_map": "Here is your trip on the map.",
    "pii_redacted": "Please do not send personal or payment data here.",
    "provider_unavailable": "That service does not answer right now. Please try again later.",
    "out_of_domain": "I can only help with trips.",
    "confirmation_required": "Please choose first what you mean.",
    "contradictory_constraints": "These wishes exclude each other. Which one counts?",
    "blocker_needs_verification": "Please check this with the authorities before you book.",
}
ASK_MESSAGES = {"region": "Where would you like to go?", "dates": "When?", "party": "Who is coming along?"}
LISTS = {
    "show_places": "place_list",
    "show_flights": "flight_list",
    "show_hotels": "hotel_list",
    "show_activities": "activity_list",
    "show_transfers": "transfer_list",
}


def render(frame: Frame, detail: Frame, state: Frame) -> Frame:
    """The envelope of the render role for a right frame."""
    intent = frame["render_intent"]
    kind = intent["kind"]
    after = merge(state, frame["slot_updates"])
    if kind == "collect_missing":
        lacking = intent["missing"]
        message = ASK_MESSAGES[lacking[0]] if len(lacking) == 1 else "I need a few details first."
        return {"bot_message": message, "widgets": [_ask(need, state) for need in lacking]}
    message = MESSAGES[intent.get("reason", kind)]
    length = "compact" if detail.get("brief") else "standard"
    if kind in LISTS:
        payload = {"search": frame["tool_requests"][0]["arguments"]}
        return {"bot_message": message, "widgets": [_widget(LISTS[kind], length, payload)]}
    if kind in ("error", "clarify"):
        name = "error_card" if kind == "error" else "choice_prompt"
        return {"bot_message": message, "widgets": [_widget(name, "standard", {"reason": intent["reason"]})]}
    start = {key: after[key] for key in ("check_in_date",) if key in after}
    if kind == "flight_detail":
        widgets = [_widget("flight_card", length, {"offer_id": after["picked_flight_offer_id"]})]
    elif kind == "order_confirmation":
        offer = frame["tool_requests"][0]["arguments"]["offer_id"]
        widgets = [_widget("order_confirmation", "standard", {"offer_id": offer})]
    elif kind == "order_detail":
        widgets = [_widget("order_card", length, {"order_id": after["order_id"]})]
    elif kind == "hotel_confirmation":
        hotel = frame["tool_requests"][0]["arguments"]["hotel_id"]
        widgets = [_widget("hotel_card", "confirmation", {"hotel_id": hotel})]
    elif kind == "calendar_live":
        widgets = [_widget("calendar_view", "full", start)]
    elif kind == "trip_map":
        city = {"city_code": after["region"]["city_code"]} if "region" in after else {}
        widgets = [_widget("map_view", "standard", {**city, "places": state.get("places_seen", [])})]
    elif kind == "summarize":
        keys = ("places_seen", "flight_search_results", "hotel_search_results")
        widgets = [_widget("itinerary_summary", "results", {key: state[key] for key in keys if key in state})]
    else:
        region = {"region": after["region"]["label"]} if "region" in after else {}
        ids = ("picked_flight_offer_id", "picked_hotel_id", "order_id")
        chosen = {key: after[key] for key in ids if key in after}
        widgets = [
            _widget("itinerary_summary", length, {**region, **start, **chosen}),
            _widget("calendar_view", "compact", start),
        ]
    return {"bot_message": message, "widgets": widgets}


def _ask(need: str, state: Frame) -> Frame:
    """The widget that asks for a need, showing what is known before the turn."""
    variant = "compact" if need == "dates" else "standard"
    current: Frame = {}
    if need == "region" and "region" in state:
        current = {"current": state["region"]["label"]}
    if need == "dates" and "check_in_date" in state:
        current = {"current": state["check_in_date"]}
    if need == "party" and "party" in state:
        current = {"current": state["party"]}
    return _widget(ASK[need], variant, current)


def _widget(widget_type: str, variant: str, payload: Frame) -> Frame:
    return {"schema_version": 1, "widget_type": widget_type, "variant": variant, "payload": payload}
