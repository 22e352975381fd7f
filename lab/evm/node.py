"""Run one chain: anvil with an id, a port, the seed's accounts and a file to remember by.

Standard library only: the world container runs this as `python3 -m lab.evm.node CHAIN`.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lab.evm import chains, history
from lab.evm.rpc import Rpc, RpcError, UnreachableError

if TYPE_CHECKING:
    from lab.evm.chains import Chain

# In the order of eth_accounts.
ACCOUNTS = ("deployer", "trader", "bank", "spare")
BALANCE = 100_000_000

STATE_SECONDS = 60

# A client may read state this many blocks back; the engine simulates on the last one.
STATES_KEPT = 64

# Blocks that survive a start of the node, with their transactions and receipts: an hour and more. Those since then all
# stay, in a few kB of memory each, which a restart a day keeps bounded.
BLOCKS_KEPT = 2048

# How blocks come about, as anvil's flags: one for each transaction, or when the clock or a test asks for it.
# Not anvil's --block-time, under which version 1.7.1 drops no state whatever --prune-history says (200 kB a block).
AUTO: list[str] = []
MANUAL = ["--no-mining"]

_CLOCK_SECONDS = 30


def command(
    anvil: Path, chain: Chain, *, seed: int, host: str, port: int, mining: list[str], state: Path | None = None
) -> list[str]:
    """Return anvil's command line; `mining` is how blocks come about, as anvil's flags."""
    persistence = [] if state is None else ["--state", str(state), "--state-interval", str(STATE_SECONDS)]
    return [
        str(anvil),
        *("--chain-id", str(chain.id)),
        *("--host", host),
        *("--port", str(port)),
        *mining,
        *("--mnemonic-seed-unsafe", str(seed)),
        *("--accounts", str(len(ACCOUNTS))),
        *("--balance", str(BALANCE)),
        *("--prune-history", str(STATES_KEPT)),
        *persistence,
        "--quiet",
    ]


def start_clock(url: str, block_seconds: int) -> bool:
    """Have the node at `url` make a block every `block_seconds`, with or without transactions; tell if it does."""
    rpc = Rpc(url)
    deadline = time.monotonic() + _CLOCK_SECONDS
    while True:
        try:
            rpc.call("evm_setIntervalMining", block_seconds)
        except (UnreachableError, RpcError) as failure:
            if time.monotonic() > deadline:
                print(f"{url} takes no clock and is ended: {failure}", file=sys.stderr, flush=True)
                return False
            time.sleep(0.05)
        else:
            return True


def main(argv: list[str] | None = None) -> None:
    """Become the chain's anvil."""
    parser = argparse.ArgumentParser(prog="python3 -m lab.evm.node", description="Run one chain of the lab.")
    environment = os.environ
    parser.add_argument("chain", choices=list(chains.load()))
    parser.add_argument("--anvil", type=Path, default=environment.get("EVM_ANVIL", "/usr/local/bin/anvil"))
    parser.add_argument("--state-directory", type=Path, default=environment.get("EVM_STATE_DIRECTORY", "/var/lib/evm"))
    parser.add_argument("--host", default=environment.get("EVM_HOST", "127.0.0.1"))
    parser.add_argument("--seed", type=int, default=environment.get("EVM_SEED", str(chains.DEFAULT_SEED)))
    arguments = parser.parse_args(argv)
    chain = chains.get(arguments.chain)
    state = arguments.state_directory / f"{chain.name}.json"
    state.parent.mkdir(parents=True, exist_ok=True)
    history.tidy(state, BLOCKS_KEPT, lambda text: print(f"{chain.name}: {text}", file=sys.stderr, flush=True))
    argv = command(
        arguments.anvil,
        chain,
        seed=arguments.seed,
        host=arguments.host,
        port=chain.port,
        mining=MANUAL,
        state=state,
    )
    if not arguments.anvil.is_file():
        sys.exit(f"{arguments.anvil} is not there: give anvil's path with --anvil or EVM_ANVIL")
    _leave_behind_clock(arguments.host, chain)
    try:
        os.execv(argv[0], argv)
    except OSError as failure:
        sys.exit(f"{arguments.anvil} cannot be run ({failure.strerror}): give anvil's path with --anvil or EVM_ANVIL")


def _leave_behind_clock(host: str, chain: Chain) -> None:
    """Start the clock from a process of its own, which ends this one, by then anvil, when that fails.

    Forked twice: anvil waits for no child.
    """
    anvil = os.pidfd_open(os.getpid())
    child = os.fork()
    if child:
        os.close(anvil)
        os.waitpid(child, 0)
    elif os.fork():
        os._exit(0)
    else:
        try:
            reached_at = "127.0.0.1" if _is_every_address(host) else host
            if not start_clock(f"http://{reached_at}:{chain.port}", chain.block_seconds):
                signal.pidfd_send_signal(anvil, signal.SIGTERM)
        except ProcessLookupError:
            pass
        finally:
            os._exit(0)


def _is_every_address(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


if __name__ == "__main__":
    main()
