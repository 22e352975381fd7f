"""Start as the client whose name the packed file carries."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import signal
import socket
import sys
from importlib import resources
from pathlib import Path
from typing import IO

from aiohttp import web

from lab.standins.client import plan as plans
from lab.standins.client import token
from lab.standins.client.arguments import RefusedError, parse
from lab.standins.client.consensus import OpNode, WrongParentError, heimdall_rest, heimdall_rpc
from lab.standins.client.download import download
from lab.standins.client.evm import Evm, Faults, url_of
from lab.standins.client.execution import Execution, beacon_application
from lab.standins.client.plan import Address, Plan

log = logging.getLogger("stand-in")
VERSION_WORDS = {"--version", "version", "-v", "--v", "-V"}
HELP_WORDS = {"--help", "-h"}
DATABASE_PAGE_BYTES = 65536


def main() -> int:
    """Parse, check, serve until a signal; the exit code of the real client where it would refuse."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    version = json.loads(resources.files("lab.standins").joinpath("artefact.json").read_text())["version"]
    program = Path(sys.argv[0]).name
    if sys.argv[1:2] and sys.argv[1] in VERSION_WORDS:
        sys.stdout.write(f"{program} version {version} (stand-in)\n")
        return 0
    if HELP_WORDS.intersection(sys.argv[1:]):
        sys.stdout.write(f"{program} is a stand-in: it takes {program}'s flags and has no help of its own\n")
        return 0
    try:
        arguments = parse(program, sys.argv[1:])
        if arguments.downloads:
            return download(arguments, Faults(program, plans.network_id(program, arguments.text("chain")), version))
        plan = plans.of(program, arguments, os.environ)
        faults = Faults(program, plan.chain_id, version)
        held = _checked(plan, faults)
    except RefusedError as refused:
        sys.stderr.write(f"{refused}\n")
        return refused.code
    with held:
        try:
            return asyncio.run(_serve(plan, faults, version))
        except (OSError, WrongParentError) as error:
            sys.stderr.write(f"Fatal: {error}\n")
            return 1


def _checked(plan: Plan, faults: Faults) -> IO[str]:
    """The data directory's lock, once everything that the client checks before it starts has held."""
    if faults.get("refuse_start"):
        raise RefusedError(str(faults.get("refuse_start")))
    if plan.jwt is not None:
        token.secret_in(plan.jwt)
    return _lock(plan.data)


def _lock(data: Path) -> IO[str]:
    try:
        data.mkdir(parents=True, exist_ok=True)
        handle = (data / "LOCK").open("w")
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RefusedError(
            f"Fatal: Failed to open database: datadir already used by another process: {data}"
        ) from error
    except OSError as error:
        raise RefusedError(f"Fatal: cannot use the data directory {data}: {error.strerror}") from error
    return handle


async def _serve(plan: Plan, faults: Faults, version: str) -> int:
    evm = Evm(url_of(plan.chain_id))
    runners: list[web.AppRunner] = []

    async def listen(app: web.Application, address: Address) -> None:
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        await web.TCPSite(runner, *address, reuse_address=True).start()
        runners.append(runner)

    execution = Execution(plan, evm, faults, version)
    for api in plan.apis:
        await listen(execution.application(api), api.address)
    if plan.beacon:
        await listen(beacon_application(evm, version), plan.beacon)
    followed: list[asyncio.Task[None]] = []
    if plan.role == "consensus" and plan.own_rpc:
        node = OpNode(plan, faults, version)
        await listen(node.application(), plan.own_rpc)
        followed.append(asyncio.create_task(node.follow()))
    if plan.role == "heimdall" and plan.own_rpc:
        await listen(heimdall_rpc(plan, evm, faults), plan.own_rpc)
        if plan.rest:
            await listen(heimdall_rest(version), plan.rest)
    if plan.metrics:
        await listen(_metrics(plan, evm), plan.metrics)
    held = [_bound(address, socket.SOCK_STREAM) for address in plan.tcp] + [
        _bound(address, socket.SOCK_DGRAM) for address in plan.udp
    ]
    log.info("this is a stand-in for %s %s on chain %d, not the real client", plan.program, version, plan.chain_id)
    code = await _until_asked_to_stop(plan, faults, [asyncio.create_task(_write(plan.data)), *followed])
    for handle in held:
        handle.close()
    for runner in runners:
        await runner.cleanup()
    await evm.close()
    return code


async def _write(data: Path) -> None:
    """Write to the data directory as a client's database does: on a disk that is full, it ends."""
    page = bytes(DATABASE_PAGE_BYTES)
    while True:
        try:
            # Beside the old page first, as a database does: it has to find room for both.
            (data / "STATE.next").write_bytes(page)
            (data / "STATE.next").replace(data / "STATE")
        except OSError as error:
            msg = f"cannot write the database in {data}: {error.strerror}"
            raise OSError(msg) from error
        await asyncio.sleep(1)


async def _until_asked_to_stop(plan: Plan, faults: Faults, work: list[asyncio.Task[None]]) -> int:
    """Wait for a signal, or raise what ends one of the pieces of work, which do not end by themselves."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    if plan.program == "bor":
        # The real Bor dies of a hang-up without a clean stop.
        loop.add_signal_handler(signal.SIGHUP, os._exit, 129)
    stop = asyncio.create_task(asked.wait())
    done, _ = await asyncio.wait([stop, *work], return_when=asyncio.FIRST_COMPLETED)
    for piece in work:
        if piece in done:
            piece.result()
        piece.cancel()
    seconds = float(faults.get("stop_seconds") or 0)
    if seconds:
        log.info("stopping takes %s s, as told", seconds)
        await asyncio.sleep(seconds)
    return 0


def _bound(address: Address, kind: socket.SocketKind) -> socket.socket:
    handle = socket.socket(socket.AF_INET, kind)
    if kind is socket.SOCK_STREAM:
        # For TCP it lets a port be had again at once; for UDP it would let two clients share one.
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    handle.setblocking(False)
    host = "127.0.0.1" if address[0] == "localhost" else address[0]
    handle.bind((host, address[1]))
    if kind is socket.SOCK_STREAM:
        handle.listen(8)
    return handle


def _metrics(plan: Plan, evm: Evm) -> web.Application:
    async def page(_: web.Request) -> web.Response:
        head = int(await evm.call("eth_blockNumber"), 16)
        return web.Response(text=f'standin_head_block{{program="{plan.program}",chain_id="{plan.chain_id}"}} {head}\n')

    app = web.Application()
    app.router.add_get("/{path:.*}", page)
    return app
