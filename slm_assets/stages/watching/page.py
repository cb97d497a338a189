"""Evidently's report of the inputs: a bounded sample of live turns beside a bounded sample of the training rows.

One HTML page that needs no network, and its numbers as JSON. Texts take part with their length and their share of
new words, so that nobody's words are in it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from slm_assets import canonical
from slm_assets.canonical import Json
from slm_assets.stages.traffic import store
from slm_assets.stages.watching.fields import VALUE, Cells, Known, cells_of

PAGE, NUMBERS = "evidently.html", "evidently.json"
MOST_ROWS, MOST_COLUMNS, FEWEST = 5_000, 40, 30
_ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}")


def live_sample(traffic: Path, since: str, read_role: Mapping[str, bool]) -> list[Json]:
    """Inputs of a uniform sample of the sampled turns since then (Vitter's algorithm R); `read_role`: role → whether
    its input holds the turn beside what earlier roles said."""
    draw = random.Random(0)  # noqa: S311 - which turns are shown
    kept: list[Json] = []
    offered = 0
    for turn in store.turns(traffic, since=since):
        if not turn["sampled"]:
            continue
        offered += 1
        place = len(kept) if len(kept) < MOST_ROWS else draw.randrange(offered)
        if place < MOST_ROWS:
            value = turn["input"]
            value = value.get("turn") if read_role.get(turn["role"] or "") and isinstance(value, dict) else value
            kept[place : place + 1] = [value]
    return kept


def write_page(folder: Path, profile: Mapping[str, Any], trained: Iterable[Cells], live: Iterable[Json]) -> bool:
    """Write evidently.html and evidently.json; False where there are too few rows of either to compare.

    Equal rows give equal bytes: what Evidently numbers at random is numbered in order.
    """
    known = Known(profile)
    before, now = list(trained), [cells_of(known, turn) for turn in live]
    if min(len(before), len(now)) < FEWEST:
        return False
    columns = sorted({name for row in (*before, *now) for name in row})[:MOST_COLUMNS]
    numeric = [name for name in columns if not name.endswith(VALUE)]
    # Takes seconds and a quarter of a gigabyte: only here, and only when a page is wanted.
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    valued = [name for name in columns if name.endswith(VALUE)]
    definition = DataDefinition(categorical_columns=valued, numerical_columns=numeric)

    def dataset(rows: list[dict[str, Any]]) -> Any:
        frame = pd.DataFrame(rows, columns=columns)
        # Evidently leaves absent cells out, and stumbles over a column without any other.
        frame = frame.fillna(
            {name: "(absent)" if name in valued else 0.0 for name in columns if frame[name].isna().all()}
        )
        frame = frame.astype(dict.fromkeys(numeric, float) | dict.fromkeys(valued, object))
        return Dataset.from_pandas(frame, data_definition=definition)

    with np.errstate(divide="ignore", invalid="ignore"):  # a column that never varies has no correlation
        snapshot = Report([DataDriftPreset()]).run(dataset(now), dataset(before))
    canonical.write_bytes(folder / PAGE, _numbered(snapshot.get_html_str(as_iframe=False).encode()))
    told = orjson.loads(orjson.dumps(snapshot.dict(), option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS))
    metrics = [{key: one[key] for key in ("metric_name", "value")} for one in told["metrics"]]
    canonical.write_json(folder / NUMBERS, {"trained": len(before), "live": len(now), "metrics": metrics})
    return True


def _numbered(html: bytes) -> bytes:
    names: dict[bytes, bytes] = {}
    return _ID.sub(lambda found: names.setdefault(found.group(), b"%032d" % len(names)), html)
