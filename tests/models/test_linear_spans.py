"""Values that stand in texts: the CRF, its gazetteer, conventions of dates and amounts, items of arrays."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slm_assets.canonical import Json
from slm_assets.models import linear
from slm_assets.models.linear import crf_fit
from slm_assets.models.linear.crf import lattice, odds, viterbi
from slm_assets.models.linear.emit import Emitter
from slm_assets.models.linear.formats import MONTHS, month_names, written_amount, written_date
from slm_assets.models.linear.gazetteer import Gazetteer, phrase_of
from slm_assets.models.linear.lexicon import Lexicon
from slm_assets.models.linear.paths import ABSENT
from slm_assets.models.linear.spans import documents
from slm_assets.models.linear.tagger import pieces, token_ids
from slm_assets.models.linear.text import tokens

pytestmark = pytest.mark.filterwarnings("error")

Pair = tuple[Json, Json]


def sentences(seed: int, n: int) -> list[tuple[str, list[int]]]:
    """Texts with a name (tags 1, 2) and a colour (3, 4)."""
    rng = random.Random(seed)
    out = []
    for _ in range(n):
        full = [rng.choice(["ann", "bo", "cleo", "dee"]), rng.choice(["stone", "field", "brook"])]
        name = full[: rng.randrange(1, 3)]
        colour = rng.choice(["red", "dark green", "blue"]).split()
        words, tags = ["give"], [0]
        for part, tag in rng.sample([(name, 1), (colour, 3)], rng.randrange(1, 3)):
            words += [*part, rng.choice(["a", "the", "some", "please"])]
            tags += [tag] + [tag + 1] * (len(part) - 1) + [0]
        out.append((" ".join(words), tags))
    return out


def fitted(rows: list[tuple[str, list[int]]]) -> tuple[Any, Lexicon, list[Any]]:
    lexicon = Lexicon()
    chains = []
    for text, tags in rows:
        found = tokens(text)
        chains.append((lexicon.rows(text, found, [[] for _ in found]), tags))
    return crf_fit.fit_crf([([0, 1], chains)], lexicon, iterations=30), lexicon, chains


def test_our_viterbi_tags_as_the_training_library_does(tmp_path: Path) -> None:
    import pycrfsuite

    crf, lexicon, chains = fitted(sentences(1, 120))
    trainer = pycrfsuite.Trainer(algorithm="lbfgs", verbose=False)
    trainer.set_params({"max_iterations": 30, "c1": crf_fit.L1, "c2": crf_fit.L2})
    for rows, tags in chains:
        trainer.append([[str(i) for i in ids] for ids in rows], [str(tag) for tag in tags])
    trainer.train(str(tmp_path / "crf"))
    tagger = pycrfsuite.Tagger()
    tagger.open(str(tmp_path / "crf"))
    for text, _ in sentences(2, 300):
        found = tokens(text)
        none: list[list[str]] = [[] for _ in found]
        theirs = tagger.tag([[str(i) for i in ids] for ids in lexicon.rows(text, found, none)])
        scores, jumps = crf.emitter.scores(documents([("", (), text)]), [none]), crf.layers[0].transitions
        assert viterbi(scores, [(0, len(found))], jumps, odds(scores, jumps)) == [int(tag) for tag in theirs]


def test_scores_of_all_texts_at_once_are_the_sums_of_each_tokens_features() -> None:
    texts = ["Give me 24 dark Red ones", "< give-me > 17", "", "Rouge 2,5 kg?", "unseen words here, Give me"]
    docs = documents([(f"/{k % 2}", (k,), text) for k, text in enumerate(texts)])
    known = [[["b1:0", "i9:9"] if token.low == "give" else [] for token in own.tokens] for own in docs]
    lexicon, rng = Lexicon(), np.random.default_rng(5)

    def rows(lexicon: Lexicon, at: Sequence[int]) -> list[list[int]]:
        return [ids for d in at for ids in token_ids(docs[d], lexicon, known[d])]

    grown = rows(lexicon, range(4))
    small, _ = lexicon.kept(i for ids in grown for i in ids if i % 3)  # some weights are zero, most templates too
    weights = rng.normal(size=(small.size, 4)).astype(np.float32)
    expected = [weights[ids].sum(axis=0) for ids in rows(small, range(5))]
    emitter = Emitter(small, weights)
    for _ in range(2):
        np.testing.assert_allclose(emitter.scores(docs, known), expected, atol=1e-5)


@pytest.mark.parametrize("sure", [[], [1], [0, 4], [2, 3, 5], [0, 1, 2, 6], range(7)])
def test_probabilities_are_those_of_all_taggings(sure: Sequence[int]) -> None:
    """Also where tokens are surely no part of a span, which is what makes a long text quick."""
    rng = np.random.default_rng(len(sure))
    scores, jumps = rng.normal(size=(7, 5)).astype(np.float32), rng.normal(size=(5, 5)).astype(np.float32)
    scores[list(sure), 0] += 30
    bounds = [(0, 3), (3, 7)]
    gains = odds(scores, jumps)
    own = lattice(scores, bounds, jumps, gains)
    weights: Counter[tuple[int, int, int]] = Counter()
    marginal = np.zeros((7, 5))
    for start, end in bounds:
        total = 0.0
        found: Counter[tuple[int, int, int]] = Counter()
        sums = np.zeros((7, 5))
        best = (-np.inf, ())
        for code in np.ndindex(*(5,) * (end - start)):
            score = sum(float(scores[start + t, tag]) for t, tag in enumerate(code))
            score += sum(float(jumps[a, b]) for a, b in itertools.pairwise(code))
            best = max(best, (score, code))
            total += np.exp(score)
            for t, tag in enumerate(code):
                sums[start + t, tag] += np.exp(score)
            for label, i, j in pieces([0] * start + list(code), [(start, end)]):
                found[label, i, j] += np.exp(score)
        assert tuple(viterbi(scores, bounds, jumps, gains)[start:end]) == best[1]
        marginal += sums / total
        weights.update({span: value / total for span, value in found.items()})
    np.testing.assert_allclose(own.marginals, marginal, atol=1e-4)
    for (label, i, j), chance in weights.items():
        told = dict(enumerate(own.spans(1 + 2 * label, i, 9)))
        assert told.get(j - i, 0.0) == pytest.approx(chance, abs=1e-4)


def test_what_only_the_row_itself_says_is_not_known() -> None:
    text = tokens("play deep purple now")
    phrase = phrase_of(text[1:3])
    once, twice = Gazetteer.of_rows([[(phrase, 4)]]), Gazetteer.of_rows([[(phrase, 4)], [(phrase, 4)]])
    own = Counter([(phrase, 4)])
    assert once.names(text) == [[], ["b2:4"], ["i2:4"], []]
    assert once.names(text, own) == [[], [], [], []]
    assert twice.names(text, own) == once.names(text)
    assert Gazetteer.from_json(once.to_json()).names(text) == once.names(text)


@pytest.mark.parametrize(
    ("text", "day_first", "month_first"),
    [
        ("2026-11-09", "2026-11-09", "2026-11-09"),
        ("09/11/2026", "2026-11-09", "2026-09-11"),
        ("9.11.26", "2026-11-09", "2026-09-11"),
        ("19 July 2026", "2026-07-19", "2026-07-19"),
        ("July 19th, 2026", "2026-07-19", "2026-07-19"),
        ("3. März 2026", "2026-03-03", "2026-03-03"),
        ("31/02/2026", ABSENT, ABSENT),
        ("7/19/2026", ABSENT, "2026-07-19"),
        ("on 19 July 2026", ABSENT, ABSENT),
        ("12 34 56 78", ABSENT, ABSENT),
    ],
)
def test_written_dates(text: str, day_first: Any, month_first: Any) -> None:
    months = {**MONTHS, "märz": 3}
    assert written_date(text, months, month_first=False) == day_first
    assert written_date(text, months, month_first=True) == month_first


@pytest.mark.parametrize(
    ("text", "point", "comma"),
    [
        ("1,234.50", 1234.5, ABSENT),
        ("1.234,50", ABSENT, 1234.5),
        ("1 234,50", ABSENT, 1234.5),
        ("CHF 1’234.50", 1234.5, ABSENT),
        ("€12", 12.0, 12.0),
        ("CHF 12.-", 12.0, ABSENT),
        ("kr.5", 5.0, 5.0),
        ("1.234", 1.234, 1234.0),
        ("INV-34439", ABSENT, ABSENT),
        ("12 13", ABSENT, ABSENT),
    ],
)
def test_written_amounts(text: str, point: Any, comma: Any) -> None:
    assert written_amount(text, ".") == point
    assert written_amount(text, ",") == comma


def test_months_of_the_languages_in_use() -> None:
    german = month_names(["januar", "februar", "märz", "mai", "juni", "juli", "oktober", "dezember"])
    assert german["märz"] == 3
    assert month_names(["january", "may"]) == {}


BILL: dict[str, Any] = {
    "type": "object",
    "properties": {
        "day": {"type": "string", "format": "date"},
        "total": {"type": "number", "format": "money"},
        "payee": {"type": ["string", "null"]},
        "lines": {"type": "array", "items": {"type": "object"}},
    },
    "required": ["day", "total", "payee", "lines"],
}


def bill(seed: int, n: int) -> list[Pair]:
    """Bills in two languages, which write dates and amounts differently, with lines of any number."""
    rng = random.Random(seed)
    pairs: list[Pair] = []
    for _ in range(n):
        german = rng.random() < 0.5
        year, month, day = rng.randrange(2020, 2030), rng.randrange(1, 13), rng.randrange(1, 29)
        lines = [
            {"rate": float(rng.choice([5, 7, 19])), "tax": rng.randrange(100, 90_000) / 100}
            for _ in range(rng.randrange(0, 4))
        ]
        total = rng.randrange(100_000, 9_000_000) / 100
        payee = rng.choice([None, "".join(rng.choice("abcdefgh") for _ in range(7)).title()])

        def money(value: float, german: bool = german) -> str:
            written = f"{value:,.2f}"
            return written.translate(str.maketrans(",.", ".,")) if german else written

        if german:
            text = [f"Rechnung vom {day:02}/{month:02}/{year}", f"Zahlbar an {payee}" if payee else "Danke"]
            text += [f"Steuer {line['rate']:.0f} % : {money(line['tax'])}" for line in lines]
            text += [f"Summe {money(total)} EUR"]
        else:
            text = [f"Bill of {month:02}/{day:02}/{year}", f"Pay to {payee}" if payee else "Thank you"]
            text += [f"Tax at {line['rate']:.0f} % is {money(line['tax'])}" for line in lines]
            text += [f"Total {money(total)} USD"]
        output = {"day": f"{year}-{month:02}-{day:02}", "total": total, "payee": payee, "lines": lines}
        pairs.append(({"text": "\n".join(text)}, output))
    return pairs


@pytest.fixture(scope="module")
def bill_model() -> linear.LinearModel:
    return linear.train(bill(1, 300), BILL)


def test_each_text_follows_its_own_convention(bill_model: linear.LinearModel) -> None:
    pairs = bill(2, 150)
    answers = bill_model.predict_many([x for x, _ in pairs])
    for place in ("day", "total", "payee", "lines"):
        right = sum(a.output[place] == y[place] for a, (_, y) in zip(answers, pairs, strict=True))
        assert right >= 0.95 * len(pairs), place
    assert all(a.valid for a in answers)


def test_more_items_than_ever_seen(bill_model: linear.LinearModel) -> None:
    lines = [f"Tax at {rate} % is {rate}1.20" for rate in range(5, 30)]
    text = "\n".join(["Bill of 02/03/2024", *lines, "Total 5,000.00 USD"])
    answer = bill_model.predict({"text": text})
    assert len(answer.output["lines"]) == 25
    assert answer.output["lines"][-1] == {"rate": 29.0, "tax": 291.2}
    spans = {s.output_path: text[s.start : s.end] for s in answer.spans}
    assert spans["/lines/24/tax"] == "291.20"
    assert spans["/day"] == "02/03/2024"


def test_a_checkpoint_keeps_conventions_and_items(bill_model: linear.LinearModel, tmp_path: Path) -> None:
    linear.save(bill_model, tmp_path)
    values = [x for x, _ in bill(3, 40)]
    assert linear.load(tmp_path, BILL).predict_many(values) == bill_model.predict_many(values)


def orders(seed: int, n: int) -> list[Pair]:
    """An intent that decides which of many slots a text may hold; each slot may be missing."""
    rng = random.Random(seed)
    pairs: list[Pair] = []
    for _ in range(n):
        intent = rng.choice(["eat", "ride", "hear", "read", "send"])
        slots: dict[str, Json] = {}
        text = [f"i want to {intent}"]
        for k in range(3):
            if rng.random() < 0.6:
                word = "".join(rng.choice("abcdefghij") for _ in range(5))
                slots[f"{intent}_{k}"] = word
                text.append(f"{['with', 'near', 'by'][k]} {word}")
        pairs.append(({"text": " ".join(text)}, {"intent": intent, "slots": slots}))
    return pairs


def test_the_intent_chooses_the_tagger_and_the_text_the_slots() -> None:
    intents = {"type": "object", "properties": {"intent": {"enum": ["eat", "ride", "hear", "read", "send"]}}}
    model = linear.train(orders(1, 500), intents)
    assert model.report["tagger_split"] == "/intent"
    pairs = orders(2, 200)
    answers = model.predict_many([x for x, _ in pairs])
    assert sum(a.output == y for a, (_, y) in zip(answers, pairs, strict=True)) >= 0.95 * len(pairs)
    for answer, (x, _) in zip(answers, pairs, strict=True):
        read = {s.output_path.split("/")[2]: x["text"][s.start : s.end] for s in answer.spans}
        assert read == answer.output["slots"]


def test_two_values_of_one_piece() -> None:
    rng = random.Random(6)

    def row() -> Pair:
        day = f"20{rng.randrange(20, 40)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}"
        return {"text": f"only on {day} please"}, {"first": day, "last": day}

    def span() -> Pair:
        a, b = (f"20{rng.randrange(20, 40)}-0{rng.randrange(1, 10)}-{rng.randrange(10, 29)}" for _ in range(2))
        return {"text": f"from {a} to {b} please"}, {"first": a, "last": b}

    model = linear.train([rng.choice([row, span])() for _ in range(200)], {"type": "object"})
    pairs = [rng.choice([row, span])() for _ in range(100)]
    assert sum(model.predict(x).output == y for x, y in pairs) >= 95


def test_long_texts_are_cut_into_chains() -> None:
    line = " ".join(["word"] * 30) + ". "
    document = documents([("/text", ("text",), line * 20)])[0]
    sizes = [end - start for start, end in document.chains]
    assert sum(sizes) == len(document.tokens)
    assert max(sizes) <= 120
    assert documents([("/text", ("text",), "a b\nc\n\nd")])[0].chains == [(0, 2), (2, 3), (3, 4)]
    assert documents([("/text", ("text",), "")])[0].chains == []


def test_prediction_without_formats_loads_no_format_library(tmp_path: Path) -> None:
    linear.save(linear.train(orders(1, 100), {"type": "object"}), tmp_path)
    code = (
        "import sys; from pathlib import Path; from slm_assets.models import linear\n"
        f"model = linear.load(Path({str(tmp_path)!r}), {{}})\n"
        "model.predict({'text': 'i want to eat with abcde'})\n"
        "names = ('sklearn', 'scipy', 'pycrfsuite', 'dateparser')\n"
        "sys.exit(sum(name in sys.modules for name in names))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@cache
def calls_model() -> linear.LinearModel:
    rng = random.Random(1)
    pairs: list[Pair] = []
    for _ in range(60):
        name, topic = ("".join(rng.choice("abcdefgh") for _ in range(6)) for _ in range(2))
        pairs.append(({"text": f"please call {name} about {topic} today"}, {"name": name, "topic": topic}))
    text = {"type": "string"}
    return linear.train(pairs, {"type": "object", "properties": {"name": text, "topic": text}})


@pytest.mark.parametrize("value", [{}, {"text": ""}, {"text": " \n "}, {"text": None}, {"other": 3}, [], None])
def test_an_input_without_a_text_is_answered_where_a_value_must_be_read_from_one(value: Json) -> None:
    answer = calls_model().predict(value)
    assert answer.valid and set(answer.output) == {"name", "topic"}
