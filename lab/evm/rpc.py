"""JSON-RPC over one kept HTTP connection. Standard library only: the world container runs this."""

from __future__ import annotations

import http.client
import json
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

# What JSON-RPC carries.
Json = Any

# A call: the method's name, then its parameters.
Call = tuple[Json, ...]


class RpcError(Exception):
    """The node answered with an error."""


class UnreachableError(OSError):
    """Nothing answers at the URL, or it stopped half-way; the call may be repeated."""


class Rpc:
    """A node's JSON-RPC at `url` (http://host:port); of several threads one calls at a time."""

    def __init__(self, url: str, *, timeout_seconds: float = 10) -> None:
        self.url = url
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"{url!r} is not an http:// URL")
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_seconds)
        self._in_use = threading.Lock()

    def call(self, method: str, *params: Json) -> Json:
        """Return the result of one call."""
        return self.batch([(method, *params)])[0]

    def batch(self, calls: Sequence[Call]) -> list[Json]:
        """Return the results of `calls`, in their order, from one request; RpcError for the first that failed."""
        answers = self.each(calls)
        for answer in answers:
            if isinstance(answer, RpcError):
                raise answer
        return answers

    def each(self, calls: Sequence[Call]) -> list[Json]:
        """Return the results of `calls`, in their order, from one request; an RpcError in the place of each that failed."""
        body = json.dumps(
            [
                {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
                for number, (method, *params) in enumerate(calls)
            ]
        )
        answers = {answer["id"]: answer for answer in self._post(body)}
        return [self._result(method, answers[number]) for number, (method, *_) in enumerate(calls)]

    def close(self) -> None:
        """Close the connection; the next call opens it again."""
        with self._in_use:
            self._connection.close()

    def _result(self, method: str, answer: dict[str, Json]) -> Json:
        if "error" in answer:
            return RpcError(f"{self.url}: {method}: {answer['error'].get('message')}")
        return answer["result"]

    def _post(self, body: str) -> list[dict[str, Json]]:
        with self._in_use:
            try:
                self._connection.request("POST", "/", body, {"Content-Type": "application/json"})
                answer: list[dict[str, Json]] = json.loads(self._connection.getresponse().read())
            except (OSError, http.client.HTTPException, ValueError) as failure:
                self._connection.close()
                raise UnreachableError(f"{self.url}: {failure or type(failure).__name__}") from failure
            return answer
