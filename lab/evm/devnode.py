"""A chain of one's own: a throw-away anvil on a free port, seeded, for tests and benchmarks."""

from __future__ import annotations

import random
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.errors import LabError
from lab.evm import chains, node, seed
from lab.evm.rpc import Rpc, UnreachableError
from lab.evm.trader import Trader

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from lab.evm.deployment import Deployment
    from lab.evm.npm import Modules
    from lab.evm.rpc import Json

# What `mining` may be.
AUTO = node.AUTO
MANUAL = node.MANUAL

_TRIES = 5
# Below those that the kernel gives to connections (net.ipv4.ip_local_port_range), of which a busy machine makes many.
_PORTS = range(10_000, 20_000)
_START_SECONDS = 60
# Only what no block will ever take needs as long.
_RECEIPT_SECONDS = 60
_DONE_SECONDS = 5


@dataclass(slots=True)
class DevNode:
    """A seeded chain; `http` and `ws` are one port."""

    name: str
    chain_id: int
    http: str
    ws: str
    rpc: Rpc
    deployment: Deployment
    process_id: int

    def mine(self, blocks: int = 1) -> None:
        """Add blocks, with whatever transactions wait."""
        for _ in range(blocks):
            self.rpc.call("evm_mine")

    def trade(self) -> str:
        """Let the trader make its next swap, and return the transaction's hash once it is in a block."""
        trader = Trader(self.name, self.chain_id, self.rpc, self.deployment)
        while (swap := trader.step()) is None:
            self.mine()
        self.receipt(swap.transaction)
        return swap.transaction

    def receipt(self, transaction: str) -> dict[str, Json]:
        """Return the receipt of `transaction`, as `receipt` does."""
        return receipt(self.rpc, transaction)

    def fund(self, address: str, amount_wei: int) -> None:
        """Let `address` have exactly `amount_wei` of native coin."""
        self.rpc.call("anvil_setBalance", address, hex(amount_wei))


def receipt(rpc: Rpc, transaction: str) -> dict[str, Json]:
    """Return the receipt of `transaction`, once a block has it; raises LabError where none takes it.

    Where each transaction makes a block by itself, its hash is answered before: that block is waited for, however late it is. One that is
    mined beside it is one more than whoever counts blocks, or trades on the newest, was meant to see.
    """
    deadline = time.monotonic() + _RECEIPT_SECONDS
    while (answer := rpc.call("eth_getTransactionReceipt", transaction)) is None:
        if time.monotonic() > deadline:
            raise LabError(f"{rpc.url} has {transaction} in no block after {_RECEIPT_SECONDS} s")
        if rpc.call("anvil_getAutomine"):
            time.sleep(0.005)
        else:
            rpc.call("evm_mine")
    found: dict[str, Json] = answer
    return found


def revert(rpc: Rpc, snapshot: str) -> None:
    """Set a chain back to what `evm_snapshot` named, once anvil has done with what it has mined since.

    It takes mined transactions from those that wait a moment after their block, by sender and nonce: after that the same nonce's next one would go
    with them, and be in no block. What no block takes is not waited for longer than that moment can be.
    """
    deadline = time.monotonic() + _DONE_SECONDS
    while (
        rpc.call("txpool_status")["pending"] != "0x0" and time.monotonic() < deadline and rpc.call("anvil_getAutomine")
    ):
        time.sleep(0.005)
    rpc.call("evm_revert", snapshot)


@contextmanager
def start(
    modules: Modules,
    *,
    name: str = "ethereum",
    number: int = chains.DEFAULT_SEED,
    mining: list[str] = AUTO,
    fund: Mapping[str, int] | None = None,
    state: Path | None = None,
) -> Iterator[DevNode]:
    """Run a seeded chain called `name` on a free port of loopback until the context ends.

    `fund` is native coin for addresses, in wei; `state` is a file to start from and to leave behind.
    """
    chain = chains.get(name)
    with bare(modules, chain, number=number, mining=mining, state=state) as (rpc, process_id):
        deployment = seed.seed({name: rpc.url}, modules, number=number, fund=fund)
        ws = rpc.url.replace("http", "ws", 1)
        yield DevNode(name, chain.id, rpc.url, ws, rpc, deployment, process_id)


@contextmanager
def bare(
    modules: Modules,
    chain: chains.Chain,
    *,
    number: int = chains.DEFAULT_SEED,
    mining: list[str] = AUTO,
    state: Path | None = None,
) -> Iterator[tuple[Rpc, int]]:
    """Run `chain` unseeded, as `start` does; gives its JSON-RPC and its process id."""
    process, rpc = _launch(modules, chain, number, mining, state)
    try:
        yield rpc, process.pid
    finally:
        rpc.close()
        process.terminate()
        process.wait(timeout=_START_SECONDS)


def _launch(
    modules: Modules, chain: chains.Chain, number: int, mining: list[str], state: Path | None
) -> tuple[subprocess.Popen[bytes], Rpc]:
    for _ in range(_TRIES):
        port = free_port()
        command = node.command(
            modules.anvil, chain, seed=number, host="127.0.0.1", port=port, mining=mining, state=state
        )
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        rpc = Rpc(f"http://127.0.0.1:{port}", timeout_seconds=_START_SECONDS)
        if _answers(process, rpc):
            return process, rpc
        process.kill()
        process.wait()
    raise LabError(f"{command[0]} did not start in {_TRIES} tries: run it by hand to see why")


def _answers(process: subprocess.Popen[bytes], rpc: Rpc) -> bool:
    """Wait for the node's first answer; False when it ended, because another program took the port before it."""
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            rpc.call("eth_chainId")
        except UnreachableError:
            time.sleep(0.02)
        else:
            return True
    return False


def free_port() -> int:
    """Return a TCP port of loopback that nothing is bound to, and that no connection is given before it is used."""
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise LabError(f"no port from {_PORTS.start} to {_PORTS.stop - 1} of 127.0.0.1 is free")
