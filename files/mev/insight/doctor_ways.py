"""What `mev doctor` sees of those who sign and take trades elsewhere: a remote signer, private RPCs, builders, plug-ins.

They are asked which chain they are on, and a signer whose keys it holds. Nothing is signed and nothing is handed over. No answer of theirs is shown but an error's
message, in which the parts of a URL that may be a key are left out.
"""

import asyncio
from collections.abc import Iterator, Sequence

from mev.chain import wire
from mev.chain.abi import checksum
from mev.chain.errors import MalformedAnswerError, RpcError, RpcUnavailableError
from mev.chain.messages import Json
from mev.chain.relay import Relay
from mev.domain.market import Address
from mev.insight.doctor_extras import Finding
from mev.runtime.config import ChainConfig, Config, ConfigError, SecretError
from mev.runtime.config_submitters import SignerMethod, SubmitterConfig, SubmitterKind, relay_url
from mev.trading.execution.signers import RemoteSigner, signer_of
from mev.trading.execution.submitters import made
from mev.trading.execution.transaction import Signer

CHAIN = "eth_chainId"
# Clef asks its operator before it tells whose keys it holds, and nobody before it tells its version.
CLEF_VERSION = "account_version"
ACCOUNTS = "eth_accounts"


async def ways(config: Config) -> list[Finding]:
    """Ask each that is configured; changes nothing."""
    signer = await _signer(config)
    address = _address(config)
    asked = [
        _submitter(name, chain, each, address)
        for name, chain in config.chains.items()
        for each in chain.submitters
        if each.kind is not SubmitterKind.PUBLIC
    ]
    return [*signer, *await asyncio.gather(*asked)]


async def _signer(config: Config) -> list[Finding]:
    if config.signer is None or config.signer.url is None:
        return []
    check = "remote signer"
    try:
        signer = signer_of(config.signer)
    except (SecretError, ConfigError) as error:
        return [Finding(check=check, well=False, seen=str(error))]
    if not isinstance(signer, RemoteSigner):
        return []
    try:
        async with asyncio.timeout(config.signer.timeout_seconds), signer:
            if config.signer.method is SignerMethod.CLEF:
                await signer.ask(CLEF_VERSION, [])
                seen = "Clef answers; whose keys it holds it tells only where its operator says so, and is not asked"
                return [Finding(check=check, well=True, seen=seen)]
            held = _held(await signer.ask(ACCOUNTS, []))
            chain = await _chain_of(signer)
    except TimeoutError:
        return [Finding(check=check, well=False, seen=f"no answer within {config.signer.timeout_seconds:g} s")]
    except (RpcError, RpcUnavailableError) as error:
        return [Finding(check=check, well=False, seen=str(error))]
    wanted = {each.id for each in config.chains.values()}
    if signer.address not in held:
        seen = f"it answers and does not hold the key of {checksum(signer.address)} (signer.address), but of {len(held)} others"
        return [Finding(check=check, well=False, seen=seen)]
    if chain is not None and chain not in wanted:
        seen = f"it says that it is on chain {chain}; configured are {', '.join(map(str, sorted(wanted)))}"
        return [Finding(check=check, well=False, seen=seen)]
    where = "it does not say on which chain" if chain is None else f"on chain {chain}"
    return [Finding(check=check, well=True, seen=f"it holds the key of {checksum(signer.address)}, {where}")]


async def _submitter(chain: str, config: ChainConfig, each: SubmitterConfig, signer: Address | None) -> Finding:
    check = f"submitter {each.name} of {chain}"
    try:
        # Reads its secrets, which nobody else may be able to, and imports a plug-in.
        submitter = made(chain, config, each, signer)
        await submitter.close()
        relay = (
            None if each.url is None else Relay(each.name, relay_url(each.url), timeout_seconds=each.timeout_seconds)
        )
    except (SecretError, ConfigError) as error:
        return Finding(check=check, well=False, seen=str(error))
    if relay is None:
        return Finding(check=check, well=True, seen=f"{each.plugin} makes one; it has no url that could be asked")
    try:
        told = wire.quantity(await relay.ask(CHAIN, []))
    except MalformedAnswerError as error:
        return Finding(check=check, well=False, seen=str(error))
    except RpcError as refusal:
        seen = f"its secrets are there, and it answers; it does not say on which chain ({refusal})"
        return Finding(check=check, well=True, seen=seen)
    except RpcUnavailableError as error:
        return Finding(check=check, well=False, seen=str(error))
    finally:
        await relay.close()
    seen = f"its secrets are there, and it answers, on chain {told}"
    if told != config.id:
        return Finding(check=check, well=False, seen=f"{seen}; {config.id} is configured")
    return Finding(check=check, well=True, seen=seen)


async def _chain_of(signer: RemoteSigner) -> int | None:
    """Ask a signer for its chain; None where it does not tell."""
    try:
        return wire.quantity(await signer.ask(CHAIN, []))
    except RpcError:
        return None


def _held(answer: Json) -> frozenset[Address]:
    return frozenset(_addresses(answer if isinstance(answer, list) else [answer]))


def _addresses(answers: Sequence[Json]) -> Iterator[Address]:
    for answer in answers:
        address = wire.data(answer)
        if len(address) != wire.ADDRESS_BYTES:
            raise MalformedAnswerError("it names accounts that are no addresses")
        yield address


def _address(config: Config) -> Address | None:
    """Whose transactions a builder's identity must not be; None where nobody signs, or it is said elsewhere that its key cannot be read."""
    if config.signer is None:
        return None
    try:
        signer: Signer | RemoteSigner = signer_of(config.signer)
    except (SecretError, ConfigError):
        return None
    return signer.address
