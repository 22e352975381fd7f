"""What the executor's tests have in common: paths, the seeded V3 pools, and a token that robs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mev.domain import Cycle, Hop, Pool

from tests.integration.mev.conftest import CAPITAL_WEI, Account, raw
from tests.integration.mev.test_executor import THIEF, HostileMarket

if TYPE_CHECKING:
    from lab.evm.devnode import DevNode

V3Pools = dict[tuple[int, frozenset[str]], Pool]


def through(token: bytes, *path: Pool) -> tuple[Cycle, dict[bytes, Pool]]:
    """Return the cycle from a token along pools, and these by address."""
    hops, held = [], token
    for pool in path:
        hops.append(Hop(pool.address, pool.token0 == held))
        held = pool.token1 if hops[-1].zero_for_one else pool.token0
    assert held == token
    return Cycle(token, tuple(hops)), {pool.address: pool for pool in path}


def seeded_v3(evm: DevNode) -> V3Pools:
    """Return the seeded V3 pools by fee and their tokens' symbols."""
    return {
        (seeded.fee, frozenset({seeded.token0, seeded.token1})): Pool(
            raw(seeded.address),
            seeded.factory,
            raw(evm.deployment.token(seeded.token0).address),
            raw(evm.deployment.token(seeded.token1).address),
            10**6 - seeded.fee,
            10**6,
            {500: 10, 3000: 60}[seeded.fee],
        )
        for seeded in evm.deployment.pools
        if seeded.version == 3
    }


def robs_nothing(
    owner: Account, executor: bytes, wrapped: bytes, market: HostileMarket, data: bytes, payload: bytes
) -> None:
    """Have a market's token call the executor with `payload` while `data` is executed: it tries, and the profit is what it was to be."""
    market.behave(THIEF, executor, payload)
    profit = int.from_bytes(owner.call(executor, data), "big")
    assert owner.send(executor, data)["status"] == "0x1"
    assert market.count("attempts") > 0
    assert market.count("successes") == 0
    assert owner.balance(wrapped, executor) == CAPITAL_WEI + profit
