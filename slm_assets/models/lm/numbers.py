"""Numbers between two bounds as a regular expression: no number of digits without end."""

from __future__ import annotations


def between(low: int, high: int, decimals: int = 0) -> str:
    """Regex of the JSON numbers in [low, high] / 10^decimals, with at most so many decimals.

    Written with fewer decimals as well: 1.5 is there beside 1.50. "" where there is none.
    """
    found = []
    for places in range(decimals + 1):
        unit = 10 ** (decimals - places)
        least, most = -(-low // unit), high // unit
        if least > most:
            continue
        if most >= 0:
            found += [_pointed(part, places) for part in _parts(max(least, 0), most, places)]
        if least < 0:
            found += ["-" + _pointed(part, places) for part in _parts(max(-most, 1), -least, places)]
    return "|".join(dict.fromkeys(found))


def longest(low: int, high: int, decimals: int = 0) -> int:
    """Characters of the longest such number."""
    digits = max(len(str(abs(low))), len(str(abs(high))), decimals + 1)
    return digits + (decimals > 0) + (low < 0)


def _parts(low: int, high: int, places: int) -> list[list[str]]:
    """Digit by digit, the classes whose products are exactly low…high; padded with zeros to places + 1 digits."""
    found: list[list[str]] = []
    start = low
    while start <= high:
        width = max(len(str(start)), places + 1)
        found += _same_width(start, min(high, 10**width - 1), width)
        start = 10**width
    return found


def _same_width(low: int, high: int, width: int) -> list[list[str]]:
    """low…high, all of one width. Splits off what the last digits fill, as decimal ranges are."""
    first, last = str(low).zfill(width), str(high).zfill(width)
    if low == high:
        return [list(first)]
    for at in range(width):
        if first[at] != last[at]:
            break
    head, tail = list(first[:at]), width - at - 1
    unit = 10**tail
    if tail == 0:
        return [[*head, f"[{first[at]}-{last[at]}]"]]
    low_top, high_top = low // unit, high // unit
    found = []
    from_, to = low_top, high_top
    if low % unit:
        found += _same_width(low, (low_top + 1) * unit - 1, width)
        from_ += 1
    after: list[list[str]] = []
    if (high + 1) % unit:
        after = _same_width(high_top * unit, high, width)
        to -= 1
    if from_ <= to:
        a, b = str(from_)[-1], str(to)[-1]
        found.append([*head, a if a == b else f"[{a}-{b}]", *["[0-9]"] * tail])
    return found + after


def _pointed(part: list[str], places: int) -> str:
    return "".join(part) if places == 0 else "".join([*part[:-places], r"\.", *part[-places:]])
