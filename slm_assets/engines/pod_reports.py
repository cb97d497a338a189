"""What a stage in a pod says while it works: its progress and its log records, as Dagster Pipes messages on stderr."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from slm_assets.engines.kubernetes_logs import PROGRESS
from slm_assets.stages.runtime import Progress

if TYPE_CHECKING:
    from dagster_pipes import PipesContext

STEP = 0.01
"""Progress below this is not told again."""


@contextmanager
def reporting(run_id: str) -> Iterator[Progress]:
    """Report to whoever reads the pod's log: log records of slm_assets, and what the returned function is told.

    The protocol's context is made here and not by who started the pod: another run may read it.
    """
    from dagster_pipes import (
        DAGSTER_PIPES_CONTEXT_ENV_VAR,
        DAGSTER_PIPES_MESSAGES_ENV_VAR,
        PipesMappingParamsLoader,
        encode_param,
        open_dagster_pipes,
    )

    context: dict[str, Any] = dict.fromkeys(
        ("asset_keys", "code_version_by_asset_key", "provenance_by_asset_key", "partition_key", "partition_key_range",
         "partition_time_window", "job_name")
    )  # fmt: skip
    context |= {"run_id": run_id, "retry_number": 0, "extras": {}}
    params = PipesMappingParamsLoader(
        {
            DAGSTER_PIPES_CONTEXT_ENV_VAR: encode_param({"data": context}),
            DAGSTER_PIPES_MESSAGES_ENV_VAR: encode_param({"stdio": "stderr"}),
        }
    )
    logger = logging.getLogger("slm_assets")
    told = (-1.0, "")
    with open_dagster_pipes(params_loader=params) as pipes:

        def progress(share: float, note: str) -> None:
            nonlocal told
            if share - told[0] >= STEP or note != told[1]:
                told = (share, note)
                pipes.report_custom_message({PROGRESS: [round(share, 4), note]})

        handler = _ToPipes(pipes)
        before = logger.level
        logger.addHandler(handler)
        logger.setLevel(min(before or logging.INFO, logging.INFO))
        try:
            yield progress
        finally:
            logger.removeHandler(handler)
            logger.setLevel(before)


class _ToPipes(logging.Handler):
    def __init__(self, pipes: PipesContext) -> None:
        super().__init__(logging.INFO)
        self._pipes = pipes

    def emit(self, record: logging.LogRecord) -> None:
        self._pipes.log.log(record.levelno, record.getMessage())
