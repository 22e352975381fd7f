"""The `mev` command: what the agents see, did and earned, and what an operator does by hand.

Exit codes: 0 done, 1 could not be done, 2 wrong usage or configuration; each failure is one sentence on standard error.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import Progress

from mev.chain.abi import checksum
from mev.chain.errors import RpcError, RpcUnavailableError
from mev.chain.rpc import Rpc
from mev.chain.traces import RecordingError
from mev.domain import State
from mev.insight import doctor, history, report, show
from mev.insight.explain import UnknownOpportunityError, explain
from mev.insight.history import HistoryError
from mev.insight.pools import pools
from mev.market.discovery import DiscoveryError
from mev.runtime import obs
from mev.runtime.config import Config, ConfigError, SecretError, load
from mev.runtime.storage import Database, StorageError, backup
from mev.trading import switch_audit
from mev.trading.execution.accounts import accounts_of
from mev.trading.execution.contract import ExecutorMissingError
from mev.trading.execution.execution import Execution
from mev.trading.execution.signers import RemoteSigner, signer_of
from mev.trading.execution.transaction import Signer
from mev.trading.execution.undone import undone
from mev.trading.ledger import Ledger, read_ledger
from mev.trading.operator import Done, Operator, OperatorError
from mev.trading.reconcile import open_books, reconcile

DEFAULT_CONFIG = Path("/etc/mev/mev.toml")
COULD_NOT = 1
WRONG_USAGE = 2

COULD_NOT_ERRORS = (
    DiscoveryError,
    ExecutorMissingError,
    OSError,
    OperatorError,
    RecordingError,
    RpcError,
    RpcUnavailableError,
    StorageError,
)

Document = dict[str, Any]


class UsageError(Exception):
    """What was asked for does not exist; the message says what does."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = command_line().parse_args(arguments)
    obs.configure("warning")
    try:
        config = load(options.config)
        document = options.run(config, options)
    except (ConfigError, HistoryError, SecretError, UnknownOpportunityError, UsageError) as error:
        return _fail(error, WRONG_USAGE)
    except COULD_NOT_ERRORS as error:
        return _fail(error, COULD_NOT)
    if options.json:
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        options.show(Console(), document)
    # What was asked is whether all is well: a script need not read the answer to know.
    return 0 if document.get("well", True) and document.get("agrees", True) else COULD_NOT


def _fail(error: Exception, code: int) -> int:
    sys.stderr.write(f"mev: {error}\n")
    return code


def command_line() -> argparse.ArgumentParser:
    """Return the parser of every command."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="the agents' configuration (%(default)s)")
    common.add_argument("--json", action="store_true", help="for programs: one JSON document, money as strings of wei")
    parser = argparse.ArgumentParser(prog="mev", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        add_parser: Callable[..., argparse.ArgumentParser],
        name: str,
        text: str,
        run: Callable[..., Document],
        show: Callable[..., None],
    ) -> argparse.ArgumentParser:
        made = add_parser(name, help=text, description=text, parents=[common])
        made.set_defaults(run=run, show=show)
        return made

    add(commands.add_parser, "status", "How far the engine is on each chain", _status, show.status)
    listed = add(
        commands.add_parser, "opportunities", "The opportunities that changed last", _opportunities, show.opportunities
    )
    listed.add_argument("--chain", help="only of this chain")
    listed.add_argument("--state", choices=[state.value for state in State], help="only in this state")
    listed.add_argument("--limit", type=_positive, default=20, help="how many (%(default)s)")
    earned = add(commands.add_parser, "pnl", "Profit and loss, from the ledger", _pnl, show.pnl)
    earned.add_argument("--limit", type=_positive, default=10, help="how many of the newest fills (%(default)s)")
    earned.add_argument("--days", type=_positive, default=7, help="how many UTC days, by token (%(default)s)")
    checked = add(
        commands.add_parser, "reconcile", "Hold the ledger against the chains' balances", _reconcile, show.document
    )
    checked.add_argument("--chain", help="only this chain")

    told = add(commands.add_parser, "explain", "Why an opportunity was taken or dropped", _explain, show.document)
    told.add_argument("opportunity", help="its id, or how it begins")
    add(commands.add_parser, "doctor", "Look at all that the agents stand on", _doctor, show.doctor)
    listed = add(commands.add_parser, "pools", "The pools that the engine trades through now", _pools, show.pools)
    listed.add_argument("--chain", help="only this chain's")
    past = "FIRST-LAST of the chain, or files or directories of recorded blocks (NUMBER.json or .json.gz)"
    again = add(
        commands.add_parser, "replay", "What the live detectors find in blocks that are past", _replay, show.replay
    )
    tested = add(
        commands.add_parser, "backtest", "What the limits would have let through of it", _backtest, show.backtest
    )
    tested.add_argument("--gas", type=_natural, default=0, help="units a transaction is taken to cost (%(default)s)")
    for replayed in (again, tested):
        replayed.add_argument("blocks", nargs="+", metavar="BLOCKS", help=past)
        replayed.add_argument("--chain", help="of which chain they are; needed where the configuration has several")
    eaten = add(
        commands.add_parser,
        "sandwiches",
        "Sandwiches in recorded blocks, what each swap exposed, and the limit that would have protected it",
        _sandwiches,
        show.sandwiches,
    )
    eaten.add_argument("blocks", nargs="+", metavar="BLOCKS", help="files or directories of recorded blocks")
    halted = add(commands.add_parser, "halt", "Throw the kill switch: nothing is sent any more", _halt, show.document)
    resumed = add(commands.add_parser, "resume", "Take the kill switch back", _resume, show.document)
    for switched in (halted, resumed):
        switched.add_argument("--reason", default="", help="why, for whoever finds it")
        switched.add_argument("--chain", help="only this chain, where it has a switch of its own")
    listed = add(commands.add_parser, "halts", "Who halted and resumed what, when and why", _halts, show.halts)
    listed.add_argument("--chain", help="only what concerned this chain")
    listed.add_argument("--limit", type=_positive, default=20, help="how many, newest first (%(default)s)")
    kept = add(commands.add_parser, "backup", "Copy the SQLite databases while the agents run", _backup, show.document)
    kept.add_argument("directory", type=Path, help="where the copies go; older ones of the same names are replaced")

    executor = commands.add_parser("executor", help="The contract that trades, and its capital")
    acts = executor.add_subparsers(required=True, metavar="ACT")
    for name, text, act in (
        ("address", "Where the executor stands or would stand", _executor_address),
        ("deploy", "Put the executor in place, if it is not there", _executor_deploy),
        ("fund", "Bring the executor's capital up to an amount", _executor_fund),
        ("withdraw", "Give capital back to the signer", _executor_withdraw),
    ):
        made = add(acts.add_parser, name, text, act, show.document)
        made.add_argument("--chain", required=True, help="the chain's name in the configuration")
        if name == "fund":
            made.add_argument("--amount-wei", type=_positive, required=True, help="wrapped native coin to hold then")
        if name == "withdraw":
            made.add_argument("--amount-wei", type=_positive, help="all of it without this")
    prepared = add(
        acts.add_parser,
        "prepare",
        "Deploy and fund on several chains, side by side",
        _executor_prepare,
        show.document,
    )
    prepared.add_argument("--chain", action="append", help="this chain only (repeatable); all of the configuration's")
    prepared.add_argument("--amount-wei", type=_natural, required=True, help="wrapped native coin to hold then")
    signer = commands.add_parser("signer", help="The key that signs")
    add(
        signer.add_subparsers(required=True, metavar="ACT").add_parser,
        "address",
        "Its address",
        _signer_address,
        show.document,
    )
    return parser


def _natural(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 0 or more")
    return int(text)


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 1 or more")
    return int(text)


def _status(config: Config, _: argparse.Namespace) -> Document:
    return report.status(_ledger(config), config)


def _opportunities(config: Config, options: argparse.Namespace) -> Document:
    if options.chain is not None:
        _require_chain(config, options.chain)
    found = report.recent(_ledger(config), count=options.limit, chain=options.chain, state=options.state)
    return {"opportunities": found}


def _pnl(config: Config, options: argparse.Namespace) -> Document:
    return report.pnl(_ledger(config), count=options.limit, days=options.days)


def _reconcile(config: Config, options: argparse.Namespace) -> Document:
    if options.chain is not None:
        _require_chain(config, options.chain)
    signer = _signer(config)
    ledger = Ledger(_ledger(config))

    async def check() -> Document:
        found: Document = {}
        gone: Document = {}
        for name in [options.chain] if options.chain else config.chains:
            chain = config.chains[name]
            async with Rpc(chain.end_points, chain_id=chain.id) as rpc:
                found[name] = [
                    {
                        "account": checksum(each.account),
                        "token": checksum(each.token),
                        "on_chain_wei": str(each.on_chain),
                        "in_ledger_wei": str(each.in_ledger),
                        "difference_wei": str(each.difference),
                    }
                    for each in await reconcile(rpc, accounts_of(name, chain, signer), ledger)
                ]
                gone[name] = ["0x" + each.hex() for each in await undone(rpc, name, ledger)]
        agrees = all(each["difference_wei"] == "0" for name in found for each in found[name])
        return {"agrees": agrees and not any(gone.values()), "chains": found, "undone_transactions": gone}

    return asyncio.run(check())


def _explain(config: Config, options: argparse.Namespace) -> Document:
    return explain(_ledger(config), options.opportunity)


def _doctor(config: Config, _: argparse.Namespace) -> Document:
    return doctor.document(doctor.examine(config))


def _pools(config: Config, options: argparse.Namespace) -> Document:
    if options.chain is not None:
        _require_chain(config, options.chain)
    return pools(config, [options.chain] if options.chain else list(config.chains))


def _replay(config: Config, options: argparse.Namespace) -> Document:
    with _progress(options) as progress:
        return history.replay(config, _chain(config, options.chain), options.blocks, progress)


def _backtest(config: Config, options: argparse.Namespace) -> Document:
    with _progress(options) as progress:
        return history.backtest(config, _chain(config, options.chain), options.blocks, options.gas, progress)


def _sandwiches(_: Config, options: argparse.Namespace) -> Document:
    with _progress(options) as progress:
        return history.sandwiches(options.blocks, progress)


@contextmanager
def _progress(options: argparse.Namespace) -> Iterator[history.Progress]:
    """Show how far long work is, where a person looks on."""
    with Progress(console=Console(stderr=True), transient=True, disable=options.json or not sys.stderr.isatty()) as bar:
        task = bar.add_task("blocks", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _chain(config: Config, name: str | None) -> str:
    if name is None and len(config.chains) > 1:
        raise UsageError(f"--chain is missing; allowed: {', '.join(config.chains)} (chains of the configuration)")
    if name is not None:
        _require_chain(config, name)
    return name or next(iter(config.chains))


def _halt(config: Config, options: argparse.Namespace) -> Document:
    if options.chain is not None:
        _require_chain(config, options.chain)
    return switch_audit.halt(config, options.chain, options.reason)


def _resume(config: Config, options: argparse.Namespace) -> Document:
    if options.chain is not None:
        _require_chain(config, options.chain)
    return switch_audit.resume(config, options.chain, options.reason)


def _halts(config: Config, options: argparse.Namespace) -> Document:
    if options.chain is not None:
        _require_chain(config, options.chain)
    return {"halts": report.halts(_ledger(config), count=options.limit, chain=options.chain)}


def _backup(config: Config, options: argparse.Namespace) -> Document:
    if not options.directory.is_dir():
        raise UsageError(f"{options.directory} is no directory; allowed: one that is there and may be written")
    places = (config.storage.ledger, config.storage.metrics)
    for place in places:
        if not isinstance(place, Path):
            raise UsageError(f"{place.url} is a PostgreSQL database: pg_dump or its server's own backups keep it")
    return {"copies": [str(backup(place, options.directory)) for place in places if isinstance(place, Path)]}


def _executor_address(config: Config, options: argparse.Namespace) -> Document:
    _require_chain(config, options.chain)
    accounts = accounts_of(options.chain, config.chains[options.chain], _signer(config))
    return {
        "chain": options.chain,
        "executor": checksum(accounts.executor),
        "owner": checksum(accounts.signer),
        "token": checksum(accounts.wrapped_native),
    }


def _executor_deploy(config: Config, options: argparse.Namespace) -> Document:
    return _operate(config, options.chain, lambda operator: operator.deploy())


def _executor_fund(config: Config, options: argparse.Namespace) -> Document:
    return _operate(config, options.chain, lambda operator: operator.fund(options.amount_wei))


def _executor_withdraw(config: Config, options: argparse.Namespace) -> Document:
    return _operate(config, options.chain, lambda operator: operator.withdraw(options.amount_wei))


def _executor_prepare(config: Config, options: argparse.Namespace) -> Document:
    names = options.chain or list(config.chains)
    for name in names:
        _require_chain(config, name)
    ledger = Ledger(Database(config.storage.ledger))

    async def prepare(operator: Operator) -> Done:
        deployed = await operator.deploy()
        funded = await operator.fund(options.amount_wei)
        return msgspec.structs.replace(funded, transactions=deployed.transactions + funded.transactions)

    async def run() -> list[Document]:
        return await asyncio.gather(*(_act(config, name, ledger, prepare) for name in names))

    done = asyncio.run(run())
    return {"changed": any(document["changed"] for document in done), "chains": done}


def _signer_address(config: Config, _: argparse.Namespace) -> Document:
    return {"signer": checksum(_signer(config).address)}


def _operate(config: Config, name: str, act: Callable[[Operator], Awaitable[Done]]) -> Document:
    _require_chain(config, name)
    return asyncio.run(_act(config, name, Ledger(Database(config.storage.ledger)), act))


async def _act(config: Config, name: str, ledger: Ledger, act: Callable[[Operator], Awaitable[Done]]) -> Document:
    chain, signer = config.chains[name], _signer(config)
    async with Rpc(chain.end_points, chain_id=chain.id) as rpc, signer:
        accounts = accounts_of(name, chain, signer)
        await open_books(rpc, accounts, ledger)
        execution = Execution(chain.id, rpc, signer, ledger, accounts)
        done = await act(Operator(rpc, execution, chain.risk.max_gas_price_wei))
    return {
        "chain": name,
        "changed": done.changed,
        "executor": checksum(done.executor),
        "transactions": ["0x" + transaction.hex() for transaction in done.transactions],
        "capital_wei": str(done.capital_wei),
    }


def _require_chain(config: Config, name: str) -> None:
    if name not in config.chains:
        raise UsageError(f"--chain is {name!r}; allowed: {', '.join(config.chains)} (chains of the configuration)")


def _signer(config: Config) -> Signer | RemoteSigner:
    if config.signer is None:
        raise ConfigError("signer.key is not set in the configuration; allowed: credential:NAME or file:/absolute/path")
    return signer_of(config.signer)


def _ledger(config: Config) -> Database:
    return read_ledger(config.storage.ledger)


if __name__ == "__main__":
    sys.exit(main())
