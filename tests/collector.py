"""A strict OpenTelemetry collector: OTLP over HTTP with protobuf on loopback, which refuses what the protocol does not allow."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

if TYPE_CHECKING:
    import ssl

    from opentelemetry.proto.trace.v1.trace_pb2 import Span

TRACE_BYTES = 16
SPAN_BYTES = 8


class Received:
    """One span, with its attributes as a dict and its ids in hex."""

    def __init__(self, span: Span) -> None:
        self.name = span.name
        self.trace = span.trace_id.hex()
        self.id = span.span_id.hex()
        self.parent = span.parent_span_id.hex()
        self.links = [link.span_id.hex() for link in span.links]
        self.began_ns, self.ended_ns = span.start_time_unix_nano, span.end_time_unix_nano
        self.failed = span.status.code == span.status.STATUS_CODE_ERROR
        self.attributes: dict[str, str | int] = {
            each.key: each.value.string_value if each.value.HasField("string_value") else each.value.int_value
            for each in span.attributes
        }


class Collector:
    """Takes spans until it is closed; `answer` is the status that it gives, and while it holds `gate` back it gives none."""

    def __init__(self, answer: int = 200, tls: ssl.SSLContext | None = None) -> None:
        self.spans: list[Received] = []
        self.resources: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.refused: list[str] = []
        self.asked = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.asked.set()
                collector.gate.wait()
                status = (
                    collector.take(self.path, {key.title(): value for key, value in self.headers.items()}, body)
                    if answer == 200
                    else answer
                )
                content = ExportTraceServiceResponse().SerializeToString()
                self.send_response(status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._scheme = "http"
        if tls is not None:
            self._scheme = "https"
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        wrong = self._wrong(path, headers, body)
        if wrong:
            self.refused.append(wrong)
            return 400
        self.headers.append(headers)
        self.bodies.append(body)
        return 200

    def _wrong(self, path: str, headers: dict[str, str], body: bytes) -> str:
        if path != "/v1/traces" or headers.get("Content-Type") != "application/x-protobuf":
            return f"{path} {headers.get('Content-Type')}"
        try:
            asked = ExportTraceServiceRequest.FromString(body)
        except DecodeError as error:
            return str(error)
        for resource in asked.resource_spans:
            self.resources.append({each.key: each.value.string_value for each in resource.resource.attributes})
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                if (len(span.trace_id), len(span.span_id)) != (TRACE_BYTES, SPAN_BYTES) or not span.name:
                    return f"{span.name or 'a span without a name'}: ids"
                if (
                    len(span.parent_span_id) not in {0, SPAN_BYTES}
                    or span.end_time_unix_nano < span.start_time_unix_nano
                ):
                    return f"{span.name}: parent or times"
                self.spans.append(Received(span))
        return ""

    def named(self, name: str) -> list[Received]:
        return [span for span in self.spans if span.name == name]

    def below(self, parent: Received) -> list[str]:
        """The names of a span's children, in the order in which they began."""
        children = [span for span in self.spans if (span.trace, span.parent) == (parent.trace, parent.id)]
        return [span.name for span in sorted(children, key=lambda span: span.began_ns)]

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
