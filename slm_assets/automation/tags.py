"""Run tags: what a run was about and how it ended, to filter runs and to alarm by."""

from __future__ import annotations

DOMAIN = "slm/domain"
VERSION = "slm/version"
ACTOR = "slm/actor"
ENGINE = "slm/engine"
"""Asks for an engine for every stage of the run, whatever the domain's config says."""

PROCESS = "slm/process"
"""`<host>:<pid>` of an `slm run`, so that one that was killed can be told from one at work."""

OUTCOME = "slm/outcome"
PROMOTED = "promoted"
HELD = "held"
DEFERRED = "deferred"
NOT_OPENED = "not_opened"
FAULT = "fault"
"""The only outcome that is worth an alarm; the others are answers."""
SUBMITTED = "submitted"
"""The stage runs elsewhere; its cell is launched again when it has ended."""

JOB = "slm/job"
"""The dedup key of the job whose end started the run."""

TRACE = "slm/traceparent"
"""The trace of the run, which its stages and what they start elsewhere belong to."""

DUE = "slm/due"
"""Why a domain's traffic is looked at."""
RETRAIN = "slm/retrain"
"""The number of the retrain that the run belongs to."""
TRIGGER = "slm/trigger"
WINDOW = "slm/window"
REASON = "slm/reason"
"""What made a retrain necessary: the triggers that fired, the window in which they did, and their sentences."""
