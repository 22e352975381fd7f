"""A constant load on the edge, from outside: calls at a fixed rate over connections that are kept, and each failure counted."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from collections import Counter
from types import TracebackType
from typing import Self

from lab import ca, catalogue, hosts
from lab.checkout import Checkout

BODY = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []})
HEADERS = {"Content-Type": "application/json"}
ANSWER_SECONDS = 10.0


class Load:
    """`rate` calls a second to a chain's name at the edge on `host`, by turns over `connections`, while the context lasts.

    An answer counts as one only with status 200 and a block number in it. Nothing is sent twice: a connection that was closed under a call
    is a failed call, and is made anew for the next one. With `key` each call bears an API key.
    `roots` are authorities beside the lab's own, PEM.
    """

    def __init__(
        self,
        host: str,
        chain: str,
        rate: float = 50.0,
        connections: int = 10,
        *,
        key: str = "",
        roots: str = "",
    ) -> None:
        checkout = Checkout.here()
        self._address = (hosts.known(checkout)[host].address, catalogue.edge_port(checkout))
        self._name = next(known.host_name for known in catalogue.chains(checkout) if known.name == chain)
        self._context = ssl.create_default_context(cafile=str(ca.ensure_ca(checkout)))
        if roots:
            self._context.load_verify_locations(cadata=roots)
        self._interval = connections / rate
        self._headers = {**HEADERS, **({"X-API-Key": key} if key else {})}
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._call_on, args=(number / rate,)) for number in range(connections)]
        self.sent = 0
        self.failures: Counter[str] = Counter()

    @property
    def failed(self) -> int:
        """How many calls got no answer of use."""
        return self.failures.total()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call_on(self, offset: float) -> None:
        connection: http.client.HTTPSConnection | None = None
        due = time.monotonic() + offset
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due += self._interval
            try:
                connection = connection or self._connect()
                reason = self._call(connection)
            except (OSError, http.client.HTTPException, ValueError) as error:
                reason, connection = type(error).__name__, None
            with self._lock:
                self.sent += 1
                self.failures.update([reason] if reason else [])

    def _connect(self) -> http.client.HTTPSConnection:
        # Without a context it would read all of the system's authorities for each connection, and the caller would be what is measured.
        connection = http.client.HTTPSConnection(self._name, timeout=ANSWER_SECONDS, context=self._context)
        plain = socket.create_connection(self._address, timeout=ANSWER_SECONDS)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sock = self._context.wrap_socket(plain, server_hostname=self._name)
        return connection

    def _call(self, connection: http.client.HTTPSConnection) -> str:
        connection.request("POST", "/", BODY, self._headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != http.HTTPStatus.OK:
            return f"status {answer.status}"
        result = json.loads(content).get("result")
        return "" if isinstance(result, str) and result.startswith("0x") else f"no block number: {content[:80]!r}"
