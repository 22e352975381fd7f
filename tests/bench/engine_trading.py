"""What the engine does with transactions: signs its own, keeps the ledger of opportunities, evaluates pending swaps as a node tells of them.

Pending swaps come over a WebSocket from another process, each with the moment at which it was sent: first as fast as it follows, with few on the way
at once, then at a pace that leaves time between them, for what each one waits. The node is a stand-in; the market has one pair, and each swap is
evaluated in it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eth_abi.abi import encode
from eth_account import Account as Peer
from mev.chain.abi import selector
from mev.chain.rpc import Rpc
from mev.chain.transactions import PendingTransaction
from mev.chain.wire import encode as hexed
from mev.domain import Account, Block, Cycle, Entry, EntryKind, Hop, Opportunity, Pool, State, V2State
from mev.market.state import MarketState
from mev.runtime.config import ChainConfig, load
from mev.runtime.storage import Database
from mev.trading.execution.transaction import Signer, Transaction
from mev.trading.ledger import Ledger, Submission
from mev.trading.meter import Meter
from mev.trading.pending import PendingExposures

from tests.bench.figure import Figure
from tests.unit.mev.chain.node import CHAIN_ID, Node

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from mev.trading.strategies.sandwich import Exposure

ROUNDS = 3
SIGNED, LIVES, SWAPS = 1_000, 1_000, 1_500
# Swaps a second, where it is measured how long each one waits: several times what Ethereum's mempool brings.
PACE = 100
DAY_SECONDS = 86_400
SWAP = "swapExactTokensForTokens(uint256,uint256,address[],address,uint256)"
NATIVE, STABLE, FACTORY, ROUTER = (bytes([number]) * 20 for number in (1, 2, 3, 4))
# What is told before the subscriber knows its subscription's id belongs to nobody.
BEFORE_FIRST_SECONDS = 0.5
PATIENCE_SECONDS = 120
# A subscriber that does not keep up loses what it is told: so many at most are told before it has evaluated as many.
ON_THE_WAY = 64


def measure() -> Iterator[Figure]:
    """Median of three rounds each."""
    yield measure_signing()
    yield measure_ledger()
    yield from measure_pending()


def measure_signing() -> Figure:
    """Microseconds to sign a transaction of 500 bytes of calldata, beside eth_account, by turns; both sign the same bytes."""
    key, calldata = b"\x11" * 32, random.Random(1).randbytes(500)  # noqa: S311
    signer, peer = Signer(key), Peer.from_key(key)
    ours = [
        Transaction(
            chain_id=1,
            nonce=number,
            max_priority_fee_wei=10**9,
            max_fee_wei=10**11,
            gas_limit=300_000,
            to=ROUTER,
            data=calldata,
        )
        for number in range(SIGNED)
    ]
    theirs: list[dict[str, Any]] = [
        {
            "type": 2,
            "chainId": 1,
            "nonce": number,
            "maxPriorityFeePerGas": 10**9,
            "maxFeePerGas": 10**11,
            "gas": 300_000,
            "to": "0x" + ROUTER.hex(),
            "value": 0,
            "data": calldata,
        }
        for number in range(SIGNED)
    ]
    if signer.sign(ours[7]).raw != bytes(peer.sign_transaction(theirs[7]).raw_transaction):
        raise SystemExit("eth_account signs otherwise, so nothing is compared")
    rounds = [
        (
            _seconds(lambda: [signer.sign(each) for each in ours]),
            _seconds(lambda: [peer.sign_transaction(each) for each in theirs]),
        )
        for _ in range(ROUNDS)
    ]
    mine, other = (1_000_000 / SIGNED * statistics.median(each) for each in zip(*rounds, strict=True))
    return Figure("sign_us", mine, "us", ROUNDS, "eth_account", other)


def measure_ledger() -> Figure:
    """Opportunities a day that the ledger takes from detection to what their transaction moved, in SQLite on this disk; all of them are there after it."""
    rates = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as directory:
            location = Path(directory) / "mev_opportunities.db"
            database = Database(location)
            ledger = Ledger(database)
            rates.append(LIVES / _seconds(partial(_live_all, ledger)))
            database.close()
            again = Ledger(database := Database(location))
            if {again.state(f"bench-{number}") for number in range(LIVES)} != {State.INCLUDED}:
                raise SystemExit("the ledger lost opportunities")
            database.close()
    return Figure("replay_opportunities_per_day", DAY_SECONDS * statistics.median(rates), "1/day", ROUNDS)


def measure_pending() -> Iterator[Figure]:
    """Pending swaps evaluated a second, and the p99 of the milliseconds between a swap's sending and its evaluation at PACE a second."""
    fast = [asyncio.run(_followed(0)) for _ in range(ROUNDS)]
    yield Figure(
        "pipeline_tx_per_second",
        statistics.median(len(waits) / seconds for waits, seconds in fast),
        "1/s",
        ROUNDS,
        more_is_better=True,
    )
    paced = [asyncio.run(_followed(PACE)) for _ in range(ROUNDS)]
    yield Figure(
        "pipeline_p99_ms",
        1000 * statistics.median(statistics.quantiles(waits, n=100)[98] for waits, _ in paced),
        "ms",
        ROUNDS,
    )


def _live_all(ledger: Ledger) -> None:
    for number in range(LIVES):
        _live(ledger, number)


def _live(ledger: Ledger, number: int) -> None:
    name = f"bench-{number}"
    cycle = Cycle(NATIVE, (Hop(b"\x05" * 20, zero_for_one=True), Hop(b"\x06" * 20, zero_for_one=False)))
    digest = number.to_bytes(32, "big")
    sent = Submission(
        opportunity=name,
        chain="ethereum",
        sender=ROUTER,
        nonce=number,
        deadline_block=number + 2,
        max_priority_fee_wei=1,
        max_fee_wei=2,
        hash=digest,
        raw=bytes(600),
    )
    ledger.detect(
        Opportunity(
            id=name,
            chain="ethereum",
            strategy="atomic_arbitrage",
            cycle=cycle,
            block_number=number,
            block_hash=digest,
            amount_in=10**18,
            expected_out=10**18 + 10**15,
        )
    )
    ledger.move(name, State.SCREENED)
    ledger.simulated(name, 10**15, 200_000, 10**9)
    ledger.move(name, State.APPROVED)
    ledger.submit(sent)
    ledger.settle(sent, State.INCLUDED, booked=[_entry(name, digest, number, kind) for kind in _WAYS])


_WAYS = {
    EntryKind.SWAP_PROFIT: (Account.MARKET, Account.EXECUTOR),
    EntryKind.GAS: (Account.SIGNER, Account.GAS),
}


def _entry(name: str, digest: bytes, number: int, kind: EntryKind) -> Entry:
    credit, debit = _WAYS[kind]
    return Entry(
        chain="ethereum",
        opportunity=name,
        kind=kind,
        token=NATIVE,
        amount=10**15,
        credit=credit,
        debit=debit,
        transaction=digest,
        block_number=number,
        at_ns=time.time_ns(),
    )


class _Timed(PendingExposures):
    """Notes how long each swap waited: its sender wrote the moment into its value, nanoseconds of the machine's monotonic clock."""

    waits: list[float]
    node: Connection
    all_taken: asyncio.Event
    first_ns = 0
    last_ns = 0

    async def take(self, transaction: PendingTransaction) -> Exposure | None:
        exposure = await super().take(transaction)
        if exposure is None:
            raise SystemExit("a swap was not evaluated")
        self.first_ns = self.first_ns or transaction.value_wei
        self.last_ns = time.monotonic_ns()
        self.waits.append((self.last_ns - transaction.value_wei) / 1e9)
        if len(self.waits) % ON_THE_WAY == 0:
            self.node.send(None)
        if len(self.waits) == SWAPS:
            self.all_taken.set()
        return exposure


async def _followed(pace: int) -> tuple[list[float], float]:
    """Return what each swap waited, seconds, and the seconds from the first one's sending to the last one's evaluation."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    node = context.Process(target=_be_node, args=(there, pace), daemon=True)
    node.start()
    pool = Pool(b"\x05" * 20, "uniswap_v2", NATIVE, STABLE, 997, 1000)
    market = MarketState(Block(0, bytes(32), bytes(32), 0, 0), {pool: V2State(10**24, 10**24, 0)})
    try:
        url = await asyncio.to_thread(here.recv)
        async with Rpc(url, chain_id=CHAIN_ID) as rpc, asyncio.timeout(PATIENCE_SECONDS):
            exposures = _Timed("ethereum", _config(url), rpc, lambda: market, Meter())
            exposures.waits, exposures.node, exposures.all_taken = [], here, asyncio.Event()
            following = asyncio.ensure_future(exposures.run())
            await exposures.all_taken.wait()
            following.cancel()
        return exposures.waits, (exposures.last_ns - exposures.first_ns) / 1e9
    finally:
        node.kill()
        node.join()


def _config(url: str) -> ChainConfig:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "mev.toml"
        path.write_text(
            f"""
storage = {{ opportunities = "{directory}/opportunities.db", performance = "{directory}/performance.db" }}
logging = {{ directory = "{directory}" }}
risk = {{ max_amount_in_wei = {10**18}, min_profit_wei = 1, max_daily_loss_wei = 1, max_gas_price_wei = 1 }}
[chains.ethereum]
id = {CHAIN_ID}
ws = "{url}"
block_seconds = 12
wrapped_native = "{hexed(NATIVE)}"
tokens = [{{ symbol = "WETH", address = "{hexed(NATIVE)}", decimals = 18 }}]
v2_factories = [{{ name = "uniswap_v2", address = "{hexed(FACTORY)}", fee_numerator = 997, fee_denominator = 1000 }}]
"""
        )
        return load(path).chains["ethereum"]


def _be_node(pipe: Connection, pace: int) -> None:
    """Tell the one subscriber of all swaps, in a process of its own."""
    asyncio.run(_tell(pipe, pace))


async def _tell(pipe: Connection, pace: int) -> None:
    node = Node()
    node.answers["eth_call"] = "0x" + FACTORY.rjust(32, b"\0").hex()
    await node.start()
    pipe.send(node.url)
    await node.until_subscribed()
    await asyncio.sleep(BEFORE_FIRST_SECONDS)
    calldata = hexed(
        selector(SWAP)
        + encode(
            ["uint256", "uint256", "address[]", "address", "uint256"], [10**18, 1, [NATIVE, STABLE], ROUTER, 2**40]
        )
    )
    began = time.monotonic()
    for number in range(SWAPS):
        if pace:
            await asyncio.sleep(max(0.0, began + number / pace - time.monotonic()))
        elif number >= ON_THE_WAY and number % ON_THE_WAY == 0:
            await asyncio.to_thread(pipe.recv)
        await node.notify(
            {
                "hash": hexed(number.to_bytes(32, "big")),
                "from": hexed(STABLE),
                "to": hexed(ROUTER),
                "nonce": "0x0",
                "value": hex(time.monotonic_ns()),
                "gas": "0x30d40",
                "gasPrice": "0x9",
                "input": calldata,
                "type": "0x0",
            }
        )
    await asyncio.sleep(PATIENCE_SECONDS)


def _seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun
