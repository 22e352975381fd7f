"""Every arbitrage and every liquidation that a seeded chain holds is found in the block that opens it: the chain itself is asked what it holds."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

from mev.domain import Cycle, Hop, Pool
from mev.trading.execution import contract

from lab.evm.rpc import RpcError
from tests.integration.mev.conftest import NATIVE_WEI, Account, Installation, at_rest, raw, wait_for
from tests.integration.mev.test_executor_v3 import push

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.evm.devnode import DevNode
    from tests.integration.mev.lending.crash import Crash

# Wei that are put into each cycle to see whether it pays.
AMOUNTS = tuple(10**digits for digits in range(14, 20))
HEALTHY = 10**18
Path = tuple[bytes, ...]


def seeded(evm: DevNode) -> list[Pool]:
    """Every pool that the lab made, of both kinds."""
    found = []
    for each in evm.deployment.pools:
        factory = evm.deployment.factory(each.factory)
        where, one, other = (
            raw(each.address),
            *(raw(evm.deployment.token(name).address) for name in (each.token0, each.token1)),
        )
        if each.version == 2:
            found.append(Pool(where, each.factory, one, other, factory.fee_numerator, factory.fee_denominator))
        else:
            found.append(Pool(where, each.factory, one, other, 10**6 - each.fee, 10**6, each.fee // 50))
    return found


def cycles(pools: list[Pool], token: bytes) -> Iterator[Cycle]:
    """Every way of two or three different pools from a token and back, tried one by one."""
    for count in (2, 3):
        for path in permutations(pools, count):
            hops: list[Hop] = []
            held = token
            for pool in path:
                if held not in (pool.token0, pool.token1) or (hops and held == token):
                    break
                hops.append(Hop(pool.address, pool.token0 == held))
                held = pool.token1 if hops[-1].zero_for_one else pool.token0
            if len(hops) == count and held == token:
                yield Cycle(token, tuple(hops))


def paying(owner: Account, executor: bytes, pools: list[Pool], token: bytes) -> dict[Path, int]:
    """What each cycle leaves at the best of a few amounts, by the chain's own word; those that leave nothing are not in it."""
    by_address = {pool.address: pool for pool in pools}
    found: dict[Path, int] = {}
    for cycle in cycles(pools, token):
        for amount in AMOUNTS:
            data = contract.encode_execute(cycle, by_address, amount, 1, 0)
            try:
                profit = int.from_bytes(owner.call(executor, data), "big")
            except RpcError:
                continue
            path = tuple(hop.pool for hop in cycle.hops)
            found[path] = max(found.get(path, 0), profit)
    return found


def told(installation: Installation, strategy: str, block: int) -> dict[Path, int]:
    """What the engine found in a block and what it expects of it, by the contracts of each step."""
    return {
        tuple(raw(pool) for pool in each["pools"]): int(each["expected_profit_wei"])
        for each in installation.mev("opportunities", "--limit", "1000")["opportunities"]
        if (each["strategy"], each["block_number"]) == (strategy, block)
    }


def test_what_a_seeded_chain_holds_is_found_in_the_block_that_opens_it(
    evm: DevNode, owner: Account, installation: Installation, wrapped: bytes, crash: Crash
) -> None:
    installation.mode, installation.v3_fees = "observe", (500, 3000)
    installation.chain_tables = f'[[chains.ethereum.aave_v3]]\nname = "aave_v3"\npool = "{crash.aave.pool}"'
    installation.write()
    content = installation.config.read_text()
    both = 'strategies = ["atomic_arbitrage", "liquidation"]'
    installation.config.write_text(content.replace('mode = "observe"', f'mode = "observe"\n{both}'))
    crash.dollars_owed(falls=False)
    # Of four borrowers who owe from 60 to 74 hundredths a fall by a tenth reaches the two that owe most.
    borrowers = [crash.borrower, *(crash.another(number, percent) for number, percent in enumerate((73, 68, 60)))]
    executor = raw(installation.mev("executor", "address", "--chain", "ethereum")["executor"])
    pools = seeded(evm)

    def decided(strategy: str) -> dict[Path, int]:
        """What the engine makes of the newest block; no other one is mined before it has something."""
        newest = int(evm.rpc.call("eth_blockNumber"), 16)
        wait_for(f"{strategy} of block {newest}", lambda: told(installation, strategy, newest))
        at_rest(installation)
        return told(installation, strategy, newest)

    with installation.agent("strategy_engine"):
        found = decided("atomic_arbitrage")
        held = paying(owner, executor, pools, wrapped)
        assert held
        # No less than the best of the amounts that were tried.
        assert {path: profit for path, profit in held.items() if found.get(path, 0) < profit} == {}

        # A pool is moved: whatever that opens is found in that block, and what was open was found already.
        push(evm, owner, wrapped, 500, 40 * NATIVE_WEI)
        again = decided("atomic_arbitrage")
        opened = paying(owner, executor, pools, wrapped)
        assert opened.keys() - held.keys()
        assert {
            path: profit for path, profit in opened.items() if max(again.get(path, 0), found.get(path, 0)) < profit
        } == {}

        crash.falls()
        fallen = int(evm.rpc.call("eth_blockNumber"), 16)
        liquidated = decided("liquidation")
        below = {raw(each) for each in borrowers if crash.aave.account(each)[2] < HEALTHY}
        liquidated = told(installation, "liquidation", fallen)
        assert len(below) == 2
        stories = [
            installation.mev("explain", each["opportunity"])["legs"]
            for each in installation.mev("opportunities", "--limit", "1000")["opportunities"]
            if (each["strategy"], each["block_number"]) == ("liquidation", fallen)
        ]
        assert {raw(leg["borrower"]) for legs in stories for leg in legs if leg["borrower"]} == below
        assert all(profit > 0 for profit in liquidated.values())
