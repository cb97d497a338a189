"""Street addresses of English, German, French and Spanish, and the line with code and city behind them.

By the words that streets are called by, and a house number or a postal code: a street without either is a place that
many people know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from slm_assets.domain.recognisers.spans import DIGIT, Find, Span, alone

# The suffixes of the United States' postal service (Publication 28, C1), their plurals, and those of Britain.
_ENGLISH = """
Alley Annex Arcade Ave Avenue Bayou Beach Bend Bluffs? Blvd Bottom Boulevard Branch Bridge Brooks? Burgs?
Bypass Camp Canyon Cape Causeway Cent(?:er|re)s? Circles? Cir Cliffs? Close Club Commons? Corners? Course
Courts? Coves? Creek Crescent Crest Crossing Crossroads? Ct Curve Dale Dam Divide Dr Drives? Drove Estates?
Expressway Extensions? Falls? Ferry Fields? Flats? Fords? Forest Forges? Forks? Fort Freeway Gardens? Gateway
Glens? Greens? Groves? Harbou?rs? Haven Heights Highway Hills? Hollow Hwy Inlet Islands? Isle Junctions? Keys?
Knolls? Lakes? Land Landing Lane Lights? Ln Loaf Locks? Lodge Loop Mall Manors? Meadows? Mews Mills? Mission
Motorway Mount Mountains? Neck Orchard Oval Overpass Parade Parks? Parkways? Pass Passage Path Pike Pines?
Pkwy Place Plains? Plaza Points? Ports? Prairie Quay Radial Ramp Ranch Rapids? Rd Rest Ridges? Rise River
Roads? Route Row Rue Run Shoals? Shores? Skyway Springs? Spurs? Sq Squares? St Station Stravenue Stream
Streets? Summit Terrace Throughway Trace Track Trafficway Trails? Trailer Tunnel Turnpike Underpass Unions?
Valleys? Via Viaduct Views? Villages? Ville Vista Walks? Wall Ways? Wells? Wharf Wood
"""
_GERMAN = "Platz|Allee|Ring|Gasse|Ufer|Damm|Chaussee|Pfad|Weg"
_GERMAN_ENDING = "platz|allee|gasse|ufer|damm|chaussee|pfad|weg"
_FRENCH = "rue|avenue|av\\.|boulevard|bd|chemin|place|impasse|allée|quai|cours|route|square"
_SPANISH = r"""
acceso alameda arroyo avenida avda\.? av\.? bajada barrio calle calleja callej[oó]n camino carrer carretera c/
c\. cañada colonia cuesta explanada glorieta jard[ií]n ladera paraje parque pasadizo pasaje paseo pg\. plaza
plazuela pol[ií]gono prolongaci[oó]n puente rambla rampa rinc[oó]n ronda senda subida travesía urbanizaci[oó]n
vereda v[ií]a vial zona
"""
_WORD = r"\p{Lu}[\pL'’.\-]*"
_INNER = "apartment|apt|suite|ste|unit|flat|studio|room|floor|piso|puerta|bloque|esc|escalera|portal"
_UNIT = rf"(?i:{_INNER})\.? +[0-9A-Za-z\-]+"
_SMALL = "de|del|la|le|les|los|las|el|sur|sous|lès|en|ob|der|am|an|in|im|upon|on|a"
_CITY = rf"{_WORD}(?:[ \-](?:{_WORD}|(?:{_SMALL})\b))*(?:[/\-]\pL+)*"
_GAP = r" *[,\n] *\n? *"
_UK = r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}"
_CODED = rf"(?:[A-Z]{{1,2}}-)?\d{{4,5}} {_CITY}"
_BEHIND = (
    rf" *(?:{_GAP}{_UNIT})*(?:{_GAP}(?:{_CITY},? [A-Z]{{2}} \d{{5}}(?:-\d{{4}})?|{_CODED}|(?:{_CITY}(?:{_GAP}| ))?{_UK}"
    rf"|{_CITY}, ?\d{{5}}))?"
)
_TO = r"(?:de la |de l[’']|des |du |de |d[’']|la |le |les )?"
_NAMED = rf" {_TO}[\pL\d][\pL'’\-]*(?: (?:d[eu]s? )?[\p{{Lu}}\d][\pL'’\-]*){{0,4}}"
_OF = r"(?i:(?:de|del|de la|de los|de las|la|el) )?"
_APO = r"(?:APO|FPO|DPO),? A[AEP] \d{5}"


def _either(words: str) -> str:
    return "|".join(words.split())


_NUMBERED = rf"(?:\d{{1,6}}[A-Za-z]? |{_UNIT}{_GAP}(?:\d{{1,5}} )?)"
_ENGLISH_STREET = rf"{_NUMBERED}(?:{_WORD} ){{1,4}}(?:{_either(_ENGLISH)})\b\.?(?:,? {_UNIT})?"
_HYPHENED = r"(?:[\pL.]+-[\pL.\-]+ (?:de[rn]? )?|[Vv][ao]n (?:de[rn] )?)?"
_HOUSE = r" \d{1,4} ?[a-z]?(?:[/\-]\d{1,3})?"
_GERMAN_NAME = (
    rf"(?:[\pL.\-]*(?i:straße|strasse|str\.)|\p{{Lu}}[\pL.\-]*(?:{_GERMAN_ENDING})|(?:[\pL.\-]*-|\b)(?:{_GERMAN}))"
)
# Ordinary words end in -ring, too: such a street needs its town.
_GERMAN_STREET = rf"{_HYPHENED}(?:{_GERMAN_NAME}{_HOUSE}|\p{{Lu}}\pL*ring{_HOUSE}{_GAP}{_CODED})"
_FRENCH_STREET = rf"\d{{1,4}}(?: ?(?:bis|ter|quater|[A-D]))?,? *(?i:{_FRENCH}){_NAMED}"
# In France a street stands without a number where its town is small: then the code behind it tells.
_FRENCH_VILLAGE = rf"(?i:{_FRENCH}){_NAMED}{_GAP}{_CODED}"
_SPANISH_NAME = rf"{_OF}(?:{_WORD} (?:(?:de|del|la|las|los|y) )*){{0,5}}{_WORD}"
_SPANISH_STREET = rf"(?i:{_either(_SPANISH)}) {_SPANISH_NAME},? *(?:n[.º°]* *)?\d{{1,4}}(?:,? *{_UNIT})*"
_MILITARY = rf"(?:PSC|CMR|Unit) \d{{1,5}},? Box \d{{1,5}}(?:[\n,] *{_APO})?|(?:\p{{Lu}}\pL+ \p{{Lu}}\pL+[\n,] *)?{_APO}"
_BOX = r"(?i:p\.? ?o\.? ?box|postfach|boîte postale|apartado(?: de correos)?) \d{1,6}"
_MORE = re.compile(r"[-/.:,][0-9]")
"""What follows a number that is a date or an amount."""
_STREETS = [
    (rf"\b(?:{_either(_ENGLISH)})\b", _ENGLISH_STREET),
    (rf"(?i:stra(?:ß|ss)e|str\.|ring|{_GERMAN_ENDING}) \d", _GERMAN_STREET),
    (rf"(?i:{_FRENCH}) ", f"{_FRENCH_STREET}|{_FRENCH_VILLAGE}"),
    (rf"(?i:{_either(_SPANISH)}) ", _SPANISH_STREET),
    (r"Box \d|[AFD]PO", _MILITARY),
    ("(?i:box|fach|postale|aparta)", _BOX),
]
"""What a text must hold for it to be worth looking, which is far cheaper, and how streets are written."""


def streets() -> Find:
    """Streets with a house number or code, boxes, and the line with code and city behind them."""
    import re2

    # The classes of all letters make large automata.
    options = re2.Options()
    options.max_mem = 64 << 20
    finds = [(re2.compile(hint, options), re2.compile(street, options)) for hint, street in _STREETS]
    behind = re2.compile(_BEHIND, options)

    def find(text: str) -> Iterable[Span]:
        if " " not in text or not DIGIT.search(text):
            return ()
        return [span for hint, street in finds if hint.search(text) for span in _found(text, street, behind)]

    return find


def _found(text: str, street: Any, behind: Any) -> Iterator[Span]:
    for match in street.finditer(text):
        more = behind.match(text, match.end())
        for stop in (more.end() if more else match.end(), match.end()):
            start, end = match.start(), match.start() + len(text[match.start() : stop].rstrip(" \n."))
            if alone(text, start, end) and not _MORE.match(text, end):
                yield start, end
                break
