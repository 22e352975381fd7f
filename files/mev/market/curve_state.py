"""Curve's StableSwap pools followed by their events: plain ones exactly, meta pools by being asked after each block.

A pool has up to eight coins; each two of them that are watched stand as a `Pool` of their own, and all of one pool hold the same state. An exchange's event leaves out what
the admins get of its fee, so the exchange is computed, and has to give what the event says. Deposits and withdrawals in several coins say all that they change. A withdrawal in
one coin does not say in which, and a meta pool's second rate is its base pool's to say, or its own memory of that: such a pool is `Unread` until it is asked
(mev.market.curve_read). While A moves, it is another one in each block.
"""

from collections.abc import Iterable, Iterator, Sequence

from mev.chain.abi import AbiError, event_topic, keccak256
from mev.chain.abi.logs import decode_log
from mev.chain.wire import Log
from mev.domain import CurveKey, Pool
from mev.domain.events import (
    CurveExchange,
    CurveFeesSet,
    CurveLiquidity,
    CurveRampStarted,
    CurveRampStopped,
    CurveWithdrawal,
    MalformedLog,
)
from mev.domain.market import Address
from mev.market.amm import AmmError
from mev.market.amm.curve import FEE_DENOMINATOR, CurvePool, Ramp
from mev.market.concentrated_state import Unusable

MOST_COINS = 8
CURVE_TOPICS = frozenset(
    event_topic(signature)
    for signature in (
        "TokenExchange(address,int128,uint256,int128,uint256)",
        "TokenExchangeUnderlying(address,int128,uint256,int128,uint256)",
        "RemoveLiquidityOne(address,uint256,uint256)",
        "RemoveLiquidityOne(address,uint256,uint256,uint256)",
        "RampA(uint256,uint256,uint256,uint256)",
        "StopRampA(uint256,uint256)",
        "NewFee(uint256,uint256)",
        "ApplyNewFee(uint256)",
        *(
            f"{event}(address,uint256[{coins}],uint256[{coins}],{rest})"
            for coins in range(2, MOST_COINS + 1)
            for event, rest in (
                ("AddLiquidity", "uint256,uint256"),
                ("RemoveLiquidity", "uint256"),
                ("RemoveLiquidityImbalance", "uint256,uint256"),
            )
        ),
    )
)
# The most that pools' owners can set: a fee of half, an A of a million with two digits of precision.
MOST_FEE = FEE_DENOMINATOR // 2
MOST_AMPLIFICATION = 10**8
# More than there is of anything.
MOST_BALANCE = (1 << 128) - 1
ADDRESS_BYTES = 20


class Unread(Unusable, frozen=True):
    """A pool that has to be asked what it holds, and what was known of it before."""

    curve: CurvePool


Curve = CurvePool | Unusable


def pair_of(name: str, key: CurveKey, i: int, j: int) -> Pool:
    """Return two of a pool's coins as a pool of their own; its address, which nobody has, follows from the pool's and theirs."""
    one, other = sorted((key.coins[i], key.coins[j]))
    return Pool(keccak256(key.pool + one + other)[:ADDRESS_BYTES], name, one, other, 0, 1, curve=key)


def coins(pool: Pool, *, zero_for_one: bool) -> tuple[int, int]:
    """Return the numbers of the coin that goes in and of the one that comes out, in the pool's own order."""
    known = pool.curve.coins if pool.curve is not None else ()
    one, other = known.index(pool.token0), known.index(pool.token1)
    return (one, other) if zero_for_one else (other, one)


class CurvePools:
    """Each Curve pool with all of its pairs, by its address."""

    def __init__(self, pools: Iterable[Pool]) -> None:
        self._pairs: dict[Address, list[Pool]] = {}
        for pool in pools:
            if pool.curve is not None:
                self._pairs.setdefault(pool.curve.pool, []).append(pool)

    def __contains__(self, pool: Address) -> bool:
        return pool in self._pairs

    def __iter__(self) -> Iterator[Sequence[Pool]]:
        return iter(self._pairs.values())

    def told(self, event_log: Log) -> Sequence[Pool]:
        """Return the pairs that a log is about; none where it tells of nothing that is known here."""
        return self._pairs[event_log.address] if event_log.topics[:1] and event_log.topics[0] in CURVE_TOPICS else ()


def followed_curve(key: CurveKey, state: Curve, event_log: Log, now: int) -> Curve:
    """Return a pool's state after a log of its own in a block of time `now` (Unix seconds); raises AbiError where the log is malformed."""
    event = decode_log(event_log.topics, event_log.data)
    if isinstance(event, MalformedLog):
        raise AbiError(f"{event.event}: {event.reason}")
    if isinstance(state, Unusable):
        # One that is to be asked says all of it then.
        return state
    if key.base is not None:
        return Unread("it has not been asked yet what it holds after its last event", state)
    match event:
        case CurveExchange():
            return _exchanged(state, event)
        case CurveLiquidity():
            return _provided(state, event)
        case CurveWithdrawal():
            return Unread("which coin was withdrawn its event does not say, and it has not been asked yet", state)
        case CurveRampStarted():
            return _ramping(state, Ramp(event.initial, event.future, event.initial_time, event.future_time), now)
        case CurveRampStopped():
            return _ramping(state, Ramp(event.amplification, event.amplification, event.time, event.time), now)
        case CurveFeesSet():
            admin_fee = state.admin_fee if event.admin_fee is None else event.admin_fee
            if event.fee > MOST_FEE or admin_fee > FEE_DENOMINATOR:
                return Unusable(f"a fee of {event.fee} with {admin_fee} of it for its admins is none")
            return state._replace(fee=event.fee, admin_fee=admin_fee)
    return state


def _exchanged(state: CurvePool, event: CurveExchange) -> Curve:
    if event.underlying:
        return Unusable("it exchanges what its coins stand for: it is no plain pool")
    try:
        moved = state.exchange(event.sold, event.bought, event.amount_sold)
    except AmmError as error:
        return Unusable(f"its event tells of an exchange that it would not make: {error}")
    if moved.amount_out != event.amount_bought:
        return Unusable(f"an exchange gave {event.amount_bought}, not {moved.amount_out} as its formula says")
    return _within(moved.pool)


def _provided(state: CurvePool, event: CurveLiquidity) -> Curve:
    if not len(event.amounts) == len(event.fees) == len(state.balances):
        return Unusable("its event tells of another number of coins")
    sign = 1 if event.added else -1
    balances = tuple(
        balance + sign * amount - fee * state.admin_fee // FEE_DENOMINATOR
        for balance, amount, fee in zip(state.balances, event.amounts, event.fees, strict=True)
    )
    return _within(state._replace(balances=balances))


def _within(state: CurvePool) -> Curve:
    if not all(0 <= balance <= MOST_BALANCE for balance in state.balances):
        return Unusable("its event tells of more than there can be, or of less than nothing")
    return state


def _ramping(state: CurvePool, ramp: Ramp, now: int) -> Curve:
    if not 0 < min(ramp.initial, ramp.future) <= max(ramp.initial, ramp.future) <= MOST_AMPLIFICATION:
        return Unusable(f"an A that goes from {ramp.initial} to {ramp.future} is none")
    if not ramp.initial_time <= ramp.future_time or ramp.initial_time > now:
        return Unusable("its A moves in another time")
    return state._replace(ramp=ramp).at(now)
