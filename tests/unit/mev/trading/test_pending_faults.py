"""The evaluation of pending swaps meets what nobody foresaw: it is counted, told, and goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from mev.chain.errors import RpcError, RpcUnavailableError
from mev.chain.rpc import Rpc
from mev.chain.transactions import PendingTransaction
from mev.insight import doctor
from mev.runtime import metrics
from mev.runtime.config import Listen, load
from mev.trading import pending
from mev.trading.meter import Meter
from prometheus_client import generate_latest

from lab.evm.devnode import free_port
from tests.unit.mev.trading.test_cli import config

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

__all__ = ["config"]

REFUSED = RpcError(-32601, "no such subscription")


def transaction(number: int) -> PendingTransaction:
    return PendingTransaction(
        hash=bytes([number]) * 32,
        sender=bytes(20),
        to=bytes(20),
        nonce=0,
        value_wei=0,
        gas_limit=1,
        max_fee_wei=1,
        max_priority_fee_wei=1,
        data=b"",
        kind=2,
        chain_id=1,
    )


class Script:
    """What each subscription tells before it ends, in their order; the last one is refused, which ends the evaluation."""

    def __init__(self, *subscriptions: list[Any]) -> None:
        self._left = [*subscriptions, [REFUSED]]

    def __call__(self, _: object) -> Script:
        return self

    async def events(self) -> AsyncIterator[PendingTransaction]:
        for each in self._left.pop(0):
            if isinstance(each, Exception):
                raise each
            yield each


def evaluated(
    monkeypatch: pytest.MonkeyPatch, config: Path, script: Script, faults: dict[int, Exception], seconds: float = 0
) -> tuple[Meter, list[int], list[float]]:
    """Run it on a script: its figures, the transactions that it took, and its pauses."""
    meter, taken, pauses = Meter(), [], []
    clock = iter(each * seconds for each in range(1000))
    monkeypatch.setattr(pending, "PendingCollector", script)
    chain = load(config).chains["ethereum"]
    exposures = pending.PendingExposures("ethereum", chain, Rpc("ws://127.0.0.1:9"), lambda: None, meter)

    async def take(heard: PendingTransaction) -> None:
        taken.append(heard.hash[0])
        if heard.hash[0] in faults:
            raise faults[heard.hash[0]]

    async def sleep(wanted: float) -> None:
        pauses.append(wanted)

    monkeypatch.setattr(exposures, "take", take)
    asyncio.run(exposures.run(lambda: next(clock), sleep))
    return meter, taken, pauses


def figure(meter: Meter, name: str) -> float:
    value = meter.registry.get_sample_value(name, {"chain": "ethereum"})
    assert value is not None
    return value


def test_one_transaction_that_trips_it_up_is_counted_and_the_next_is_evaluated(
    monkeypatch: pytest.MonkeyPatch, config: Path
) -> None:
    told = [transaction(each) for each in (1, 2, 3)]
    faults = {1: ZeroDivisionError("a pool of nothing"), 2: RpcUnavailableError("gone")}
    meter, taken, pauses = evaluated(monkeypatch, config, Script(told), faults)
    assert taken == [1, 2, 3]
    assert figure(meter, "mev_pending_faults_total") == 1, "a node that is gone for a moment is no fault"
    assert pauses == [1.0], "a subscription that ends is begun again"
    assert figure(meter, "mev_pending_evaluation") == 0, "no node tells of any, at last"


def test_a_broken_subscription_is_tried_again_ever_later(monkeypatch: pytest.MonkeyPatch, config: Path) -> None:
    broken = [[KeyError("x")] for _ in range(8)]
    meter, _, pauses = evaluated(monkeypatch, config, Script(*broken), {})
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert figure(meter, "mev_pending_faults_total") == 8


def test_after_a_long_while_without_a_fault_the_pause_is_short_again(
    monkeypatch: pytest.MonkeyPatch, config: Path
) -> None:
    broken = [[KeyError("x")] for _ in range(3)]
    _, _, pauses = evaluated(monkeypatch, config, Script(*broken), {}, seconds=61)
    assert pauses == [1, 1, 1]


@pytest.mark.parametrize(
    ("on", "faults", "well", "seen"),
    [
        (True, 0, True, "they are evaluated"),
        (True, 2, False, "faults since the engine began: 2, each in its log; they are evaluated now"),
        (False, 1, False, "faults since the engine began: 1, each in its log; they are not evaluated now"),
        (False, 0, False, "the node tells of none: take sandwich out of strategies, or use a node that does"),
    ],
)
def test_the_doctor_asks_the_engine(config: Path, *, on: bool, faults: int, well: bool, seen: str) -> None:
    port = free_port()
    config.write_text(config.read_text() + f'[metrics]\nstrategy_engine = "127.0.0.1:{port}"\n')
    meter = Meter()
    meter.evaluating("ethereum", on=on)
    for _ in range(faults):
        meter.pending_fault("ethereum")
    assert b"mev_pending_faults_total" in generate_latest(meter.registry)
    end = metrics.serve(meter.registry, "strategy_engine", Listen(f"127.0.0.1:{port}"))
    try:
        found = {each.check: each for each in doctor.examine(load(config))}["pending swaps of ethereum"]
    finally:
        end()
    assert (found.well, found.seen) == (well, seen)
