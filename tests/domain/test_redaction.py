"""What identifies people goes, what does not stays, and what cannot be looked through is refused."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slm_assets.domain import redaction
from slm_assets.domain.redaction import RedactionError, RedactionPolicy, Redactor

PLANTED = {
    "email": ["ada.l+x@example.co.uk", "müller@bücher.de", "o'neil@mail.example.org", "ADA@EXAMPLE.COM"],
    "phone": ["+49 30 901820", "(212) 555-0143", "+44 20 7946 0018", "020 7946 0018", "+33 1 42 68 53 00"],
    "card": ["4111 1111 1111 1111", "5500-0000-0000-0004", "378282246310005"],
    "iban": ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "nl91abna0417164300"],
    "national_id": ["536-90-4399", "12345678Z", "RSSMRA85T10A562S", "390.533.447-05"],
    "ip": ["192.168.10.77", "2001:db8::8a2e:370:7334"],
    "secret": ["sk-abcdefghijklmnop1234", "ghp_abcdefghijklmnopqrst", "password: hunter2!", "Bearer abcdefghijklmnop"],
}
CASES = [(kind, value) for kind, values in PLANTED.items() for value in values]
CLEAN = [
    "Fly from Berlin to Paris on 2026-12-01, back 2026-12-05, 2 people, under EUR 1,250.00",
    "order 1234567890123 with flight LH1234 at 12:30:45, gate B42, version 1.2.3, 10:20 odds",
    "½ price… naïve café, €20, 30 % off, room 42, 3 x 4 = 12, ratio 10:20::30",
    "booking 2026112212345 for 14.12.2026",
]
REDACTOR = Redactor()


@pytest.mark.parametrize(("kind", "value"), CASES)
@pytest.mark.parametrize("frame", ["{}", "it is {}, thanks", "({})", "a\n{}\nb", "{{ 7*7 }} {} $(id)"])
def test_what_identifies_is_replaced_wherever_it_stands(kind, value, frame):
    text = frame.replace("{}", value) if "{{" in frame else frame.format(value)
    clean, found = REDACTOR.redact({"turn": [{"text": text}], value: 1})
    flat = json.dumps(clean, ensure_ascii=False)
    assert value not in flat and sum(found.values()) == 2
    assert flat.count("[") - 1 == 2, "the frame stays"
    # A number with the form of two kinds may be called by either.
    assert found.keys() <= {kind, "phone"}


@pytest.mark.parametrize("text", CLEAN)
def test_what_does_not_stays_as_it_is(text):
    assert REDACTOR.redact({"text": text, "n": [1, 2.5, True, None, 20261122]}) == (
        {"text": text, "n": [1, 2.5, True, None, 20261122]},
        Counter(),
    )


@pytest.mark.parametrize(
    "text",
    ["ada@exam\u200bple.com", "４１１１ １１１１ １１１１ １１１１", "ada＠example.com", "a\u00adda@example.com"],
)
def test_disguises_do_not_help(text):
    clean, found = REDACTOR.redact(text)
    assert clean in ("[email]", "[card]") and found.total() == 1


def test_long_numbers_that_are_numbers():
    assert REDACTOR.redact({"card": 4111111111111111}) == ({"card": "[card]"}, Counter(card=1))


def test_a_policy_keeps_kinds_and_removes_places():
    policy = RedactionPolicy(email="keep", fields=["/user/name", "/items/*/owner"])
    value = {
        "user": {"name": "Ada", "mail": "a@b.org"},
        "items": [{"owner": {"x": 1}}, {"owner": None, "ip": "8.8.4.4"}],
    }
    clean, found = Redactor(policy).redact(value)
    assert clean == {
        "user": {"name": "[removed]", "mail": "a@b.org"},
        "items": [{"owner": "[removed]"}, {"owner": None, "ip": "[ip]"}],
    }
    assert found == Counter(field=2, ip=1)


def test_it_fails_closed_and_says_nothing_of_the_text(monkeypatch):
    deep = []
    for _ in range(100):
        deep = [deep]
    for value in (deep, {"x": object()}):
        with pytest.raises(RedactionError, match="could not be redacted"):
            REDACTOR.redact(value)
    assert REDACTOR.redact("x" * (redaction.MAX_TEXT + 1))[0] == "[long_text]"

    def broken(_self, _text):
        raise ValueError("secret text")

    monkeypatch.setattr(Redactor, "_spans", broken)
    with pytest.raises(RedactionError) as caught:
        Redactor().redact({"a": "secret text"})
    assert "secret" not in str(caught.value)


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
    )
)
def test_any_value_comes_back_in_its_shape_and_twice_is_once(value):
    once, _ = REDACTOR.redact(value)
    again, found = REDACTOR.redact(once)
    assert again == once and not found
    assert type(once) is type(value) or isinstance(value, int)


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(CASES),
    st.text(st.characters(exclude_categories=("L", "N", "P", "S", "Cs")), max_size=5),
    st.text(max_size=20),
)
def test_nothing_planted_survives_between_spaces(case, blank, around):
    kind, value = case
    if kind == "phone" and not value.startswith("+"):
        around = "".join(char for char in around if not char.isdigit())  # which number it is, is in doubt then
    clean, _ = REDACTOR.redact(f"{around} {blank} {value} {blank} {around}")
    assert value not in clean
