"""Curve's pools read from the chain at one block: what they are, what they hold, and whether they give what our mathematics says.

No function says of which template a pool is. Its getters tell how far it may be one that is known (A_precise: since 2020's second half; base_pool: a meta pool), and what it gives
(get_dy) for some amounts in every direction decides: a pool that gives something else, by a unit, is left out. So are, by name, those whose rates no event tells (lending pools, oracles, StableSwap-NG),
crypto pools, those of the native coin, and those that hold less of a coin than they say. A coin that takes a fee on transfer is found out by the first exchange in it.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations, permutations
from typing import NamedTuple

import structlog

from mev.chain.abi import AbiError, decode_address, decode_uint, encode_call, selector
from mev.chain.errors import MalformedAnswerError, RpcError
from mev.chain.rpc import Json, Rpc, RpcUnavailableError
from mev.chain.wire import encode
from mev.domain import Block, CurveKey, Pool
from mev.domain.market import Address
from mev.market.amm import AmmError
from mev.market.amm.curve import FEE_DENOMINATOR, CurvePool, Ramp, Version, ramped
from mev.market.concentrated_state import Unusable
from mev.market.curve_state import MOST_AMPLIFICATION, MOST_BALANCE, MOST_COINS, MOST_FEE, Curve, Unread, pair_of
from mev.market.discovery import call_at, returned
from mev.market.state import MarketState
from mev.runtime.config import CurvePoolConfig

COINS = (selector("coins(uint256)"), selector("coins(int128)"))
BALANCES = (selector("balances(uint256)"), selector("balances(int128)"))
GET_A = selector("A()")
GET_A_PRECISE = selector("A_precise()")
RAMP = tuple(selector(f"{each}()") for each in ("initial_A", "future_A", "initial_A_time", "future_A_time"))
FEES = tuple(selector(f"{each}()") for each in ("fee", "admin_fee"))
BASE_POOL = selector("base_pool()")
BASE_CACHE = tuple(selector(f"{each}()") for each in ("base_virtual_price", "base_cache_updated"))
VIRTUAL_PRICE = selector("get_virtual_price()")
IS_KILLED = selector("is_killed()")
GET_DY = selector("get_dy(int128,int128,uint256)")
DECIMALS = selector("decimals()")
BALANCE_OF = selector("balanceOf(address)")
# What only pools have that are none of those that are known, and what they are.
FOREIGN = {
    "gamma()": "it is a crypto pool",
    "offpeg_fee_multiplier()": "its fee moves with its balances",
    "stored_rates()": "its rates are told by no event",
    "oracle_method()": "its rates are an oracle's",
    "underlying_coins(uint256)": "it lends what it holds",
    "underlying_coins(int128)": "it lends what it holds",
}
NATIVE: Address = b"\xee" * 20
MOST_DECIMALS = 36
# How long a meta pool of the template remembers its base pool's virtual price.
CACHE_SECONDS = 600
# What a pool is asked in each direction: these parts of what it holds.
PROBES = (1_000_000, 1_000, 7)

log = structlog.get_logger(__name__)


async def read_curve(
    rpc: Rpc, named: Sequence[CurvePoolConfig], tokens: Iterable[Address], block: Block
) -> dict[Pool, Curve]:
    """Return every two watched coins of the pools that are named, as they are after `block`.

    Pools that are not of a kind that is known, or give something else than our mathematics, are left out and logged. Raises RpcUnavailableError where the node does not answer.
    """
    watched = {*tokens}
    states: dict[Pool, Curve] = {}
    for config in named:
        try:
            key, curve = await _read(rpc, config.address, block)
        except (AbiError, AmmError, RpcError, MalformedAnswerError) as error:
            log.warning("pool left out", pool=encode(config.address), factory=config.name, reason=str(error))
            continue
        states |= {
            pair_of(config.name, key, i, j): curve
            for i, j in combinations(range(len(key.coins)), 2)
            if key.coins[i] in watched and key.coins[j] in watched
        }
    return states


async def ask_curves(rpc: Rpc, state: MarketState, block: Block) -> frozenset[Address]:
    """Have the pools say what no event told, as it is after `block`, the market's own: all meta pools, and those that are Unread; return the pairs that changed.

    Where the node does not answer they are left alone, and asked again after the next block.
    """
    asked = [(pairs, known) for pairs in state.curve_pools() if (known := _to_ask(pairs[0], state)) is not None]
    if not asked:
        return frozenset()
    found: list[Curve]
    try:
        found = await _now(rpc, block, [known for _, known in asked])
    except (RpcError, RpcUnavailableError, MalformedAnswerError) as error:
        log.warning("curve pools not asked", block=block.number, reason=str(error))
        found = [Unread("the node did not say what it holds", curve) for _, (_, curve) in asked]
    changed = set()
    for (pairs, _), now in zip(asked, found, strict=True):
        if state.held(pairs[0].address) != now:
            changed |= {pair.address for pair in pairs}
            for pair in pairs:
                state.amend(pair.address, now)
    return frozenset(changed)


def _to_ask(pool: Pool, state: MarketState) -> tuple[CurveKey, CurvePool] | None:
    """Return a pool as it was known last where it has to be asked what it holds; None where it has not."""
    held = state.held(pool.address)
    if pool.curve is None:
        return None
    if isinstance(held, Unread):
        return pool.curve, held.curve
    return (pool.curve, held) if pool.curve.base is not None and isinstance(held, CurvePool) else None


async def _now(rpc: Rpc, block: Block, wanted: Sequence[tuple[CurveKey, CurvePool]]) -> list[Curve]:
    """Return what pools that are known hold now; one that does not answer any more, or otherwise, stops no other."""
    asked = [_questions(key, known.version) for key, known in wanted]
    answers = iter(await call_at(rpc, block, [each for questions in asked for each in questions]))
    said: list[Curve] = []
    for (key, known), questions in zip(wanted, asked, strict=True):
        of_pool = [next(answers) for _ in questions]
        try:
            said.append(_state(key, known, of_pool, block))
        except (RpcError, MalformedAnswerError) as error:
            said.append(Unread(f"it did not say what it holds: {error}", known))
        except AbiError as error:
            said.append(Unusable(str(error)))
    probes = [
        _probes(key, each) if isinstance(each, CurvePool) else [] for (key, _), each in zip(wanted, said, strict=True)
    ]
    given = iter(await call_at(rpc, block, [probe.call for of_pool in probes for probe in of_pool]))
    for position, of_pool in enumerate(probes):
        curve, gives = said[position], [next(given) for _ in of_pool]
        if not isinstance(curve, CurvePool):
            continue
        try:
            _require_agreement(curve, of_pool, gives)
        except (RpcError, MalformedAnswerError) as error:
            said[position] = Unread(f"it did not say what it gives: {error}", curve)
        except (AbiError, AmmError) as error:
            said[position] = Unusable(str(error))
    return said


async def _read(rpc: Rpc, pool: Address, block: Block) -> tuple[CurveKey, CurvePool]:
    places = range(MOST_COINS + 1)
    foreign = [(pool, encode_call(selector(each), *([0] if "int" in each else []))) for each in FOREIGN]
    asked = [(pool, encode_call(question, place)) for question in COINS for place in places]
    answers = await call_at(rpc, block, [*asked, *foreign, (pool, GET_A_PRECISE), (pool, BASE_POOL), (pool, IS_KILLED)])
    unsigned, signed = answers[: len(places)], answers[len(places) : 2 * len(places)]
    *told, precise, base, killed = answers[2 * len(places) :]
    for answer, why in zip(told, FOREIGN.values(), strict=True):
        if _answered(answer):
            raise AbiError(why)
    if _answered(killed) and decode_uint(returned(killed)):
        raise AbiError("it is killed")
    coins = _coins(unsigned) or _coins(signed)
    if not 2 <= len(coins) <= MOST_COINS or len(set(coins)) != len(coins):
        raise AbiError(f"it has {len(coins)} coins, or one of them twice: 2 to {MOST_COINS} are possible")
    if NATIVE in coins:
        raise AbiError("one of its coins is the native one")
    base_pool = decode_address(returned(base)) if _answered(base) else None
    if base_pool is not None and len(coins) != len(("coin", "LP token")):
        raise AbiError(f"a meta pool of {len(coins)} coins is not known")
    key = CurveKey(pool, coins, base_pool, signed=not _coins(unsigned))
    version = Version.SECOND if _answered(precise) else Version.FIRST
    known = CurvePool(version, (0,) * len(coins), await _rates(rpc, block, coins), 1, 0, 0)
    questions = _questions(key, version)
    held = [(coin, encode_call(BALANCE_OF, pool)) for coin in coins]
    answers = await call_at(rpc, block, [*questions, *held])
    curve = _state(key, known, answers[: len(questions)], block)
    for balance, answer in zip(curve.balances, answers[len(questions) :], strict=True):
        if decode_uint(returned(answer)) < balance:
            raise AbiError("it has less of a coin than it says")
    probes = _probes(key, curve)
    if not probes:
        raise AmmError("it holds next to nothing")
    _require_agreement(curve, probes, await call_at(rpc, block, [probe.call for probe in probes]))
    return key, curve


def _coins(answers: Sequence[Json]) -> tuple[Address, ...]:
    """Return the coins up to the first number under which there is none."""
    found: list[Address] = []
    for answer in answers:
        if not _answered(answer):
            break
        found.append(decode_address(returned(answer)))
    return tuple(found)


async def _rates(rpc: Rpc, block: Block, coins: Sequence[Address]) -> tuple[int, ...]:
    answers = await call_at(rpc, block, [(coin, DECIMALS) for coin in coins])
    decimals = [decode_uint(returned(answer)) for answer in answers]
    if max(decimals) > MOST_DECIMALS:
        raise AbiError(f"a coin of {max(decimals)} decimals is not for Curve")
    return tuple(10 ** (MOST_DECIMALS - each) for each in decimals)


def _questions(key: CurveKey, version: Version) -> list[tuple[Address, bytes]]:
    """Ask a pool for all that moves."""
    amplification = GET_A if version is Version.FIRST else GET_A_PRECISE
    own = [
        *(encode_call(BALANCES[key.signed], place) for place in range(len(key.coins))),
        *(amplification, *RAMP, *FEES),
    ]
    calls = [(key.pool, question) for question in own]
    if key.base is not None:
        calls += [*((key.pool, question) for question in BASE_CACHE), (key.base, VIRTUAL_PRICE)]
    return calls


def _state(key: CurveKey, known: CurvePool, answers: Sequence[Json], block: Block) -> CurvePool:
    """Return a pool as it answered."""
    count = len(key.coins)
    most = answers[: count + 1 + len(RAMP) + len(FEES)]
    balances, (now, *moves, fee, admin_fee) = _split([decode_uint(returned(answer)) for answer in most], count)
    ramp = Ramp(*moves)
    # One that has not begun yet has no way to be gone: its two times may be the same.
    begun = ramp.initial_time <= block.timestamp or ramp.future_time <= block.timestamp
    if not begun or ramped(*ramp, block.timestamp) != now or not 0 < now <= MOST_AMPLIFICATION:
        raise AbiError("its A is not what its ramp says")
    if fee > MOST_FEE or admin_fee > FEE_DENOMINATOR:
        raise AbiError(f"a fee of {fee} with {admin_fee} of it for its admins is none")
    if max(balances) > MOST_BALANCE:
        raise AbiError("it says that it holds more of a coin than there can be")
    rates = known.rates
    if key.base is not None:
        rates = (rates[0], _base_rate(answers[len(most) :], block))
    return known._replace(
        balances=tuple(balances),
        rates=rates,
        amplification=now,
        fee=fee,
        admin_fee=admin_fee,
        ramp=ramp if block.timestamp < ramp.future_time else None,
    )


def _split(values: list[int], count: int) -> tuple[list[int], list[int]]:
    return values[:count], values[count:]


def _base_rate(answers: Sequence[Json], block: Block) -> int:
    """Return what a base pool's LP token counts: its virtual price, or what the meta pool remembers of it."""
    remembered, since, now = answers
    if _answered(remembered) and _answered(since):
        then = decode_uint(returned(since))
        if block.timestamp <= then + CACHE_SECONDS:
            return decode_uint(returned(remembered))
    price = decode_uint(returned(now))
    if not price:
        raise AbiError("its base pool's LP token is worth nothing")
    return price


class _Probe(NamedTuple):
    """A question what a pool gives for an amount of coin i in coin j."""

    i: int
    j: int
    amount: int
    call: tuple[Address, bytes]


def _probes(key: CurveKey, curve: CurvePool) -> list[_Probe]:
    return [
        _Probe(i, j, amount, (key.pool, encode_call(GET_DY, i, j, amount)))
        for i, j in permutations(range(len(key.coins)), 2)
        for part in PROBES
        if (amount := curve.balances[i] // part)
    ]


def _require_agreement(curve: CurvePool, probes: Sequence[_Probe], answers: Sequence[Json]) -> None:
    """Raise AmmError where a pool gives something else than its formula, and RpcError where it is not said what it gives and the formula knows."""
    ours = [_ours(curve, probe) for probe in probes]
    given = [None if isinstance(answer, RpcError) else decode_uint(returned(answer)) for answer in answers]
    if any(said is not None and said != known for said, known in zip(given, ours, strict=True)):
        raise AmmError("it does not give what its formula would")
    for answer, known in zip(answers, ours, strict=True):
        # A revert, or a node that has not the block (any more): nodes do not tell these apart by a code that all have.
        if isinstance(answer, RpcError) and known is not None:
            raise answer
    if not any(given):
        raise AmmError("it gives nothing for anything")


def _ours(curve: CurvePool, probe: _Probe) -> int | None:
    try:
        return curve.get_dy(probe.i, probe.j, probe.amount)
    except AmmError:
        return None


def _answered(answer: Json) -> bool:
    return not isinstance(answer, RpcError) and bool(returned(answer))
