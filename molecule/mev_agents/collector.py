"""A stand-in of an OpenTelemetry collector on a host without its libraries: OTLP over HTTP on loopback; what it is sent it keeps in a directory, to be judged elsewhere."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path

# The first messages tell enough, and no run fills a disk.
MOST_KEPT = 200
NUMBERS = count()


class Handler(BaseHTTPRequestHandler):
    """Takes what OTLP allows: a POST of protobuf to /v1/traces."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        allowed = self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
        number = next(NUMBERS)
        if number < MOST_KEPT:
            Path(sys.argv[1], f"{number:04}.{'otlp' if allowed else 'refused'}").write_bytes(body)
        self.send_response(200 if allowed else 400)
        self.send_header("Content-Type", "application/x-protobuf")
        # An answer without fields: everything was taken.
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", 4318), Handler).serve_forever()
