"""Spans on their way to an OpenTelemetry collector: OTLP over HTTP, from a thread of its own.

Imported only where [traces] is configured (`mev.runtime.tracing`): this is the one module that needs the package's extra `traces`.
"""

import logging
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import requests
import structlog
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import INVALID_SPAN, Link, Span, Status, StatusCode, Tracer, set_span_in_context
from prometheus_client import CollectorRegistry, Counter

from mev.runtime.config import TracesConfig
from mev.runtime.secret import SecretError, secret

__all__ = ["Pipe", "Span"]

# What waits for the collector at most; a block with an opportunity makes about ten.
QUEUE_SPANS = 4096
BATCH_SPANS = 512
SEND_EVERY_MS = 2000
# A batch that the collector has not taken by then is lost.
EXPORT_SECONDS = 5.0
CLOSE_SECONDS = 2.0
TELL_SECONDS = 300.0
SHOWN_CHARACTERS = 300
# Where the kinds of status begin.
REDIRECTS = 300
REFUSALS = 400

log = structlog.get_logger(__name__)


class Pipe:
    """Makes spans and sends them; nothing that happens to the collector is felt by who makes them."""

    def __init__(self, config: TracesConfig, agent: str, registry: CollectorRegistry) -> None:
        """Raises SecretError where the credential is not there."""
        # Nothing else in this process hears what the library says of each attempt: it is counted, and told now and then.
        library = logging.getLogger("opentelemetry")
        library.propagate = False
        library.handlers[:] = [logging.NullHandler()]
        logging.getLogger("urllib3").setLevel(logging.WARNING)
        self._losses = losses = _Losses(config.endpoint, registry)
        session = _Session(config.authorization)
        exporter = OTLPSpanExporter(
            endpoint=config.url,
            timeout=EXPORT_SECONDS,
            certificate_file=_authorities(),
            compression=Compression.NoCompression,
            session=session,
        )
        self._exporter = _Exporter(exporter, session, losses)
        self._queue = _Queue(self._exporter, losses)
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(config.sample_ratio)),
            resource=Resource({"service.name": f"mev.{agent}", "host.name": socket.gethostname()}),
            # The library would wait half a minute for a collector that is gone.
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(self._queue)
        self._tracer: Tracer = self._provider.get_tracer("mev")

    def start(
        self,
        name: str,
        attributes: Mapping[str, str | int],
        *,
        parent: Span = INVALID_SPAN,
        links: Sequence[Span] = (),
        began_ns: int | None = None,
    ) -> Span:
        """Begin a span, below another or as a trace of its own; `began_ns` is Unix time, now if not given."""
        return self._tracer.start_span(
            name,
            context=set_span_in_context(parent),
            attributes=dict(attributes),
            links=[Link(each.get_span_context()) for each in links],
            start_time=began_ns,
        )

    def end(self, span: Span, outcome: str, reason: str = "", *, failed: bool = False) -> None:
        """End a span with what came of it, and why."""
        span.set_attribute("mev.outcome", outcome)
        if reason:
            span.set_attribute("mev.reason", reason)
        if failed:
            span.set_status(Status(StatusCode.ERROR, reason or outcome))
        span.end()

    def close(self) -> None:
        """Send what is left, for two seconds at most; what is left then is lost, and counted."""
        closing = threading.Thread(target=self._provider.shutdown, name="traces-close", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)
        if left := self._queue.waiting:
            self._losses.lost(left, "not_delivered", "the agent ended")


class _Session(requests.Session):
    """Requests that need nothing but a status: no proxy, no .netrc, no redirect, and nothing is read of what a collector answers."""

    def __init__(self, authorization: str | None) -> None:
        super().__init__()
        self.trust_env = False
        # What was wrong with the last batch.
        self.problem = ""
        if authorization is not None:
            # That it is there is known before anything is sent; after that it is read each time, as it may be rotated.
            _header(authorization)

            def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
                request.headers["Authorization"] = _header(authorization)
                return request

            self.auth = authorize

    def request(self, *arguments: Any, **options: Any) -> requests.Response:  # noqa: ANN401 - as it is there
        try:
            with super().request(*arguments, **{**options, "stream": True}) as response:
                return self._judged(response)
        except Exception as error:
            self.problem = " ".join(str(error).split())[:SHOWN_CHARACTERS]
            raise

    def _judged(self, response: requests.Response) -> requests.Response:
        if response.status_code >= REDIRECTS:
            self.problem = f"the collector answers {response.status_code}"
        if REDIRECTS <= response.status_code < REFUSALS:
            # The library takes it for an acceptance.
            raise requests.RequestException(self.problem)
        # Whoever asks for the content gets none instead of however much there is.
        response._content = b""  # noqa: SLF001
        return response


class _Losses:
    """Counts spans that no collector has, and says so once in five minutes."""

    def __init__(self, endpoint: str, registry: CollectorRegistry) -> None:
        self._endpoint = endpoint
        self._count = Counter(
            "mev_trace_spans_lost",
            "Spans that the collector does not have: not delivered, or the queue for it was full",
            ("reason",),
            registry=registry,
        )
        for reason in ("not_delivered", "queue_full"):
            # A counter that begins at 0 shows its first fault as a rise.
            self._count.labels(reason)
        self._lock = threading.Lock()
        self._untold = 0
        self._tell_at = 0.0

    def lost(self, spans: int, reason: str, why: str) -> None:
        self._count.labels(reason).inc(spans)
        with self._lock:
            self._untold += spans
            now = time.monotonic()
            if now < self._tell_at:
                return
            self._tell_at, untold, self._untold = now + TELL_SECONDS, self._untold, 0
        log.warning("spans are lost", endpoint=self._endpoint, spans=untold, reason=reason, why=why)


class _Exporter(SpanExporter):
    """The library's exporter, with what it loses counted."""

    def __init__(self, inner: OTLPSpanExporter, session: _Session, losses: _Losses) -> None:
        self._inner = inner
        self._session = session
        self._losses = losses
        # Written by the sending thread alone.
        self.taken = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._session.problem = ""
        result = self._inner.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self._losses.lost(len(spans), "not_delivered", self._session.problem)
        self.taken += len(spans)
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()  # type: ignore[no-untyped-call]


class _Queue(BatchSpanProcessor):
    """The library's queue, which counts what it has no room for."""

    def __init__(self, exporter: _Exporter, losses: _Losses) -> None:
        # What is being sent is in the queue no more: so much room is never used up.
        super().__init__(
            exporter,
            max_queue_size=QUEUE_SPANS + BATCH_SPANS,
            schedule_delay_millis=SEND_EVERY_MS,
            max_export_batch_size=BATCH_SPANS,
        )
        self._exporter = exporter
        self._losses = losses
        # Written by the thread that makes spans alone.
        self._ended = 0

    @property
    def waiting(self) -> int:
        """How many spans are neither delivered nor lost."""
        return self._ended - self._exporter.taken

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is None or not span.context.trace_flags.sampled:
            return
        if self.waiting >= QUEUE_SPANS:
            self._losses.lost(1, "queue_full", "the collector is slower than the engine")
            return
        self._ended += 1
        super().on_end(span)


def _authorities() -> str | None:
    """The host's authorities, which its operator decides on, where requests would take its own."""
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath


def _header(reference: str) -> str:
    value = secret(reference).decode("latin-1")
    if not value.isascii() or not value.isprintable():
        # What refuses it further on would show it.
        raise SecretError(f"{reference} holds no header's value: printable ASCII on one line is expected")
    return value
