"""What the engine does with transactions: signs its own, keeps the ledger of opportunities, evaluates pending swaps as a node tells of them.

Pending swaps come over a WebSocket from another process, each with the moment at which it was sent: first as fast as it follows, with few on the way
at once, then at a pace that leaves time between them, for what each one waits. The node is a stand-in. The market has 2,000 pairs and 200 V3 pools;
each swap is evaluated, is through one pool or two, of any size up to a thirtieth of the pool, and leaves up to a tenth to whoever takes it: one in
five exposes something, which is computed to the limit that would have protected it, and logged.
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
from mev.market.amm import amount_out
from mev.market.amm.concentrated import ConcentratedPool
from mev.market.amm.ticks import Ticks
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

    from mev.trading.strategies.router_plan import Unevaluated
from mev.trading.strategies.sandwich import Exposure

ROUNDS = 3
SIGNED, LIVES, SWAPS = 1_000, 1_000, 1_500
# Swaps a second, where it is measured how long each one waits: several times what Ethereum's mempool brings.
PACE = 100
DAY_SECONDS = 86_400
MILLION = 10**6
# What a sandwich on paper may put in.
CAPITAL = 10**23
SWAP = "swapExactTokensForTokens(uint256,uint256,address[],address,uint256)"
V3_SWAP = "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))"
NATIVE, STABLE, FACTORY, ROUTER, V3_FACTORY, V3_ROUTER = (bytes([number]) * 20 for number in range(1, 7))
PAIRS, V3_POOLS, V3_FEE = 2_000, 200, 3_000
# Of so many swaps one goes through a V3 pool, and one of the others through two pairs.
ONE_V3, ONE_LONG = 8, 5
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


def opportunity(number: int) -> Opportunity:
    """One that nothing else in a ledger is."""
    return Opportunity(
        id=f"bench-{number}",
        chain="ethereum",
        strategy="atomic_arbitrage",
        cycle=Cycle(NATIVE, (Hop(b"\x05" * 20, zero_for_one=True), Hop(b"\x06" * 20, zero_for_one=False))),
        block_number=number,
        block_hash=number.to_bytes(32, "big"),
        amount_in=10**18,
        expected_out=10**18 + 10**15,
    )


def submission(number: int) -> Submission:
    """Its transaction."""
    return Submission(
        opportunity=f"bench-{number}",
        chain="ethereum",
        sender=ROUTER,
        nonce=number,
        deadline_block=number + 2,
        max_priority_fee_wei=1,
        max_fee_wei=2,
        hash=number.to_bytes(32, "big"),
        raw=bytes(600),
    )


def _live(ledger: Ledger, number: int) -> None:
    found, sent = opportunity(number), submission(number)
    name, digest = found.id, sent.hash
    ledger.detect(found)
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

    async def take(self, transaction: PendingTransaction) -> Exposure | Unevaluated | None:
        exposure = await super().take(transaction)
        if not isinstance(exposure, Exposure):
            raise SystemExit(f"a swap was not evaluated: {exposure}")
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
    market = _market()
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
risk = {{ max_amount_in_wei = {CAPITAL}, min_profit_wei = 1, max_daily_loss_wei = 1, max_gas_price_wei = 1 }}
[chains.ethereum]
id = {CHAIN_ID}
ws = "{url}"
block_seconds = 12
wrapped_native = "{hexed(NATIVE)}"
tokens = [{{ symbol = "WETH", address = "{hexed(NATIVE)}", decimals = 18 }}]
v2_factories = [{{ name = "uniswap_v2", address = "{hexed(FACTORY)}", fee_numerator = 997, fee_denominator = 1000 }}]
v3_factories = [{{ name = "uniswap_v3", address = "{hexed(V3_FACTORY)}", fees = [{V3_FEE}] }}]
"""
        )
        return load(path).chains["ethereum"]


def _token(number: int) -> bytes:
    return (2**64 + number).to_bytes(20, "big")


def _market() -> MarketState:
    """Each pool between the token of its number and the next one: V3 pools after the pairs."""
    draw = random.Random(1)  # noqa: S311
    states: dict[Pool, V2State | ConcentratedPool] = {}
    for number in range(PAIRS):
        pool = Pool((2**80 + number).to_bytes(20, "big"), "uniswap_v2", _token(number), _token(number + 1), 997, 1000)
        states[pool] = V2State(int(10 ** draw.uniform(20, 25)), int(10 ** draw.uniform(20, 25)), 0)
    for number in range(PAIRS, PAIRS + V3_POOLS):
        ends = _token(number), _token(number + 1)
        made = Pool((2**80 + number).to_bytes(20, "big"), "uniswap_v3", *ends, MILLION - V3_FEE, MILLION, 60)
        net: dict[int, int] = {}
        for _ in range(20):
            lower, upper = 60 * draw.randint(-500, -1), 60 * draw.randint(1, 500)
            liquidity = int(10 ** draw.uniform(20, 24))
            net[lower], net[upper] = net.get(lower, 0) + liquidity, net.get(upper, 0) - liquidity
        ticks = Ticks(net, 60)
        states[made] = ConcentratedPool(
            ticks, sqrt_price_x96=2**96, tick=0, liquidity=ticks.liquidity_at(0), fees=(V3_FEE, V3_FEE)
        )
    return MarketState(Block(0, bytes(32), bytes(32), 0, 0), states)


def _calls() -> list[tuple[bytes, bytes]]:
    """Routers and calldata."""
    draw, market = random.Random(2), _market()  # noqa: S311
    pools, made = list(market.pools().values()), []
    for _ in range(SWAPS):
        if draw.randrange(ONE_V3) == 0:
            pool = pools[draw.randrange(PAIRS, PAIRS + V3_POOLS)]
            now = market.concentrated(pool.address)
            assert now is not None
            amount = int(now.liquidity * 10 ** draw.uniform(-7, -1.5))
            quoted = now.amount_out(amount, zero_for_one=True)
            given = (pool.token0, pool.token1, V3_FEE, ROUTER, 2**40, amount, _limit(draw, quoted), 0)
            types = ["(address,address,uint24,address,uint256,uint256,uint256,uint160)"]
            made.append((V3_ROUTER, selector(V3_SWAP) + encode(types, [given])))
            continue
        first = draw.randrange(PAIRS - 1)
        way = pools[first : first + (2 if draw.randrange(ONE_LONG) == 0 else 1)]
        amount = quoted = int(market.v2(way[0].address).reserve0 * 10 ** draw.uniform(-7, -1.5))
        for pool in way:
            held = market.v2(pool.address)
            quoted = amount_out(quoted, held.reserve0, held.reserve1, 997, 1000)
        path = [way[0].token0, *(pool.token1 for pool in way)]
        types = ["uint256", "uint256", "address[]", "address", "uint256"]
        made.append((ROUTER, selector(SWAP) + encode(types, [amount, _limit(draw, quoted), path, ROUTER, 2**40])))
    return made


def _limit(draw: random.Random, quoted: int) -> int:
    return int(quoted * (1 - draw.choice([0.001, 0.005, 0.01, 0.03, 0.1])))


def _be_node(pipe: Connection, pace: int) -> None:
    """Tell the one subscriber of all swaps, in a process of its own."""
    asyncio.run(_tell(pipe, pace))


async def _tell(pipe: Connection, pace: int) -> None:
    node = Node()
    node.answers["eth_call"] = lambda asked, _block: (
        "0x" + (FACTORY if asked["to"] == hexed(ROUTER) else V3_FACTORY).rjust(32, b"\0").hex()
    )
    calls = [(hexed(router), hexed(calldata)) for router, calldata in _calls()]
    await node.start()
    pipe.send(node.url)
    await node.until_subscribed()
    await asyncio.sleep(BEFORE_FIRST_SECONDS)
    began = time.monotonic()
    for number, (router, calldata) in enumerate(calls):
        if pace:
            await asyncio.sleep(max(0.0, began + number / pace - time.monotonic()))
        elif number >= ON_THE_WAY and number % ON_THE_WAY == 0:
            await asyncio.to_thread(pipe.recv)
        await node.notify(
            {
                "hash": hexed(number.to_bytes(32, "big")),
                "from": hexed(STABLE),
                "to": router,
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
