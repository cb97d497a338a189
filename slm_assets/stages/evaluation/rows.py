"""The eval rows: what they hold is read from disk batch by batch, what they are counted by is in memory."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from slm_assets.domain.places import covers
from slm_assets.gates.clusters import Groups, group_rows
from slm_assets.stages.rows.names import REPLAYED, REVIEWED
from slm_assets.stages.rows_io import LabelledRow

Mask = NDArray[np.bool_]
BATCH = 2_000
SAMPLE = 400
KEPT = 20_000
"""Up to so many rows stay in memory: reading them again for every engine would only take longer."""


class EvalRows:
    """All eval rows, in one order. `read` starts to read them anew each time it is called; a label of a source in
    `own` is not independent of the oracle.

    `groups`: their content groups. `fields`: role → the top-level fields of its labels. `sample`: rows at
    equal distances, SAMPLE of them or up to twice as many; all of fewer.
    """

    def __init__(
        self,
        roles: Sequence[str],
        read: Callable[[], Iterator[LabelledRow]],
        own: Collection[str] = frozenset({"oracle"}),
    ) -> None:
        self._read = read
        self._kept: list[LabelledRow] | None = []
        labelled = {role: bytearray() for role in roles}
        independent = {role: bytearray() for role in roles}
        completed: dict[tuple[str, str], array[int]] = {}
        replayed, case = bytearray(), bytearray()
        fields: dict[str, set[str]] = {role: set() for role in roles}
        in_slice: dict[str, array[int]] = {}
        codes: dict[str, int] = {}
        group = array("q")
        self.sample: list[LabelledRow] = []
        step = 1
        for number, row in enumerate(read()):
            if number % step == 0:
                self.sample.append(row)
                if len(self.sample) == 2 * SAMPLE:
                    self.sample, step = self.sample[::2], 2 * step
            for role in roles:
                label = row.labels.get(role)
                labelled[role].append(role in row.labels)
                independent[role].append(row.sources.get(role, "oracle") not in own)
                if isinstance(label, dict):
                    fields[role].update(label)
                for place in row.completed.get(role, ()):
                    completed.setdefault((role, place), array("q")).append(number)
            replayed.append(row.source in REPLAYED)
            case.append(row.source == REVIEWED)
            for name in row.slices:
                in_slice.setdefault(name, array("q")).append(number)
            group.append(codes.setdefault(row.group, len(codes)))
            self._keep(row)
        self._size = len(group)
        self._labelled = {role: np.frombuffer(own, dtype=np.bool_) for role, own in labelled.items()}
        self._replayed = np.frombuffer(replayed, dtype=np.bool_)
        self._held_out = ~np.frombuffer(case, dtype=np.bool_)
        self._independent = {role: np.frombuffer(own, dtype=np.bool_) for role, own in independent.items()}
        self._completed = {at: np.array(own, dtype=np.int64) for at, own in completed.items()}
        self._in_slice = {name: np.array(own, dtype=np.int64) for name, own in in_slice.items()}
        self.fields = {role: sorted(names) for role, names in fields.items()}
        rank = {name: place for place, name in enumerate(sorted(codes))}
        ordered = np.array([rank[name] for name in codes], dtype=np.int64)
        self.groups: Groups = group_rows(ordered[np.array(group, dtype=np.int64)], self._size)

    def _keep(self, row: LabelledRow) -> None:
        if self._kept is not None:
            self._kept.append(row)
            if len(self._kept) > KEPT:
                self._kept = None

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[LabelledRow]:
        return iter(self._kept) if self._kept is not None else self._read()

    def batches(self) -> Iterator[list[LabelledRow]]:
        """All rows, some at a time."""
        rows = iter(self)
        while batch := list(islice(rows, BATCH)):
            yield batch

    def labelled(self, role: str) -> Mask:
        """Held-out rows that have a label for the role; without the regression cases, which were picked for a fault
        and say nothing about how good a version is on the whole."""
        return self._labelled[role] & self._held_out

    def replayed(self, role: str) -> Mask:
        """Rows of the golden-replay set that have a label for the role: reviewed real turns, the cases among them."""
        return self._labelled[role] & self._replayed

    def scored(self, role: str) -> Mask:
        """Rows that have a label for the role, of either set."""
        return self._labelled[role]

    def independent(self, role: str, pointer: str = "") -> Mask:
        """Rows whose label, at a place and under it, is not the oracle's own."""
        mask = self._independent[role].copy()
        for (name, place), own in self._completed.items():
            if name == role and (covers(pointer, place) or covers(place, pointer)):
                mask[own] = False
        return mask

    def in_slice(self, name: str) -> Mask:
        """Rows of a slice."""
        mask = np.zeros(len(self), dtype=np.bool_)
        mask[self._in_slice.get(name, np.empty(0, dtype=np.int64))] = True
        return mask
