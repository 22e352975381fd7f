"""A cycle that may pay, and the states that an opportunity goes through."""

from enum import StrEnum

import msgspec

from mev.domain.market import Address, Hash, Hop


class Cycle(msgspec.Struct, frozen=True):
    """A closed path of two to four swaps, each in one pool or in several side by side, that begins and ends in `token`; with a liquidation between them, of up to three."""

    token: Address
    hops: tuple[Hop, ...]


class Seizure(msgspec.Struct, frozen=True, kw_only=True):
    """A liquidation as a step of a cycle, after `after` of its swaps: what is held of `debt` pays the borrower's, and `collateral` comes out.

    With `absorbs` it is Compound V3's: the borrower is absorbed by the pool, a Comet, and `debt`, its base token, buys of the `collateral` that it then has
    for sale; where the borrower is the pool itself nobody is.
    """

    pool: Address
    borrower: Address
    debt: Address
    collateral: Address
    after: int
    absorbs: bool = False


class Flash(msgspec.Struct, frozen=True, kw_only=True):
    """The pool of a cycle that gives before it is paid, so that no capital is put in.

    That of the first swap; or with `lent`, base units of the cycle's token, another one that lends these before the cycle begins and is given back the
    opportunity's amount_in, its fee in it.
    """

    pool: Address
    lent: int = 0


class State(StrEnum):
    """Where an opportunity stands; the last four are final."""

    DETECTED = "detected"
    SCREENED = "screened"
    SIMULATED = "simulated"
    APPROVED = "approved"
    SUBMITTED = "submitted"
    INCLUDED = "included"
    REVERTED = "reverted"
    EXPIRED = "expired"
    DROPPED = "dropped"


LEGAL_NEXT: dict[State, frozenset[State]] = {
    State.DETECTED: frozenset({State.SCREENED, State.DROPPED, State.EXPIRED}),
    State.SCREENED: frozenset({State.SIMULATED, State.DROPPED, State.EXPIRED}),
    State.SIMULATED: frozenset({State.APPROVED, State.DROPPED, State.EXPIRED}),
    State.APPROVED: frozenset({State.SUBMITTED, State.DROPPED, State.EXPIRED}),
    State.SUBMITTED: frozenset({State.INCLUDED, State.REVERTED, State.EXPIRED, State.DROPPED}),
    State.INCLUDED: frozenset(),
    State.REVERTED: frozenset(),
    State.EXPIRED: frozenset(),
    State.DROPPED: frozenset(),
}


class Opportunity(msgspec.Struct, frozen=True):
    """A cycle, sized, at one block.

    amount_in, expected_out and expected_profit are base units of the cycle's token; profit is before gas. `held` is what is put
    in, then what the exact mathematics says is held after each hop, as (token, base units); empty where nothing pays. With `flash` what is put in is
    what the pool is paid at the end, and a loan is a hop too. With `parts` some of its swaps stand
    side by side: each takes its part, base units of its token, where the next one takes of the same, 0 being all that is left; `held` has then for
    each hop what it takes and what it gives.
    """

    id: str
    chain: str
    strategy: str
    cycle: Cycle
    block_number: int
    block_hash: Hash
    amount_in: int
    expected_out: int
    held: tuple[tuple[Address, int], ...] = ()
    seizure: Seizure | None = None
    flash: Flash | None = None
    parts: tuple[int, ...] = ()

    @property
    def pools(self) -> frozenset[Address]:
        """Every contract that it passes through: its swaps' pools, a liquidation's, and a lender's."""
        beside = frozenset(each.pool for each in (self.seizure, self.flash) if each is not None)
        return beside | {hop.pool for hop in self.cycle.hops}

    @property
    def expected_profit(self) -> int:
        """What the exact mathematics says the cycle leaves, before gas, in base units of its token."""
        return self.expected_out - self.amount_in


class Transition(msgspec.Struct, frozen=True):
    """One step of an opportunity's life; `reason` is a stable code where the state is dropped, expired or reverted."""

    opportunity: str
    state: State
    at_ns: int
    reason: str = ""
