"""An agent's life under systemd: ready, status, watchdog, and a graceful end.

    async def engine(service: Service) -> None:
        ...
        service.ready("6 chains")
        await service.stopping.wait()

    sys.exit(serve(engine))

Speaks sd_notify(3) itself: one datagram, no library. Without NOTIFY_SOCKET all of it does nothing.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable

import structlog

STOP_SECONDS = 15.0
STATUS_CHARACTERS = 200
# How long the manager may take to have room for a word; it is read at once, or the manager hangs, and then nobody is to hang with it.
NOTIFY_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Service:
    """What a running agent tells systemd and hears from it."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self._healthy: Callable[[], bool] = lambda: True

    def ready(self, status: str) -> None:
        """Say that the agent does its work now; `status` is one line for `systemctl status`."""
        notify("READY=1", f"STATUS={_line(status)}")

    def status(self, status: str) -> None:
        """Say in one line how the work goes."""
        notify(f"STATUS={_line(status)}")

    def watch(self, healthy: Callable[[], bool]) -> None:
        """Ask `healthy` before each sign of life: False is silence, and systemd restarts the agent (WatchdogSec=).

        Without it, an event loop that turns is health enough.
        """
        self._healthy = healthy

    async def beat(self, interval_seconds: float) -> None:
        """Give signs of life for ever."""
        while True:
            if self._healthy():
                notify("WATCHDOG=1")
            else:
                log.error("watchdog gets no sign of life: the agent is not healthy")
            await asyncio.sleep(interval_seconds)


def serve(main: Callable[[Service], Awaitable[None]], *, stop_seconds: float = STOP_SECONDS) -> int:
    """Run an agent until it ends, or SIGTERM or SIGINT asks it to; return the process's exit code.

    The signal sets `stopping`; what has not ended `stop_seconds` later is cancelled. An exception is logged, and is 1.
    """
    return asyncio.run(_serve(main, stop_seconds))


def notify(*assignments: str) -> None:
    """Send assignments to systemd's notification socket, if there is one; what it has no room for within a second is logged and lost."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    # A leading @ is the abstract name space, which begins with a zero byte.
    target = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as datagrams:
        datagrams.settimeout(NOTIFY_SECONDS)
        try:
            datagrams.sendto("\n".join(assignments).encode(), target)
        except OSError as error:
            log.warning("systemd was not notified", reason=str(error))


def watchdog_seconds() -> float | None:
    """Return how often systemd wants a sign of life, from WATCHDOG_USEC; None where it wants none from this process."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdigit() and int(microseconds) > 0 else None


async def _serve(main: Callable[[Service], Awaitable[None]], stop_seconds: float) -> int:
    service = Service()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.stopping.set)
    work = asyncio.ensure_future(main(service))
    stop = asyncio.create_task(service.stopping.wait())
    interval = watchdog_seconds()
    # Twice as often as asked: one late turn of the loop is no death.
    beat = asyncio.create_task(service.beat(interval / 2)) if interval else None
    try:
        await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
        notify("STOPPING=1")
        if not work.done():
            log.info("stopping")
            await asyncio.wait({work}, timeout=stop_seconds)
        return await _outcome(work)
    finally:
        for task in (stop, beat):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


async def _outcome(work: "asyncio.Future[None]") -> int:
    if not work.done():
        log.warning("cancelled: it did not stop in time")
        work.cancel()
    try:
        await work
    except asyncio.CancelledError:
        return 0
    except Exception:
        log.exception("agent failed")
        return 1
    return 0


def _line(text: str) -> str:
    return " ".join(text.split())[:STATUS_CHARACTERS]
