"""A signer, its executor and its capital on a real, seeded chain; test tokens compiled from source."""

from __future__ import annotations

import functools
import io
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mev import cli
from mev.domain import Pool
from mev.insight import report
from mev.insight.pnl import first_fill
from mev.runtime.config import Config, load
from mev.runtime.storage import Database
from mev.trading import erc20
from mev.trading.execution import contract
from mev.trading.execution.transaction import Signer, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.evm.devnode import DevNode

ROOT = Path(__file__).parents[3]
CONTRACTS = Path(__file__).parent / "contracts"
NATIVE_WEI = 10**18
CAPITAL_WEI = 20 * NATIVE_WEI

# No small number: contracts' calls and storage are full of those, and the key is looked for there.
OWNER_KEY = b"\x17" * 32


def raw(address: str) -> bytes:
    return bytes.fromhex(address[2:])


def text(content: bytes) -> str:
    return "0x" + content.hex()


def word(value: int | bytes) -> bytes:
    return value.rjust(32, b"\0") if isinstance(value, bytes) else value.to_bytes(32, "big")


@functools.cache
def compiled(name: str) -> str:
    """A test contract's creation code, compiled by the wheel's build environment."""
    vyper = ROOT / ".venv-build" / "bin" / "vyper"
    done = subprocess.run(
        [vyper, "-f", "bytecode", CONTRACTS / f"{name}.vy"], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@dataclass
class Account:
    """One key on one chain; what it sends is mined at once."""

    evm: DevNode
    signer: Signer

    @property
    def address(self) -> bytes:
        return self.signer.address

    def send(self, to: bytes, data: bytes = b"", value_wei: int = 0, gas: int = 5_000_000) -> dict[str, Any]:
        """Send a call and return its receipt, whatever became of it."""
        nonce = int(self.evm.rpc.call("eth_getTransactionCount", text(self.address), "latest"), 16)
        base_fee = int(self.evm.rpc.call("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)
        signed = self.signer.sign(
            Transaction(
                chain_id=self.evm.chain_id,
                nonce=nonce,
                max_priority_fee_wei=10**9,
                max_fee_wei=2 * base_fee + 10**9,
                gas_limit=gas,
                to=to,
                value_wei=value_wei,
                data=data,
            )
        )
        assert self.evm.rpc.call("eth_sendRawTransaction", text(signed.raw)) == text(signed.hash)
        return self.evm.receipt(text(signed.hash))

    def call(self, to: bytes, data: bytes) -> bytes:
        """What a call would return now; raises the node's error where it would revert."""
        call = {"from": text(self.address), "to": text(to), "data": text(data)}
        return raw(self.evm.rpc.call("eth_call", call, "latest"))

    def balance(self, token: bytes, holder: bytes) -> int:
        return int.from_bytes(self.call(token, erc20.encode_balance_of(holder)), "big")

    def create(self, code: str) -> bytes:
        """Create a contract from its creation code, by an account that needs no key."""
        sender = self.evm.deployment.bank
        self.evm.rpc.call("anvil_impersonateAccount", sender)
        sent = self.evm.rpc.call("eth_sendTransaction", {"from": sender, "data": code, "gas": hex(6_000_000)})
        return raw(self.evm.receipt(sent)["contractAddress"])


@pytest.fixture
def owner(evm: DevNode) -> Account:
    """A signer with native coin."""
    signer = Signer(OWNER_KEY)
    evm.fund(text(signer.address), 1000 * NATIVE_WEI)
    return Account(evm, signer)


@pytest.fixture
def stranger(evm: DevNode) -> Account:
    """Somebody else, with native coin too."""
    signer = Signer(b"\x18" * 32)
    evm.fund(text(signer.address), 1000 * NATIVE_WEI)
    return Account(evm, signer)


@pytest.fixture
def wrapped(evm: DevNode) -> bytes:
    return raw(evm.deployment.wrapped_native)


@pytest.fixture
def executor(owner: Account, wrapped: bytes) -> bytes:
    """The owner's executor, deployed, with CAPITAL_WEI of wrapped native coin."""
    address = contract.address(owner.address)
    owner.send(contract.CREATE2_DEPLOYER, contract.encode_deployment(owner.address))
    owner.send(wrapped, erc20.encode_deposit(), CAPITAL_WEI)
    owner.send(wrapped, erc20.encode_transfer(address, CAPITAL_WEI))
    assert owner.balance(wrapped, address) == CAPITAL_WEI
    return address


@pytest.fixture
def pools(evm: DevNode) -> dict[tuple[str, frozenset[str]], Pool]:
    """The seeded V2 pools by their factory's name and their tokens' symbols."""
    found = {}
    for seeded in evm.deployment.pools:
        if seeded.version == 2:
            factory = evm.deployment.factory(seeded.factory)
            found[seeded.factory, frozenset({seeded.token0, seeded.token1})] = Pool(
                address=raw(seeded.address),
                factory=seeded.factory,
                token0=raw(evm.deployment.token(seeded.token0).address),
                token1=raw(evm.deployment.token(seeded.token1).address),
                fee_numerator=factory.fee_numerator,
                fee_denominator=factory.fee_denominator,
            )
    return found


@dataclass
class Installation:
    """The agents' configuration on one chain, and the processes that read it."""

    evm: DevNode
    directory: Path
    signer: Signer
    ws: str
    mode: str = "live"
    risk: dict[str, str] = field(default_factory=dict)
    # [storage], and what stands beside it; files of its own where empty.
    storage: str = ""
    # Fees of the V3 pools that are watched; none without.
    v3_fees: tuple[int, ...] = ()
    # Further V3 factories, as tables in the list.
    more_v3: tuple[str, ...] = ()
    # Further tables, and those of the chain.
    more: str = ""
    chain_tables: str = ""

    def __post_init__(self) -> None:
        key = self.directory / "signer.key"
        key.touch(mode=0o600)
        key.write_text(self._secret().hex() + "\n")
        self.write()

    def _secret(self) -> bytes:
        return OWNER_KEY

    @property
    def config(self) -> Path:
        return self.directory / "mev.toml"

    def write(self) -> None:
        """Write the configuration as it is now."""
        deployment = self.evm.deployment
        limits = {
            "max_amount_in_wei": "20_000_000_000_000_000_000",
            "min_profit_wei": "100_000_000_000_000",
            "max_daily_loss_wei": "100_000_000_000_000_000",
            "max_gas_price_wei": "200_000_000_000",
            "kill_switch": f'"{self.directory}/kill"',
            **self.risk,
        }
        tokens = ", ".join(
            f'{{ symbol = "{token.symbol}", address = "{token.address}", decimals = {token.decimals} }}'
            for token in deployment.tokens
        )
        factories = ", ".join(
            f'{{ name = "{factory.name}", address = "{factory.address}", '
            f"fee_numerator = {factory.fee_numerator}, fee_denominator = {factory.fee_denominator} }}"
            for factory in deployment.factories
            if factory.version == 2
        )
        files = (
            f'[storage]\nopportunities = "{self.directory}/mev_opportunities.db"\n'
            f'performance = "{self.directory}/performance_metrics.db"'
        )
        self.config.write_text(
            f"""
mode = "{self.mode}"
{self.storage or files}
[logging]
directory = "{self.directory}"
{self.more}
[signer]
key = "file:{self.directory}/signer.key"
[risk]
{chr(10).join(f"{key} = {value}" for key, value in limits.items())}
[chains.ethereum]
id = {self.evm.chain_id}
ws = "{self.ws}"
block_seconds = 2
allowed_lag_seconds = 3600
wrapped_native = "{deployment.wrapped_native}"
tokens = [{tokens}]
v2_factories = [{factories}]
v3_factories = [{self._v3_factories()}]
{self.chain_tables}
"""
        )

    def _v3_factories(self) -> str:
        made = self.evm.deployment.factory("uniswap_v3")
        own = f'{{ name = "{made.name}", address = "{made.address}", fees = {list(self.v3_fees)} }}'
        return ", ".join([*([own] if self.v3_fees else []), *self.more_v3])

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the mev command as a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "mev.cli", *arguments, "--config", str(self.config)],
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )

    def mev(self, *arguments: str) -> Any:
        """Run the mev command in this process, where its modules are loaded already, and return its JSON document."""
        with redirect_stdout(io.StringIO()) as output, redirect_stderr(io.StringIO()) as errors:
            code = cli.main([*arguments, "--json", "--config", str(self.config)])
        assert code == 0, errors.getvalue()
        return json.loads(output.getvalue())

    def reports(self) -> tuple[Config, Database]:
        """What `mev status`, `mev pnl` and `mev opportunities` read: to be asked often, without a process each time."""
        config = load(self.config)
        return config, Database(config.storage.ledger)

    @contextmanager
    def agent(self, name: str, *, ready: bool = True) -> Iterator[Agent]:
        """Run an agent until the context ends; with `ready`, it has said READY=1 when the context begins."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            path = self.directory / f"{name}.notify"
            path.unlink(missing_ok=True)
            notify.bind(str(path))
            notify.settimeout(PATIENCE_SECONDS)
            process = subprocess.Popen(
                [sys.executable, "-m", f"mev.{name}", "--config", str(self.config)],
                env={**os.environ, "NOTIFY_SOCKET": str(path)},
                stderr=(self.directory / f"{name}.stderr").open("a"),
            )
            agent = Agent(process, notify)
            try:
                while ready and "READY=1" not in agent.hear():
                    pass
                yield agent
            finally:
                if process.poll() is None:
                    process.terminate()
                process.wait(timeout=PATIENCE_SECONDS)


@dataclass
class Agent:
    """A running agent, and what it tells its service manager."""

    process: subprocess.Popen[bytes]
    notifications: socket.socket

    def hear(self) -> str:
        """The next notification; raises where the agent has ended."""
        assert self.process.poll() is None, f"the agent ended with {self.process.returncode}"
        return self.notifications.recv(4096).decode()

    def rss_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1000

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self.process.kill()
        self.process.wait(timeout=PATIENCE_SECONDS)


# Only what will never be needs as long, also on a machine that has much else to do.
PATIENCE_SECONDS = 120


def wait_for(what: str, condition: Callable[[], object], *, meanwhile: Callable[[], object] = lambda: None) -> Any:
    """Return what `condition` returns as soon as that is true; until then `meanwhile` happens, first a second apart, then ever less often.

    Not at each look: what a block gives is sent before the next one comes, or never; and an engine that has little of a processor needs longer
    for a block.
    """
    begun = time.monotonic()
    again = 1.0
    while not (found := condition()):
        passed = time.monotonic() - begun
        assert passed < PATIENCE_SECONDS, f"{what}: not within {PATIENCE_SECONDS} s"
        if passed > again:
            meanwhile()
            again = time.monotonic() - begun + max(1.0, passed / 8)
        time.sleep(0.1)
    return found


# What an engine makes of the newest block is sent well within it.
REST_SECONDS = 0.5


# So many turns an engine has for a block before the next one comes, if it has sent nothing on it.
TURNS = 5


def filled(installation: Installation) -> Any:
    """Wait for the first fill. A receipt may show after the block's head does: the chain has to go on, as real ones do.

    Once there is something to be shown: a block on which the engine still works would be past, and what it holds would not be sent.
    """
    config, ledger = installation.reports()
    turns = count(1)

    def goes_on() -> None:
        if report.status(ledger, config)["chains"]["ethereum"]["in_flight"] or next(turns) % TURNS == 0:
            installation.evm.mine()

    wait_for("a fill", lambda: first_fill(ledger), meanwhile=goes_on)
    return installation.mev("pnl")["first_included"]


def at_rest(installation: Installation) -> None:
    """Wait until the engine has heard of the newest block, nothing is in flight, and nothing came of it for a moment."""

    config, ledger = installation.reports()

    def rested() -> bool:
        seen = report.status(ledger, config)["chains"]["ethereum"]
        return bool(seen["in_flight"] == 0 and seen["head"] == int(installation.evm.rpc.call("eth_blockNumber"), 16))

    def rests() -> bool:
        # A block mined the next moment would only keep it from coming to rest.
        until = time.monotonic() + REST_SECONDS
        while not (found := rested()) and time.monotonic() < until:
            time.sleep(0.05)
        return found

    def stays() -> bool:
        if not rests():
            return False
        time.sleep(REST_SECONDS)
        return rested()

    wait_for("nothing in flight", stays, meanwhile=installation.evm.mine)


@pytest.fixture
def installation(evm: DevNode, owner: Account, tmp_path: Path) -> Installation:
    """The agents configured for the seeded chain, live, with the executor deployed and funded by the mev command."""
    made = Installation(evm, tmp_path, owner.signer, evm.ws)
    made.mev("executor", "prepare", "--amount-wei", str(CAPITAL_WEI))
    return made
