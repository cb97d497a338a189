"""The playbooks around the engine flags: `rollback`, and `resolve_engine` for those that consume a model."""

from __future__ import annotations

from slm_assets.noetl.guard import check_step
from slm_assets.noetl.stage_book import code
from slm_assets.noetl.steps import HOME_LOG, Step, arc, book, ends, noop, shell, value

SERVICE_PATH = "/v1/{domain}/{role}/engine"
"""Where the service tells a role's engine: `{"engine": "slm"}` or `{"engine": "deterministic"}`."""

CREDENTIAL = "slm_service"
TOKEN = {name: f"{{{{ keychain.{CREDENTIAL}.{key} }}}}" for name, key in
         (("SLM_SERVICE_URL", "url"), ("SLM_SERVICE_TOKEN", "token"))}  # fmt: skip
"""The service's bearer token, and the one address that may get it, out of a server's credential store. A worker
resolves `keychain.` when it starts the step; neither playbook, payload nor event ever holds the token. The `auth` of
an http tool would do too, but that tool ends the execution where the service is away."""


def rollback() -> Step:
    """Flags back to what served before, or to a version that served; nothing is rebuilt."""
    workload = {"runtime": "local", "domain": "", "role": "", "to": ""}
    script = f"""
role='{value("role")}'
to='{value("to")}'
exec slm rollback '{value("domain")}' ${{role:+--role "$role"}} ${{to:+--to "$to"}} --reason 'by NoETL' --json
"""
    steps = [
        noop("start", "Which role of which domain, and back to what", arc("check")),
        *check_step({"domain": "name", "role": "name?", "to": "engine?"}, [arc("roll_back")]),
        shell("roll_back", "Prove that the target answers, then flip", script, arc("end"), log=HOME_LOG, timeout_s=600),
        *ends(),
    ]
    return book("rollback", "Flip a domain's engine flags back", code(), workload, steps)


def resolve_engine() -> Step:
    """One answer, `{"engine": "slm" | "deterministic"}`, whatever the service does: it has one second.

    The token reaches curl on its standard input: an argument would be seen by every user of the machine.
    """
    workload = {"runtime": "local", "domain": "", "role": "", "service": ""}
    path = SERVICE_PATH.format(domain=value("domain"), role=value("role"))
    service = f"""
engine=deterministic
url='{value("service")}{path}'
token=''
case "$url" in "${{SLM_SERVICE_URL:-nowhere}}"/v1/*) token=${{SLM_SERVICE_TOKEN:-}} ;; esac
[[ "$token" =~ ^[A-Za-z0-9._~+/=-]+$ ]] || token=''
answer=$(printf '%s' "${{token:+Authorization: Bearer $token}}" |
  curl --header @- --silent --fail --max-time 1 "$url" | head --bytes=4096 | tr -d ' \\n\\r\\000') || answer=''
case "$answer" in *'"engine":"slm"'*) engine=slm ;; esac
printf '{{"engine": "%s"}}\\n' "$engine"
"""
    registry = f"""
engine=deterministic
answer=$(timeout 10 slm engine '{value("domain")}' '{value("role")}' --json | tr -d ' \\n') || answer=''
case "$answer" in *'"engine":"slm"'*) engine=slm ;; esac
printf '{{"engine": "%s"}}\\n' "$engine"
"""
    steps = [
        noop("start", "Which engine answers for a role", arc("check")),
        *check_step(
            {"domain": "name", "role": "name", "service": "url?"},
            [arc("ask_registry", "workload.service == ''"), arc("ask_service")],
        ),
        shell("ask_service", "One call, a second; away or wrong means deterministic", service, arc("answer"),
              results=("engine",), env=TOKEN),
        shell("ask_registry", "This machine's registry", registry, arc("answer"), results=("engine",),
              log=HOME_LOG),
        shell("answer", "The engine", """echo '{"engine": "{{ vars.engine }}"}'""", arc("end"),
              results=("engine",)),
        *ends(),
    ]  # fmt: skip
    return book("resolve_engine", "Which engine answers for a role of a domain", code(), workload, steps)
