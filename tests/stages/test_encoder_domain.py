"""A domain whose config says `recipe: encoder` goes the whole way."""

from __future__ import annotations


def test_a_domain_with_recipe_encoder_runs_to_a_verdict_and_serves(workplace):
    workplace.edit("tiny", lambda text: text.replace("recipe: linear", "recipe: encoder"))
    result = workplace.json("run", "tiny")
    assert (result["outcome"], result["roles"]) == ("promoted", {"triage": "promoted"})
    assert {gate["verdict"] for gate in result["gates"] if gate["gate"] in ("target", "validity")} == {"PASS"}
    assert list((workplace.home / "cache" / "embeddings").glob("*.db")), "the vectors are kept in the home"
    again = workplace.json("run", "tiny")
    assert all(line["cached"] for line in again["stages"])
