"""Places that take a signed trade and show it to nobody: private RPCs, block builders, and what a plug-in knows.

    submitters = [{ name = "own", kind = "plugin", plugin = "my_submitters.own:make", settings = { lane = "7" } }]     # in mev.toml

FUNCTION takes a Place and returns a Submitter. It is the operator's own code and runs in the engine: nothing confines it.
"""

import importlib
import uuid
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from mev.chain import wire
from mev.chain.relay import Relay
from mev.domain.market import Address, Hash
from mev.runtime.config import ChainConfig, ConfigError
from mev.runtime.config_submitters import PrivateMethod, SubmitterConfig, SubmitterKind, relay_url
from mev.runtime.secret import SecretError, signing_key
from mev.trading.execution.identity import Identity

# Of random ids that are made from something: any fixed one will do (RFC 4122).
_UUIDS = uuid.UUID("6d657620-6275-6e64-6c65-732076310000")


class Handed(msgspec.Struct, frozen=True, kw_only=True):
    """A signed transaction to hand over, and the last block that may hold it; a bundle is for this block alone."""

    raw: bytes
    hash: Hash
    last_block: int


class Submitter(Protocol):
    """Hands signed transactions to one place."""

    async def send(self, handed: Handed) -> None:
        """Hand one over, once, and return when the place has taken it.

        Raises RpcError where the place refuses it; RpcNotSentError where it is known that nothing has left; RpcUnavailableError where the place
        may have it all the same. Anything else counts as the last one.
        """

    async def close(self) -> None:
        """Close connections; another `send` opens new ones."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What a submitter is made of; `relay` is there where a URL is configured, and speaks to it."""

    chain: str
    chain_id: int
    name: str
    relay: Relay | None
    identity: Identity | None
    settings: Mapping[str, str]


Factory = Callable[[Place], Submitter]


class PrivateRpc:
    """A node or relay that keeps what it is sent to itself."""

    def __init__(self, relay: Relay, method: PrivateMethod) -> None:
        self._relay = relay
        self._method = method

    async def send(self, handed: Handed) -> None:
        """Ask it by the method that was configured; with eth_sendPrivateTransaction it is told until which block."""
        params: list[object] = [wire.encode(handed.raw)]
        if self._method is PrivateMethod.PRIVATE:
            params = [{"tx": wire.encode(handed.raw), "maxBlockNumber": hex(handed.last_block)}]
        await self._relay.ask(self._method, params)

    async def close(self) -> None:
        """Close its connections."""
        await self._relay.close()


class Builder:
    """A block builder, who is sent bundles of one transaction (eth_sendBundle)."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    async def send(self, handed: Handed) -> None:
        """Send it for its one block; a builder leaves out a bundle whose transaction would revert."""
        bundle = {
            "txs": [wire.encode(handed.raw)],
            "blockNumber": hex(handed.last_block),
            # The same bundle sent again, after a crash, takes its own place.
            "replacementUuid": str(uuid.uuid5(_UUIDS, handed.hash.hex())),
        }
        await self._relay.ask("eth_sendBundle", [bundle])

    async def close(self) -> None:
        """Close its connections."""
        await self._relay.close()


def made(chain: str, config: ChainConfig, each: SubmitterConfig, signer: Address | None = None) -> Submitter:
    """Return what a configuration describes; `signer` signs the transactions. Raises ConfigError, SecretError."""
    identity = None if each.identity is None else _identity(each.identity)
    relay = None
    if each.url is not None:
        headers = (lambda _: {}) if identity is None or each.kind is SubmitterKind.PLUGIN else identity.headers
        relay = Relay(each.name, relay_url(each.url), timeout_seconds=each.timeout_seconds, headers=headers)
    where = f"chains.{chain}.submitters: {each.name}"
    if each.kind is SubmitterKind.BUNDLES and identity is not None and identity.address == signer:
        # What it signs goes to strangers with each bundle; the key that holds the money signs transactions alone.
        raise ConfigError(f"{where}: its identity is the signer's own key; allowed: a key that holds nothing")
    if each.plugin is not None:
        place = Place(
            chain=chain,
            chain_id=config.id,
            name=each.name,
            relay=relay,
            identity=identity,
            settings=each.settings,
        )
        try:
            return _load(each.plugin)(place)
        except Exception as error:
            # Whatever it raises, what is told of it names the place in the configuration.
            raise ConfigError(f"{where}: {each.plugin} made no submitter: {error or type(error).__name__}") from error
    if relay is None:
        raise ConfigError(f"{where} has no url")
    return Builder(relay) if each.kind is SubmitterKind.BUNDLES else PrivateRpc(relay, each.method)


def _identity(reference: str) -> Identity:
    try:
        return Identity(signing_key(reference))
    except ValueError as error:
        raise SecretError(f"{reference} holds no identity's key: {error}") from None


def _load(reference: str) -> Factory:
    module, _, name = reference.partition(":")
    try:
        found: Factory = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"it cannot be imported: {error}") from None
    return found
