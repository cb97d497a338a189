"""Who is told what happened: the log always, and a webhook where the deployment names one.

What happened stands in the audit log. The sensor reads it from where it came to, and its cursor moves on only behind
what was delivered: at least once, in order, over restarts and while the webhook is away.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from slm_assets.automation import tags
from slm_assets.automation.tempo import tick_seconds
from slm_assets.domain.secrets import url_fault
from slm_assets.errors import BadInputError, SlmError
from slm_assets.registry import notices
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Registry, Row
from slm_assets.stages.plans import registries, registry_of

WEBHOOK = "SLM_ALERT_WEBHOOK"
"""The one address that alerts are posted to. Of the deployment alone: no config of a domain can name one."""
EVENTS = {
    "retrain.launched": "retrain launched",
    "retrain.deferred": "retrain deferred",
    "retrain.refused": "retrain refused",
    "promote": "version promoted",
    "rollback": "rolled back",
    "budget.over": "over budget",
    "run.held": "version held",
    "run.fault": "fault",
}
"""Audit action → what is told of it."""
LOOK_BACK = timedelta(hours=1)
"""How far the first look goes: a new deployment does not tell of old times."""
TICK_S = 20.0
CALL_S = 4.0
MOST = 200
_logger = logging.getLogger("slm_assets.alerts")
Send = Callable[[dict[str, Any]], None]


class WebhookError(SlmError):
    """The webhook did not take an alert."""


@dg.sensor(
    minimum_interval_seconds=tick_seconds(),
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=f"Tell of retrains, promotions, rollbacks, holds, faults and budgets: in the log, and to {WEBHOOK}.",
)
def send_alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """What is new in the audit log of every namespace; no run is started."""
    cursor: dict[str, int] = json.loads(context.cursor or "{}")
    send, told, away = webhook_from_env(), 0, ""
    until = time.monotonic() + TICK_S
    try:
        for registry in registries(Home.from_env()):
            sent, away = tell(registry, cursor, send, until)
            told += sent
            if away:
                break
    finally:
        context.update_cursor(json.dumps(cursor))
    return dg.SkipReason(f"{told} told {away}".strip())


def tell(registry: Registry, cursor: dict[str, int], send: Send | None, until: float) -> tuple[int, str]:
    """Tell what is new of a namespace and move its place in `cursor` on; (how many, why it stopped)."""
    name = f"{registry.tenant}/{registry.project}"
    if name not in cursor:
        at = (datetime.now(UTC) - LOOK_BACK).isoformat(timespec="microseconds").replace("+00:00", "Z")
        cursor[name] = notices.place_before(registry, at)
    told = 0
    for row in notices.news(registry, EVENTS, after=cursor[name], limit=MOST):
        alert = alert_of(registry, row)
        if send is not None:
            if time.monotonic() > until:
                return told, "; the others at the next tick"
            try:
                send(alert)
            except WebhookError as error:
                return told, f"; {error.message}"
        _logger.warning("%s", json.dumps(alert, ensure_ascii=False))
        cursor[name] = row["id"]
        told += 1
    return told, ""


def alert_of(registry: Registry, row: Row) -> dict[str, Any]:
    """An audit event as it is told: ids, words and times, as JSON."""
    version = f"v{row['number']}" if row["number"] is not None else None
    who = f"{row['domain']} {version}" if version else row["domain"]
    detail = row["detail"]
    why = detail.get("note") or detail.get("over") or detail.get("error") or detail.get("reason") or ""
    event = EVENTS[row["action"]]
    return {
        "id": f"{registry.tenant}/{registry.project}/{row['id']}",
        "event": event,
        "domain": row["domain"],
        "version": version,
        "at": row["at"],
        "actor": row["actor"],
        "text": f"{who}: {event}" + (f": {why}" if why else ""),
        "detail": detail,
    }


def webhook_from_env() -> Send | None:
    """How an alert is posted to the deployment's webhook; None where it names none.

    BadInputError for an address that is none; what it is stays out of every message, it may hold a token.
    """
    url = os.environ.get(WEBHOOK)
    if not url:
        return None
    if fault := url_fault(url):
        raise BadInputError(f"{WEBHOOK}: {fault['message']}", cure="https://host/path, without user and password")

    def send(alert: dict[str, Any]) -> None:
        import httpx  # 0.2 s of import that nobody waits for who has no webhook

        try:
            answer = httpx.post(url, json=alert, timeout=CALL_S, follow_redirects=False, trust_env=False)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise WebhookError(f"the webhook is away: {type(error).__name__}") from None
        if answer.is_success:
            return
        if answer.is_client_error and answer.status_code not in (408, 425, 429):
            # It will never take this one, and must not keep the others back.
            _logger.error("the webhook refused %s with %s", alert["id"], answer.status_code)
            return
        raise WebhookError(f"the webhook answered {answer.status_code}")

    return send


@dg.run_failure_sensor(
    name="note_failed_runs",
    minimum_interval_seconds=tick_seconds(),
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Enter runs that a gate held, and faults, into the audit log, from where they are told.",
)
def note_failed_runs(context: dg.RunFailureSensorContext) -> None:
    """One audit event for each failed run that was about a domain."""
    run = context.dagster_run
    domain = run.tags.get(tags.DOMAIN) or run.tags.get("dagster/partition", "").partition("|")[0]
    outcome = run.tags.get(tags.OUTCOME, tags.FAULT)
    if not domain or outcome not in (tags.HELD, tags.FAULT):
        return
    note_failure(
        Home.from_env(), domain, run.tags.get(tags.VERSION), outcome, run.run_id, context.failure_event.message or ""
    )


def note_failure(home: Home, domain: str, version: str | None, outcome: str, run_id: str, message: str) -> None:
    """Enter a failed run; where its domain is gone there is nobody to tell."""
    try:
        registry = registry_of(home, domain)
    except BadInputError as error:
        _logger.error("run %s: %s", run_id, error.message)
        return
    number = int(version[1:]) if version and version[1:].isdigit() else None
    detail = {"run_id": run_id, "error": message[:1_000]}
    notices.note(registry, f"run.{outcome}", domain, number, detail, "dagster")
