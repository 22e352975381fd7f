"""The seeded chains and the trader, on real anvils."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from itertools import permutations
from typing import TYPE_CHECKING

import pytest
import yaml

from lab.checkout import Checkout
from lab.errors import LabError
from lab.evm import abi, chains, devnode, plan, seed
from lab.evm.contracts import call_data
from lab.evm.rpc import Rpc, UnreachableError

if TYPE_CHECKING:
    from pathlib import Path

    from lab.evm.deployment import Deployment, Pool
    from lab.evm.devnode import DevNode
    from lab.evm.npm import Modules

ROOT = Checkout.here().root
SIGNER = "0x" + 20 * "5a"

# What a cycle of two swaps through an atomic executor burns, and the price that the lab's wallets suggest (1 gwei).
CYCLE_GAS = 250_000
GAS_PRICE_WEI = 2 * 10**9


def read(node: DevNode, to: str, signature: str, *arguments: object) -> list[int]:
    call = {"to": to, "data": "0x" + call_data(signature, *arguments).hex()}
    return abi.words(node.rpc.call("eth_call", call, "latest"))


def v2_pools(deployment: Deployment) -> list[Pool]:
    return [pool for pool in deployment.pools if pool.version == 2]


def amount_out(amount_in: int, reserve_in: int, reserve_out: int) -> int:
    """UniswapV2Library.getAmountOut."""
    paid = amount_in * 997
    return paid * reserve_out // (reserve_in * 1000 + paid)


def best_cycle(node: DevNode) -> tuple[int, int, tuple[Pool, Pool]]:
    """Return (profit, amount in, pools) of the best WETH cycle through two V2 pools of one pair."""
    pools = [pool for pool in v2_pools(node.deployment) if "WETH" in (pool.token0, pool.token1)]
    reserves = {pool.address: read(node, pool.address, "getReserves()")[:2] for pool in pools}

    def profit(amount_in: int, first: Pool, second: Pool) -> int:
        held, other = reserves[first.address] if first.token0 == "WETH" else reserves[first.address][::-1]
        amount = amount_out(amount_in, held, other)
        held, other = reserves[second.address] if second.token0 == "WETH" else reserves[second.address][::-1]
        return amount_out(amount, other, held) - amount_in

    best = (0, 0, (pools[0], pools[0]))
    for first, second in permutations(pools, 2):
        if {first.token0, first.token1} != {second.token0, second.token1}:
            continue
        low, high = 1, 100 * 10**18
        while high - low > 10**12:
            third = (high - low) // 3
            if profit(low + third, first, second) < profit(high - third, first, second):
                low += third
            else:
                high -= third
        best = max(best, (profit(low, first, second), low, (first, second)), key=lambda cycle: cycle[0])
    return best


def test_a_chain_holds_what_the_deployment_says(evm: DevNode) -> None:
    deployment = evm.deployment
    for token in deployment.tokens:
        assert read(evm, token.address, "decimals()") == [token.decimals]
        symbol = evm.rpc.call("eth_call", {"to": token.address, "data": "0x95d89b41"}, "latest")
        assert token.symbol in bytes.fromhex(symbol[2:]).decode(errors="ignore")
    for pool in deployment.pools:
        tokens = [deployment.token(pool.token0).address, deployment.token(pool.token1).address]
        maker = deployment.factory(pool.factory).address
        if pool.version == 2:
            assert read(evm, maker, "getPair(address,address)", *tokens) == [int(pool.address, 16)]
            assert read(evm, pool.address, "getReserves()")[:2] == [pool.amount0, pool.amount1]
        else:
            assert read(evm, maker, "getPool(address,address,uint24)", *tokens, pool.fee) == [int(pool.address, 16)]
            for address, amount in zip(tokens, (pool.amount0, pool.amount1), strict=True):
                (held,) = read(evm, address, "balanceOf(address)", pool.address)
                assert 0.94 * amount < held <= amount
        assert [read(evm, pool.address, f"token{side}()")[0] for side in (0, 1)] == [int(part, 16) for part in tokens]
    for factory in deployment.factories:
        if factory.version == 2:
            assert read(evm, factory.address, "allPairsLength()") == [3]


def test_prices_of_a_pair_differ_between_exchanges(evm: DevNode) -> None:
    prices: dict[tuple[str, str], list[float]] = {}
    for pool in v2_pools(evm.deployment):
        reserve0, reserve1, _ = read(evm, pool.address, "getReserves()")
        prices.setdefault((pool.token0, pool.token1), []).append(reserve1 / reserve0)
    assert len(prices) == 3
    for one, other in prices.values():
        assert 0.009 < abs(one / other - 1) < 0.021


def test_all_chains_are_alike_but_for_their_ids(modules: Modules, tmp_path: Path) -> None:
    with devnode.start(modules, name="base") as base, devnode.start(modules, name="polygon") as polygon:
        assert [int(node.rpc.call("eth_chainId"), 16) for node in (base, polygon)] == [8453, 137]
        assert base.deployment == polygon.deployment
        seed.write_vars(base.deployment, tmp_path / "vars.yml", ["base", "polygon"])
        facts = yaml.safe_load((tmp_path / "vars.yml").read_text())["mev_chains"]
        assert list(facts) == ["base", "polygon"]
        assert facts["base"] == facts["polygon"]
        assert facts["base"]["wrapped_native"] == base.deployment.wrapped_native
        assert [factory["name"] for factory in facts["base"]["v2_factories"]] == ["uniswap_v2", "sushi_v2"]


def test_another_seed_makes_another_chain(modules: Modules, evm: DevNode) -> None:
    with devnode.start(modules, number=2) as other:
        assert other.deployment.wrapped_native != evm.deployment.wrapped_native
        assert other.deployment.pools[0].amount0 != evm.deployment.pools[0].amount0


def test_seeding_again_changes_nothing(evm: DevNode, modules: Modules) -> None:
    before = evm.rpc.call("eth_blockNumber")
    assert seed.seed({evm.name: evm.http}, modules) == evm.deployment
    assert evm.rpc.call("eth_blockNumber") == before


def test_an_interrupted_seeding_goes_on(modules: Modules) -> None:
    with devnode.bare(modules, chains.get("ethereum"), mining=devnode.MANUAL) as (rpc, _):
        deployer, trader, bank, *_ = rpc.call("eth_accounts")
        wanted = plan.build(modules, seed=1, deployer=deployer, trader=trader, bank=bank)
        for step in wanted.steps[:3]:
            rpc.call("eth_sendTransaction", seed.transaction(step))
        rpc.call("evm_mine")
        assert seed.seed({"ethereum": rpc.url}, modules) == wanted.deployment


def test_another_plan_on_a_seeded_chain_is_refused(
    evm: DevNode, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "SPREAD", 0.02)
    with pytest.raises(LabError, match=r"^ethereum at .* was seeded otherwise: remove its state"):
        seed.seed({evm.name: evm.http}, modules)


def test_a_chain_with_another_id_is_refused(evm: DevNode, modules: Modules) -> None:
    with pytest.raises(LabError, match=r"^base at .* is chain 1, and lab/evm/chains.json says 8453$"):
        seed.seed({"base": evm.http}, modules)


def test_a_chain_that_is_not_there_is_named(modules: Modules, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seed, "START_SECONDS", 0.1)
    with pytest.raises(LabError, match=r"^base does not answer: .* refused$"):
        seed.seed({"base": f"http://127.0.0.1:{devnode.free_port()}"}, modules)


def test_an_address_is_funded_once(evm: DevNode, modules: Modules) -> None:
    amount = 1000 * 10**18
    for _ in range(2):
        seed.seed({evm.name: evm.http}, modules, fund={SIGNER: amount})
        assert int(evm.rpc.call("eth_getBalance", SIGNER, "latest"), 16) == amount
    evm.fund(SIGNER, amount // 2)
    seed.seed({evm.name: evm.http}, modules, fund={SIGNER: amount})
    assert int(evm.rpc.call("eth_getBalance", SIGNER, "latest"), 16) == amount // 2


def test_the_trader_makes_an_arbitrage_every_few_swaps(evm: DevNode) -> None:
    """Each one found is taken for real, through the routers, and must pay what the arithmetic says, gas included."""
    account = evm.rpc.call("eth_accounts")[3]
    deployment = evm.deployment

    def send(to: str, data: bytes, value: int = 0) -> None:
        sent = {"from": account, "to": to, "data": "0x" + data.hex(), "value": hex(value), "gas": hex(500_000)}
        transaction = evm.rpc.call("eth_sendTransaction", {**sent, "gasPrice": hex(GAS_PRICE_WEI)})
        assert evm.receipt(transaction)["status"] == "0x1"

    def balance(symbol: str) -> int:
        return read(evm, deployment.token(symbol).address, "balanceOf(address)", account)[0]

    send(deployment.wrapped_native, call_data("deposit()"), 1000 * 10**18)
    for token in deployment.tokens:
        for factory in deployment.factories:
            send(token.address, call_data("approve(address,uint256)", factory.router, 2**256 - 1))
    swap = "swapExactTokensForTokens(uint256,uint256,address[],address,uint256)"
    taken = 0
    for _ in range(30):
        profit, amount_in, cycle = best_cycle(evm)
        if profit > CYCLE_GAS * GAS_PRICE_WEI:
            start = balance("WETH")
            other = cycle[0].token0 if cycle[0].token1 == "WETH" else cycle[0].token1
            path = [deployment.wrapped_native, deployment.token(other).address]
            routers = [deployment.factory(pool.factory).router for pool in cycle]
            send(routers[0], call_data(swap, amount_in, 0, path, account, 2**64))
            send(routers[1], call_data(swap, balance(other), 0, path[::-1], account, 2**64))
            assert balance("WETH") - start == profit
            taken += 1
        evm.trade()
    assert taken >= 10


def test_the_trader_repeats_itself(evm: DevNode) -> None:
    def run() -> list[list[int]]:
        snapshot = evm.rpc.call("evm_snapshot")
        for _ in range(12):
            receipt = evm.receipt(evm.trade())
            assert receipt["status"] == "0x1"
        reserves = [read(evm, pool.address, "getReserves()")[:2] for pool in v2_pools(evm.deployment)]
        devnode.revert(evm.rpc, snapshot)
        return reserves

    first = run()
    assert first == run()
    assert first != [[pool.amount0, pool.amount1] for pool in v2_pools(evm.deployment)]


def test_the_trader_gets_itself_what_it_lacks(evm: DevNode) -> None:
    trader = evm.deployment.trader
    for token in evm.deployment.tokens:
        (held,) = read(evm, token.address, "balanceOf(address)", trader)
        away = {"from": trader, "to": token.address, "gas": hex(100_000)}
        data = call_data("transfer(address,uint256)", SIGNER, held)
        evm.receipt(evm.rpc.call("eth_sendTransaction", {**away, "data": "0x" + data.hex()}))
    for _ in range(12):
        assert evm.receipt(evm.trade())["status"] == "0x1"


def test_node_and_trader_go_on_after_a_restart(modules: Modules, tmp_path: Path) -> None:
    """As the world container runs them: two programs that need nothing but the standard library (-S)."""
    port = devnode.free_port()
    package = tmp_path / "lab" / "evm"
    package.mkdir(parents=True)
    (tmp_path / "lab" / "__init__.py").touch()
    for source in (ROOT / "lab" / "evm").glob("*.py"):
        (package / source.name).symlink_to(source)
    facts = {"ethereum": {"id": 1, "port": port, "block_seconds": 1}}
    (package / "chains.json").write_text(json.dumps(facts))

    def launch(module: str, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-S", "-m", module, *arguments], cwd=tmp_path, env={})

    def node() -> subprocess.Popen[bytes]:
        anvil = str(modules.anvil.absolute())
        return launch("lab.evm.node", "ethereum", "--anvil", anvil, "--state-directory", str(tmp_path / "state"))

    rpc = Rpc(f"http://127.0.0.1:{port}")

    def nonce(account: str) -> int:
        try:
            return int(rpc.call("eth_getTransactionCount", account, "latest"), 16)
        except UnreachableError:
            return -1

    def wait_beyond(account: str, number: int) -> int:
        deadline = time.monotonic() + 120
        while (reached := nonce(account)) <= number:
            assert time.monotonic() < deadline, f"still at nonce {reached}"
            time.sleep(0.2)
        return reached

    running = [node()]
    try:
        deployment = seed.seed({"ethereum": rpc.url}, modules)
        deployment.write(tmp_path / "deployment.json")
        seeded = nonce(deployment.trader)
        running.append(launch("lab.evm.trader", "--deployment", "deployment.json", "--every-blocks", "1"))
        traded = wait_beyond(deployment.trader, seeded)
        running[0].send_signal(signal.SIGTERM)
        running[0].wait(timeout=120)
        running[0] = node()
        reached = wait_beyond(deployment.trader, traded - 1)
        assert reached >= traded
        wait_beyond(deployment.trader, reached)
        assert seed.seed({"ethereum": rpc.url}, modules) == deployment
        running[1].send_signal(signal.SIGTERM)
        assert running[1].wait(timeout=120) == 0
    finally:
        for process in running:
            process.kill()
            process.wait()
