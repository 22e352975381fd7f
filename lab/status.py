"""What runs where: asked from outside, over the edge's TLS and over SSH, and honest about what does not answer."""

from __future__ import annotations

import http.client
import json
import socket
import ssl as tls
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from lab import catalogue, hosts, ssh
from lab.errors import LabError
from lab.process import run
from lab.progress import step

if TYPE_CHECKING:
    from lab.checkout import Checkout

HOST = "mev1"
AGENTS = ("strategy_engine", "analytics_engine")
_EDGE_TIMEOUT_SECONDS = 5
_POLL_SECONDS = 2
_TABLE_COLUMNS = 132
_WEI = 10**18


@dataclass(frozen=True, slots=True)
class ChainStatus:
    """One chain: `head` is None and `problem` a sentence when the edge gives no answer."""

    name: str
    title: str
    id: int
    client: str
    service: str
    state: str
    head: int | None
    url: str
    problem: str | None


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """One agent and what systemd says of it."""

    name: str
    state: str


@dataclass(frozen=True, slots=True)
class Status:
    """The lab at one moment; `pnl` is what `mev pnl --json` prints, None where it does not."""

    host: str
    chains: list[ChainStatus]
    agents: list[AgentStatus]
    pnl: dict[str, Any] | None
    shell_command: str

    @property
    def first_arbitrage(self) -> dict[str, Any] | None:
        """The first included arbitrage's entry of the ledger."""
        return (self.pnl or {}).get("first_included")


class _EdgeConnection(http.client.HTTPSConnection):
    """HTTPS to a name whose address no resolver knows; the certificate is still held against the name."""

    def __init__(self, name: str, address: str, port: int, context: tls.SSLContext) -> None:
        super().__init__(name, port, timeout=_EDGE_TIMEOUT_SECONDS, context=context)
        self._address = (address, port)
        self._tls = context

    def connect(self) -> None:
        plain = socket.create_connection(self._address, timeout=_EDGE_TIMEOUT_SECONDS)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)


def read(checkout: Checkout) -> Status:
    """Ask everything at once; LabError only when there is no lab to ask."""
    host = hosts.known(checkout).get(HOST)
    if host is None:
        raise LabError(f"this checkout has no lab host {HOST}: `make lab` makes it")
    chains = catalogue.chains(checkout)
    units = [*(chain.service for chain in chains), *AGENTS]
    with ThreadPoolExecutor(max_workers=len(chains) + 2) as pool:
        states_job = pool.submit(_unit_states, checkout, units)
        pnl_job = pool.submit(_pnl, checkout)
        heads = list(pool.map(partial(_head, checkout, host.address), chains))
        states, pnl = states_job.result(), pnl_job.result()
    return Status(
        host=HOST,
        chains=[
            ChainStatus(
                name=chain.name,
                title=chain.title,
                id=chain.id,
                client=chain.client,
                service=f"{chain.service}.service",
                state=states[chain.service],
                head=head,
                url=chain.url,
                problem=problem,
            )
            for chain, (head, problem) in zip(chains, heads, strict=True)
        ],
        agents=[AgentStatus(name, states[name]) for name in AGENTS],
        pnl=pnl,
        shell_command="make lab-shell",
    )


def wait_for_arbitrage(checkout: Checkout, seconds: float) -> None:
    """Wait until the ledger has an included arbitrage; LabError when it has none after `seconds`."""
    with step("waiting for the strategy engine's first arbitrage"):
        deadline = time.monotonic() + seconds
        while not (_pnl(checkout) or {}).get("first_included"):
            if time.monotonic() > deadline:
                raise LabError(
                    f"the strategy engine took no arbitrage within {seconds:.0f} s: "
                    "`make lab-shell`, then `sudo journalctl -u strategy_engine`, says why"
                )
            time.sleep(_POLL_SECONDS)


def as_json(status: Status) -> str:
    """Return the status for programs."""
    return json.dumps(asdict(status), indent=2)


def show(status: Status) -> None:
    """Print the status for people."""
    console = Console()
    # Names and URLs are there to be copied: better a line that the terminal wraps than one that is cut.
    console.width = max(console.width, _TABLE_COLUMNS)
    table = Table(
        "Chain", "Client", "Service", "State", "Head", "URL", title=f"Chains of {status.host} (stand-in clients)"
    )
    for chain in status.chains:
        head = "-" if chain.head is None else str(chain.head)
        table.add_row(chain.title, chain.client, chain.service, _coloured(chain.state), head, chain.url)
    agents = Table("Agent", "State", title="Agents")
    for agent in status.agents:
        agents.add_row(agent.name, _coloured(agent.state))
    console.print(table)
    for chain in status.chains:
        if chain.problem:
            console.print(f"{chain.title}: {chain.problem}", style="red")
    console.print(agents)
    first = status.first_arbitrage
    if first:
        profit = int(first["profit_wei"])
        console.print(
            f"First arbitrage: {profit / _WEI:.6f} WETH ({profit} wei) on {first['chain']}, transaction {first['transaction']}"
        )
    else:
        console.print(
            "First arbitrage: none yet" if status.pnl is not None else "First arbitrage: `mev pnl` does not answer"
        )
    console.print("Dashboard: none yet")
    console.print(f"A shell on {status.host}: {status.shell_command}")


def _head(checkout: Checkout, address: str, chain: catalogue.Chain) -> tuple[int | None, str | None]:
    """Return the chain's head, or None and why there is none."""
    context = tls.create_default_context(cafile=str(checkout.state / "ca" / "ca.crt"))
    connection = _EdgeConnection(chain.host_name, address, catalogue.edge_port(checkout), context)
    question = {"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []}
    try:
        connection.request("POST", "/", json.dumps(question), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != http.client.OK:
            return None, f"the edge answers {answer.status}"
        return int(json.loads(body)["result"], 16), None
    except (OSError, http.client.HTTPException) as error:
        return None, f"the edge at {address} does not answer: {error}"
    except (ValueError, KeyError, TypeError):
        return None, f"the edge answers no block number: {body[:80]!r}"
    finally:
        connection.close()


def _unit_states(checkout: Checkout, units: list[str]) -> dict[str, str]:
    """Return what systemd calls each unit's state; `absent` where it has no such unit, `unreachable` without SSH."""
    words = ["systemctl", "show", "--property=LoadState,ActiveState", *(f"{unit}.service" for unit in units)]
    try:
        blocks = ssh.run_on(checkout, HOST, *words, timeout_seconds=20).strip().split("\n\n")
    except LabError:
        return dict.fromkeys(units, "unreachable")
    return dict(zip(units, map(unit_state, blocks), strict=True))


def unit_state(block: str) -> str:
    """Return a unit's state from the lines that `systemctl show` prints of it."""
    properties = dict(line.split("=", 1) for line in block.splitlines())
    return "absent" if properties["LoadState"] == "not-found" else properties["ActiveState"]


def _pnl(checkout: Checkout) -> dict[str, Any] | None:
    try:
        printed = run(ssh.command(checkout, HOST, "sudo", "mev", "pnl", "--json"), timeout_seconds=20)
        pnl: dict[str, Any] = json.loads(printed)
    except (LabError, ValueError):
        return None
    return pnl


def _coloured(state: str) -> str:
    return f"[green]{state}[/green]" if state == "active" else f"[red]{state}[/red]"
