"""What is wrong with a configuration whose every value is right by itself."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mev.runtime.config_shared import Problem, is_own, shared_problems
from mev.runtime.config_submitters import submitter_problems

if TYPE_CHECKING:
    from mev.runtime.config import ChainConfig, Config

# With `ws`, what mev.chain.rpc takes.
MAX_MORE_END_POINTS = 15
MOST_FEE = 10**6
_END_POINT_SCHEMES = frozenset({"ws", "wss", "http", "https", "ipc"})
_CHAIN_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")


def problems(config: "Config", strategies: set[str]) -> Iterable[Problem]:
    """Yield what no single value shows; `strategies` are those that there are."""
    if not config.chains:
        yield "chains", "has no chain; allowed: one table [chains.NAME] or more"
    if config.mode == "live" and config.signer is None:
        yield (
            "signer",
            'is missing and mode is live; allowed: [signer] with key = "credential:NAME", or mode observe or paper',
        )
    if config.signer is not None:
        if (config.signer.key is None) == (config.signer.url is None):
            yield "signer", "has both key and url, or neither; allowed: one of them"
        if (config.signer.address is None) != (config.signer.url is None):
            yield "signer", "has address without url, or url without address; allowed: both"
    yield from shared_problems(config.storage, config.bus, config.control)
    yield from _repeated((f"chains.{name}.id", str(chain.id), name) for name, chain in config.chains.items())
    symbols = {token.symbol for chain in config.chains.values() for token in chain.tokens}
    for where, risk in (
        ("risk", config.common_risk),
        *((f"chains.{n}.risk", c.risk) for n, c in config.chains.items()),
    ):
        yield from _unknown(f"{where}.tokens", risk.tokens, symbols, "symbols of tokens in the configuration")
        # What a plug-in calls its strategy, only it knows.
        if not config.strategy_plugins:
            yield from _unknown(f"{where}.strategies", risk.strategies, strategies, "strategies that there are")
    for name, chain in config.chains.items():
        where = f"chains.{name}"
        if _CHAIN_NAME.fullmatch(name) is None:
            yield where, "is no chain's name; allowed: 1 to 32 of a-z, 0-9, _ and -"
        if urlsplit(chain.ws).scheme not in {"ws", "wss"}:
            yield f"{where}.ws", "is no WebSocket URL; allowed: a ws:// or wss:// URL"
        yield from _end_point_problems(f"{where}.more_end_points", chain)
        if chain.http is not None and urlsplit(chain.http).scheme not in {"http", "https"}:
            yield f"{where}.http", "is no HTTP URL; allowed: an http:// or https:// URL"
        yield from _feed_problems(f"{where}.sequencer_feed", chain)
        yield from _market_problems(where, chain)
        yield from submitter_problems(f"{where}.submitters", chain.submitters)


def _feed_problems(where: str, chain: "ChainConfig") -> Iterable[Problem]:
    if chain.sequencer_feed is None:
        return
    feed = urlsplit(chain.sequencer_feed)
    # Nothing in a feed is signed that is verified: on its way nobody may change it.
    if feed.scheme != "wss" and not (feed.scheme == "ws" and is_own(feed.hostname or "")):
        yield where, "is no feed; allowed: wss://HOST, or ws:// with localhost, a loopback, private or VPN address"


def _market_problems(where: str, chain: "ChainConfig") -> Iterable[Problem]:
    tokens, factories = f"{where}.tokens", f"{where}.v2_factories"
    yield from _repeated(
        (f"{tokens}[{number}].address", f"0x{token.address.hex()}", token.symbol)
        for number, token in enumerate(chain.tokens)
    )
    # A pool is told by its factory's name, of whichever version that is.
    v3_makers = [(f"{where}.v3_factories[{number}]", made) for number, made in enumerate(chain.v3_factories)]
    makers = [
        *((f"{factories}[{number}]", made.name, made.address) for number, made in enumerate(chain.v2_factories)),
        *((place, made.name, made.address) for place, made in v3_makers),
        *(
            (f"{where}.solidly_factories[{number}]", made.name, made.address)
            for number, made in enumerate(chain.solidly_factories)
        ),
        *(
            (f"{where}.algebra_factories[{number}]", made.name, made.address)
            for number, made in enumerate(chain.algebra_factories)
        ),
        *((f"{where}.v4_managers[{number}]", made.name, made.address) for number, made in enumerate(chain.v4_managers)),
        *(
            (f"{where}.balancer_vaults[{number}]", made.name, made.address)
            for number, made in enumerate(chain.balancer_vaults)
        ),
        *((f"{where}.curve_pools[{number}]", made.name, made.address) for number, made in enumerate(chain.curve_pools)),
    ]
    yield from _repeated((f"{place}.name", name, f"0x{address.hex()}") for place, name, address in makers)
    yield from _repeated((f"{place}.address", f"0x{address.hex()}", name) for place, name, address in makers)
    yield from _repeated(
        (f"{where}.balancer_vaults[{number}].pools[{position}]", f"0x{identity.hex()}", vault.name)
        for number, vault in enumerate(chain.balancer_vaults)
        for position, identity in enumerate(vault.pools)
    )
    lending = [
        (f"{where}.{kind}[{number}]", market.name, f"0x{market.pool.hex()}")
        for kind, markets in (("aave_v3", chain.aave_v3), ("compound_v3", chain.compound_v3))
        for number, market in enumerate(markets)
    ]
    # What is measured of a market is told by its name.
    yield from _repeated((f"{place}.name", name, pool) for place, name, pool in lending)
    yield from _repeated((f"{place}.pool", pool, name) for place, name, pool in lending)
    yield from _router_problems(f"{where}.routers", chain)
    for place, maker in v3_makers:
        for number, fee in enumerate(maker.fees):
            if not 0 < fee < MOST_FEE:
                yield f"{place}.fees[{number}]", f"is {fee}; allowed: from 1 to {MOST_FEE - 1} millionths"
            if fee in maker.fees[:number]:
                yield f"{place}.fees[{number}]", f"is {fee}, which stands there twice; allowed: each once"
    for number, manager in enumerate(chain.v4_managers):
        for position, kind in enumerate(manager.pools):
            if kind in manager.pools[:position]:
                yield f"{where}.v4_managers[{number}].pools[{position}]", "stands there twice; allowed: each once"
    for number, made in enumerate(chain.v2_factories):
        if made.fee_numerator > made.fee_denominator:
            yield (
                f"{factories}[{number}].fee_numerator",
                f"is {made.fee_numerator}; allowed: at most the fee_denominator, {made.fee_denominator}",
            )


def _router_problems(where: str, chain: "ChainConfig") -> Iterable[Problem]:
    kinds = {made.name: "V2" for made in chain.v2_factories} | {made.name: "V3" for made in chain.v3_factories}
    kinds |= {made.name: "Solidly" for made in chain.solidly_factories}
    kinds |= {made.name: "Algebra" for made in chain.algebra_factories}
    kinds |= {made.name: "V4" for made in chain.v4_managers}
    yield from _repeated(
        (f"{where}[{number}].address", f"0x{router.address.hex()}", ", ".join(router.factories))
        for number, router in enumerate(chain.routers)
    )
    for number, router in enumerate(chain.routers):
        place = f"{where}[{number}].factories"
        unknown = [name for name in router.factories if name not in kinds]
        if unknown:
            yield place, f"names {unknown[0]}; allowed: {', '.join(sorted(kinds))} (the chain's factories)"
        elif len({kinds[name] for name in router.factories}) < len(router.factories):
            yield (
                place,
                f"names {' and '.join(router.factories)}; allowed: one factory of a kind (V2, V3, Solidly, Algebra, V4) at most",
            )


def _unknown(where: str, names: Iterable[str], known: set[str], what: str) -> Iterable[Problem]:
    for name in names:
        if name not in known:
            yield f"{where}.{name}", f"is not known; allowed: {', '.join(sorted(known))} ({what})"


def _end_point_problems(where: str, chain: "ChainConfig") -> Iterable[Problem]:
    if len(chain.more_end_points) > MAX_MORE_END_POINTS:
        yield where, f"has {len(chain.more_end_points)}; allowed: at most {MAX_MORE_END_POINTS}"
    for number, url in enumerate(chain.more_end_points):
        if urlsplit(url).scheme not in _END_POINT_SCHEMES:
            yield (
                f"{where}[{number}]",
                "is no end point; allowed: a ws://, wss://, http:// or https:// URL, or ipc:///absolute/path",
            )
        # Not the URL itself: it may hold a key.
        if url in chain.end_points[: number + 1]:
            yield f"{where}[{number}]", "stands there twice; allowed: each once"


def _repeated(values: Iterable[tuple[str, str, str]]) -> Iterable[Problem]:
    """Take each value's key, itself and whose it is."""
    seen: dict[str, str] = {}
    for where, value, owner in values:
        if value in seen:
            yield where, f"is {value}, that of both {seen[value]} and {owner}; allowed: each once"
        seen[value] = owner
