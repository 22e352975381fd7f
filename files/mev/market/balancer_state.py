"""Balancer V2's weighted and stable pools: what they hold at one block, and how their vault's events and their own change that.

A pool has up to eight tokens; each two of them that are watched stand as a `Pool` of their own, and all of one pool hold the same state. A ComposableStablePool's own
LP token, which stands among its tokens, is left out: between the others it swaps as if it were not there. Which of the contracts' versions a pool is (they round differently)
no function says: it is asked, through its vault (queryBatchSwap), what it gives for some amounts in every direction, and it is the version that says the same; a
pool that none of them agrees with is left out. So are pools whose prices hang on what no event of theirs tells: with rate providers, with weights that may move, with an
amplification that is moving. Where one begins to move, or the vault is paused, the pool is left alone until the chain is read anew.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, permutations
from typing import NamedTuple

import structlog

from mev.chain.abi import AbiError, decode_uint, encode_call, event_topic, keccak256, selector
from mev.chain.abi.logs import decode_log
from mev.chain.abi.reader import address, address_array, int_array, uint, word_array
from mev.chain.errors import MalformedAnswerError, RpcError
from mev.chain.rpc import Json, Rpc
from mev.chain.wire import Log, encode
from mev.domain import BalancerKey, Block, Pool
from mev.domain.events import (
    AmplificationUpdateStarted,
    AmplificationUpdateStopped,
    BalancerBalanceChanged,
    BalancerBalanceManaged,
    BalancerFeeSet,
    BalancerSwap,
    MalformedLog,
    PausedStateChanged,
)
from mev.domain.market import Address, Hash
from mev.market.amm import AmmError
from mev.market.amm.balancer import AMPLIFICATION_PRECISION, StablePool, StableRounding, WeightedPool
from mev.market.amm.log_exp import ONE
from mev.market.concentrated_state import Unusable
from mev.market.discovery import DiscoveryError, call_at, returned
from mev.runtime.config import BalancerVaultConfig

BALANCER_TOPICS = frozenset(
    event_topic(signature)
    for signature in (
        "Swap(bytes32,address,address,uint256,uint256)",
        "PoolBalanceChanged(bytes32,address,address[],int256[],uint256[])",
        "PoolBalanceManaged(bytes32,address,address,int256,int256)",
        "SwapFeePercentageChanged(uint256)",
        "AmpUpdateStarted(uint256,uint256,uint256,uint256)",
        "AmpUpdateStopped(uint256)",
        "PausedStateChanged(bool)",
    )
)
GET_POOL_TOKENS = selector("getPoolTokens(bytes32)")
GET_POOL = selector("getPool(bytes32)")
GET_POOL_ID = selector("getPoolId()")
GET_FEE = selector("getSwapFeePercentage()")
GET_PAUSED = selector("getPausedState()")
GET_WEIGHTS = selector("getNormalizedWeights()")
GET_AMPLIFICATION = selector("getAmplificationParameter()")
GET_RATE_PROVIDERS = selector("getRateProviders()")
GET_SCALING = selector("getScalingFactors()")
# What only pools have whose weights or swaps somebody moves (liquidity bootstrapping, managed).
GET_MOVING = selector("getGradualWeightUpdateParams()")
GET_SWITCH = selector("getSwapEnabled()")
DECIMALS = selector("decimals()")
QUERY = selector(
    "queryBatchSwap(uint8,(bytes32,uint256,uint256,uint256,bytes)[],address[],(address,bool,address,bool))"
)
OF_POOL = (
    GET_POOL_ID, GET_FEE, GET_PAUSED, GET_WEIGHTS, GET_AMPLIFICATION, GET_RATE_PROVIDERS, GET_SCALING, GET_MOVING, GET_SWITCH,
)  # fmt: skip
ADDRESS_BYTES = 20
WORD = 32
# As many as the largest pools have.
MOST_TOKENS = 8
MOST_DECIMALS = 18
# The vault keeps balances in 112 bits.
MOST_BALANCE = (1 << 112) - 1
# What is asked of a pool in each direction: these parts of what it holds.
PROBES = (1_000_000, 1_000, 7)

Curve = WeightedPool | StablePool

log = structlog.get_logger(__name__)


class Paused(Unusable, frozen=True):
    """A pool that is paused, as it will be when it is not any more: only what leaves it can change it meanwhile."""

    curve: Curve


Balancer = WeightedPool | StablePool | Unusable


def pair_of(name: str, key: BalancerKey, i: int, j: int) -> Pool:
    """Return two of a pool's tokens as a pool of their own; its address, which nobody has, follows from id and tokens."""
    one, other = key.tokens[i], key.tokens[j]
    return Pool(keccak256(key.id + one + other)[:ADDRESS_BYTES], name, one, other, 0, 1, balancer=key)


def places(pool: Pool, *, zero_for_one: bool) -> tuple[int, int]:
    """Return the numbers of the token that goes in and of the one that comes out, in the pool's own order."""
    tokens = pool.balancer.tokens if pool.balancer is not None else ()
    one, other = tokens.index(pool.token0), tokens.index(pool.token1)
    return (one, other) if zero_for_one else (other, one)


class Tellers:
    """Who tells of which pools: vaults of theirs by id, and each pool's own contract of itself."""

    def __init__(self, pools: Iterable[Pool]) -> None:
        self._by_id: dict[Address, dict[Hash, list[Pool]]] = {}
        self._own: dict[Address, list[Pool]] = {}
        for pool in pools:
            if pool.balancer is not None:
                self._by_id.setdefault(pool.balancer.vault, {}).setdefault(pool.balancer.id, []).append(pool)
                self._own.setdefault(pool.whole, []).append(pool)
        self.addresses = frozenset((*self._by_id, *self._own))

    def told(self, event_log: Log) -> Iterator[Sequence[Pool]]:
        """Yield the pools that a log is about, each with all of its pairs."""
        if not event_log.topics or event_log.topics[0] not in BALANCER_TOPICS:
            return
        vault = self._by_id.get(event_log.address)
        if vault is None:
            if len(event_log.topics) == 1:
                yield self._own[event_log.address]
        elif len(event_log.topics) > 1:
            if event_log.topics[1] in vault:
                yield vault[event_log.topics[1]]
        elif event_log.topics[0] == _PAUSED_TOPIC:
            yield from vault.values()


def followed_balancer(key: BalancerKey, state: Balancer, event_log: Log) -> Balancer:
    """Return a pool's state after a log of its vault about it, or of its own; raises AbiError where the log is malformed."""
    event = decode_log(event_log.topics, event_log.data)
    if isinstance(event, MalformedLog):
        raise AbiError(f"{event.event}: {event.reason}")
    if isinstance(event, PausedStateChanged) and event_log.address == key.vault:
        return Unusable("its vault was paused, or goes on: it has to be read anew")
    if isinstance(state, Paused):
        if isinstance(event, PausedStateChanged):
            return state if event.paused else state.curve
        after = _changed(key, state.curve, event)
        return after if isinstance(after, Unusable) else Paused(state.reason, after)
    if isinstance(state, Unusable):
        return state
    if isinstance(event, PausedStateChanged):
        return Paused("it is paused", state) if event.paused else state
    return _changed(key, state, event)


def _changed(key: BalancerKey, curve: Curve, event: object) -> Curve | Unusable:
    match event:
        case BalancerSwap():
            return _moved(key, curve, ((event.token_in, event.amount_in), (event.token_out, -event.amount_out)))
        case BalancerBalanceChanged():
            # What the protocol takes has been in the pool, or is taken from what comes in.
            deltas = (delta - fee for delta, fee in zip(event.deltas, event.protocol_fees, strict=True))
            return _moved(key, curve, zip(event.tokens, deltas, strict=True))
        case BalancerBalanceManaged():
            return _moved(key, curve, ((event.token, event.cash_delta + event.managed_delta),))
        case BalancerFeeSet() if event.fee < ONE:
            return curve._replace(fee=event.fee)
        case BalancerFeeSet():
            return Unusable(f"a fee of {event.fee} is none")
        case AmplificationUpdateStarted() if isinstance(curve, StablePool):
            return Unusable("its amplification is moving: it has to be read anew when it stays")
        case AmplificationUpdateStopped() if isinstance(curve, StablePool):
            return curve._replace(amplification=event.amplification)
    return curve


def _moved(key: BalancerKey, curve: Curve, changes: Iterable[tuple[Address, int]]) -> Curve | Unusable:
    balances = list(curve.balances)
    for token, change in changes:
        if token in key.tokens:
            balances[key.tokens.index(token)] += change
        elif token != key.id[:ADDRESS_BYTES]:
            return Unusable("its vault tells of a token that it did not have")
    if not all(0 <= balance <= MOST_BALANCE for balance in balances):
        return Unusable("its vault tells of more than it can hold, or of less than nothing")
    return curve._replace(balances=tuple(balances))


async def read_balancer(
    rpc: Rpc, vaults: Sequence[BalancerVaultConfig], tokens: Iterable[Address], block: Block
) -> dict[Pool, Balancer]:
    """Return every two watched tokens of the vaults' pools that are named, as they are after `block`.

    Pools that do not answer as one of the kinds that are known, or give something else than our mathematics, are left out and
    logged. Raises DiscoveryError where a vault does not answer as one, RpcUnavailableError where the node does not.
    """
    named = [(vault, identity) for vault in vaults for identity in vault.pools]
    if not named:
        return {}
    await _require_vaults(rpc, vaults, block)
    watched = {*tokens}
    states: dict[Pool, Balancer] = {}
    for vault, identity in named:
        try:
            key, curve = await _read(rpc, vault.address, identity, block)
        except (AbiError, AmmError, RpcError, MalformedAnswerError) as error:
            log.warning("pool left out", pool=encode(identity), factory=vault.name, reason=str(error))
            continue
        states |= {
            pair_of(vault.name, key, i, j): curve
            for i, j in combinations(range(len(key.tokens)), 2)
            if key.tokens[i] in watched and key.tokens[j] in watched
        }
    return states


async def _require_vaults(rpc: Rpc, vaults: Sequence[BalancerVaultConfig], block: Block) -> None:
    answers = await call_at(rpc, block, [(vault.address, GET_PAUSED) for vault in vaults])
    for vault, answer in zip(vaults, answers, strict=True):
        try:
            paused = decode_uint(returned(answer), 0, words=3)
        except (AbiError, RpcError, MalformedAnswerError) as error:
            raise DiscoveryError(
                f"{vault.name} at {encode(vault.address)} is no Balancer vault: getPausedState answers {error}"
            ) from None
        if paused:
            log.warning("vault paused: its pools are left out", factory=vault.name, vault=encode(vault.address))


async def _read(rpc: Rpc, vault: Address, identity: Hash, block: Block) -> tuple[BalancerKey, Curve]:
    own = identity[:ADDRESS_BYTES]
    number = int.from_bytes(identity, "big")
    of_vault = [(vault, encode_call(question, number)) for question in (GET_POOL_TOKENS, GET_POOL)]
    held, at, *answers = await call_at(rpc, block, [*of_vault, *((own, question) for question in OF_POOL)])
    if address(returned(at), 0, 0) != own:
        raise AbiError("its vault has another pool under this id")
    content = returned(held)
    tokens = address_array(content, 0, 0, MOST_TOKENS + 1)
    balances = word_array(content, 0, 1, MOST_TOKENS + 1)
    if len(set(tokens)) != len(tokens) or len(tokens) != len(balances):
        raise AbiError("a token stands there twice, or not every one has a balance")
    kept = [place for place, token in enumerate(tokens) if token != own]
    key = BalancerKey(vault, identity, tuple(tokens[place] for place in kept))
    if not 2 <= len(kept) <= MOST_TOKENS or max(balances) > MOST_BALANCE:
        raise AbiError("it has fewer than two tokens, more than eight, or more of one than a vault can hold")
    said = _Said.of(answers, key, len(tokens), kept)
    decimals = await call_at(rpc, block, [(token, DECIMALS) for token in key.tokens])
    scaling = tuple(_scaling(returned(answer)) for answer in decimals)
    if said.scaling is not None and tuple(said.scaling[place] for place in kept) != scaling:
        raise AbiError("its scaling factors are not those of its tokens' decimals: it has rates")
    now = tuple(balances[place] for place in kept)
    return key, await _as_it_answers(rpc, block, key, [*_versions(said, now, scaling)])


class _Said(NamedTuple):
    """What a pool says of itself; `own` whether its LP token stands among its tokens."""

    fee: int
    weights: tuple[int, ...] | None
    amplification: int | None
    scaling: tuple[int, ...] | None
    own: bool

    @classmethod
    def of(cls, answers: Sequence[Json], key: BalancerKey, count: int, kept: Sequence[int]) -> "_Said":
        identity, fee, paused, weights, amplification, rates, scaling, moving, switch = answers
        if returned(identity) != key.id:
            raise AbiError("it says another id")
        if decode_uint(returned(paused), 0, words=3):
            raise AbiError("it is paused")
        if (taken := decode_uint(returned(fee))) >= ONE:
            raise AbiError(f"a fee of {taken} is none")
        if _answered(moving) or _answered(switch):
            raise AbiError("somebody moves its weights, or switches its swaps on and off")
        leverage = _unmoving(returned(amplification)) if _answered(amplification) else None
        parts = _words(weights, len(kept), "weights")
        if (parts is None) == (leverage is None):
            raise AbiError("it is neither a weighted nor a stable pool")
        if parts is not None and (sum(parts) != ONE or not all(parts) or count != len(kept)):
            raise AbiError("its weights are none")
        if leverage is not None and any(_words(rates, count, "rate providers") or ()):
            raise AbiError("it has rate providers, whose rates no event of its tells")
        return cls(taken, parts, leverage, _words(scaling, count, "scaling factors"), own=count != len(kept))


def _versions(said: _Said, balances: tuple[int, ...], scaling: tuple[int, ...]) -> Iterator[Curve]:
    """Yield what the pool may be, the likeliest first."""
    if said.weights is not None:
        # Those since 2022 say their scaling factors.
        newer = said.scaling is not None
        for shortcuts in (newer, not newer):
            yield WeightedPool(balances, said.weights, scaling, said.fee, shortcuts)
    if said.amplification is not None:
        likelier = (StableRounding.DOWN, StableRounding.UP) if said.own else (StableRounding.UP, StableRounding.DOWN)
        for rounding in likelier:
            yield StablePool(balances, scaling, said.amplification, said.fee, rounding)


async def _as_it_answers(rpc: Rpc, block: Block, key: BalancerKey, versions: Sequence[Curve]) -> Curve:
    """Return the version that gives what the pool gives."""
    balances = versions[0].balances
    asked = [
        (i, j, balances[i] // part)
        for i, j in permutations(range(len(key.tokens)), 2)
        for part in PROBES
        if balances[i] >= part
    ]
    if not asked:
        raise AmmError("it holds next to nothing")
    answers = await call_at(rpc, block, [(key.vault, _query(key, *each)) for each in asked])
    given = [_given(answer) for answer in answers]
    if not any(given):
        raise AmmError("it gives nothing for anything")
    for version in versions:
        if [_ours(version, *each) for each in asked] == given:
            return version
    raise AmmError("it does not give what any version of its kind would")


def _query(key: BalancerKey, i: int, j: int, amount: int) -> bytes:
    """Ask the vault what the pool would give for exactly `amount` of one token."""
    number = int.from_bytes(key.id, "big")
    heads = (0, 7 * WORD, 15 * WORD, 0, 0, 0, 0)
    swap = (1, WORD, number, 0, 1, amount, 5 * WORD, 0)
    return encode_call(QUERY, *heads, *swap, 2, key.tokens[i], key.tokens[j])


def _given(answer: Json) -> int | None:
    """Return what came out; None where the pool refuses."""
    if isinstance(answer, RpcError):
        return None
    deltas = int_array(returned(answer), 0, 0, 2)
    if len(deltas) != len(("in", "out")):
        raise AbiError("a swap has two ends")
    return -deltas[1]


def _ours(curve: Curve, i: int, j: int, amount: int) -> int | None:
    try:
        return curve.amount_out(i, j, amount)
    except AmmError:
        return None


def _answered(answer: Json) -> bool:
    return not isinstance(answer, RpcError) and bool(returned(answer))


def _words(answer: Json, count: int, what: str) -> tuple[int, ...] | None:
    """Return an array that a pool may or may not have; raises AbiError where it is of another length."""
    if not _answered(answer):
        return None
    words = word_array(returned(answer), 0, 0, MOST_TOKENS + 1)
    if len(words) != count:
        raise AbiError(f"it has {len(words)} {what} for {count} tokens")
    return words


def _unmoving(answer: bytes) -> int:
    value, moving, precision = (uint(answer, 0, position) for position in range(3))
    if moving:
        raise AbiError("its amplification is moving")
    if precision != AMPLIFICATION_PRECISION or not value:
        raise AbiError("its amplification is not in thousandths")
    return value


def _scaling(answer: bytes) -> int:
    decimals = decode_uint(answer)
    if decimals > MOST_DECIMALS:
        raise AbiError(f"a token of {decimals} decimals is not for Balancer")
    return int(10 ** (MOST_DECIMALS - decimals)) * ONE


_PAUSED_TOPIC = event_topic("PausedStateChanged(bool)")
