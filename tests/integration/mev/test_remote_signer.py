"""Transactions signed elsewhere: by a real node that holds the key, by one that refuses, sleeps or lies; over HTTP and a unix socket."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from eth_account import Account as EthAccount
from mev.chain.rpc import Rpc
from mev.domain import State
from mev.runtime.config import SecretError, load
from mev.runtime.storage import Database
from mev.trading.execution.execution import Execution
from mev.trading.execution.signers import RemoteSigner, SignerError, signer_of
from mev.trading.execution.transaction import Signer, Transaction
from mev.trading.ledger import Ledger
from mev.trading.reconcile import open_books
from mev.trading.risk import Reason

from tests.builders import Taker
from tests.integration.mev.conftest import NATIVE_WEI, Account, Installation, text
from tests.integration.mev.test_execution import Bench

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lab.evm.devnode import DevNode

KEY = b"\x17" * 32
OURS = Signer(KEY)
WANTED = Transaction(
    chain_id=1,
    nonce=7,
    max_priority_fee_wei=2,
    max_fee_wei=30,
    gas_limit=21_000,
    to=b"\x33" * 20,
    value_wei=5,
    data=b"\x01",
)


@pytest.fixture
def taker() -> Iterator[Taker]:
    made = Taker()
    yield made
    made.close()


def signs(wanted: dict[str, Any], key: bytes = KEY, **other: object) -> str:
    """What eth_account signs of the fields that it was asked for, and of `other` in their place."""
    sender = wanted.pop("from")
    assert sender == text(OURS.address)
    assert set(wanted) == {
        "to", "gas", "maxFeePerGas", "maxPriorityFeePerGas", "value", "nonce", "data", "chainId"
    }  # fmt: skip
    fields: dict[str, Any] = {
        name: value if name in {"to", "data"} else int(value, 16) for name, value in wanted.items()
    }
    fields["to"] = bytes.fromhex(fields["to"][2:])
    return text(bytes(EthAccount.sign_transaction({**fields, "type": 2, **other}, key).raw_transaction))


def asked(url: str, seconds: float = 10) -> object:
    async def run() -> object:
        async with RemoteSigner(url, OURS.address, method="eth_signTransaction", timeout_seconds=seconds) as signer:
            try:
                return await signer.signed(WANTED)
            except SignerError as error:
                return error.reason

    return asyncio.run(run())


def answering(taker: Taker, result: Callable[[dict[str, Any]], object]) -> None:
    taker.others.add("eth_signTransaction")
    taker.answer = lambda said: json.dumps(
        {"jsonrpc": "2.0", "id": said["id"], "result": result(dict(taker.received[-1][1][0]))}
    ).encode()


@pytest.mark.parametrize("form", ["bytes", "object"])
def test_what_is_signed_as_asked_is_used(taker: Taker, form: str) -> None:
    answering(taker, lambda wanted: signs(wanted) if form == "bytes" else {"raw": signs(wanted), "tx": {}})
    assert asked(taker.url) == OURS.sign(WANTED)


@pytest.mark.parametrize(
    "lie",
    [
        lambda wanted: signs(wanted, value=6),
        lambda wanted: signs(wanted, to=b"\x34" * 20),
        lambda wanted: signs(wanted, nonce=8),
        lambda wanted: signs(wanted, maxFeePerGas=31),
        lambda wanted: signs(wanted, maxPriorityFeePerGas=1),
        lambda wanted: signs(wanted, gas=21_001),
        lambda wanted: signs(wanted, data=b"\x02"),
        lambda wanted: signs(wanted, chainId=2),
        lambda wanted: signs(wanted, accessList=[{"address": "0x" + "35" * 20, "storageKeys": []}]),
        lambda wanted: signs(wanted, key=b"\x18" * 32),
        lambda wanted: signs(wanted)[:-2],
        lambda wanted: signs(wanted) + "00",
        lambda _: "0x",
        lambda _: None,
        lambda _: {"raw": 7},
        lambda _: ["0x02"],
    ],
)
def test_what_is_anything_else_is_not(taker: Taker, lie: Callable[[dict[str, Any]], object]) -> None:
    answering(taker, lie)
    assert asked(taker.url) is Reason.SIGNER_LIED


def test_a_refusal_and_silence_have_their_own_codes(taker: Taker) -> None:
    assert asked(taker.url) is Reason.SIGNER_REFUSED
    taker.gate.clear()
    assert asked(taker.url, seconds=0.3) is Reason.SIGNER_UNANSWERED
    taker.close()
    assert asked(taker.url) is Reason.SIGNER_UNANSWERED


def test_rubbish_is_a_lie(taker: Taker) -> None:
    taker.answer = lambda _: b"[1, 2]"
    taker.others.add("eth_signTransaction")
    assert asked(taker.url) is Reason.SIGNER_LIED


def test_over_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "clef.ipc"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = json.loads(await reader.readline())
        answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"raw": signs(question["params"][0])}}
        writer.write(json.dumps(answer).encode())
        await reader.read()
        writer.close()

    async def run() -> None:
        async with (
            await asyncio.start_unix_server(serve, path),
            RemoteSigner(f"ipc://{path}", OURS.address, method="account_signTransaction", timeout_seconds=10) as signer,
        ):
            assert await signer.signed(WANTED) == OURS.sign(WANTED)

    asyncio.run(run())


def test_a_node_that_holds_the_key_signs_a_real_trade(
    evm: DevNode, owner: Account, wrapped: bytes, tmp_path: Path
) -> None:
    """anvil has keys of its own and signs with them, by another implementation than ours."""
    address = bytes.fromhex(evm.rpc.call("eth_accounts")[0][2:])
    evm.fund(text(address), NATIVE_WEI)

    async def run() -> None:
        signer = RemoteSigner(evm.http, address, method="eth_signTransaction", timeout_seconds=10)
        async with Rpc(evm.ws, chain_id=evm.chain_id) as rpc, signer:
            bench = Bench(rpc, Ledger(Database(tmp_path / "ledger.db")), owner, wrapped)
            accounts = type(bench.accounts)(
                chain="ethereum", wrapped_native=wrapped, signer=address, executor=bench.accounts.executor
            )
            bench.accounts = accounts
            await open_books(rpc, accounts, bench.ledger)
            bench.execution = Execution(evm.chain_id, rpc, signer, bench.ledger, accounts)
            assert await bench.execution.submit("a", await bench.call(), await bench.offer()) is not None
            (settled,) = await bench.settle()
            assert settled.state is State.INCLUDED
            assert await bench.agrees()

    asyncio.run(run())


def test_the_configuration_names_a_key_or_who_holds_it(installation: Installation) -> None:
    address = EthAccount.from_key(KEY).address
    key = f'key = "file:{installation.directory}/signer.key"'
    text_ = installation.config.read_text()
    installation.config.write_text(text_.replace(key, f'url = "http://127.0.0.1:9000"\naddress = "{address}"'))
    config = load(installation.config)
    assert config.signer is not None
    assert repr(signer_of(config.signer)) == f"RemoteSigner({address.lower()})"
    for wrong, told in (
        (f'{key}\nurl = "http://127.0.0.1:9000"\naddress = "{address}"', "has both key and url, or neither"),
        ("", "has both key and url, or neither"),
        ('url = "http://127.0.0.1:9000"', "has address without url, or url without address"),
        (f'url = "http://signer.example"\naddress = "{address}"', "url is wrong"),
        (f'url = "ipc://x/5e5a4e"\naddress = "{address}"', "url is wrong"),
    ):
        installation.config.write_text(text_.replace(key, wrong))
        with pytest.raises(Exception, match=told):
            load(installation.config)


def test_a_secret_may_hold_the_url(installation: Installation) -> None:
    secret = installation.directory / "url"
    secret.touch(mode=0o600)
    address = EthAccount.from_key(KEY).address
    key = f'key = "file:{installation.directory}/signer.key"'
    text_ = installation.config.read_text()
    installation.config.write_text(text_.replace(key, f'url = "file:{secret}"\naddress = "{address}"'))
    config = load(installation.config).signer
    assert config is not None
    secret.write_text("https://signer.example/5e5a4e5e")
    assert repr(signer_of(config)) == f"RemoteSigner({address.lower()})"
    secret.write_text("http://signer.example/5e5a4e5e")
    with pytest.raises(SecretError, match="holds no URL") as caught:
        signer_of(config)
    assert "5e5a4e" not in str(caught.value)
