"""The scenarios of the shipped domains: what they send, and that their pools are what their generators write."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from slm_assets import canonical
from slm_assets.domain.contracts import Validator
from slm_assets.domain.domain import Domain
from slm_assets.domain.loading import load_domain
from slm_assets.domain.simulation import load_simulation
from slm_assets.domain.turns import role_input
from slm_assets.simulation.overlay import overlaid_copy
from slm_assets.simulation.pools import Case, read_pool
from slm_assets.simulation.run import Traffic, drop
from slm_assets.stages.rows.reading import SourceFile, read_rows

DOMAINS = Path(__file__).parents[2] / "domains"
NAMES = [
    "steady", "quality_loss", "rising_corrections", "invalid_outputs", "new_intents", "volume", "contract_change",
    "staleness", "poisoned_source", "regression_after_promotion",
]  # fmt: skip


@pytest.fixture(scope="module", params=["travel", "support_triage", "invoice_fields"])
def domain(request: Any) -> Domain:
    return load_domain(DOMAINS / request.param)


@pytest.fixture(scope="module")
def pools(domain: Domain) -> dict[str, list[Case]]:
    return {name: read_pool(domain, name, pool) for name, pool in load_simulation(domain).pools.items()}


def seed_rows(domain: Domain) -> list[Any]:
    files = [SourceFile("seed", name, path) for name, path in domain.data_files().items()]
    return [line.value for file in files for line in read_rows(file, 4_000_000)]


def words(cases: list[Case]) -> Counter[str]:
    return Counter(word for case in cases for word in canonical.text(case.turn).lower().split())


def test_every_domain_has_all_scenarios_and_no_pool_is_left_over(domain: Domain) -> None:
    found = load_simulation(domain)
    assert list(found.scenarios) == NAMES
    used = {stream.pool for each in found.scenarios.values() for phase in each.phases for stream in phase.mix}
    assert used == set(found.pools)


def test_turns_and_labels_meet_the_contracts_and_recorded_answers_do_not(
    domain: Domain, pools: dict[str, list[Case]]
) -> None:
    roles = domain.config.roles
    given = {role.id: Validator(domain.input_schema(role.id) or {}) for role in roles}
    wanted = {role.id: Validator(domain.output_schema(role.id)) for role in roles}
    for name, cases in pools.items():
        for case in cases:
            assert set(case.labels) == {role.id for role in roles}
            for role in roles:
                assert given[role.id].is_valid(role_input(role, case.turn, case.labels)), (name, case.turn)
                assert wanted[role.id].is_valid(case.labels[role.id]), (name, case.labels)
            assert bool(case.answers) == (name == "vendor")
            if case.answers:
                assert not all(wanted[role].is_valid(output) for role, output in case.answers.items()), case.answers


def test_what_is_sent_is_no_row_of_the_corpus(domain: Domain, pools: dict[str, list[Case]]) -> None:
    corpus = {canonical.text(row["input"]) for row in seed_rows(domain)}
    for name, cases in pools.items():
        again = sum(canonical.text(case.turn) in corpus for case in cases)
        assert again <= 0.005 * len(cases), (name, again)  # short turns may be said twice by chance


def test_newcomers_bring_words_that_the_corpus_lacks_and_steady_traffic_hardly_any(
    domain: Domain, pools: dict[str, list[Case]]
) -> None:
    corpus = set(words([Case(row["input"], {}, {}) for row in seed_rows(domain)]))
    plain = {word for word in corpus if word.isalpha()}

    def unseen(cases: list[Case]) -> float:
        new = [any(w.isalpha() and len(w) > 3 and w not in plain for w in words([case])) for case in cases]
        return sum(new) / len(new)

    shares = {name: unseen(cases[:400]) for name, cases in pools.items()}
    print(domain.name, {name: round(share, 3) for name, share in shares.items()})  # noqa: T201
    assert shares["newcomers"] > 0.5
    assert shares["known"] < 0.25  # names, and slips of the finger
    for name in {"known", "changed_mind", "two_problems", "stacked"} & set(pools):
        often = Counter(word for case in pools[name] for word in words([case]) if word.isalpha() and word not in plain)
        assert max(often.values()) <= 0.01 * len(pools[name]), (name, often.most_common(3))


def test_one_source_is_poisoned_and_insists(domain: Domain) -> None:
    turns = list(Traffic(domain, "poisoned_source", turns=2000))
    sent = [turn for turn in turns if turn.stream.pool == "poisoned"]
    assert 50 < len(sent) < 200 and len({turn.user for turn in sent}) == 1
    assert load_simulation(domain).outcomes[sent[0].stream.outcomes].wrong == {"correction": 1.0}


def test_recorded_traffic_falls_below_what_validity_asks(domain: Domain, tmp_path: Path) -> None:
    told = drop(Traffic(domain, "invalid_outputs"), tmp_path, last=datetime(2027, 1, 31, tzinfo=UTC))
    broken = max(told["invalid"].values()) / told["turns"]
    assert 0.02 < broken < 0.04, "below 99.5 % valid by more than chance"


def test_the_changed_contract_holds_for_the_rows_there_are(domain: Domain, tmp_path: Path) -> None:
    done = overlaid_copy(domain, "contract_change", load_simulation(domain).scenarios["contract_change"], tmp_path)
    copy = load_domain(tmp_path / domain.name)
    (changed,) = done["replaced"]
    assert changed.startswith("contracts/") and copy.digest != domain.digest
    role = domain.config.roles[0].id
    before, after = (set(each.output_schema(role)["properties"]) for each in (domain, copy))
    new = after - before
    assert before <= after, "the overlay lags behind the contract"
    assert len(new) == 1 and not new & set(copy.output_schema(role)["required"])
    contract = Validator(copy.output_schema(role))
    assert all(contract.is_valid(row["labels"][role]) for row in seed_rows(domain)[:500])


def test_the_generator_writes_the_committed_pools(domain: Domain, tmp_path: Path) -> None:
    folder = DOMAINS / domain.name
    subprocess.run([sys.executable, str(folder / "generate_traffic.py"), "--out", str(tmp_path)], check=True)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_bytes() for path in (folder / "simulation").glob("*.jsonl.gz")}
