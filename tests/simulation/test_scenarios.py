"""Scenarios as data: what is refused, what they draw, what is written of them."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slm_assets.domain.loading import load_domain
from slm_assets.domain.simulation import Outcomes, Phase
from slm_assets.errors import BadInputError, ConfigError
from slm_assets.simulation.judge import Feedback, compared, reaction
from slm_assets.simulation.overlay import overlaid_copy
from slm_assets.simulation.run import Traffic
from slm_assets.simulation.schedule import counts
from slm_assets.simulation.tally import quantile
from tests.simulation.scenario_files import write_scenarios


@pytest.fixture
def folder(workplace):
    write_scenarios(workplace.domains / "tiny")
    return workplace.domains / "tiny"


@pytest.fixture
def domain(folder):
    return load_domain(folder)


def edit(folder, before, after):
    path = folder / "simulation" / "scenarios.yaml"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


FAULTS = [
    ("mix: [{pool: silent,", "mix: [{pool: silnt,", "$.scenarios.quiet.phases[0].mix[0].pool: no such pool"),
    ("pool: silent, outcomes: some", "pool: silent, outcomes: sums", "no such outcomes"),
    ("{success: 0.5}", "{succes: 0.5}", "unknown signal"),
    ("{success: 0.5}", "{correction: 0.5}", "a correction of what is right"),
    ("{correction: 0.5, retry: 0.25}", "{correction: 0.8, retry: 0.25}", "probabilities of more than 1"),
    ("id: after", "id: before", "two phases of one id"),
    ("simulation/silent.jsonl", "simulation/silence.jsonl", "no such file"),
    ("simulation/silent.jsonl", "../silent.jsonl", "leaves the domain's folder"),
    ("overlay: simulation/changed", "overlay: simulation/charged", "no such folder"),
    ("weight: 2", "wait: 2", "did you mean weight?"),
    ("turns: 40", "turns: 0", "wrong value"),
]


@pytest.mark.parametrize(("before", "after", "said"), FAULTS)
def test_a_wrong_scenario_is_refused_with_its_place(folder, before, after, said):
    edit(folder, before, after)
    with pytest.raises(ConfigError) as caught:
        load_domain(folder)
    (fault,) = [fault for fault in caught.value.faults if said in str(fault)]
    assert fault.file == "simulation/scenarios.yaml" and fault.line


def test_all_faults_are_told_at_once_by_validate(workplace, folder):
    for before, after, _ in (FAULTS[1], FAULTS[5], FAULTS[8]):
        edit(folder, before, after)
    told = workplace.json("validate", "tiny", code=2)["domains"]["tiny"]
    assert {"no such outcomes", "two phases of one id", "no such folder"} <= {fault["message"] for fault in told}


def test_a_missing_file_of_scenarios_is_a_fault_of_the_config(folder):
    (folder / "simulation" / "scenarios.yaml").unlink()
    with pytest.raises(ConfigError, match=r"improvement\.simulation: no such file"):
        load_domain(folder)


def test_scenarios_are_data_and_open_no_new_version(folder, domain):
    edit(folder, "turns: 40", "turns: 41")
    assert load_domain(folder).digest == domain.digest


def test_a_row_that_cannot_be_used_is_named(folder):
    with (folder / "simulation" / "known.jsonl").open("a") as file:
        file.write('{"labels": {}}\n')
    with pytest.raises(BadInputError, match=r"pool known: simulation/known.jsonl:61: no input"):
        Traffic(load_domain(folder), "steady")


def test_a_label_of_no_role_is_named(folder):
    (folder / "simulation" / "silent.jsonl").write_text('{"input": {"text": "a"}, "labels": {"triag": {}}}\n')
    with pytest.raises(BadInputError, match=r"silent\.jsonl:1: no role 'triag'"):
        Traffic(load_domain(folder), "quiet")


def test_the_same_seed_is_the_same_traffic(domain):
    one, again, other = (list(Traffic(domain, "shift", seed=seed)) for seed in (3, 3, 4))
    assert one == again
    assert one != other
    assert not {turn.conversation for turn in one} & {turn.conversation for turn in other}


def test_a_phase_is_the_same_alone_and_a_longer_one_begins_with_it(domain):
    whole = [turn for turn in Traffic(domain, "shift") if turn.phase == "after"]
    assert list(Traffic(domain, "shift", phases=["after"])) == whole
    longer = [turn for turn in Traffic(domain, "shift", turns=180) if turn.phase == "after"]
    assert len(longer) == 120 and longer[:60] == whole


def test_a_mix_has_its_shares_and_every_row_comes_once_before_it_comes_again(domain):
    turns = [turn for turn in Traffic(domain, "shift", turns=9000) if turn.phase == "after"]
    pools = Counter(turn.stream.pool for turn in turns)
    assert 0.63 < pools["odd"] / len(turns) < 0.70  # 2/3, and three standard errors of 0.6 points
    odd = [turn.case.turn["text"] for turn in turns if turn.stream.pool == "odd"]
    for start in range(0, 70, 7):
        assert len(set(odd[start : start + 7])) == 7


def test_a_conversation_is_one_users_and_some_users_send_more(domain):
    turns = list(Traffic(domain, "shift", turns=9000))
    speakers: dict[str, set[str]] = {}
    for turn in turns:
        speakers.setdefault(turn.conversation, set()).add(turn.user)
    assert all(len(users) == 1 for users in speakers.values())
    assert 2.5 < len(turns) / len(speakers) < 3.5
    assert {turn.user for turn in turns if turn.stream.pool == "odd"} == {"odd-00000"}
    known = Counter(turn.user for turn in turns if turn.stream.pool == "known")
    assert len(known) == 9
    assert 2 < known["known-00000"] / known["known-00008"] < 4.5  # √9, and chance


@given(st.lists(st.integers(1, 50), min_size=1, max_size=5), st.integers(1, 400))
def test_turns_are_shared_out_in_proportion(given_turns, turns):
    stream = {"pool": "a", "outcomes": "b"}
    phases = [Phase.model_validate({"id": "p", "turns": n, "mix": [stream]}) for n in given_turns]
    shared = counts(phases, turns)
    assert sum(shared) == turns
    exact = [turns * n / sum(given_turns) for n in given_turns]
    assert all(abs(have - want) < 1 for have, want in zip(shared, exact, strict=True))
    assert counts(phases, None) == given_turns


def test_signals_share_the_draw_in_the_order_of_the_file():
    model = Outcomes(right={"success": 0.25}, wrong={"correction": 0.5, "retry": 0.25})
    labels = {"a": 1, "b": {"x": [1, 2]}, "c": "t"}
    right = compared(labels, {"a": 1.0, "b": {"x": [2, 1]}})
    assert right == {"a": True, "b": False, "c": False}
    assert reaction(model, 0.49, labels, right) == [
        Feedback("correction", "b", {"x": [1, 2]}),
        Feedback("correction", "c", "t"),
    ]
    assert reaction(model, 0.51, labels, right) == [Feedback("retry", None, None)]
    assert reaction(model, 0.76, labels, right) == []
    assert reaction(model, 0.2, {"a": 1}, {"a": True}) == [Feedback("success", None, None)]
    assert reaction(model, 0.2, {}, {}) == []
    assert Feedback("retry", None, None).body() == {"signal": "retry"}


def test_quantiles_are_values_that_were_measured():
    assert [quantile(list(range(1, 101)), share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert quantile([7.0], 0.99) == 7.0 and quantile([1, 2], 0.5) == 1


def test_recorded_turns_are_written_as_the_capture_writes_turns(workplace, folder, tmp_path):
    drop = tmp_path / "drop"
    asked = ("simulate", "tiny", "--scenario", "elsewhere", "--drop", str(drop), "--at", "2027-01-31T12:00:00Z")
    told = workplace.json(*asked)
    (file,) = drop.iterdir()
    first = file.read_bytes()
    rows = [json.loads(line) for line in first.splitlines()]
    assert told["turns"] == len(rows) == 50 and told["file"] == str(file)
    assert len({row["turn_id"] for row in rows}) == 50
    assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)
    assert rows[-1]["at"] == "2027-01-31T12:00:00.000Z"
    broken = [row for row in rows if not row["answers"]["triage"]["valid"]]
    assert {row["answers"]["triage"]["engine"] for row in rows} == {"vendor"}
    assert 10 < len(broken) < 40 and told["invalid"] == {"triage": len(broken)}
    for row in rows:
        (outcome,) = row["outcomes"]
        assert set(row) == {
            "kind", "turn_id", "at", "domain", "role", "conversation", "user", "input", "answers", "outcomes"
        }  # fmt: skip
        if row in broken:
            assert outcome["signal"] == "correction" and "urgent" in outcome["detail"]
        else:
            assert outcome["signal"] == "success"
    workplace.json(*asked)
    assert file.read_bytes() == first
    workplace.json(*asked, "--seed", "2")
    assert len(list(drop.iterdir())) == 2


def test_a_changed_contract_is_laid_over_a_copy(workplace, folder, domain, tmp_path):
    told = workplace.json("simulate", "tiny", "--scenario", "changed", "--copy-to", str(tmp_path / "copy"))
    assert told["replaced"] == ["contracts/triage.schema.json"] and told["added"] == []
    copy = load_domain(tmp_path / "copy" / "tiny")
    assert "mood" in copy.output_schema("triage")["properties"]
    assert load_domain(folder).digest == domain.digest != copy.digest
    again = workplace.slm("simulate", "tiny", "--scenario", "changed", "--copy-to", str(tmp_path / "copy"))
    assert again.returncode == 2 and "is there already" in again.stderr


def test_an_overlay_that_makes_no_sound_domain_or_changes_nothing_is_refused(folder, domain, tmp_path):
    scenario = Traffic(domain, "changed").scenario
    contract = folder / "simulation" / "changed" / "contracts" / "triage.schema.json"
    contract.write_text('{"type": "objekt"}')
    with pytest.raises(ConfigError, match=r"triage\.schema\.json"):
        overlaid_copy(domain, "changed", scenario, tmp_path / "one")
    contract.write_bytes((folder / "contracts" / "triage.schema.json").read_bytes())
    with pytest.raises(BadInputError, match="has already"):
        overlaid_copy(domain, "changed", scenario, tmp_path / "two")
    with pytest.raises(BadInputError, match="inside of the domain's own folder"):
        overlaid_copy(domain, "changed", scenario, folder / "copies")
    assert [path for root in (tmp_path / "one", tmp_path / "two") for path in root.iterdir()] == [], "nothing is left"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scenario", "stedy"], "no scenario 'stedy'"),
        (["--scenario", "steady", "--phase", "none"], "no phase 'none'"),
        (["--scenario", "steady", "--drop", "."], "no recorded answers"),
        (["--scenario", "elsewhere"], "--drop FOLDER"),
        (["--scenario", "steady", "--copy-to", "copy"], "changes no file"),
        (["--scenario", "steady", "--url", "ftp://x"], "not an address"),
        (["--scenario", "steady", "--url", "http://u:p@x"], "credentials"),
        (["--scenario", "steady", "--url", "http://slm.example.org", "--token", "ALIAS"], "travel readable"),
        (["--scenario", "steady", "--token", "NO_SUCH_ALIAS"], "names nothing"),
        (["--scenario", "elsewhere", "--drop", ".", "--at", "noon"], "no time"),
    ],
)
def test_what_cannot_be_meant_is_bad_input(workplace, folder, arguments, said):
    done = workplace.slm("simulate", "tiny", *arguments)
    assert done.returncode == 2 and said in done.stderr and "cure" in done.stderr


def test_without_a_name_the_scenarios_are_listed(workplace, folder):
    told = workplace.json("simulate", "tiny")["scenarios"]
    assert [line["id"] for line in told] == ["steady", "shift", "quiet", "refused", "elsewhere", "changed"]
    kinds = {line["id"]: line["kind"] for line in told}
    assert kinds["elsewhere"] == "drop" and kinds["changed"] == "copy" and kinds["steady"] == "send"


def test_a_domain_without_scenarios_says_so(workplace):
    done = workplace.slm("simulate", "tiny", "--scenario", "steady")
    assert done.returncode == 2 and "improvement.simulation" in done.stderr


def test_a_plan_holds_no_turns(domain):
    traffic = Traffic(domain, "steady", turns=10**12)
    assert len(list(islice(traffic, 5))) == 5
