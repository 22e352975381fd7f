"""A snapshot is read as it was written, or refused with the reason; whatever happens, one whole one is there."""

import resource
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mev.domain import Block, Pool, V2State
from mev.market.amm.concentrated import ConcentratedPool
from mev.market.amm.tick_math import sqrt_price_at
from mev.market.concentrated_state import Unusable, made, same
from mev.market.snapshot import DIGEST_BYTES, SnapshotError, load, save
from mev.market.state import MarketState, PoolState

BLOCK = Block(20_000_000, b"\x01" * 32, b"\x02" * 32, 1_700_000_000, 2**70)
address = st.binary(min_size=20, max_size=20)
reserve = st.integers(0, 2**112 - 1)
pools = st.builds(
    Pool, address, st.sampled_from(["uniswap_v2", "sushi"]), address, address, st.integers(990, 1000), st.just(1000)
)
held_ones = st.builds(V2State, reserve, reserve, st.integers(0, 2**64 - 1)).filter(
    lambda each: bool(each.reserve0 or each.reserve1)
)
states = st.dictionaries(pools, held_ones, max_size=30)

SOME = {
    Pool(bytes([number]) * 20, "uniswap_v2", b"\xaa" * 20, b"\xbb" * 20, 997, 1000): V2State(number, 2**112 - 1, number)
    for number in range(1, 20)
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ethereum.snapshot"


@given(states)
@settings(max_examples=50)
def test_what_was_saved_is_loaded(tmp_path_factory: pytest.TempPathFactory, held: dict[Pool, V2State]) -> None:
    path = tmp_path_factory.mktemp("snapshot") / "x"
    save(path, 1, BLOCK, held)
    assert load(path, 1) == (BLOCK, held)
    assert [each.name for each in path.parent.iterdir()] == ["x"]


def test_v3_pools_are_saved_with_every_tick(path: Path) -> None:
    net = {-887220: 5, -60: 10**20, 120: -(10**20), 887220: -5}
    pool = Pool(b"\x77" * 20, "uniswap_v3", b"\xaa" * 20, b"\xbb" * 20, 997_000, 10**6, 60)
    empty = Pool(b"\x78" * 20, "uniswap_v3", b"\xaa" * 20, b"\xcc" * 20, 999_500, 10**6, 10)
    broken = Pool(b"\x79" * 20, "uniswap_v3", b"\xaa" * 20, b"\xcc" * 20, 990_000, 10**6, 200)
    held: dict[Pool, PoolState] = {
        **SOME,
        pool: made(pool, net, sqrt_price_at(-7) + 5, -7, 10**20 + 5),
        empty: made(empty, {}, sqrt_price_at(800_000), 800_000, 0),
        broken: Unusable("it contradicts itself"),
    }
    save(path, 1, BLOCK, held)
    block, found = load(path, 1)
    assert (block, set(found)) == (BLOCK, set(held) - {broken})
    for each in (pool, empty):
        ours, theirs = held[each], found[each]
        assert isinstance(ours, ConcentratedPool)
        assert isinstance(theirs, ConcentratedPool)
        assert same(ours, theirs)
        assert ours.fees == theirs.fees
    assert {each: state for each, state in found.items() if not each.concentrated} == SOME


def test_an_empty_pair_is_left_to_be_read_anew(path: Path) -> None:
    """It may be one whose making was undone: the chain, asked for it at the next start, would not know it, and all would be read anew."""
    gone = Pool(b"\x79" * 20, "uniswap_v2", b"\xaa" * 20, b"\xcc" * 20, 997, 1000)
    save(path, 1, BLOCK, {**SOME, gone: V2State(0, 0, 5)})
    assert load(path, 1) == (BLOCK, SOME)


def test_a_state_goes_on_from_its_snapshot(path: Path) -> None:
    save(path, 1, BLOCK, MarketState(BLOCK, SOME).v2_states())
    again = MarketState(*load(path, 1))
    assert (again.block, again.v2_states()) == (BLOCK, SOME)


def test_another_chain_s_is_refused(path: Path) -> None:
    save(path, 10, BLOCK, SOME)
    with pytest.raises(SnapshotError, match="is of chain 10, not 1"):
        load(path, 1)


def test_none_is_said(path: Path) -> None:
    with pytest.raises(SnapshotError, match="cannot be read: No such file"):
        load(path, 1)


def test_another_format_s_is_refused(path: Path) -> None:
    save(path, 1, BLOCK, SOME)
    content = bytearray(path.read_bytes())
    content[11] = 9
    path.write_bytes(content)
    with pytest.raises(SnapshotError, match="is of format 9; format 5 can be read"):
        load(path, 1)


@given(st.data())
@settings(max_examples=100)
def test_any_damage_is_found(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("snapshot") / "x"
    save(path, 1, BLOCK, SOME)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with pytest.raises(SnapshotError):
        load(path, 1)


def test_what_cannot_be_written_leaves_the_old_one(path: Path) -> None:
    save(path, 1, BLOCK, {})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            save(path, 1, BLOCK, SOME)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load(path, 1) == (BLOCK, {})
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_snapshot_is_no_longer_than_it_says(path: Path) -> None:
    save(path, 1, BLOCK, SOME)
    assert path.stat().st_size < 66 * len(SOME) + 40 + 600 + DIGEST_BYTES
