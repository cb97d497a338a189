"""Values in texts that are laid out as documents are: pieces, what surrounds them, and the choice among them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slm_assets.canonical import Json
from slm_assets.models import linear
from slm_assets.models.linear.choice import described
from slm_assets.models.linear.context import Describer
from slm_assets.models.linear.items import Items
from slm_assets.models.linear.page import Page
from slm_assets.models.linear.rank_fit import _Problem
from slm_assets.models.linear.scan import kinds_for, scan
from slm_assets.models.linear.spans import Document, documents

pytestmark = pytest.mark.filterwarnings("error")

Pair = tuple[Json, Json]


def found(text: str, scanner: str) -> list[str]:
    return [text[start:end] for start, end in scan(Page(text), scanner)]


@pytest.mark.parametrize(
    ("text", "dates"),
    [
        ("Due 31.03.2026, paid 2026-04-01", ["31.03.2026", "2026-04-01"]),
        ("le 1er mars 2026 ou le 14 févr. 2026", ["1er mars 2026", "14 févr. 2026"]),
        ("from 3 March 2026\n2027 on", ["3 March 2026"]),
        ("Gasse 7\n4051 Basel, 17   Affiches   10", []),
        ("March 3rd, 2026 and 03-Mar-26", ["March 3rd, 2026", "03-Mar-26"]),
        ("call 030 23125 430, version 1.2.3.4", []),
    ],
)
def test_dates(text: str, dates: list[str]) -> None:
    assert found(text, "date") == dates


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1\u00a0793,14 and 1\u202f793,14 and 1 793,14", ["1\u00a0793,14", "1\u202f793,14", "1 793,14"]),
        ("CHF 1’590.00, -119,00, 119,00-, (£24.93)", ["1’590.00", "119,00", "119,00", "24.93"]),
        ("19% of 12 345", ["19", "12 345"]),
        ("10          1.735,60", ["10", "1.735,60"]),
    ],
)
def test_numbers(text: str, numbers: list[str]) -> None:
    assert found(text, "number") == numbers


def test_codes_and_parts() -> None:
    assert "R 2026 / 117" in found("No. R 2026 / 117", "code")
    assert "RE-2025-45371" in found("(RE-2025-45371).", "code")
    assert found("nothing here", "code") == []
    assert "Foo Ltd" in found("From: Foo Ltd <a@b.example>", "part")
    assert "Queneo UG (limited)" in found("Queneo UG (limited) · 12 Main Street · Town", "part")
    assert "Ann Lee, Joinery" in found("Ann Lee, Joinery, 19 Orchard Way", "part")
    assert found("us$5 or usd 5, not usda", "words:usd|$") == ["$", "usd"]


def test_where_cells_stand() -> None:
    page = Page("Rate      Net       Tax\n19 %      100.00    19.00\n7 %       50.00     3.50\n\fNext")
    texts = {page.text[c.start : c.end]: c for c in page.cells}
    above = page.above(texts["3.50"])
    heading = page.heads[texts["3.50"].at]
    assert above is not None and page.text[above.start : above.end] == "19.00"
    assert page.cells[heading] == texts["Tax"]
    assert page.below(texts["Net"]) == texts["100.00"].at and page.below(texts["Next"]) == -1
    assert page.after_gap == [False, False, False, True]
    assert page.norm.startswith("rate") and "00 %" in page.norm
    assert Page("İ1").norm == "İ0"  # lower case would be longer


def test_kinds_follow_the_values() -> None:
    assert kinds_for([1.5], ("float",)) == ("number",)
    assert kinds_for(["2026-01-02"], ("date:dmy",)) == ("date",)
    assert kinds_for(["A-17", "B-4"], ("same",))[0] == "code"
    assert kinds_for(["Foo Ltd"], ("same",))[0] == "part"


@pytest.mark.parametrize("loss", ["single", "listed"])
@pytest.mark.parametrize("silent", [True, False])
def test_slopes_are_those_of_the_losses(loss: str, silent: bool) -> None:
    rng = np.random.default_rng(3)
    problem = _Problem(np.asarray([0, 4, 5, 9, 12]))
    good = np.zeros(12, bool)
    good[[1, 2, 6]] = True
    held, known = np.asarray([True, not silent, True, not silent]), np.asarray([True, True, True, silent])
    s = rng.normal(size=12)
    measure = getattr(problem, loss)
    total, slope = measure(s, good, known, held, silent)
    for k in range(12):
        step = np.zeros(12)
        step[k] = 1e-5
        up, down = (measure(s + sign * step, good, known, held, silent)[0] for sign in (1, -1))
        assert slope[k] == pytest.approx((up - down) / 2e-5, abs=1e-5)
    assert total > 0


def test_an_item_takes_what_it_lacks_from_unlikely_pieces() -> None:
    items = Items("/lines", {"rate": "r", "tax": "t"}, {}, (), ("rate", "tax"), by_line=False)
    pieces = [
        (1, "rate", 19.0, 0.9),
        (2, "tax", 5.0, 0.1),
        (2, "tax", 4.0, 0.2),
        (3, "rate", 7.0, 0.8),
        (4, "tax", 1.0, 1.0),
    ]
    assert [item for item, _ in items.read(pieces)] == [{"rate": 19.0, "tax": 4.0}, {"rate": 7.0, "tax": 1.0}]
    assert items.read([(1, "tax", 5.0, 0.4)]) == []


PAPER: dict[str, Any] = {
    "type": "object",
    "required": ["sender", "number", "day", "due", "currency", "total", "net", "lines"],
    "properties": {
        "sender": {"type": "string"},
        "number": {"type": "string"},
        "day": {"type": "string", "format": "date"},
        "due": {"type": ["string", "null"], "format": "date"},
        "currency": {"enum": ["EUR", "GBP", "SEK", "CHF"]},
        "total": {"type": "number", "format": "money"},
        "net": {"type": ["number", "null"], "format": "money"},
        "lines": {"type": "array", "items": {"type": "object"}},
    },
}
SIGNS = {"EUR": ["€", "EUR"], "GBP": ["£"], "SEK": ["SEK"], "CHF": ["Fr.", "CHF"]}


def paper(seed: int) -> Pair:
    """A bill in one of three layouts: labels beside, above or over their values; other dates, numbers and amounts."""
    rng = random.Random(seed)

    def day() -> tuple[str, str]:
        year, month, date = rng.randrange(2020, 2030), rng.randrange(1, 13), rng.randrange(13, 29)
        return f"{date}.{month:02}.{year}", f"{year}-{month:02}-{date}"

    def word(n: int) -> str:
        return "".join(rng.choice("abcdefghijklm") for _ in range(n)).title()

    sender, number = (
        f"{word(5)} {word(7)} {rng.choice(['Ltd', 'GmbH', 'SA'])}",
        f"{word(2).upper()}-{rng.randrange(10**4, 10**5)}",
    )
    (written, issued), (other, _), (until, due) = day(), day(), day()
    currency = rng.choice(list(SIGNS))
    sign = rng.choice(SIGNS[currency])
    lines = [
        {"rate": float(rate), "tax": rng.randrange(0, 9000) / 100 if rate else 0.0}
        for rate in rng.sample([0, 7, 19], rng.randrange(3))
    ]
    net = rng.randrange(10_000, 900_000) / 100
    total = round(net + sum(line["tax"] for line in lines), 2)
    stated, payable = rng.random() < 0.6, rng.random() < 0.6

    def money(value: float) -> str:
        return f"{sign} {value:,.2f}"

    facts = [
        ("Bill no.", number),
        ("Bill date", written),
        ("Delivered", other),
        ("Order no.", f"K-{rng.randrange(10**4, 10**5)}"),
    ]
    facts += [("Pay by", until)] if payable else []
    rng.shuffle(facts)
    sums = [("Net", money(net))] if stated else []
    sums += [(f"Tax {line['rate']:.0f} %", money(line["tax"])) for line in lines]
    sums += [("Total", money(total)), ("Paid so far", money(rng.randrange(1, 999) / 7))]
    head, buyer = [sender, f"{rng.randrange(1, 99)} {word(6)} Road", ""], ["To:", f"{word(4)} {word(6)} Ltd", ""]
    layout = rng.randrange(3)
    if layout == 0:
        rows = [f"{label}: {value}" for label, value in facts]
    elif layout == 1:
        rows = [part for label, value in facts for part in (label, value)]
    else:
        rows = ["".join(f"{pair[k]:<18}" for pair in facts).rstrip() for k in (0, 1)]
    below = (
        [part for pair in sums for part in pair]
        if layout == 1
        else [f"{label:<20}{value:>16}" for label, value in sums]
    )
    text = "\n".join([*head, *buyer, *rows, "", *below, "", f"{sender} - bank 12 345 678"])
    output = {
        "sender": sender, "number": number, "day": issued, "due": due if payable else None, "currency": currency,
        "total": total, "net": net if stated else None, "lines": lines,
    }  # fmt: skip
    return {"text": text}, output


@pytest.fixture(scope="module")
def paper_model() -> linear.LinearModel:
    return linear.train([paper(seed) for seed in range(400)], PAPER, settings=linear.LinearSettings(tune=1))


def test_laid_out_values_are_read(paper_model: linear.LinearModel) -> None:
    pairs = [paper(seed) for seed in range(1_000, 1_100)]
    answers = paper_model.predict_many([x for x, _ in pairs])
    assert paper_model.tagger is not None
    assert {label.scanner.partition(":")[0] for label in paper_model.tagger.labels} == {
        "code",
        "date",
        "number",
        "part",
        "words",
    }
    for place in PAPER["required"]:
        right = sum(a.output[place] == y[place] for a, (_, y) in zip(answers, pairs, strict=True))
        assert right >= 0.95 * len(pairs), place
    for answer, (x, y) in zip(answers, pairs, strict=True):
        spans = {s.output_path: x["text"][s.start : s.end] for s in answer.spans}
        assert answer.valid
        assert answer.output["sender"] == spans["/sender"]
        assert ("/net" in spans) == (answer.output["net"] is not None)
        if answer.output == y and y["lines"]:
            assert spans["/lines/0/rate"] == f"{y['lines'][0]['rate']:.0f}"


def test_what_stands_beside_a_value_that_no_text_lacks_is_a_feature(paper_model: linear.LinearModel) -> None:
    assert any(name.startswith("near:/total") for name in paper_model.features.names)


def test_a_piece_has_the_same_features_whatever_was_read_before() -> None:
    pages = [documents([("/text", ("text",), paper(seed)[0]["text"])])[0] for seed in range(40)]
    kinds = ["code", "date", "number", "part", "words:eur|€"]

    def features(describer: Describer, blocks: list[tuple[int, str]], page: Document) -> Any:
        found = described([page], kinds, describer)
        return [(pieces, [sorted(blocks[k] for k in row) for row in rows]) for pieces, rows in found]

    def fresh() -> tuple[Describer, list[tuple[int, str]]]:
        blocks: list[tuple[int, str]] = []

        def make(template: int, text: str) -> int:
            blocks.append((template, text))
            return len(blocks) - 1

        return Describer(make, {"number": frozenset({"0:2: :%"})}), blocks

    describer, blocks = fresh()
    for page in pages:
        read = features(describer, blocks, page)
        assert read == features(*fresh(), page)
        for kind, (pieces, rows) in zip(kinds, read, strict=True):
            assert {piece for _, piece in pieces} <= set(page.pieces(kind))
            assert len(rows) == len(pieces) + 1


def test_reading_again_gives_the_same(paper_model: linear.LinearModel, tmp_path: Path) -> None:
    values = [paper(seed)[0] for seed in range(2_000, 2_020)]
    cold = linear.train([paper(seed) for seed in range(400)], PAPER, settings=linear.LinearSettings(tune=1))
    first = [cold.predict(value) for value in values]
    assert [cold.predict(value) for value in reversed(values)] == first[::-1]
    linear.save(cold, tmp_path)
    assert linear.load(tmp_path, PAPER).predict_many(values) == first
    assert paper_model.predict_many(values) == first


@pytest.mark.parametrize("text", ["", "\n\n\n\n\n", "Total", "€ 5\n" * 300, "Bill no.: \n\n\n\n\f\n Net 1,5"])
def test_texts_that_hold_little(paper_model: linear.LinearModel, text: str) -> None:
    answer = paper_model.predict({"text": text})
    assert answer.valid and paper_model.contract.is_valid(answer.output)
