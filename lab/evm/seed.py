"""Put the contracts, pools and capital of the lab on its chains; a chain that has them is left as it is."""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from lab.checkout import Checkout
from lab.errors import LabError
from lab.evm import chains, npm, plan
from lab.evm.abi import call_data
from lab.evm.deployment import replace
from lab.evm.rpc import Rpc, RpcError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lab.evm.deployment import Deployment
    from lab.evm.npm import Modules
    from lab.evm.plan import Plan, Step

# How long a chain may take to answer for the first time.
START_SECONDS = 60

# Full blocks raise the base fee, and anvil drops what no longer pays it: offer plenty (100 gwei, 1 gwei of it a tip).
_FEES = {"maxFeePerGas": hex(100 * 10**9), "maxPriorityFeePerGas": hex(10**9)}

# What is sent before a block is mined: less than a block holds, because anvil drops the transactions that come after one
# that found no room.
_ROUND_GAS = 25_000_000

# How long to wait after each block for a round's transactions, in seconds: where a chain mines by itself too, a block may be under
# way with them and be slow to show. A chain that needs more blocks than these refuses its transactions.
_PAUSES = (0.0, 0.02, 0.1, 0.5, 2.0, 5.0)


def seed(
    urls: Mapping[str, str],
    modules: Modules,
    *,
    number: int = chains.DEFAULT_SEED,
    fund: Mapping[str, int] | None = None,
) -> Deployment:
    """Seed every chain of `urls` (chain name to HTTP URL) at once, and return what stands on each of them.

    `fund` is how much native coin, in wei, addresses are given; one that has a tenth of it or more is left alone.
    Raises LabError naming the chain when one does not answer or was seeded otherwise.
    """
    if not urls:
        raise LabError("no chain to seed was named")
    with ThreadPoolExecutor(max_workers=len(urls)) as pool:
        jobs = {
            name: pool.submit(seed_chain, name, url, modules, number=number, fund=fund or {})
            for name, url in urls.items()
        }
        deployments = {name: job.result() for name, job in jobs.items()}
    first = next(iter(deployments.values()))
    for name, deployment in deployments.items():
        if deployment != first:
            raise LabError(f"{name} at {urls[name]} has other accounts than {next(iter(urls))}: start it with its seed")
    return first


def seed_chain(name: str, url: str, modules: Modules, *, number: int, fund: Mapping[str, int]) -> Deployment:
    """Seed one chain; see `seed`."""
    rpc = Rpc(url)
    try:
        answered, expected = _wait(name, rpc), chains.get(name).id
        if answered != expected:
            raise LabError(f"{name} at {url} is chain {answered}, and lab/evm/chains.json says {expected}")
        deployer, trader, bank, *_ = rpc.call("eth_accounts")
        wanted = plan.build(modules, seed=number, deployer=deployer, trader=trader, bank=bank)
        if not _is_marked(rpc, wanted):
            _carry_out(name, rpc, wanted)
        _fund(name, rpc, wanted.deployment.bank, fund)
    except (RpcError, UnreachableError) as failure:
        raise LabError(f"{name} cannot be seeded: {failure}") from failure
    finally:
        rpc.close()
    return wanted.deployment


def write_vars(deployment: Deployment, path: Path, names: Sequence[str]) -> None:
    """Write the Ansible variables of `names` (mev_chains) to `path`; JSON is YAML."""
    replace(path, json.dumps(deployment.variables(names), indent=2) + "\n")


def _wait(name: str, rpc: Rpc) -> int:
    """Return the chain's id, once it answers."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return int(rpc.call("eth_chainId"), 16)
        except UnreachableError as failure:
            if time.monotonic() > deadline:
                raise LabError(f"{name} does not answer: {failure}") from failure
            time.sleep(0.2)


def _is_marked(rpc: Rpc, wanted: Plan) -> bool:
    """Tell whether the plan's last transaction, and so every one, has happened."""
    deployment = wanted.deployment
    data = call_data("allowance(address,address)", deployment.deployer, wanted.mark)
    answer: str = rpc.call("eth_call", {"to": deployment.wrapped_native, "data": data}, "latest")
    return int(answer, 16) == 1 if answer != "0x" else False


def _carry_out(name: str, rpc: Rpc, wanted: Plan) -> None:
    """Send what of the plan has not been sent, and mine until it is in blocks."""
    senders = {step.sender for step in wanted.steps}
    sent = {sender: int(rpc.call("eth_getTransactionCount", sender, "pending"), 16) for sender in senders}
    steps = [step for step in wanted.steps if step.nonce >= sent[step.sender]]
    if not steps:
        raise LabError(f"{name} at {rpc.url} was seeded otherwise: remove its state and start it again")
    for some in _rounds(steps):
        for step, receipt in zip(some, _mine(name, rpc, [transaction(step) for step in some]), strict=True):
            if receipt["status"] != "0x1":
                raise LabError(
                    f"{name} at {rpc.url} reverted {step.title!r} of the seed: remove its state and start it again"
                )
    if not _is_marked(rpc, wanted):
        raise LabError(f"{name} at {rpc.url} was seeded otherwise: remove its state and start it again")


def _rounds(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Split `steps`, in their order, into what a block has room for."""
    some: list[Step] = []
    for step in steps:
        if some and sum(other.gas for other in some) + step.gas > _ROUND_GAS:
            yield some
            some = []
        some.append(step)
    yield some


def transaction(step: Step) -> dict[str, str]:
    """Return `step` as eth_sendTransaction takes it."""
    fields = {
        "from": step.sender,
        "nonce": hex(step.nonce),
        "data": "0x" + step.data.hex(),
        "value": hex(step.value),
        "gas": hex(step.gas),
        **_FEES,
    }
    return fields if step.to is None else {**fields, "to": step.to}


def _mine(name: str, rpc: Rpc, transactions: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Send `transactions`, each with its nonce, and mine until they have receipts."""
    hashes = rpc.batch([("eth_sendTransaction", fields) for fields in transactions])
    for pause in _PAUSES:
        rpc.call("evm_mine")
        time.sleep(pause)
        is_idle = rpc.call("txpool_status")["pending"] == "0x0"
        receipts = rpc.batch([("eth_getTransactionReceipt", value) for value in hashes])
        waiting = [fields for fields, receipt in zip(transactions, receipts, strict=True) if receipt is None]
        if not waiting:
            return receipts
        if is_idle:
            _send_again(rpc, waiting)
    raise LabError(f"{name} at {rpc.url} did not take the seed's transactions into {len(_PAUSES)} blocks")


def _send_again(rpc: Rpc, transactions: Sequence[dict[str, str]]) -> None:
    """Take `transactions`, which wait for nothing, out of the pool and offer them again.

    Anvil that takes one in while it mines the one before may queue it for good.
    """
    for sender in {fields["from"] for fields in transactions}:
        rpc.call("anvil_removePoolTransactions", sender)
    rpc.batch([("eth_sendTransaction", fields) for fields in transactions])


def _fund(name: str, rpc: Rpc, bank: str, fund: Mapping[str, int]) -> None:
    nonce = int(rpc.call("eth_getTransactionCount", bank, "pending"), 16)
    transfers: list[dict[str, str]] = []
    for address, amount_wei in fund.items():
        held = int(rpc.call("eth_getBalance", address, "latest"), 16)
        if 10 * held < amount_wei:
            fields = {"from": bank, "to": address, "value": hex(amount_wei - held)}
            transfers.append({**fields, "nonce": hex(nonce + len(transfers)), **_FEES})
    if transfers:
        _mine(name, rpc, transfers)


def main(argv: list[str] | None = None) -> None:
    """Seed the lab's chains on one host."""
    known = chains.load()
    state = Checkout.here().state
    parser = argparse.ArgumentParser(prog="python -m lab.evm.seed", description="Seed the lab's chains.")
    parser.add_argument("--host", default="127.0.0.1", help="where the chains listen, each on its own port")
    parser.add_argument("--chain", action="append", choices=list(known), help="this one only (repeatable)")
    parser.add_argument("--modules", type=Path, default=state / "npm", help="where the npm packages are or go")
    parser.add_argument("--seed", type=int, default=chains.DEFAULT_SEED)
    parser.add_argument("--fund", action="append", default=[], metavar="ADDRESS", help="give it native coin")
    parser.add_argument("--amount-wei", type=int, default=1000 * plan.NATIVE_WEI, help="how much (1,000 coins)")
    parser.add_argument("--deployment", type=Path, default=state / "evm" / "deployment.json")
    parser.add_argument("--vars", type=Path, help="an Ansible vars file to write")
    arguments = parser.parse_args(argv)
    names = arguments.chain or list(known)
    urls = {name: f"http://{arguments.host}:{known[name].port}" for name in names}
    try:
        modules = npm.install(arguments.modules)
        deployment = seed(
            urls, modules, number=arguments.seed, fund=dict.fromkeys(arguments.fund, arguments.amount_wei)
        )
    except LabError as failure:
        sys.exit(f"seed: {failure}")
    deployment.write(arguments.deployment)
    if arguments.vars:
        write_vars(deployment, arguments.vars, list(known))


if __name__ == "__main__":
    main()
