"""The pure parts of lab.evm, held against eth-abi and eth-utils and against the pools' arithmetic."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from lab.checkout import Checkout
from lab.errors import LabError
from lab.evm import abi, chains, contracts, deployment, draw, history, node, npm, trader
from lab.evm.deployment import Deployment, Factory, Pool, Token

if TYPE_CHECKING:
    from pathlib import Path

ADDRESSES = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
AMOUNTS = st.integers(0, 2**256 - 1)

POOLS = (
    Pool("uniswap_v2", 2, "0x01", "USDC", "WETH", 3000, 3_000_000 * 10**6, 1000 * 10**18),
    Pool("sushi_v2", 2, "0x02", "USDC", "WETH", 3000, 2_121_000 * 10**6, 700 * 10**18),
    Pool("uniswap_v3", 3, "0x03", "USDC", "WETH", 500, 2_400_000 * 10**6, 800 * 10**18),
)

SEQUENCE = [("sushi_v2", 0.004009, 0.686213), ("uniswap_v3", 0.005933, 0.139543), ("uniswap_v2", 0.006409, 0.167955)]


@pytest.mark.parametrize("signature", abi.SELECTORS)
def test_selectors_are_the_hashes_of_their_signatures(signature: str) -> None:
    assert abi.SELECTORS[signature] == keccak(text=signature)[:4].hex()


@given(AMOUNTS, ADDRESSES, ADDRESSES, ADDRESSES)
def test_v2_swap_is_encoded_as_eth_abi_does(amount: int, token_in: str, token_out: str, to: str) -> None:
    signature = "swapExactTokensForTokens(uint256,uint256,address[],address,uint256)"
    expected = contracts.call_data(signature, amount, 0, [token_in, token_out], to, abi.NEVER)
    assert abi.swap_v2_data(amount, token_in, token_out, to) == "0x" + expected.hex()


@given(AMOUNTS, ADDRESSES, ADDRESSES, ADDRESSES, st.integers(0, 2**24 - 1))
def test_v3_swap_is_encoded_as_eth_abi_does(amount: int, token_in: str, token_out: str, to: str, fee: int) -> None:
    signature = "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))"
    expected = contracts.call_data(signature, (token_in, token_out, fee, to, abi.NEVER, amount, 0, 0))
    assert abi.swap_v3_data(amount, token_in, token_out, fee, to) == "0x" + expected.hex()


@given(st.lists(AMOUNTS))
def test_words_undo_the_encoding(values: list[int]) -> None:
    assert abi.words("0x" + encode(["uint256"] * len(values), values).hex()) == values


def test_create_addresses_are_those_of_the_main_chain() -> None:
    """The values of go-ethereum's TestNewContractAddress."""
    sender = "0x970e8128ab834e8eac17ab8e3812f010678cf791"
    assert contracts.create_address(sender, 0).lower() == "0x333c3310824b7c685133f2bedb2ca4b8b4df633d"
    assert contracts.create_address(sender, 1).lower() == "0x8bda78331c916a08481428e4b07c96d3e916d165"
    with pytest.raises(ValueError, match="nonce 128"):
        contracts.create_address(sender, 128)


def test_create2_address_is_the_one_of_eip_1014() -> None:
    sender = "0xdeadbeef00000000000000000000000000000000"
    code_hash = keccak(b"\x00")
    assert contracts.create2_address(sender, bytes(32), code_hash) == "0xB928f69Bb1D91Cd65274e3c79d8986362984fDA3"


@given(st.integers(), st.text(), st.integers(0))
def test_draws_are_in_the_unit_interval_and_repeat(seed: int, label: str, nonce: int) -> None:
    value = draw.uniform(seed, label, nonce)
    assert 0 <= value < 1
    assert value == draw.uniform(seed, label, nonce)


def test_the_sequence_of_a_seed_is_the_same_everywhere() -> None:
    """Written down once: another Python or machine that drew otherwise would change every chain."""
    steps = [trader.intent(1, 8453, nonce, POOLS) for nonce in range(3)]
    assert [(step.pool.factory, round(step.share, 6), round(step.boldness, 6)) for step in steps] == SEQUENCE


def test_chains_and_seeds_have_sequences_of_their_own() -> None:
    def sequence(seed: int, chain_id: int) -> list[trader.Intent]:
        return [trader.intent(seed, chain_id, nonce, POOLS) for nonce in range(8)]

    assert sequence(1, 1) == sequence(1, 1)
    assert sequence(1, 1) != sequence(1, 10)
    assert sequence(1, 1) != sequence(2, 1)


@given(st.floats(0, 1, exclude_max=True))
def test_a_price_far_off_is_always_led_back(boldness: float) -> None:
    assert trader.sells_token0(boldness, 1 + trader.LARGEST_DEVIATION)
    assert not trader.sells_token0(boldness, 1 - trader.LARGEST_DEVIATION)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_week_of_trading_drains_no_pool(seed: int) -> None:
    """A swap every 4 s, in the arithmetic of UniswapV2Library.getAmountOut, nobody else trading."""
    reserves = {pool.address: (pool.amount0, pool.amount1) for pool in POOLS}
    for nonce in range(7 * 24 * 3600 // 4):
        step = trader.intent(seed, 1, nonce, POOLS)
        pool = step.pool
        reserve0, reserve1 = reserves[pool.address]
        ratio = (reserve1 / reserve0) / (pool.amount1 / pool.amount0)
        assert abs(ratio - 1) < trader.LARGEST_DEVIATION + 2.5 * trader.LARGEST_SHARE
        if trader.sells_token0(step.boldness, ratio):
            paid = int(reserve0 * step.share)
            reserves[pool.address] = (
                reserve0 + paid,
                reserve1 - paid * 997 * reserve1 // (reserve0 * 1000 + paid * 997),
            )
        else:
            paid = int(reserve1 * step.share)
            reserves[pool.address] = (
                reserve0 - paid * 997 * reserve0 // (reserve1 * 1000 + paid * 997),
                reserve1 + paid,
            )
    for pool in POOLS:
        assert reserves[pool.address][0] > pool.amount0 * 0.9
        assert reserves[pool.address][1] > pool.amount1 * 0.9


def test_a_deployment_survives_its_file(tmp_path: Path) -> None:
    written = Deployment(
        seed=1,
        deployer="0x0a",
        trader="0x0b",
        bank="0x0c",
        wrapped_native="0x0d",
        tokens=(Token("WETH", "0x0d", 18),),
        factories=(Factory("uniswap_v2", 2, "0x0e", "0x0f"), Factory("uniswap_v3", 3, "0x10", "0x11")),
        pools=POOLS,
    )
    written.write(tmp_path / "made" / "deployment.json")
    assert deployment.read(tmp_path / "made" / "deployment.json") == written
    facts = written.variables(["base"])["mev_chains"]["base"]
    assert facts["v2_factories"] == [
        {"name": "uniswap_v2", "address": "0x0e", "fee_numerator": 997, "fee_denominator": 1000}
    ]
    assert facts["v3_factories"] == [{"name": "uniswap_v3", "address": "0x10"}]


def test_every_chain_has_an_id_and_a_port_of_its_own() -> None:
    known = chains.load().values()
    assert len({chain.id for chain in known}) == len({chain.port for chain in known}) == len(known) == 6
    with pytest.raises(ValueError, match=r"'solana' is not in chains\.json: it has ethereum, base"):
        chains.get("solana")


def _state(best: int) -> dict[str, object]:
    return {
        "best_block_number": best,
        "blocks": [{"header": {"number": hex(number)}} for number in range(best + 1)],
        "transactions": [{"block_number": number} for number in range(1, best + 1)],
    }


def test_history_keeps_genesis_and_the_last_blocks(tmp_path: Path) -> None:
    state = tmp_path / "chain.json"
    state.write_text(json.dumps(_state(9)))
    said: list[str] = []
    history.tidy(state, 3, said.append)
    kept = json.loads(state.read_text())
    assert [block["header"]["number"] for block in kept["blocks"]] == ["0x0", "0x7", "0x8", "0x9"]
    assert [item["block_number"] for item in kept["transactions"]] == [7, 8, 9]
    assert not said


def test_history_goes_back_when_the_file_was_cut_off(tmp_path: Path) -> None:
    state = tmp_path / "chain.json"
    state.write_text(json.dumps(_state(5)))
    said: list[str] = []
    history.tidy(state, 3, said.append)
    state.write_text(json.dumps(_state(8))[:40])
    history.tidy(state, 3, said.append)
    assert json.loads(state.read_text())["best_block_number"] == 5
    assert len(said) == 1
    assert "going back" in said[0]


def test_history_gives_up_when_nothing_can_be_read(tmp_path: Path) -> None:
    state = tmp_path / "chain.json"
    state.write_text("{")
    said: list[str] = []
    history.tidy(state, 3, said.append)
    assert not state.exists()
    assert "seed it" in said[-1]


def test_a_node_without_anvil_says_how_to_give_it(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"is not there: .* --anvil or EVM_ANVIL"):
        node.main(["base", "--anvil", str(tmp_path / "none"), "--state-directory", str(tmp_path)])


def test_npm_says_why_in_one_sentence() -> None:
    complaint = """npm warn Unknown user config
npm error code ECONNREFUSED
npm error errno ECONNREFUSED
npm error FetchError: request to http://127.0.0.1:9/base64-sol failed, reason: connect ECONNREFUSED
npm error     at ClientRequest.<anonymous> (index.js:130:14)
npm error Log files were not written due to the config logs-max=0
"""
    assert npm.reason(complaint).startswith("FetchError: request to http://127.0.0.1:9/base64-sol failed")
    assert npm.reason("Killed") == "it does not say why"


def test_modules_without_an_anvil_for_this_machine_say_so(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"there is no anvil for .* in lab/evm/package-lock\.json"):
        _ = npm.Modules(tmp_path).anvil


def test_the_lock_has_hashes_and_no_addresses() -> None:
    lock = json.loads((Checkout.here().root / "lab" / "evm" / "package-lock.json").read_text())
    packages = {path: facts for path, facts in lock["packages"].items() if path}
    assert packages
    assert all(facts["integrity"].startswith("sha512-") for facts in packages.values())
    assert not any("resolved" in facts for facts in packages.values())
