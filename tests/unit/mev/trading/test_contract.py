"""Calldata and address of the executor, held against eth_abi and the compiled contract's own ABI."""

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st
from mev.chain.abi import keccak256, selector
from mev.domain import BalancerKey, CurveKey, Cycle, Hop, Pool
from mev.market import curve_state
from mev.market.balancer_state import pair_of
from mev.trading.execution import contract

addresses = st.binary(min_size=20, max_size=20)
words = st.integers(0, 2**256 - 1)
pools = st.builds(
    Pool,
    address=addresses,
    factory=st.just("uniswap_v2"),
    token0=addresses,
    token1=addresses,
    fee_numerator=st.integers(0, 10**6),
    fee_denominator=st.integers(1, 10**6),
    tick_spacing=st.sampled_from([0, 60]),
)


def fee(pool: Pool) -> tuple[int, int]:
    """A V3 pool's fee is its own."""
    return (0, 0) if pool.tick_spacing else (pool.fee_numerator, pool.fee_denominator)


@given(
    st.lists(st.tuples(pools, st.booleans(), words), min_size=2, max_size=8, unique_by=lambda step: step[0].address),
    st.booleans(),
    words,
    words,
    words,
)
def test_execute_is_eth_abi_s(
    path: list[tuple[Pool, bool, int]], split: bool, amount_in: int, min_profit: int, deadline: int
) -> None:
    cycle = Cycle(b"\x01" * 20, tuple(Hop(pool.address, way) for pool, way, _ in path))
    parts = [part for _, _, part in path] if split else []
    known = {pool.address: pool for pool, _, _ in path}
    ours = contract.encode_execute(cycle, known, amount_in, min_profit, deadline, parts=parts)
    hops = [
        (pool.address, pool.token0 if way else pool.token1, way, *fee(pool), part if split else 0)
        for pool, way, part in path
    ]
    types = ["uint256", "uint256", "uint256", "(address,address,bool,uint256,uint256,uint256)[]"]
    assert ours == contract.EXECUTE + encode(types, [amount_in, min_profit, deadline, hops])


@given(st.binary(min_size=32, max_size=32), addresses, addresses, addresses, st.booleans())
def test_a_balancer_pool_s_step_names_its_vault_and_its_id(
    identity: bytes, vault: bytes, one: bytes, other: bytes, way: bool
) -> None:
    pool = pair_of("balancer_v2", BalancerKey(vault, identity, (one, other)), 0, 1)
    cycle = Cycle(one if way else other, (Hop(pool.address, way),))
    ours = contract.encode_execute(cycle, {pool.address: pool}, 1, 2, 3)
    hop = (vault, one if way else other, way, int.from_bytes(identity, "big"), contract.BALANCER_MARK, 0)
    types = ["uint256", "uint256", "uint256", "(address,address,bool,uint256,uint256,uint256)[]"]
    assert ours == contract.EXECUTE + encode(types, [1, 2, 3, [hop]])


@given(addresses, st.lists(addresses, min_size=3, max_size=8, unique=True), st.booleans())
def test_a_curve_pool_s_step_names_it_and_its_coins(venue: bytes, tokens: list[bytes], way: bool) -> None:
    pool = curve_state.pair_of("threepool", CurveKey(venue, tuple(tokens)), 2, 0)
    one, other = (pool.token0, pool.token1) if way else (pool.token1, pool.token0)
    ours = contract.encode_execute(Cycle(one, (Hop(pool.address, way),)), {pool.address: pool}, 1, 2, 3)
    numbers = tokens.index(one) + 256 * tokens.index(other)
    types = ["uint256", "uint256", "uint256", "(address,address,bool,uint256,uint256,uint256)[]"]
    hop = (venue, one, way, numbers, contract.CURVE_MARK, 0)
    assert ours == contract.EXECUTE + encode(types, [1, 2, 3, [hop]])


def test_selectors_are_the_compiled_contract_s() -> None:
    def canonical(argument: dict[str, object]) -> str:
        kind = str(argument["type"])
        parts = argument.get("components")
        return kind.replace("tuple", f"({','.join(map(canonical, parts))})") if isinstance(parts, list) else kind

    functions = {
        entry["name"]: selector(f"{entry['name']}({','.join(map(canonical, entry['inputs']))})")
        for entry in contract.artefact().abi
        if entry["type"] == "function"
    }
    assert functions["execute"] == contract.EXECUTE
    assert functions["execute_flash"] == contract.EXECUTE_FLASH
    assert functions["withdraw"] == contract.WITHDRAW


def test_the_address_follows_from_owner_and_bytecode() -> None:
    one, other = contract.address(b"\x01" * 20), contract.address(b"\x02" * 20)
    assert one != other
    assert len(one) == 20
    code = contract.init_code(b"\x01" * 20)
    assert contract.encode_deployment(b"\x01" * 20)[32:] == code
    assert one == keccak256(b"\xff" + contract.CREATE2_DEPLOYER + contract.SALT + keccak256(code))[12:]


def test_create2_is_eip_1014_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """The EIP's example 5: deployer 0xdeadbeef…, salt 0xcafebabe, init code 0xdeadbeef."""
    monkeypatch.setattr(contract, "CREATE2_DEPLOYER", bytes.fromhex("00000000000000000000000000000000deadbeef"))
    monkeypatch.setattr(contract, "SALT", bytes.fromhex("cafebabe").rjust(32, b"\0"))
    monkeypatch.setattr(contract, "init_code", lambda _: bytes.fromhex("deadbeef"))
    assert contract.address(b"").hex() == "60f3f640a8508fc6a86d45df051962668e1e8ac7"
