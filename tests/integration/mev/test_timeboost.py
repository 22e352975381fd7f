"""Arbitrum's express lane: what its controller signs is taken, on a real chain mined; what is anybody else's goes nowhere."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest
from eth_account import Account as EthAccount
from mev.domain import State
from mev.runtime.config import ChainConfig, ConfigError, load
from mev.runtime.config_submitters import SubmitterKind
from mev.trading.execution.execution import Execution
from mev.trading.execution.submitters import Handed
from mev.trading.execution.timeboost import METHOD, NO_SEQUENCE
from mev.trading.execution.ways import Outcome, Way, way_of

from tests.builders import Sequencer
from tests.integration.mev.conftest import Account, Installation, text
from tests.integration.mev.test_execution import CAP_WEI, Bench, bench

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.evm.devnode import DevNode

__all__ = ["bench"]

KEY = b"\x19" * 32
AUCTION = "0x5fcb496a31b7ae91e7c9078ec662bd7a55cd3079"


@pytest.fixture
def sequencer(evm: DevNode) -> Iterator[Sequencer]:
    made = Sequencer(EthAccount.from_key(KEY).address, evm.chain_id, AUCTION)
    yield made
    made.close()


def chain(installation: Installation, sequencer: Sequencer, settings: str, key: bytes = KEY) -> ChainConfig:
    identity = installation.directory / "controller.key"
    identity.touch(mode=0o600)
    identity.write_text(key.hex())
    installation.chain_tables = (
        '[[chains.ethereum.submitters]]\nname = "express_lane"\nkind = "plugin"\n'
        f'plugin = "mev.trading.execution.timeboost:make"\nurl = "{sequencer.url}"\n'
        f'identity = "file:{identity}"\ntimeout_seconds = 10\nsettings = {settings}\n'
    )
    installation.write()
    return load(installation.config).chains["ethereum"]


# A round of a hundred years, so that it is one and the same however long a test takes.
ONE_ROUND = f'{{ auction_contract = "{AUCTION}", offset_timestamp = "0", round_seconds = "3153600000" }}'


def test_what_the_controller_signs_is_taken_and_booked(
    bench: Callable[..., None], evm: DevNode, owner: Account, installation: Installation, sequencer: Sequencer
) -> None:
    way = way_of("ethereum", chain(installation, sequencer, ONE_ROUND))
    assert isinstance(way, Way)
    assert way.kind is SubmitterKind.PLUGIN

    async def story(bench: Bench) -> None:
        evm.rpc.call("evm_setAutomine", False)
        execution = Execution(evm.chain_id, bench.rpc, owner.signer, bench.ledger, bench.accounts, way=way)
        call = msgspec.structs.replace(await bench.call(), deadline_block=(await bench.head()).number + 4)
        sent = await execution.submit("a", call, await bench.offer())
        assert sent is not None
        assert (sent.way, sequencer.refused) == ("plugin", [])
        ((method, (asked,)),) = sequencer.received
        assert (method, int(asked["sequenceNumber"], 16)) == (METHOD, NO_SEQUENCE)
        assert evm.rpc.call("eth_getTransactionByHash", text(sent.hash)) is None
        (raw,) = sequencer.taken[0]
        evm.rpc.call("eth_sendRawTransaction", raw)
        evm.mine()
        (settled,) = await execution.settle(await bench.head(), CAP_WEI)
        assert settled.state is State.INCLUDED
        assert await bench.agrees()
        await way.close()

    bench(story)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("key", "NOT_EXPRESS_LANE_CONTROLLER"),
        ("round", "BAD_ROUND_NUMBER"),
        ("chain", "WRONG_CHAIN_ID"),
        ("contract", "WRONG_AUCTION_CONTRACT"),
    ],
)
def test_what_is_not_its_own_is_refused_and_goes_nowhere_else(
    installation: Installation, sequencer: Sequencer, wrong: str, told: str
) -> None:
    settings = ONE_ROUND.replace("0x5f", "0x4f") if wrong == "contract" else ONE_ROUND
    way = way_of("ethereum", chain(installation, sequencer, settings, b"\x18" * 32 if wrong == "key" else KEY))
    assert way is not None
    sequencer.round += wrong == "round"
    sequencer.chain_id += wrong == "chain"

    async def run() -> Outcome:
        outcome = await way.hand(Handed(raw=b"\x02", hash=b"\x01" * 32, last_block=1))
        await way.close()
        return outcome

    assert asyncio.run(run()) is Outcome.REFUSED
    assert sequencer.refused == [told]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("{}", "settings are none; allowed: auction_contract, offset_timestamp, round_seconds"),
        (ONE_ROUND.replace('"0"', '"soon"'), "settings.offset_timestamp is 'soon'; allowed: whole seconds"),
        (ONE_ROUND.replace('"3153600000"', '"0"'), "settings.round_seconds is '0'; allowed: whole seconds, 1 or more"),
        (ONE_ROUND.replace("0x5fcb", "0x5f"), "timeboost:make made no submitter"),
        (ONE_ROUND.replace("{ ", '{ bid = "1", '), "settings are auction_contract, bid"),
    ],
)
def test_settings_that_are_wrong_are_one_sentence(
    installation: Installation, sequencer: Sequencer, settings: str, told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        way_of("ethereum", chain(installation, sequencer, settings))
    assert told in str(caught.value)
    assert "express_lane" in str(caught.value)


def test_a_plug_in_that_is_not_there_stops_the_engine_with_its_name(
    installation: Installation, sequencer: Sequencer
) -> None:
    config = chain(installation, sequencer, ONE_ROUND)
    (each,) = config.submitters
    absent = msgspec.structs.replace(config, submitters=(msgspec.structs.replace(each, plugin="no.such:thing"),))
    with pytest.raises(ConfigError, match=r"express_lane: no\.such:thing made no submitter: it cannot be imported"):
        way_of("ethereum", absent)
