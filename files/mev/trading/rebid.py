"""Whether a trade that waits in the node's pool is worth more of a fee: what it earns is simulated anew on each block that missed it."""

from collections.abc import Callable

import structlog

from mev.chain import wire
from mev.chain.transactions import decode_signed
from mev.domain import Block
from mev.domain.market import Address
from mev.trading.execution import contract, fees
from mev.trading.execution.execution import Call, Decision, Raise, Withdraw
from mev.trading.ledger import Submission
from mev.trading.simulation import (
    SimulationRevertedError,
    Simulator,
    StaleSimulationError,
    UnconfirmedSimulationError,
)

log = structlog.get_logger(__name__)


class Rebidder:
    """One chain's; `may_raise` is asked each time, and where it says no, nothing is bid or simulated."""

    def __init__(
        self,
        simulator: Simulator,
        executor: Address,
        *,
        cap_wei: int,
        min_profit_wei: int,
        may_raise: Callable[[], bool],
    ) -> None:
        self._simulator = simulator
        self._executor = executor
        self._cap_wei = cap_wei
        self._min_profit_wei = min_profit_wei
        self._may_raise = may_raise

    async def decide(self, original: Submission, newest: Submission, head: Block) -> Decision | None:
        """Say what becomes of a trade that the next block can still take; None leaves it as it is.

        It is withdrawn where it would revert, or no longer pays for the gas that it offers already. It is raised where what the
        simulation leaves, less the minimum, pays for the raised price, and the cap allows it; the contract then holds out for that.
        """
        if not self._may_raise():
            return None
        sent = decode_signed(newest.raw)
        if sent.to != self._executor:
            # A release before this one sent it to its own contract, whose calls may be others.
            log.info("not raised", **_named(original), why="it is a call of another executor contract")
            return None
        bare = contract.with_min_profit(sent.data, 0)
        asked = original.sender, self._executor, bare
        try:
            try:
                simulated = await self._simulator.simulate(*asked, head)
            except SimulationRevertedError as reverted:
                if not await self._simulator.reverts(*asked, head):
                    return None
                log.info("withdrawn", **_named(original), why=str(reverted))
                return Withdraw()
            await self._simulator.confirm(*asked, simulated)
        except StaleSimulationError:
            return None
        except UnconfirmedSimulationError as unconfirmed:
            log.info("neither raised nor withdrawn", **_named(original), why=str(unconfirmed))
            return None
        worth_wei = (simulated.profit - self._min_profit_wei) // simulated.gas
        if worth_wei < fees.next_price(head.base_fee_wei, newest.max_priority_fee_wei, newest.max_fee_wei):
            log.info(
                "withdrawn", **_named(original), why="it no longer pays for its gas", profit_wei=str(simulated.profit)
            )
            return Withdraw()
        raised = fees.raised(newest.max_priority_fee_wei, newest.max_fee_wei, head.base_fee_wei, self._cap_wei)
        if raised.max_fee_wei > self._cap_wei or raised.next_price_wei > worth_wei:
            return None
        min_profit = simulated.gas * raised.next_price_wei + self._min_profit_wei
        call = Call(
            to=self._executor,
            data=contract.with_min_profit(sent.data, min_profit),
            gas_limit=sent.gas_limit,
            deadline_block=original.deadline_block,
        )
        return Raise(call=call, fees=raised)


def _named(submission: Submission) -> dict[str, str]:
    return {
        "chain": submission.chain,
        "opportunity": submission.opportunity,
        "transaction": wire.encode(submission.hash),
    }
