"""Plug-ins: the documented example works as it is, and a wrong one costs no more than what it would have found."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from mev.domain import Block, Opportunity, Pool
from mev.market.state import MarketState
from mev.runtime.config import ConfigError
from mev.search.graph import CycleIndex
from mev.trading.strategies.atomic_arbitrage import AtomicArbitrage
from mev.trading.strategies.plugin import Market, Strategies, load_plugin

from tests.unit.mev.search.markets import DOLLAR, GENESIS, NATIVE, market, pool

ROOT = Path(__file__).parents[4]
WEI = 10**18


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder from which modules can be imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    load_plugin.cache_clear()
    for name in set(sys.modules) - before:
        if name.startswith("plugin_"):
            del sys.modules[name]


@pytest.fixture
def given() -> Market:
    """Two pairs out of line."""
    pools: list[Pool] = [pool(1, NATIVE, DOLLAR), pool(2, NATIVE, DOLLAR)]
    state: MarketState = market(pools, [(1000 * WEI, 1000 * WEI), (1000 * WEI, 1200 * WEI)])
    config: Any = SimpleNamespace(wrapped_native=NATIVE)
    return Market(chain="ethereum", config=config, state=state, index=CycleIndex(pools, [NATIVE]))


class Nothing:
    def opportunities(self, *_: object) -> list[Opportunity]:
        return []


def example() -> str:
    """The documentation's example, as it is."""
    found = re.search(r"```python\n(.*?)```", (ROOT / "docs/strategies.md").read_text(), re.DOTALL)
    assert found
    return found[1]


def test_the_documented_example_finds_what_the_engine_finds(modules: Path, given: Market) -> None:
    (modules / "plugin_example.py").write_text(example())
    strategies = Strategies(given, [Nothing()], ["plugin_example:make"])
    found = strategies.opportunities(GENESIS, (), 100 * WEI)
    own = AtomicArbitrage(given.chain, given.index, given.state)
    expected = [each for each in own.opportunities(GENESIS, given.state.pools(), 100 * WEI) if each.expected_profit > 0]
    assert [(each.cycle, each.amount_in, each.expected_out) for each in found] == [
        (each.cycle, each.amount_in, each.expected_out) for each in expected
    ]
    assert found
    assert {each.strategy for each in found} == {"one_factory"}
    later = Block(1, b"\x01" * 32, GENESIS.hash, 0, 0)
    assert {each.id for each in strategies.opportunities(GENESIS, (), WEI)} == {each.id for each in found}
    assert {each.id for each in strategies.opportunities(later, (), WEI)}.isdisjoint(each.id for each in found)


def test_what_is_found_comes_best_first_whoever_found_it(modules: Path, given: Market) -> None:
    (modules / "plugin_example.py").write_text(example())
    own = AtomicArbitrage(given.chain, given.index, given.state)
    both = Strategies(given, [own], ["plugin_example:make"]).opportunities(GENESIS, given.state.pools(), 100 * WEI)
    profits = [each.expected_profit for each in both]
    assert profits == sorted(profits, reverse=True)
    assert {each.strategy for each in both} == {"one_factory", "atomic_arbitrage"}


def test_a_strategy_that_is_switched_off_finds_nothing(given: Market) -> None:
    assert Strategies(given, []).opportunities(GENESIS, given.state.pools(), WEI) == []


@pytest.mark.parametrize(
    "content",
    ["def make(market):\n    raise OSError\n", "def make(market):\n    return None\n", "make = lambda market: 1 / 0\n"],
)
def test_a_plugin_that_fails_finds_nothing(modules: Path, given: Market, content: str) -> None:
    (modules / "plugin_broken.py").write_text(content)
    own = AtomicArbitrage(given.chain, given.index, given.state)
    strategies = Strategies(given, [own], ["plugin_broken:make"])
    pools = given.state.pools()
    assert strategies.opportunities(GENESIS, pools, WEI) == own.opportunities(GENESIS, pools, WEI)


@pytest.mark.parametrize(
    "changes",
    [
        {"chain": "base"},
        {"block_number": 9},
        {"block_hash": b"\x09" * 32},
        {"amount_in": WEI + 1},
        {"amount_in": 0},
    ],
)
def test_an_opportunity_that_is_none_is_left_out(given: Market, changes: dict[str, Any]) -> None:
    own = AtomicArbitrage(given.chain, given.index, given.state)
    (sound, *_) = own.opportunities(GENESIS, given.state.pools(), WEI)
    strategies = Strategies(given, [Nothing()])
    strategies._plugins["here"] = Returning(sound)
    assert strategies.opportunities(GENESIS, (), WEI) == [sound]
    strategies._plugins["here"] = Returning(msgspec.structs.replace(sound, **changes))
    assert strategies.opportunities(GENESIS, (), WEI) == []


def test_cycles_of_other_tokens_and_unknown_pools_are_left_out(given: Market) -> None:
    own = AtomicArbitrage(given.chain, given.index, given.state)
    (sound, *_) = own.opportunities(GENESIS, given.state.pools(), WEI)
    strategies = Strategies(given, [Nothing()])
    hops = tuple(msgspec.structs.replace(hop, pool=b"\x77" * 20) for hop in sound.cycle.hops)
    for cycle in (
        msgspec.structs.replace(sound.cycle, token=DOLLAR),
        msgspec.structs.replace(sound.cycle, hops=hops),
        msgspec.structs.replace(sound.cycle, hops=()),
    ):
        strategies._plugins["here"] = Returning(msgspec.structs.replace(sound, cycle=cycle))
        assert strategies.opportunities(GENESIS, (), WEI) == []


class Returning:
    def __init__(self, found: Opportunity) -> None:
        self.found = found

    def opportunities(self, *_: object) -> list[Opportunity]:
        return [self.found]


@pytest.mark.parametrize("reference", ["nowhere_at_all:make", "plugin_there:absent", "plugin_there:number"])
def test_what_cannot_be_imported_is_a_configuration_error(modules: Path, reference: str) -> None:
    (modules / "plugin_there.py").write_text("number = 1\n")
    with pytest.raises(ConfigError, match=rf"strategy_plugins: {reference} .*; allowed: MODULE:FUNCTION"):
        load_plugin(reference)
