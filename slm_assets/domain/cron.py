"""Cron schedules of five fields, checked before anything is scheduled by them."""

from __future__ import annotations

_CRON = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_CRON_NAMES = {
    3: ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"),
    4: ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"),
}


def cron_fault(schedule: str) -> str:
    """Why a text is no five-field cron schedule; empty where it is one."""
    fields = schedule.split()
    if len(fields) != len(_CRON):
        return f"{len(fields)} fields"
    for index, (text, (low, high)) in enumerate(zip(fields, _CRON, strict=True)):
        names = {name: str(low + number) for number, name in enumerate(_CRON_NAMES.get(index, ()))}
        for item in text.split(","):
            span, _, step = item.partition("/")
            ends = span.split("-") if span != "*" else [str(low), str(high)]
            numbers = [names.get(end.upper(), end) for end in ends]
            if not all(number.isascii() and number.isdigit() for number in numbers) or len(numbers) > 2:
                return f"field {index + 1} is not a number, a range or a list"
            values = [int(number) for number in numbers]
            if not all(low <= value <= high for value in values) or values != sorted(values):
                return f"field {index + 1} is not within {low}-{high}"
            if "/" in item and not (step.isascii() and step.isdigit() and int(step)):
                return f"field {index + 1} has a wrong step"
    return ""
