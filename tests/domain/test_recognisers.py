"""People, streets and phones in the words around them; what must stay; and any JSON at all."""

from __future__ import annotations

import gzip
import json
import re
import time
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slm_assets.domain import redaction
from slm_assets.domain.redaction import RedactionPolicy, Redactor

TRAVEL = Path(__file__).parents[2] / "domains" / "travel" / "datasets" / "seed"
REDACTOR = Redactor()
HIDDEN = [
    # What introduces a name.
    ("My name is Xantippe Quorl and I", "My name is [name] and I"),
    ("hi, my name is anna weber.", "hi, my name is [name]."),
    ("ich heiße Zoltan von Quitzow", "ich heiße [name]"),
    ("Kind regards,\nXantippe Quorl", "Kind regards,\n[name]"),
    ("Dear Mrs Quorl, thank you", "Dear [name], thank you"),
    ("Frau Dr. Quorl hat angerufen", "[name] hat angerufen"),
    ("Hi Anna, what now", "Hi [name], what now"),
    ('{"passenger": "Xantippe Quorl"}', '{"passenger": "[name]"}'),
    # What no introduction needs.
    ("a room for Anna Quorl and a dog", "a room for [name] and a dog"),
    ("a room for John F. Quorl", "a room for [name]"),
    ("a room for Jean-Pierre Quorl", "a room for [name]"),
    ("ask ANNA WEBER", "ask [name]"),
    # Streets.
    ("send it to 12 Old Mill Lane, Flat 3, Exeter EX4 3LS, please", "send it to [address], please"),
    ("415 Romero Skyway Apt. 837\nNorth Ray, AZ 94720", "[address]"),
    ("Ich wohne in der Klemmstraße 90, 90328 Bremen.", "Ich wohne in der [address]."),
    ("23 bis, rue Alphonse Michel\n85277 Lévy", "[address]"),
    ("Miesstr. 8/8\n03533 Rothenburg ob der Tauber, danke", "[address], danke"),
    ("Calle de Alicia Pastor 98, 3 B", "[address], 3 B"),
    # Phones, valid or not.
    ("call 555-867-5309 x12 now", "call [phone] now"),
    ("0341 483960 am 05.12.2026", "[phone] am 05.12.2026"),
    ("tel.: 0341483960", "tel.: [phone]"),
    ("+687 20.12.34 or +683 7012", "[phone] or [phone]"),
    ("mail me%40example.org", "mail [email]"),
    ("see https://ada:pw12@db.example.org/x?y=1 now", "see [secret] now"),
]
KEPT = [
    "Fly from Paris to Berlin, then San Francisco, New York and Santa Cruz",
    "Charlotte Airport or Florence Station, Will Tuesday do? May Monday?",
    "See T-69173. The serial is YQD7-EG6M. Tell me.",
    "starting 2027-11-11, during 3 days in spring 2027, 5 Star Hotel",
    "order 0012345678 and invoice no. 4155550134",
    "2026-12-01 10:30, 01/02/2026-05/02/2026, 01.02.2026 10:30",
    "the Vista Cam at Alexanderplatz, near rue de Rivoli and Plaza Mayor",
    "my name is not important, I am happy, this is urgent, Hi Team, Dear Support",
    "total 1 057,20, net 10 057 200, 152.90 458.70",
]


@pytest.mark.parametrize(("text", "clean"), HIDDEN)
def test_it_goes(text, clean):
    assert REDACTOR.text(text) == clean


@pytest.mark.parametrize("text", KEPT)
def test_it_stays(text):
    assert REDACTOR.text(text) == text


def test_keys_that_say_what_they_hold_hide_it_however_they_are_written():
    value = {
        "customerName": "Xq",
        "e": {"First-Name": ["A", "B"], "name": "search_flights"},
        "Address": {"street": "X 1", "city": "Bonn"},
        "phone": 12345,
        "email": None,
    }
    clean, found = REDACTOR.redact(value)
    assert clean == {
        "customerName": "[removed]",
        "e": {"First-Name": ["[removed]"] * 2, "name": "search_flights"},
        "Address": {"street": "[removed]", "city": "Bonn"},
        "phone": "[removed]",
        "email": None,
    }
    assert found == Counter(field=5)
    assert REDACTOR.redact(clean) == (clean, Counter())
    assert Redactor(RedactionPolicy(keys=[])).redact({"first_name": "Xq"})[0] == {"first_name": "Xq"}


def test_keys_that_are_the_same_without_what_they_hide_stay_apart():
    clean, _ = REDACTOR.redact({"a@b.org": 1, "x": 2, "c@d.org": 3, "[email] 2": 4})
    assert list(clean.items()) == [("[email]", 1), ("x", 2), ("[email] 2", 3), ("[email] 2 2", 4)]


def test_each_kind_can_be_kept():
    text = "Anna Quorl, 12 Old Mill Lane, a@b.org"
    assert Redactor(RedactionPolicy(name="keep")).text(text) == "Anna Quorl, [address], [email]"
    assert Redactor(RedactionPolicy(address="keep")).text(text) == "[name], 12 Old Mill Lane, [email]"


def test_two_thousand_clean_turns_keep_their_words_dates_cities_and_ids():
    """The corpus's only rows with something to hide are those of its goal `pii`."""
    with gzip.open(TRAVEL / "user_message.jsonl.gz", "rt") as file:
        rows = (json.loads(line) for line in file)
        clean = list(islice((row for row in rows if not row["template"].startswith("pii/")), 2000))
    assert len(clean) == 2000
    changed = tokens = 0
    for row in clean:
        given_text = json.dumps([row["input"], row["labels"]])
        kept = Counter(re.findall(r"\w+", json.dumps(REDACTOR.redact([row["input"], row["labels"]])[0])))
        words = Counter(re.findall(r"\w+", given_text))
        tokens += words.total()
        changed += (words - kept).total()
    assert changed <= 0.01 * tokens and tokens > 100_000
    assert changed == 0, "and now none at all"


def test_what_was_found_clean_is_remembered_and_nothing_else(monkeypatch):
    monkeypatch.setattr(redaction, "REMEMBERED", 3)
    redactor = Redactor()
    for text in ("a", "b", "c", "d", "a@b.org", "x" * 1000):
        redactor.text(text)
    assert redactor._clean == {"d"}
    assert redactor.text("a@b.org") == "[email]"


@pytest.mark.parametrize("text", ["a" * 9_000, "1 " * 9_000, "A " * 9_000, "Anna " * 4_000, "@" * 9_000, ":" * 9_000])
def test_long_texts_take_linear_time(text):
    started = time.process_time()
    REDACTOR.text(text)
    assert time.process_time() - started < 5


PIECES = st.sampled_from([
    "Anna", "Weber", "Mr", "a@b.org", "+49 30 901820", "4111 1111 1111 1111", "12 Mill Lane", "[name]", "[", "]",
    "Dear ", ",", "\n", " ", "my name is ", "password: ", "sk-abcdefghijklmnop1234", "٠١٢٣", "\u200b", "é", "-",
])  # fmt: skip
TEXTS = st.text(max_size=40) | st.lists(PIECES, max_size=8).map("".join)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
ANY = st.recursive(LEAVES, lambda v: st.lists(v, max_size=5) | st.dictionaries(TEXTS, v, max_size=5), max_leaves=20)


def _same_shape(before, after):
    if isinstance(before, dict):
        assert isinstance(after, dict) and len(after) == len(before)
        for (key, one), (name, other) in zip(before.items(), after.items(), strict=True):
            assert key == name or "[" in name
            _same_shape(one, other)
    elif isinstance(before, list):
        assert isinstance(after, list) and len(after) == len(before)
        for one, other in zip(before, after, strict=True):
            _same_shape(one, other)
    elif isinstance(before, str):
        assert isinstance(after, str)
    elif before is None or isinstance(before, bool):
        assert after is before
    else:
        assert after == before or isinstance(after, str)


@settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
@given(ANY)
def test_any_json_keeps_its_shape_and_twice_is_once(value):
    once, _ = REDACTOR.redact(value)
    _same_shape(value, once)
    assert REDACTOR.redact(once) == (once, Counter())
