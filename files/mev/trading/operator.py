"""What an operator does by hand: the executor contract put in place, given capital, and emptied again."""

import asyncio
import time

import msgspec

from mev.chain import wire
from mev.chain.rpc import Rpc, RpcUnavailableError
from mev.domain import Block, State
from mev.domain.market import Address
from mev.trading import erc20
from mev.trading.execution import contract, fees
from mev.trading.execution.execution import Call, Execution
from mev.trading.execution.signers import SignerError
from mev.trading.ledger import NonceTakenError, Submission

# How long an operator waits at the command line, and for how many blocks the transaction may.
WAIT_SECONDS = 120.0
WAIT_BLOCKS = 30
POLL_SECONDS = 0.2
GAS_MARGIN = (5, 4)


class OperatorError(Exception):
    """One sentence: what could not be done, and what to do about it."""


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What an act came to: `transactions` is empty where everything was in place already."""

    executor: Address
    transactions: list[bytes]
    capital_wei: int

    @property
    def changed(self) -> bool:
        """Whether anything was sent."""
        return bool(self.transactions)


class Operator:
    """Acts of one signer on one chain; each is idempotent and returns when the chain has it."""

    def __init__(self, rpc: Rpc, execution: Execution, cap_wei: int) -> None:
        self._rpc = rpc
        self._execution = execution
        self._accounts = execution.accounts
        self._cap_wei = cap_wei

    async def deploy(self) -> Done:
        """Put the contract at its address, if nothing stands there."""
        sent = []
        if not await self._code(self._accounts.executor):
            if not await self._code(contract.CREATE2_DEPLOYER):
                raise OperatorError(
                    f"{self._accounts.chain}: the CREATE2 deployer {wire.encode(contract.CREATE2_DEPLOYER)} is not on this "
                    "chain, so the executor cannot be put at its address"
                )
            data = contract.encode_deployment(self._accounts.signer)
            sent.append(await self._send("deploy", contract.CREATE2_DEPLOYER, data))
            if not await self._code(self._accounts.executor):
                raise OperatorError(
                    f"{self._accounts.chain}: transaction {wire.encode(sent[-1])} left no contract at "
                    f"{wire.encode(self._accounts.executor)}"
                )
        return await self._done(sent)

    async def fund(self, amount_wei: int) -> Done:
        """Bring the executor's wrapped native coin up to an amount, out of the signer's coin; never down."""
        sent = []
        missing = amount_wei - await self._wrapped(self._accounts.executor)
        if missing > 0:
            # What a run before this one wrapped and did not get to transfer is used first.
            unwrapped = missing - await self._wrapped(self._accounts.signer)
            if unwrapped > 0:
                await self._require_native(unwrapped)
                deposit = erc20.encode_deposit()
                sent.append(await self._send("wrap", self._accounts.wrapped_native, deposit, value_wei=unwrapped))
            transfer = erc20.encode_transfer(self._accounts.executor, missing)
            sent.append(await self._send("fund", self._accounts.wrapped_native, transfer))
        return await self._done(sent)

    async def withdraw(self, amount_wei: int | None) -> Done:
        """Give wrapped native coin back to the signer: an amount, or with None all of it."""
        held = await self._wrapped(self._accounts.executor)
        amount_wei = held if amount_wei is None else amount_wei
        if amount_wei > held:
            raise OperatorError(
                f"{self._accounts.chain}: the executor holds {held} wei of wrapped native coin, less than {amount_wei}"
            )
        sent = []
        if amount_wei:
            data = contract.encode_withdraw(self._accounts.wrapped_native, amount_wei)
            sent.append(await self._send("withdraw", self._accounts.executor, data))
        return await self._done(sent)

    async def _send(self, act: str, to: Address, data: bytes, *, value_wei: int = 0) -> bytes:
        chain = self._accounts.chain
        call = {
            "from": wire.encode(self._accounts.signer),
            "to": wire.encode(to),
            "data": wire.encode(data),
            "value": hex(value_wei),
        }
        gas = wire.quantity(await self._rpc.call("eth_estimateGas", [call]))
        until = time.monotonic() + WAIT_SECONDS
        submission = None
        while submission is None:
            head = await self._head()
            # An act whose command was killed is still in flight: its receipt frees the nonce and is booked.
            await self._execution.settle(head, self._cap_wei, operators_only=True)
            offered = await fees.quote(self._rpc, head, self._cap_wei)
            if offered.next_price_wei > self._cap_wei:
                raise OperatorError(
                    f"{chain}: gas costs {offered.next_price_wei} wei, over risk.max_gas_price_wei, {self._cap_wei}"
                )
            planned = Call(
                to=to,
                data=data,
                value_wei=value_wei,
                gas_limit=gas * GAS_MARGIN[0] // GAS_MARGIN[1],
                deadline_block=head.number + WAIT_BLOCKS,
            )
            try:
                submission = await self._execution.submit(f"operator:{act}", planned, offered)
            except SignerError as unsigned:
                raise OperatorError(f"{chain}: {act} is not signed: {unsigned}") from None
            except NonceTakenError as taken:
                # The engine's transaction has this nonce: in a few blocks its fate is known.
                if time.monotonic() > until:
                    raise OperatorError(f"{taken}, for {WAIT_SECONDS:.0f} s now: try again later") from None
                await asyncio.sleep(POLL_SECONDS)
            else:
                if submission is None:
                    raise OperatorError(
                        f"{chain}: the node refuses the transaction ({act}); the log line above says why"
                    )
        return await self._included(submission, act, until)

    async def _included(self, submission: Submission, act: str, until: float) -> bytes:
        name = f"{submission.chain}: transaction {wire.encode(submission.hash)} ({act})"
        while time.monotonic() < until:
            settled = await self._execution.follow(submission, await self._head(), self._cap_wei)
            if settled is None:
                await asyncio.sleep(POLL_SECONDS)
            elif settled.state is State.INCLUDED:
                return submission.hash
            else:
                raise OperatorError(f"{name} is {settled.state}: {settled.reason}")
        raise OperatorError(
            f"{name} is in no block after {WAIT_SECONDS:.0f} s; run this again: it goes on from where it stands"
        )

    async def _require_native(self, amount_wei: int) -> None:
        held = wire.quantity(await self._rpc.call("eth_getBalance", [wire.encode(self._accounts.signer), "latest"]))
        if held < amount_wei:
            raise OperatorError(
                f"{self._accounts.chain}: the signer {wire.encode(self._accounts.signer)} holds {held} wei, and {amount_wei} "
                "are missing in the executor: send it native coin, or ask for less"
            )

    async def _done(self, sent: list[bytes]) -> Done:
        capital = await self._wrapped(self._accounts.executor)
        return Done(executor=self._accounts.executor, transactions=sent, capital_wei=capital)

    async def _wrapped(self, account: Address) -> int:
        call = {"to": wire.encode(self._accounts.wrapped_native), "data": wire.encode(erc20.encode_balance_of(account))}
        return erc20.decode_amount(await self._rpc.call("eth_call", [call, "latest"]))

    async def _code(self, account: Address) -> bool:
        return bool(wire.data(await self._rpc.call("eth_getCode", [wire.encode(account), "latest"])))

    async def _head(self) -> Block:
        head = await self._rpc.call_as(wire.Head, "eth_getBlockByNumber", ["latest", False])
        if head is None:
            raise RpcUnavailableError(f"{self._rpc.node}: has no latest block")
        return head.block()
