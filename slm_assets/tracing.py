"""One trace from whoever asks to the stage that works and the execution elsewhere, in W3C's words (`traceparent`).

A trace is carried whether or not anybody collects spans: it is a text of 55 characters, in a context of its own, in a
stage's envelope, in a run's tags. Spans are made and exported only where the deployment names a collector, by
OpenTelemetry's own variables, and has installed the extra `otel`; without it none of its code is imported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from slm_assets.errors import BadInputError

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

COLLECTOR = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Variables of OpenTelemetry: with one of them set, spans are exported there over HTTP."""
VARIABLE = "TRACEPARENT"
"""In which a process that starts another hands its trace on."""
TRACEPARENT = r"^(00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})?$"
"""A traceparent, or nothing; ids of zeros only are W3C's way to say nothing too."""
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
Attributes = Mapping[str, str | int]
_CURRENT: ContextVar[str] = ContextVar("slm_traceparent", default="")
_TRACER: list[Tracer | None] = []


def current() -> str:
    """The traceparent of what runs now; "" outside of any trace."""
    return _CURRENT.get()


def trace_id(traceparent: str | None = None) -> str:
    """The 32 digits by which a trace is found, of the current one by default; "" for none."""
    return (current() if traceparent is None else traceparent)[3:35]


def valid(text: str) -> str:
    """A traceparent as it is; "" for what is none: a stranger's header becomes nothing, or an id."""
    return text if _TRACEPARENT.fullmatch(text) else ""


def of_run(run_id: str) -> str:
    """The trace of a run that was asked for outside of any: its id, a UUID, is the trace's."""
    digits = run_id.replace("-", "").lower()
    return valid(f"00-{digits}-{digits[:16]}-01")


def from_environment(environment: Mapping[str, str] = os.environ) -> str:
    """What the process that started this one left."""
    return valid(environment.get(VARIABLE, ""))


@contextmanager
def span(name: str, attributes: Attributes | None = None, *, parent: str = "", server: bool = False) -> Iterator[None]:
    """What runs in the block is one span, below `parent` or the current one. Without a collector the trace is
    carried on as it is. `attributes` are ids and names, never anybody's words."""
    above = valid(parent) or current()
    tracer = _tracer()
    if tracer is None:
        with _carried(above):
            yield
        return
    from opentelemetry.trace import SpanKind, format_span_id, format_trace_id

    kind = SpanKind.SERVER if server else SpanKind.INTERNAL
    with tracer.start_as_current_span(name, _context(above), kind, attributes) as made:
        own = made.get_span_context()
        told = f"00-{format_trace_id(own.trace_id)}-{format_span_id(own.span_id)}-{own.trace_flags:02x}"
        with _carried(told):
            yield


def mark(attributes: Attributes) -> None:
    """Add attributes to the current span, where there is one."""
    if _TRACER and _TRACER[0] is not None:
        from opentelemetry.trace import get_current_span

        get_current_span().set_attributes({**attributes})


def enabled() -> bool:
    """Whether spans are made. BadInputError where a collector is named and the extra is missing."""
    return _tracer() is not None


def use(provider: Any) -> None:
    """Make spans by this tracer provider from now on; None: as the environment says."""
    _TRACER[:] = [] if provider is None else [provider.get_tracer("slm_assets")]


@contextmanager
def _carried(traceparent: str) -> Iterator[None]:
    token = _CURRENT.set(traceparent)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def _context(traceparent: str) -> Any:
    from opentelemetry import trace

    if not traceparent:
        return None
    _, trace_digits, span_digits, flags = traceparent.split("-")
    above = trace.SpanContext(
        int(trace_digits, 16), int(span_digits, 16), is_remote=True, trace_flags=trace.TraceFlags(int(flags, 16))
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(above))


def _tracer() -> Tracer | None:
    """The tracer of this process, made once."""
    if not _TRACER:
        named = next((name for name in COLLECTOR if os.environ.get(name)), "")
        _TRACER.append(_exporting(named) if named else None)
    return _TRACER[0]


def _exporting(named: str) -> Tracer:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise BadInputError(
            f"{named} names a collector, and {error.name} is not installed",
            cure="install slm-assets[otel], or unset the variable",
        ) from None
    # Its own variables say the rest: service name, sampler, headers. It is flushed when the process ends.
    resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "slm-assets")})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider.get_tracer("slm_assets")
