"""A process that labels parts of files: one JSON line in, one JSON line out (`python -m` this module).

The first line names the domain's bundle; each further one a part. Results lie beside, in files; what
comes back is the tally.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import orjson

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.domain.loading import read_bundle
from slm_assets.stages.line_worker import READY, served
from slm_assets.stages.rows.ingest import Contracts
from slm_assets.stages.rows.labelling import Labeller, Tally, oracles_of
from slm_assets.stages.rows.opinions import KEY


@dataclass(frozen=True, order=True)
class Part:
    """`count` rows of a file, from the `first` row after byte `start`; results go to `<out>/<name>.*`."""

    index: int
    first: int
    file: str
    start: int
    count: int
    out: str

    @property
    def name(self) -> str:
        """Sorts like the rows."""
        return f"{self.index:08d}-{self.first:06d}"

    def halves(self) -> tuple[Part, Part]:
        """The part cut in two."""
        half = self.count // 2
        left = Part(self.index, self.first, self.file, self.start, half, self.out)
        return left, Part(self.index, self.first + half, self.file, self.start, self.count - half, self.out)

    def rows(self) -> list[Json]:
        """Read the rows."""
        with Path(self.file).open("rb") as handle:
            handle.seek(self.start)
            return [orjson.loads(line) for line in islice(handle, self.first, self.first + self.count)]


def label_part(labeller: Labeller, part: Part, lost: str = "") -> Tally:
    """Label a part and write its files."""
    tally = Tally()
    rows = part.rows()
    found = labeller.label(rows, tally, lost)
    out = Path(part.out)
    (out / f"{part.name}.labels").write_bytes(_lines([one.row for one in found]))
    (out / f"{part.name}.disagreements").write_bytes(_lines([one for each in found for one in each.disagreements]))
    (out / f"{part.name}.divergences").write_bytes(_lines([one for each in found for one in each.divergences]))
    (out / f"{part.name}.taught").write_bytes(
        _lines([{"id": row["id"], "opinions": row[KEY]} for row in rows if KEY in row])
    )
    return tally


def _lines(rows: Sequence[Json]) -> bytes:
    return b"".join(canonical.dumps(row) + b"\n" for row in rows)


def request(part: Part) -> bytes:
    """A part as one line."""
    return orjson.dumps(asdict(part)) + b"\n"


def main() -> None:
    """Serve until the input ends."""
    with served() as (lines, answers):
        domain = read_bundle(Path(orjson.loads(next(lines))["bundle"]))
        oracles = oracles_of(domain)
        labeller = Labeller(domain, Contracts(domain), {role: oracle.answer for role, oracle in oracles.items()})
        answers.write(READY)
        answers.flush()
        for line in lines:
            answers.write(orjson.dumps(label_part(labeller, Part(**orjson.loads(line))).to_json()) + b"\n")
            answers.flush()
        for oracle in oracles.values():
            oracle.close()


if __name__ == "__main__":
    main()
