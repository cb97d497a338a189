"""The turns of a pool, and what is right for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from slm_assets.canonical import Json
from slm_assets.domain.domain import Domain
from slm_assets.domain.files import Folder
from slm_assets.domain.simulation import Pool
from slm_assets.errors import BadInputError
from slm_assets.stages.rows.fields import RowError, RowShape, steps, values_at
from slm_assets.stages.rows.reading import Line, SourceFile, read_rows


@dataclass(frozen=True, slots=True)
class Case:
    """A turn and what is right for it: `labels` role → output, empty where the row does not say. `answers`: what
    another engine gave, likewise."""

    turn: Json
    labels: Mapping[str, Json]
    answers: Mapping[str, Json]


def read_pool(domain: Domain, name: str, pool: Pool) -> list[Case]:
    """Every row of a pool, in the order of its files. BadInputError names the first row that cannot be used."""
    if domain.folder is None:
        raise BadInputError(f"domain {domain.name}: a bundle holds no pools", cure="load its folder")
    folder = Folder.at(domain.folder)
    shape = RowShape(domain.config.data.fields, ())
    roles = {role.id for role in domain.config.roles}
    cases = []
    for path in folder.data_files(pool.rows):
        file = SourceFile("simulation", path, folder.locate(path))
        for line in read_rows(file, domain.config.data.max_row_bytes):
            try:
                cases.append(_case(line, shape, pool))
            except RowError as error:
                raise BadInputError(
                    f"domain {domain.name}, pool {name}: {path}:{line.number}: {error}", cure="correct the row"
                ) from None
            for role in _others(cases[-1], roles):
                raise BadInputError(
                    f"domain {domain.name}, pool {name}: {path}:{line.number}: no role {role!r}",
                    cure=f"its roles are {', '.join(sorted(roles))}",
                )
    if not cases:
        raise BadInputError(f"domain {domain.name}, pool {name}: {pool.rows} holds no row", cure="write some")
    return cases


def _case(line: Line, shape: RowShape, pool: Pool) -> Case:
    if line.error:
        raise RowError(line.error)
    parts = shape.take(line.value)
    answers: Json = {}
    if pool.answers is not None:
        found = values_at(line.value, steps(pool.answers))
        if not found or not isinstance(found[0], dict):
            raise RowError("no answers, expected role: output", pool.answers)
        answers = found[0]
    return Case(parts.input, parts.labels, answers)


def _others(case: Case, roles: set[str]) -> Iterator[str]:
    yield from sorted({*case.labels, *case.answers} - roles)
