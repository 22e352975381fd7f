"""Downloads over HTTPS that continue where a connection was cut, in this run or in an earlier one."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import IO, Any, NamedTuple

from .errors import ReleaseError

CHUNK_BYTES = 1 << 20
# A connection that brought this much does not count against the attempts: a long download over a bad line may be cut many times.
PROGRESS_BYTES = 1 << 20
CHECKSUM_FILE_BYTES = 1 << 20
LONGEST_PAUSE_SECONDS = 5
# What another attempt at the same address cannot change.
FINAL_STATUSES = frozenset({400, 401, 403, 404, 405, 406, 410, 451})


class Network(NamedTuple):
    """How this host reaches the outside."""

    proxy: str = ""
    no_proxy: tuple[str, ...] = ()
    timeout_seconds: float = 30
    attempts: int = 5
    # The largest file that is taken, in bytes; 0 for any.
    most_bytes: int = 0

    def proxy_for(self, host: str) -> str:
        """The proxy's URL for a host, empty where it is reached directly."""
        direct = any(host == name.lstrip(".") or host.endswith("." + name.lstrip(".")) for name in self.no_proxy)
        return "" if direct else self.proxy


class Fetched(NamedTuple):
    """Where a download came from, and whether part of it is older than this run."""

    source: str
    resumed: bool


class _FinalError(Exception):
    """The address will not serve the file, however often it is asked."""


class _CutError(Exception):
    """The connection ended early; another one may bring the rest."""


class _RangeError(Exception):
    """The file has no bytes after those that stand here; holds the server's Content-Range."""


class _SecureRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Follow to HTTPS only."""
        if not newurl.startswith("https://"):
            reason = f"redirects to {newurl}, which is not HTTPS"
            raise _FinalError(reason)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(urls: list[str], destination: Path, network: Network, check_space: Callable[[int], None]) -> Fetched:
    """Bring the first URL's file that can be had to `destination`, continuing what stands there.

    `check_space` is called with the bytes that are still to come before they are written. Raises ReleaseError naming every
    address and its reason; what has arrived stays for the next run.
    """
    before = _size(destination)
    reasons = []
    for url in urls:
        try:
            fresh = _from_one(url, destination, network, check_space)
        except _FinalError as error:
            reasons.append(f"{url} {error}")
        else:
            return Fetched(url, resumed=before > 0 and not fresh)
    raise ReleaseError("; ".join(reasons))


def fetch_text(urls: list[str], network: Network) -> tuple[str, str]:
    """A small text file and the URL that served it; ReleaseError if none does."""
    reasons = []
    for url in urls:
        try:
            return _text(url, network), url
        except _FinalError as error:
            reasons.append(f"{url} {error}")
    raise ReleaseError("; ".join(reasons))


def forget(destination: Path) -> None:
    """Remove a download and what is known about it."""
    destination.unlink(missing_ok=True)
    _notes(destination).unlink(missing_ok=True)


def _from_one(url: str, destination: Path, network: Network, check_space: Callable[[int], None]) -> bool:
    """Fetch the whole file from one URL; true if nothing of an earlier run is in it."""
    fresh = False
    failures = 0
    while True:
        before = _size(destination)
        try:
            return _connection(url, destination, network, check_space) or fresh
        except _CutError as error:
            after = _size(destination)
            fresh = fresh or after < before
            failures = 1 if after - before >= PROGRESS_BYTES else failures + 1
            if failures >= network.attempts:
                reason = f"{error} ({failures} attempts)" if failures > 1 else str(error)
                raise _FinalError(reason) from None
            time.sleep(min(2 ** (failures - 1), LONGEST_PAUSE_SECONDS))


def _connection(url: str, destination: Path, network: Network, check_space: Callable[[int], None]) -> bool:
    """One connection; returns true if it began at the first byte, raises _CutError or _FinalError."""
    have = _size(destination)
    headers = {}
    if have:
        headers["Range"] = f"bytes={have}-"
        validator = _read_notes(destination).get("validator", "")
        if validator:
            headers["If-Range"] = validator
    try:
        response = _open(url, headers, network)
    except _RangeError as error:
        if str(error) == f"bytes */{have}":
            return False
        forget(destination)
        reason = "has no such range of the file"
        raise _CutError(reason) from None
    with response:
        start = have if response.status == http.client.PARTIAL_CONTENT else 0
        if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            forget(destination)
            reason = "answered with another range than was asked for"
            raise _CutError(reason)
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        if total is not None:
            check_space(total - start)
        _write_notes(destination, url, response.headers)
        _receive(response, destination, start, network.most_bytes)
    if total is not None and _size(destination) < total:
        reason = f"was cut after {_size(destination)} of {total} bytes"
        raise _CutError(reason)
    return start == 0


def _receive(response: http.client.HTTPResponse, destination: Path, start: int, most_bytes: int) -> None:
    with destination.open("r+b" if start else "wb") as file:
        file.seek(start)
        try:
            while chunk := response.read(CHUNK_BYTES):
                if most_bytes and file.tell() + len(chunk) > most_bytes:
                    reason = f"sends more than {most_bytes} bytes"
                    raise _FinalError(reason)
                file.write(chunk)
        except (http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
            raise _CutError(_words(error)) from None
        finally:
            file.truncate()
            file.flush()
            os.fsync(file.fileno())


def _text(url: str, network: Network) -> str:
    for attempt in range(1, network.attempts + 1):
        try:
            with _open(url, {}, network) as response:
                data = response.read(CHECKSUM_FILE_BYTES + 1)
        except (_CutError, _RangeError, http.client.HTTPException, OSError) as error:
            if attempt == network.attempts:
                raise _FinalError(_words(error)) from None
            time.sleep(min(2 ** (attempt - 1), LONGEST_PAUSE_SECONDS))
        else:
            if len(data) > CHECKSUM_FILE_BYTES:
                reason = f"is larger than {CHECKSUM_FILE_BYTES} bytes, so it is no checksum file"
                raise _FinalError(reason)
            return str(data, "utf-8", "replace")
    raise AssertionError


def _open(url: str, headers: dict[str, str], network: Network) -> http.client.HTTPResponse:
    proxy = network.proxy_for(urllib.parse.urlsplit(url).hostname or "")
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({"https": proxy} if proxy else {}),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        _SecureRedirects(),
    )
    request = urllib.request.Request(url, headers={"User-Agent": "release", **headers})  # noqa: S310 - https only, see plan
    try:
        response: http.client.HTTPResponse = opener.open(request, timeout=network.timeout_seconds)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _RangeError(error.headers.get("Content-Range", "")) from None
        reason = f"answers {error.code} ({error.reason})"
        raise (_FinalError if error.code in FINAL_STATUSES else _CutError)(reason) from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            reason = f"has a certificate that this host does not trust ({error.reason.verify_message})"
            raise _FinalError(reason) from None
        raise _CutError(_words(error.reason)) from None
    except (http.client.HTTPException, OSError) as error:
        raise _CutError(_words(error)) from None
    return response


def _words(error: object) -> str:
    if isinstance(error, _CutError):
        return str(error)
    if isinstance(error, TimeoutError):
        return "is unreachable: no answer in time"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"is unreachable: {text}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _notes(destination: Path) -> Path:
    return destination.with_name(destination.name + ".json")


def _read_notes(destination: Path) -> dict[str, Any]:
    try:
        notes = json.loads(_notes(destination).read_text())
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}


def _write_notes(destination: Path, url: str, headers: Message) -> None:
    etag = headers.get("ETag", "")
    validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")
    _notes(destination).write_text(json.dumps({"url": url, "validator": validator}))
