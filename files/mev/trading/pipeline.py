"""One chain's way from a block to a fill: strategy, simulation, risk, execution, each step in the ledger."""

import time
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec
import structlog

from mev.chain import wire
from mev.chain.rpc import Rpc
from mev.domain import Block, Opportunity, State
from mev.domain.market import Address
from mev.market.state import MarketState
from mev.trading import erc20
from mev.trading.execution import contract, fees
from mev.trading.execution.execution import Call, Execution, Settled
from mev.trading.execution.signers import SignerError
from mev.trading.inventory import Inventory
from mev.trading.ledger import Ledger, NonceTakenError
from mev.trading.rebid import Rebidder
from mev.trading.risk import Limits, Proposal, Reason, Standing, killed, refuse, seizes_from, swaps_through
from mev.trading.simulation import (
    ExecutorAbsentError,
    Simulated,
    SimulationRevertedError,
    Simulator,
    StaleSimulationError,
    UnconfirmedSimulationError,
)
from mev.trading.spans import Spans
from mev.trading.strategies.plugin import Strategy

# Cycles through one pool exclude each other: after a block's best few, simulation only costs time.
SIMULATED_A_BLOCK = 3
DEADLINE_BLOCKS = 4
# Room over the estimate.
GAS_MARGIN = (5, 4)
# A pair that has moved in the block that was simulated on seems not to have aged; in the next block it writes its two price
# accumulators, which costs this much the first time ever and a quarter of it later. What is not used is not paid.
ACCUMULATORS_GAS = 45_000
DAY_NS = 24 * 3600 * 10**9
SECOND_NS = 10**9
# Arbitrum's block.number is its parent chain's: there the contract gets no deadline, and only nodes forget in time.
PARENT_NUMBERED = frozenset({42161})

# What stood in an opportunity's way and is not its own fault: its pools are looked at again with the next block.
PASSING = frozenset(
    {
        Reason.IN_FLIGHT,
        Reason.POOL_IN_FLIGHT,
        Reason.BORROWER_IN_FLIGHT,
        Reason.NOT_BEST,
        Reason.GAS_PRICE_OVER_CAP,
        Reason.STALE_BLOCK,
        Reason.CLOCK_BEHIND,
        Reason.SIMULATION_STALE,
        Reason.SIMULATION_UNCONFIRMED,
        Reason.SIGNER_UNANSWERED,
    }
)

REFUSALS: dict[type[Exception], Reason] = {
    ExecutorAbsentError: Reason.EXECUTOR_MISSING,
    SimulationRevertedError: Reason.SIMULATION_REVERTED,
    StaleSimulationError: Reason.SIMULATION_STALE,
    UnconfirmedSimulationError: Reason.SIMULATION_UNCONFIRMED,
}

log = structlog.get_logger(__name__)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator decided for a chain."""

    chain: str
    chain_id: int
    mode: str
    wrapped_native: Address
    limits: Limits
    kill_switch: Path | None
    # After so many failures in a row nothing is sent for so long; 0 is never.
    breaker_failures: int = 0
    breaker_seconds: float = 0


class Pipeline:
    """Takes one chain's blocks, one at a time; `execution` is None where there is no key: then nothing is simulated."""

    def __init__(
        self,
        settings: Settings,
        rpc: Rpc,
        state: MarketState,
        strategy: Strategy,
        ledger: Ledger,
        execution: Execution | None,
        *,
        announce: Callable[[Settled], None] = lambda _: None,
        now_ns: Callable[[], int] = time.time_ns,
        every_block: bool = False,
        inventory: Inventory | None = None,
        spans: Spans | None = None,
    ) -> None:
        """With `every_block` the strategy is asked also where a block touched no pool; `inventory` is told what capital there is."""
        self._inventory = inventory or Inventory()
        self._spans = spans or Spans()
        self._announce = announce
        self._every_block = every_block
        self._settings = settings
        self._rpc = rpc
        self._simulator = Simulator(rpc)
        self._state = state
        self._strategy = strategy
        self._ledger = ledger
        self._execution = execution if settings.mode != "observe" else None
        self._rebidder = None
        if self._execution is not None:
            self._rebidder = Rebidder(
                self._simulator,
                self._execution.accounts.executor,
                cap_wei=settings.limits.max_gas_price_wei,
                min_profit_wei=settings.limits.min_profit_wei,
                may_raise=lambda: settings.mode == "live" and not killed(settings.kill_switch),
            )
        self._now_ns = now_ns
        self._again: set[Address] = set()
        # What is booked is held against the chain at the start, and after each reorganisation.
        self._doubtful = True
        self._sent: dict[str, frozenset[Address]] = {}

    def recover(self) -> None:
        """Close what was interrupted before it was written as submitted; blocks settle what was submitted."""
        for opportunity in self._ledger.unfinished(self._settings.chain):
            self._ledger.move(opportunity, State.EXPIRED, Reason.INTERRUPTED)

    def doubt(self) -> None:
        """Have the next block find out whether everything that is booked is still in its block."""
        self._doubtful = True

    async def on_block(self, block: Block, touched: Collection[Address]) -> None:
        """Settle what is in flight, then decide on what the block opened and on what was only put off before.

        Errors of the transport pass through, and leave no opportunity open that nothing would ever decide.
        """
        touched, self._again = {*touched, *self._again}, set()
        try:
            if self._execution is None:
                for opportunity in self._detect(block, touched, self._settings.limits.max_amount_in_wei):
                    self._drop(opportunity, Reason.MODE_OBSERVE)
            else:
                with self._spans.part(self._settings.chain, "follow"):
                    await self._settle(self._execution, block)
                await self._trade(self._execution, block, touched)
        except BaseException:
            self._again |= touched
            self.recover()
            raise

    async def _settle(self, execution: Execution, block: Block) -> None:
        if self._doubtful:
            await execution.take_back()
            self._doubtful = False
        cap_wei = self._settings.limits.max_gas_price_wei
        decide = None if self._rebidder is None else self._rebidder.decide
        for settled in await execution.settle(block, cap_wei, decide=decide):
            self._announce(settled)
            pools = self._sent.pop(settled.submission.opportunity, frozenset())
            if settled.state is not State.INCLUDED:
                self._again |= pools
            log.info(
                "settled",
                chain=self._settings.chain,
                opportunity=settled.submission.opportunity,
                transaction=wire.encode(settled.submission.hash),
                state=settled.state,
                reason=settled.reason,
            )

    async def _trade(self, execution: Execution, block: Block, touched: Collection[Address]) -> None:
        if not touched and not self._every_block:
            return
        capital = self._inventory.capital_wei = await self._capital(execution, block)
        limit = self._settings.limits.max_amount_in_wei
        # Without capital the opportunity is still sized, so that the ledger shows what was missed.
        found = self._detect(block, touched, min(capital, limit) if capital else limit)
        if not capital:
            for opportunity in found:
                if opportunity.flash is None:
                    self._drop(opportunity, Reason.CAPITAL_MISSING)
            found = [opportunity for opportunity in found if opportunity.flash is not None]
        if not found:
            return
        offered = await fees.quote(self._rpc, block, self._settings.limits.max_gas_price_wei)
        for opportunity in found[:SIMULATED_A_BLOCK]:
            # A simulation would only be thrown away: risk refuses while the one before it has no fate.
            if len(self._ledger.in_flight(self._settings.chain)) >= self._settings.limits.max_in_flight:
                self._drop(opportunity, Reason.IN_FLIGHT)
            elif swaps_through(opportunity, self._pools_in_flight()):
                self._drop(opportunity, Reason.POOL_IN_FLIGHT)
            elif seizes_from(opportunity, self._ledger.borrowers_in_flight(self._settings.chain)):
                self._drop(opportunity, Reason.BORROWER_IN_FLIGHT)
            else:
                await self._decide(execution, block, opportunity, offered)
        for opportunity in found[SIMULATED_A_BLOCK:]:
            self._drop(opportunity, Reason.NOT_BEST)

    async def _capital(self, execution: Execution, block: Block) -> int:
        data = erc20.encode_balance_of(execution.accounts.executor)
        call = {"to": wire.encode(self._settings.wrapped_native), "data": wire.encode(data)}
        return erc20.decode_amount(await self._rpc.call("eth_call", [call, {"blockHash": wire.encode(block.hash)}]))

    def _detect(self, block: Block, touched: Collection[Address], capital: int) -> list[Opportunity]:
        """Write what the strategy finds; return what is new and has a profit, best first."""
        fresh = []
        with self._spans.part(self._settings.chain, "screen"):
            found = self._strategy.opportunities(block, touched, capital)
        for opportunity in found:
            if not self._ledger.detect(opportunity):
                continue
            self._spans.found(opportunity)
            if opportunity.expected_profit > 0:
                self._ledger.move(opportunity.id, State.SCREENED)
                fresh.append(opportunity)
            else:
                self._drop(opportunity, Reason.NO_PROFIT)
        return fresh

    async def _decide(self, execution: Execution, block: Block, opportunity: Opportunity, offered: fees.Fees) -> None:
        settings = self._settings
        self._spans.enter(opportunity.id, "simulate")
        simulated = await self._simulate(execution, block, opportunity)
        if simulated is None:
            return
        self._ledger.simulated(opportunity.id, simulated.profit, simulated.gas, offered.next_price_wei)
        self._spans.enter(opportunity.id, "risk", profit=simulated.profit, gas=simulated.gas)
        proposal = Proposal(
            opportunity=opportunity,
            profit_wei=simulated.profit,
            gas=simulated.gas,
            gas_price_wei=offered.next_price_wei,
        )
        refused = refuse(proposal, self._standing(block), settings.limits, self._state.pools())
        if refused:
            self._drop(opportunity, refused)
            return
        try:
            # What was simulated holds on its own block alone, between then and now there may have been another one, and one node's word is nobody else's.
            await self._simulator.confirm(
                execution.accounts.signer, execution.accounts.executor, self._calldata(opportunity, 0, 0), simulated
            )
        except (StaleSimulationError, UnconfirmedSimulationError) as refusal:
            self._refuse(opportunity, refusal)
            return
        self._ledger.move(opportunity.id, State.APPROVED)
        if settings.mode != "live":
            self._drop(opportunity, Reason.MODE_PAPER)
            return
        self._spans.enter(opportunity.id, "sign")
        await self._submit(execution, block, proposal, offered)

    async def _simulate(self, execution: Execution, block: Block, opportunity: Opportunity) -> Simulated | None:
        """Ask the chain itself; None where it does not agree, and the opportunity is dropped then."""
        accounts, data = execution.accounts, self._calldata(opportunity, 0, 0)
        try:
            simulated = await self._simulator.simulate(accounts.signer, accounts.executor, data, block)
        except (SimulationRevertedError, StaleSimulationError) as refusal:
            self._refuse(opportunity, refusal)
            return None
        # More than expected is somebody's gift to a pair; less is a model that is wrong about this pool.
        if simulated.profit < opportunity.expected_profit:
            self._drop(opportunity, Reason.SIMULATION_BELOW_EXPECTED)
            return None
        if not simulated.agrees(opportunity.cycle.token):
            log.warning(
                "simulation",
                chain=self._settings.chain,
                opportunity=opportunity.id,
                why="other assets move than the profit that is returned",
                returned_wei=str(simulated.profit),
                moved={wire.encode(token): str(change) for token, change in (simulated.changes or {}).items()},
            )
            self._drop(opportunity, Reason.SIMULATION_ASSETS_DIFFER)
            return None
        return simulated

    def _refuse(
        self,
        opportunity: Opportunity,
        refusal: SimulationRevertedError | StaleSimulationError | UnconfirmedSimulationError,
    ) -> None:
        log.info("simulation", chain=self._settings.chain, opportunity=opportunity.id, why=str(refusal))
        self._drop(opportunity, REFUSALS[type(refusal)])

    async def _submit(self, execution: Execution, block: Block, proposal: Proposal, offered: fees.Fees) -> None:
        opportunity = proposal.opportunity
        pools = opportunity.pools
        deadline = block.number + (1 if execution.one_block else DEADLINE_BLOCKS)
        # The contract itself holds out for the gas and the minimum: reserves may move before the block that takes it.
        min_profit = proposal.gas * proposal.gas_price_wei + self._settings.limits.min_profit_wei
        in_contract = 0 if self._settings.chain_id in PARENT_NUMBERED else deadline
        call = Call(
            to=execution.accounts.executor,
            data=self._calldata(opportunity, min_profit, in_contract),
            gas_limit=proposal.gas * GAS_MARGIN[0] // GAS_MARGIN[1] + ACCUMULATORS_GAS * len(pools),
            deadline_block=deadline,
        )
        try:
            submission = await execution.submit(opportunity.id, call, offered)
        except NonceTakenError as taken:
            # An operator's command took it in the moment between.
            log.info("nonce taken", chain=self._settings.chain, opportunity=opportunity.id, why=str(taken))
            self._drop(opportunity, Reason.IN_FLIGHT)
            return
        except SignerError as unsigned:
            log.warning("not signed", chain=self._settings.chain, opportunity=opportunity.id, why=str(unsigned))
            self._drop(opportunity, unsigned.reason)
            return
        if submission is None:
            self._again |= pools
            return
        self._spans.sent(opportunity.id)
        self._sent[opportunity.id] = pools
        log.info(
            "submitted",
            chain=self._settings.chain,
            opportunity=opportunity.id,
            transaction=wire.encode(submission.hash),
            expected_net_wei=str(proposal.net_wei),
        )

    def _calldata(self, opportunity: Opportunity, min_profit: int, deadline_block: int) -> bytes:
        return contract.encode_execute(
            opportunity.cycle,
            self._state.pools(),
            opportunity.amount_in,
            min_profit,
            deadline_block,
            opportunity.seizure,
            opportunity.flash,
            opportunity.parts,
        )

    def _pools_in_flight(self) -> frozenset[Address]:
        return self._state.with_pairs(self._ledger.pools_in_flight(self._settings.chain))

    def _standing(self, block: Block) -> Standing:
        now_ns = self._now_ns()
        chain, settings = self._settings.chain, self._settings
        failing_ns = self._ledger.failing_since(chain, settings.breaker_failures) if settings.breaker_failures else None
        return Standing(
            killed=killed(settings.kill_switch),
            block_age_seconds=now_ns / SECOND_NS - block.timestamp,
            in_flight=len(self._ledger.in_flight(chain)),
            pools_in_flight=self._pools_in_flight(),
            borrowers_in_flight=self._ledger.borrowers_in_flight(chain),
            circuit_open=failing_ns is not None and now_ns - failing_ns < settings.breaker_seconds * SECOND_NS,
            today=self._ledger.today(chain, now_ns - DAY_NS),
        )

    def _drop(self, opportunity: Opportunity, reason: Reason) -> None:
        self._ledger.move(opportunity.id, State.DROPPED, reason)
        if reason in PASSING:
            self._again |= opportunity.pools
