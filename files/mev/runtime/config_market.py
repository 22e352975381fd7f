"""What of a chain's market an agent is told: tokens, the contracts that make pools, routers, lending markets."""

import re
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from mev.domain import Token
from mev.runtime.address import parse_address

_POOL_ID = re.compile(r"0x[0-9a-fA-F]{64}")


class EvmAddress(bytes):
    """What addresses are declared as here; equal to the plain 20 bytes."""

    __slots__ = ()


class PoolId(bytes):
    """What the ids of a vault's pools are declared as here; equal to the plain 32 bytes, of which the first 20 are the pool's address."""

    __slots__ = ()


PathValue = Annotated[Path, Meta(description="an absolute path")]
AddressValue = Annotated[
    EvmAddress,
    Meta(description="0x and 40 hex digits, not all zero, with a valid EIP-55 checksum where their case is mixed"),
]
_FeePart = Annotated[
    int, Meta(ge=1, le=10**6, description="a whole number from 1 to 1000000, numerator <= denominator")
]
# At least one millionth stays, and a factory knows a handful.
_Fees = Annotated[
    tuple[int, ...],
    Meta(min_length=1, max_length=16, description="1 to 16 fees in millionths, each from 1 to 999999, each once"),
]
NameValue = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}$", description="1 to 32 of a-z, 0-9, _ and -")]


class TokenConfig(Token, frozen=True):
    """A token that may be traded."""

    address: AddressValue
    symbol: Annotated[
        str, Meta(pattern=r"^[!-~]{1,32}$", description="1 to 32 printable ASCII characters without space")
    ]
    decimals: Annotated[int, Meta(ge=0, le=36, description="a whole number from 0 to 36")]


class FactoryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A V2 factory; of what its pools are paid, fee_numerator / fee_denominator takes part in the swap."""

    name: NameValue
    address: AddressValue
    fee_numerator: _FeePart
    fee_denominator: _FeePart


class V3FactoryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A Uniswap V3 factory, or one of a fork that kept its pools and events; `fees` are those whose pools are watched, millionths."""

    name: NameValue
    address: AddressValue
    fees: _Fees = (100, 500, 3000, 10000)


class SolidlyFactoryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A Solidly factory as Velodrome V2's and Aerodrome's are; its pools' fees are its own to say."""

    name: NameValue
    address: AddressValue


class AlgebraFactoryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """An Algebra factory; its pools' fees are theirs and their plugins' to say."""

    name: NameValue
    address: AddressValue


class V4PoolConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of Uniswap V4 pools: their fee in millionths, and their ticks' spacing."""

    fee: Annotated[int, Meta(ge=0, lt=10**6, description="a fee in millionths, from 0 to 999999")]
    tick_spacing: Annotated[int, Meta(ge=1, lt=2**15, description="a whole number from 1 to 32767")]


class V4ManagerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A Uniswap V4 PoolManager, and which of its pools are watched: those without hooks of these kinds."""

    name: NameValue
    address: AddressValue
    pools: Annotated[tuple[V4PoolConfig, ...], Meta(min_length=1, max_length=16, description="1 to 16 kinds")] = tuple(
        V4PoolConfig(fee=fee, tick_spacing=spacing) for fee, spacing in ((100, 1), (500, 10), (3000, 60), (10000, 200))
    )


class BalancerVaultConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A Balancer V2 vault, and which of its pools are watched, by their ids: weighted and stable ones."""

    name: NameValue
    address: AddressValue
    pools: Annotated[
        tuple[Annotated[PoolId, Meta(description="a pool's id: 0x and 64 hexadecimal digits")], ...],
        Meta(
            min_length=1, max_length=256, description="a list of 1 to 256 pools' ids, each 0x and 64 hexadecimal digits"
        ),
    ]


class CurvePoolConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A StableSwap pool of Curve's, plain or meta, that is watched."""

    name: NameValue
    address: AddressValue


class RouterConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A router that does not say itself whose pools it swaps through: a V2, a V3, a Solidly and an Algebra factory's and a V4 manager's, or some of these, by their names."""

    address: AddressValue
    factories: Annotated[
        tuple[NameValue, ...], Meta(min_length=1, max_length=5, description="1 to 5 names of factories")
    ]


class DiscoveryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens beside the configured ones: where what factories' events say is kept, from which block on they are read, and how many are examined."""

    directory: PathValue
    first_block: Annotated[int, Meta(ge=0, le=2**53, description="a block's number, 0 or more")] = 0
    max_tokens: Annotated[int, Meta(ge=1, le=10_000, description="a whole number from 1 to 10000")] = 100


class LendingConfig(msgspec.Struct, frozen=True, kw_only=True):
    """An Aave V3 market of version 3.5 or later, or a Compound V3 market: its pool or Comet, and the block from which on its events are read."""

    name: NameValue
    pool: AddressValue
    first_block: Annotated[int, Meta(ge=0, le=2**53, description="a block's number, 0 or more")] = 0


def parse_evm_address(text: str) -> EvmAddress:
    """Read an address that is somebody's; raises ValueError."""
    address = parse_address(text)
    if not any(address):
        raise ValueError("the zero address is nobody's")
    return EvmAddress(address)


def parse_pool_id(text: str) -> PoolId:
    """Read a pool's id; raises ValueError."""
    if _POOL_ID.fullmatch(text) is None:
        raise ValueError("it is not 0x and 64 hexadecimal digits")
    if not any(identity := bytes.fromhex(text[2:])):
        raise ValueError("it is zero, which is no pool's")
    return PoolId(identity)
