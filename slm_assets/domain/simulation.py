"""Scenarios of traffic, as data of a domain: `improvement.simulation` names the file.

Paths are relative to the domain's folder, as in the config. The file is data: it is validated with the domain and
is no part of its digest, so that another scenario opens no new version.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from slm_assets.domain.block import Block, Identifier
from slm_assets.domain.config import DomainConfig, Pointer, RelativePath, Share
from slm_assets.domain.documents import Document, Place, Unreadable, read_document, show
from slm_assets.domain.domain import Domain
from slm_assets.domain.faults import parse
from slm_assets.domain.files import Folder, Refused
from slm_assets.domain.outcomes import SIGNALS
from slm_assets.errors import BadInputError, ConfigError, Fault

ROUNDING = 1e-9


class Pool(Block):
    """Turns to draw from, with what is right for each."""

    rows: RelativePath = Field(
        description="A file or folder of rows, of the shape that data.fields says; their labels are what is right."
    )
    answers: Pointer | None = Field(
        default=None,
        description="Where a row keeps what another engine answered, as role → output; for `recorded` scenarios.",
    )


class Outcomes(Block):
    """What a user does about an answer: signal → probability; for the rest nothing is said."""

    right: dict[str, Share] = Field(default={}, description="Where every role gave what the row says.")
    wrong: dict[str, Share] = Field(
        default={}, description="Where some role did not; a correction tells what is right."
    )
    unknown: dict[str, Share] = Field(default={}, description="Where the row does not say what is right.")


class Stream(Block):
    """A part of the traffic: who sends what, and what they do about the answers."""

    pool: Identifier = Field(description="Where its turns come from; streams of one pool have the same users.")
    weight: float = Field(default=1.0, gt=0, description="Its share of the phase, relative to the others'.")
    outcomes: Identifier = Field(description="One of `outcomes`.")
    users: int = Field(default=500, ge=1, description="How many people; the k-th sends 1/√k as much as the first.")
    turns_per_conversation: float = Field(default=3.0, ge=1, description="Mean; conversations end at random.")


class Phase(Block):
    """So many turns of one mix."""

    id: Identifier = Field(description="Name of the phase, unique in the scenario.")
    turns: int = Field(ge=1, description="How many; --turns keeps the proportions.")
    mix: Annotated[list[Stream], Field(min_length=1)] = Field(description="What the traffic is made of.")


class Recorded(Block):
    """The engine whose answers were recorded."""

    engine: Identifier = Field(description="Its name.")
    version: str | None = Field(default=None, description="Its version.")


class Scenario(Block):
    """Traffic with something about it."""

    about: str = Field(description="What it shows, in a sentence.")
    note: str = Field(default="", description="What to do besides sending it; printed with the summary.")
    phases: Annotated[list[Phase], Field(min_length=1)] = Field(description="One after the other.")
    recorded: Recorded | None = Field(
        default=None,
        description="The turns were answered elsewhere: they are written to a file for the drop folder, not sent.",
    )
    overlay: RelativePath | None = Field(
        default=None, description="A folder of files that replace the domain's own in the copy that --copy-to makes."
    )


class Simulation(Block):
    """The file of scenarios."""

    pools: dict[Identifier, Pool] = Field(description="Name to turns.")
    outcomes: dict[Identifier, Outcomes] = Field(description="Name to what users do.")
    scenarios: dict[Identifier, Scenario] = Field(description="Name to traffic.")


def load_simulation(domain: Domain) -> Simulation:
    """The scenarios of a domain that was loaded from its folder. BadInputError where it has none, ConfigError for
    faults."""
    written = domain.config.improvement.simulation
    if written is None or domain.folder is None:
        raise BadInputError(
            f"domain {domain.name} has no scenarios", cure="name a file of them in improvement.simulation"
        )
    found, faults = read_simulation(domain.config, Folder.at(domain.folder), domain.path(written))
    if faults or found is None:
        raise ConfigError(domain.name, faults)
    return found


def read_simulation(config: DomainConfig, folder: Folder, path: str) -> tuple[Simulation | None, list[Fault]]:
    """The file of scenarios and everything that is wrong with it. Refused where it cannot be read."""
    try:
        document = read_document(folder.read(path), path)
    except Unreadable as error:
        return None, error.faults
    found, faults = parse(Simulation, document)
    if found is not None and not faults:
        faults = [
            *_pools(found, folder, document),
            *_outcomes(found, config, document),
            *_scenarios(found, folder, document),
        ]
    return found, faults


def _pools(found: Simulation, folder: Folder, document: Document) -> Iterator[Fault]:
    for name, pool in found.pools.items():
        at: Place = ("pools", name, "rows")
        try:
            if not folder.data_files(pool.rows):
                yield document.fault(at, "no rows", found=pool.rows, expected="files of rows")
        except Refused as refused:
            yield document.fault(at, refused.message, **refused.parts)


def _outcomes(found: Simulation, config: DomainConfig, document: Document) -> Iterator[Fault]:
    capture = config.improvement.capture
    signals = SIGNALS | set(capture.outcome_signals if capture else ())
    for name, model in found.outcomes.items():
        for case in ("right", "wrong", "unknown"):
            at: Place = ("outcomes", name, case)
            given: dict[str, float] = getattr(model, case)
            for signal in given:
                if signal not in signals:
                    expected = ", ".join(sorted(signals))
                    yield document.fault((*at, signal), "unknown signal", found=show(signal), expected=expected)
            if case == "right" and "correction" in given:
                cure = "a right answer cannot be corrected: use retry, tool_error or abandonment"
                yield document.fault((*at, "correction"), "a correction of what is right", cure=cure)
            if (total := sum(given.values())) > 1 + ROUNDING:
                yield document.fault(
                    at, "probabilities of more than 1", found=f"{total:g}", expected="at most 1 in all"
                )


def _scenarios(found: Simulation, folder: Folder, document: Document) -> Iterator[Fault]:
    for name, scenario in found.scenarios.items():
        ids = [phase.id for phase in scenario.phases]
        for index, phase in enumerate(scenario.phases):
            at: Place = ("scenarios", name, "phases", index)
            if phase.id in ids[:index]:
                yield document.fault((*at, "id"), "two phases of one id", found=show(phase.id), cure="rename one")
            for number, stream in enumerate(phase.mix):
                for key, known in (("pool", list(found.pools)), ("outcomes", list(found.outcomes))):
                    if (used := getattr(stream, key)) not in known:
                        place = (*at, "mix", number, key)
                        yield document.fault(place, f"no such {key}", found=show(used), expected=", ".join(known))
        if scenario.overlay is not None:
            try:
                here = folder.locate(scenario.overlay).is_dir()
            except Refused as refused:
                yield document.fault(("scenarios", name, "overlay"), refused.message, **refused.parts)
                continue
            if not here:
                place = ("scenarios", name, "overlay")
                yield document.fault(place, "no such folder", found=scenario.overlay, expected="a folder of files")
