"""What a materialisation shows: numbers that plot, tables, pictures; and that nothing breaks the page."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from xml.etree import ElementTree

import dagster as dg
from fake_stages import opened
from hypothesis import given
from hypothesis import strategies as st

from slm_assets.assets import pictures, tables
from slm_assets.assets.metadata import of_outcome
from slm_assets.engines.in_process import make_cell
from slm_assets.registry.home import Home
from slm_assets.stages.plans import open_domain
from slm_assets.stages.table import STAGES

SVG = "{http://www.w3.org/2000/svg}"


def drawn(markdown: str) -> ElementTree.Element:
    found = re.match(r"!\[[^\]]*\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)\n\n", markdown)
    assert found, markdown[:100]
    return ElementTree.fromstring(base64.b64decode(found.group(1)))


def texts(svg: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in svg.iter(f"{SVG}text")]


def test_eval_report_shows_numbers_tables_and_pictures(home: Home, stages: list[tuple[str, str, str]]) -> None:
    plan = opened(home, "one")
    _, registry = open_domain(home, "one")
    outcomes = {stage.name: make_cell(registry, plan, stage.name, actor="ada") for stage in STAGES}
    shown = of_outcome(registry, plan, outcomes["evaluate"])
    assert shown["triage.intent"] == dg.MetadataValue.float(0.75)
    assert shown["urn"].value == "registry://local/default/eval/one/1"
    assert "| triage | intent | end to end | 0.75 [0.4, 0.9] | 0.6 [0.4, 0.9] | 0.25 [0.4, 0.9] | 90 |" in str(
        shown["metrics"].value
    )
    assert r"| floor | triage | PASS | intent | 0.75 | 0.4 | 0.9 | 0.6 | 90 | – | so it was \| planted |" in str(
        shown["gates"].value
    )
    svg = drawn(str(shown["confusion triage /intent"].value))
    assert {"30", "28", "23", "a <b> & c"} <= set(texts(svg))
    assert len(list(drawn(str(shown["calibration triage"].value)).iter(f"{SVG}circle"))) == 2

    dataset = of_outcome(registry, plan, outcomes["dataset"])
    assert dataset["rows"] == dg.MetadataValue.int(9)
    assert dataset["epoch"] == dg.MetadataValue.int(1)
    assert dataset["sources"].value == "| sources | value |\n| --- | --- |\n| gold | 9 |"


def test_a_version_is_shown_among_the_others(home: Home, stages: list[tuple[str, str, str]]) -> None:
    _, registry = open_domain(home, "one")
    for fraction in (1.0, 0.6):
        plan = opened(home, "one", fraction)
        outcomes = {stage.name: make_cell(registry, plan, stage.name, actor="ada") for stage in STAGES}
    evaluated = of_outcome(registry, plan, outcomes["evaluate"])
    lines = str(evaluated["history"].value).splitlines()
    assert lines[0] == "| version | opened | epoch | triage intent | change | n |"
    assert lines[2].startswith("| v1 |") and lines[2].endswith("| 1 | 0.75 [0.4, 0.9] | – | 90 |")
    assert lines[3].startswith("| v2 |") and lines[3].endswith("| 1 | 0.65 [0.4, 0.9] | -0.1000 | 90 |")
    assert {"v1", "v2"} <= set(texts(drawn(str(evaluated["history triage intent"].value))))
    first = registry.plan("one", 1)
    assert first is not None
    again = of_outcome(registry, first, make_cell(registry, first, "evaluate", actor="ada"))
    assert "| v2 |" not in str(again["history"].value), "a version is shown with those before it"

    deployed = of_outcome(registry, plan, outcomes["deploy"])
    shown = [line.split(" `")[0].strip() for line in str(deployed["lineage"].value).splitlines()]
    kinds = ("deployment", "shadow", "release", "eval", "model", "labels", "dataset", "config", "seed")
    assert shown[0] == "- **deployment** one v2"
    assert {line.partition(" _")[0] for line in shown} == {f"- **{kind}** one v2" for kind in kinds}, shown
    assert "| v2 | promoted |" in str(deployed["versions"].value)
    assert str(of_outcome(registry, plan, outcomes["package"])["lineage"].value).startswith("- **release** one v2")


def test_what_cannot_be_asked_is_left_out(home: Home, stages: list[tuple[str, str, str]]) -> None:
    """The incumbent's answers are gone; the cell was made all the same."""
    plan = opened(home, "one")
    _, registry = open_domain(home, "one")
    outcomes = {stage.name: make_cell(registry, plan, stage.name, actor="ada") for stage in STAGES}
    judged = replace(plan, incumbents={"triage": {"number": 1, "release": "0" * 64}})
    shown = of_outcome(registry, judged, outcomes["evaluate"])
    assert "history" in shown and not any(name.startswith("against") for name in shown)


def test_a_trend_draws_each_version_with_its_interval() -> None:
    dots = [pictures.Dot("v1", 0.5, 0.4, 0.6), pictures.Dot("v2", 0.7), pictures.Dot("v<3>", 0.7, 0.7, 0.7)]
    svg = drawn(pictures.trend("t", dots))
    assert {"v1", "v2", "v<3>", "0.4", "0.7"} == set(texts(svg))
    assert len(list(svg.iter(f"{SVG}circle"))) == 3 and len(list(svg.iter(f"{SVG}path"))) == 3
    assert not list(drawn(pictures.trend("t", [])).iter(f"{SVG}circle"))


def test_a_large_confusion_draws_the_most_frequent_and_says_so() -> None:
    n = 60
    counts = [[i if i == j else 0 for j in range(n)] for i in range(n)]
    markdown = pictures.confusion("c", [f"class {i}" for i in range(n)], counts)
    assert markdown.endswith("The 20 rarest classes are not drawn.")
    assert {"59", "20"} <= set(texts(drawn(markdown)))
    assert "19" not in texts(drawn(markdown))


def test_an_empty_calibration_is_an_empty_diagram() -> None:
    markdown = pictures.calibration("c", [], None)
    assert not list(drawn(markdown).iter(f"{SVG}circle"))
    assert "0 turns" in markdown


@given(
    st.integers(1, 6).flatmap(
        lambda n: st.tuples(
            st.lists(st.text(min_size=1), min_size=n, max_size=n),
            st.lists(st.lists(st.integers(0, 99), min_size=n, max_size=n), min_size=n, max_size=n),
        )
    )
)
def test_any_class_name_gives_a_picture(confusion: tuple[list[str], list[list[int]]]) -> None:
    picture = drawn(pictures.confusion("title", *confusion))
    counts = {str(count) for row in confusion[1] for count in row if count}
    assert counts <= set(texts(picture)), "every count that is not 0 is written into its cell"


@given(st.lists(st.lists(st.text(), min_size=2, max_size=2), max_size=4))
def test_any_text_stays_in_its_cell(rows: list[list[str]]) -> None:
    lines = tables.table(["a", "b"], rows).split("\n")
    assert len(lines) == 2 + len(rows)
    for line in lines:
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 3
