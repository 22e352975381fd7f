"""The scripted trader: keeps prices of the pools moving, so that arbitrage comes and goes.

Which pool it trades, how much and how boldly follow from the seed, the chain and the trader's nonce; the direction also
from the price, which is drawn back to where the seed put it, so that the trader can run for ever and no pool is
drained. The nonce is the trader's whole memory: it goes on where it was after a restart of itself or of the chain.

Standard library only: the world container runs this as `python3 -m lab.evm.trader`.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.evm import chains, deployment
from lab.evm.abi import call_data, swap_v2_data, swap_v3_data, words
from lab.evm.draw import uniform
from lab.evm.rpc import Rpc, RpcError, UnreachableError

if TYPE_CHECKING:
    from lab.evm.deployment import Deployment, Pool

# One swap takes this share of what the pool holds: it moves the price by twice as much (0.8 to 3 %).
SMALLEST_SHARE = 0.004
LARGEST_SHARE = 0.015

# How far a price goes from the seed's before every swap leads it back.
LARGEST_DEVIATION = 0.06

# Three swaps in four are in V2 pools, whose prices the first strategies watch.
V2_SHARE = 0.75

DEFAULT_EVERY_BLOCKS = 2

# What the trader gets itself when a token runs out: so many times the swap at hand.
_REFILL = 100
_GAS = 600_000
# Enough for any base fee that a dozen full blocks can lead to: anvil drops what does not pay it.
_MAX_FEE_WEI = 100 * 10**9
_TIP_WEI = 10**9
_RETRY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Intent:
    """What the seed wants of one step; `boldness` in [0, 1) decides the direction together with the price."""

    pool: Pool
    share: float
    boldness: float


@dataclass(frozen=True, slots=True)
class Swap:
    """A swap that was sent; amount_in in base units of token_in."""

    pool: Pool
    token_in: str
    token_out: str
    amount_in: int
    transaction: str


def intent(seed: int, chain_id: int, nonce: int, pools: tuple[Pool, ...]) -> Intent:
    """Return the step that belongs to `nonce`: the same whenever and wherever it is asked for."""
    version = 2 if uniform(seed, chain_id, nonce, "version") < V2_SHARE else 3
    choice = [pool for pool in pools if pool.version == version]
    return Intent(
        pool=choice[int(uniform(seed, chain_id, nonce, "pool") * len(choice))],
        share=SMALLEST_SHARE + (LARGEST_SHARE - SMALLEST_SHARE) * uniform(seed, chain_id, nonce, "share"),
        boldness=uniform(seed, chain_id, nonce, "direction"),
    )


def sells_token0(boldness: float, price_ratio: float) -> bool:
    """Tell the direction: a price above the seed's (`price_ratio` > 1) makes selling token0 likelier, up to certain."""
    deviation = (price_ratio - 1) / LARGEST_DEVIATION
    return boldness < 0.5 + 0.5 * max(-1.0, min(1.0, deviation))


class Trader:
    """The trader on one chain."""

    def __init__(self, chain: str, chain_id: int, rpc: Rpc, contracts: Deployment) -> None:
        self.chain = chain
        self._chain_id = chain_id
        self._rpc = rpc
        self._contracts = contracts

    def step(self) -> Swap | None:
        """Send the swap that belongs to the trader's nonce; None if its token had run out and more was asked for instead.

        Never two transactions at once: anvil that takes in one while it mines the one before may queue it for good.
        Raises UnreachableError and RpcError.
        """
        contracts = self._contracts
        nonce = int(self._rpc.call("eth_getTransactionCount", contracts.trader, "pending"), 16)
        wanted = intent(contracts.seed, self._chain_id, nonce, contracts.pools)
        pool = wanted.pool
        held0, held1, price_ratio = self._read(pool)
        zero_for_one = sells_token0(wanted.boldness, price_ratio)
        token_in, token_out = (pool.token0, pool.token1) if zero_for_one else (pool.token1, pool.token0)
        amount_in = int((held0 if zero_for_one else held1) * wanted.share)
        if self._refill(token_in, amount_in):
            return None
        return Swap(pool, token_in, token_out, amount_in, self._send(*self._swap(pool, token_in, token_out, amount_in)))

    def _read(self, pool: Pool) -> tuple[float, float, float]:
        """Return what the pool holds of both tokens (V3: as if its liquidity were everywhere), and price over seed's."""
        if pool.version == 2:
            reserve0, reserve1, _ = words(self._call(pool.address, call_data("getReserves()")))
            return reserve0, reserve1, (reserve1 / reserve0) / (pool.amount1 / pool.amount0)
        root = words(self._call(pool.address, call_data("slot0()")))[0] / 2**96
        seeded_root = (pool.amount1 / pool.amount0) ** 0.5
        moved = root / seeded_root
        return pool.amount0 / moved, pool.amount1 * moved, moved**2

    def _refill(self, symbol: str, amount: int) -> bool:
        """Ask for more of a token of which less than `amount` is left; tell whether that was so."""
        token = self._contracts.token(symbol)
        held = words(self._call(token.address, call_data("balanceOf(address)", self._contracts.trader)))[0]
        if held >= amount:
            return False
        if token.address == self._contracts.wrapped_native:
            self._send(token.address, call_data("deposit()"), _REFILL * amount)
        else:
            self._send(token.address, call_data("mint(uint256)", _REFILL * amount))
        return True

    def _swap(self, pool: Pool, token_in: str, token_out: str, amount_in: int) -> tuple[str, str]:
        contracts = self._contracts
        router = contracts.factory(pool.factory).router
        path = (contracts.token(token_in).address, contracts.token(token_out).address)
        if pool.version == 2:
            return router, swap_v2_data(amount_in, *path, contracts.trader)
        return router, swap_v3_data(amount_in, *path, pool.fee, contracts.trader)

    def _call(self, to: str, data: str) -> str:
        answer: str = self._rpc.call("eth_call", {"to": to, "data": data}, "latest")
        if answer == "0x":
            raise RpcError(f"{self._rpc.url}: there is no contract at {to}: the chain is not seeded")
        return answer

    def _send(self, to: str, data: str, value: int = 0) -> str:
        transaction = {
            "from": self._contracts.trader,
            "to": to,
            "data": data,
            "value": hex(value),
            "gas": hex(_GAS),
            "maxFeePerGas": hex(_MAX_FEE_WEI),
            "maxPriorityFeePerGas": hex(_TIP_WEI),
        }
        sent: str = self._rpc.call("eth_sendTransaction", transaction)
        return sent


def trade(trader: Trader, seconds: float, stop: threading.Event) -> None:
    """Trade every `seconds` until `stop`, through every loss of the chain; each loss and return is said once."""
    lost = ""
    while not stop.is_set():
        try:
            trader.step()
        except (UnreachableError, RpcError) as failure:
            if str(failure) != lost:
                lost = str(failure)
                print(f"trader: {trader.chain}: waiting: {lost}", file=sys.stderr, flush=True)
            stop.wait(_RETRY_SECONDS)
            continue
        if lost:
            lost = ""
            print(f"trader: {trader.chain}: trading again", file=sys.stderr, flush=True)
        stop.wait(seconds)


def main(argv: list[str] | None = None) -> None:
    """Trade on the lab's chains until SIGTERM."""
    known = chains.load()
    parser = argparse.ArgumentParser(prog="python3 -m lab.evm.trader", description="Keep the lab's prices moving.")
    parser.add_argument("--deployment", type=Path, required=True, help="what the seed wrote")
    parser.add_argument("--host", default="127.0.0.1", help="where the chains listen, each on its own port")
    parser.add_argument("--chain", action="append", choices=list(known), help="this one only (repeatable)")
    parser.add_argument("--every-blocks", type=int, default=DEFAULT_EVERY_BLOCKS, help="blocks from swap to swap")
    arguments = parser.parse_args(argv)
    try:
        contracts = deployment.read(arguments.deployment)
    except (OSError, ValueError, TypeError, KeyError) as failure:
        sys.exit(f"trader: {arguments.deployment} (--deployment) is not what lab.evm.seed writes: {failure}")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    threads = []
    for name in arguments.chain or known:
        chain = known[name]
        trader = Trader(name, chain.id, Rpc(f"http://{arguments.host}:{chain.port}"), contracts)
        seconds = float(arguments.every_blocks * chain.block_seconds)
        threads.append(threading.Thread(target=trade, args=(trader, seconds, stop), name=name))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
