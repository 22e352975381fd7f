"""The kill switch over HTTP, on loopback alone: who knows the token can stop the engine, and nobody can start it again this way.

    GET  /kill-switch                                          -> {"changed": false, "halted": [chains], "switches": [files]}
    POST /kill-switch  {"reason": "…", "chain": "ethereum"}    -> the same; without a chain every chain is halted

Each request bears `Authorization: Bearer TOKEN`, and a POST `Content-Type: application/json`. There are no cookies, and what a browser sends on behalf of another page is
refused three times over: by its Origin, by its Host (a name that was made to lead here), and since no page can add the token. `mev resume`, on the host, takes the switch back.
"""

import asyncio
import hashlib
import hmac
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client import Counter as Count

from mev.runtime.config import Config, ConfigError, SecretError
from mev.runtime.config_shared import ControlConfig
from mev.runtime.secret import secret
from mev.trading import switch

PATH = "/kill-switch"
SHORTEST_TOKEN = 32
MOST_BODY_BYTES = 4096
MOST_REASON = 200
# A connection lives no longer: whoever sends a byte a minute holds none.
CONNECTION_SECONDS = 10.0
# Wrong tokens: so many at once, and one more each so many seconds; the right one always passes.
WRONG_AT_ONCE = 5
WRONG_SECONDS = 12.0

log = structlog.get_logger(__name__)


class _Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reason: str = ""
    chain: str | None = None


class _RefusalError(Exception):
    """What is answered, and by which name it is counted."""

    def __init__(self, status: int, outcome: str, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.outcome = outcome


class SwitchListener:
    """Bound when it is made, serving while `serving` lasts; raises ConfigError and SecretError."""

    def __init__(
        self,
        config: Config,
        control: ControlConfig,
        registry: CollectorRegistry,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._listen = control.listen
        token = secret(control.token)
        if len(token) < SHORTEST_TOKEN or not token.isascii() or any(byte <= ord(" ") for byte in token):
            raise SecretError(
                f"{control.token} holds no token: {SHORTEST_TOKEN} or more ASCII characters without spaces are expected"
            )
        # What is kept and compared has one length, whatever is sent.
        self._digest = hashlib.sha256(token).digest()
        self._now = now
        self._wrong: list[float] = []
        self._requests = Count(
            "mev_kill_switch_requests",
            "Requests to the kill switch over HTTP, by what came of them",
            ("outcome",),
            registry=registry,
        )
        family = socket.AF_INET6 if ":" in self._listen.address else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((self._listen.address, self._listen.port))
        except OSError as error:
            raise ConfigError(
                f"control.listen is {self._listen} and cannot be bound: {error.strerror}; allowed: a free loopback address of this host"
            ) from None

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Answer until the context ends."""
        application = web.Application(client_max_size=MOST_BODY_BYTES, middlewares=[self._guard])
        application.router.add_get(PATH, self._show, allow_head=False)
        application.router.add_post(PATH, self._halt)
        application.on_response_prepare.append(_plain)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await runner.setup()
        loop = asyncio.get_running_loop()

        def connection() -> asyncio.Protocol:
            if runner.server is None:
                raise RuntimeError("the listener is closed")
            handler = runner.server()
            loop.call_later(CONNECTION_SECONDS, handler.force_close)
            return handler

        server = await loop.create_server(connection, sock=self._socket)
        try:
            yield
        finally:
            server.close()
            await runner.cleanup()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            self._admit(request)
            answer = await handler(request)
        except _RefusalError as refusal:
            self._requests.labels(refusal.outcome).inc()
            log.warning("kill switch refused", outcome=refusal.outcome, peer=request.remote, why=str(refusal))
            return web.json_response({"error": str(refusal)}, status=refusal.status, headers=_headers(refusal.status))
        except web.HTTPException as error:
            self._requests.labels("malformed").inc()
            return web.json_response({"error": error.reason}, status=error.status)
        return answer

    def _admit(self, request: web.Request) -> None:
        port = self._listen.port
        address = f"[{self._listen.address}]" if ":" in self._listen.address else self._listen.address
        if request.headers.getall("Host", []) not in ([f"{address}:{port}"], [f"localhost:{port}"]):
            raise _RefusalError(403, "foreign", f"Host is none of {address}:{port}, localhost:{port}")
        if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none") != "none":
            raise _RefusalError(403, "foreign", "a web page sends this: programs do, with a token, and no Origin")
        given = request.headers.getall("Authorization", [])
        token = given[0].removeprefix("Bearer ").encode(errors="replace") if len(given) == 1 else b""
        right = hmac.compare_digest(hashlib.sha256(token).digest(), self._digest)
        if not right or not given[0].startswith("Bearer "):
            raise self._unknown()

    def _unknown(self) -> _RefusalError:
        now = self._now()
        self._wrong = [at for at in self._wrong if now - at < WRONG_AT_ONCE * WRONG_SECONDS]
        if len(self._wrong) >= WRONG_AT_ONCE:
            return _RefusalError(429, "too_many", "too many wrong tokens: try again in a minute")
        self._wrong.append(now)
        return _RefusalError(401, "unknown", "Authorization: Bearer TOKEN is missing, or not the token")

    async def _show(self, _: web.Request) -> web.Response:
        try:
            document = switch.state(self._config)
        except ConfigError as error:
            raise _RefusalError(409, "failed", str(error)) from None
        self._requests.labels("shown").inc()
        return web.json_response(document)

    async def _halt(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            raise _RefusalError(415, "malformed", "Content-Type is not application/json")
        try:
            wanted = msgspec.json.decode(await request.read(), type=_Wanted)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _RefusalError(400, "malformed", f"no JSON object with reason and chain at most: {error}") from None
        if wanted.chain is not None and wanted.chain not in self._config.chains:
            raise _RefusalError(400, "malformed", f"chain is none of {', '.join(self._config.chains)}")
        reason = "".join(each if each.isprintable() else " " for each in wanted.reason[:MOST_REASON])
        try:
            document = switch.halt(self._config, wanted.chain, reason, f"{switch.OVER_HTTP} from {request.remote}")
        except ConfigError as error:
            raise _RefusalError(409, "failed", str(error)) from None
        except OSError as error:
            # Whoever pulled it must not believe that it holds.
            raise _RefusalError(500, "failed", f"the kill switch cannot be written: {error.strerror}") from None
        self._requests.labels("halted").inc()
        log.warning(
            "halted over HTTP",
            peer=request.remote,
            reason=reason,
            halted=document["halted"],
            changed=document["changed"],
        )
        return web.json_response(document)


def _headers(status: int) -> dict[str, str]:
    match status:
        case 401:
            return {"WWW-Authenticate": "Bearer"}
        case 429:
            return {"Retry-After": str(round(WRONG_AT_ONCE * WRONG_SECONDS))}
    return {}


async def _plain(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "mev"
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
