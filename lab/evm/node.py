"""Run one chain: anvil with an id, a port, the seed's accounts and a file to remember by.

Standard library only: the world container runs this as `python3 -m lab.evm.node CHAIN`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lab.evm import chains, history

if TYPE_CHECKING:
    from lab.evm.chains import Chain

# In the order of eth_accounts.
ACCOUNTS = ("deployer", "trader", "bank", "spare")
BALANCE = 100_000_000

STATE_SECONDS = 60

# A client may read state this many blocks back; the engine simulates on the last one.
STATES_KEPT = 64

# Blocks that survive a start of the node, with their transactions and receipts: an hour and more. Those since then all
# stay: 4 kB of memory a block, which a restart a day keeps bounded.
BLOCKS_KEPT = 2048


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


def interval_mining(chain: Chain) -> list[str]:
    """Return the flags for a block every `block_seconds`, with or without transactions."""
    return ["--block-time", str(chain.block_seconds)]


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
        mining=interval_mining(chain),
        state=state,
    )
    try:
        os.execv(argv[0], argv)
    except OSError as failure:
        sys.exit(f"{arguments.anvil} cannot be run ({failure.strerror}): give anvil's path with --anvil or EVM_ANVIL")


if __name__ == "__main__":
    main()
