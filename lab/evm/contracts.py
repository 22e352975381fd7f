"""Contracts by their published bytecode: creation code, call data, and the addresses they will have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

if TYPE_CHECKING:
    from lab.evm.npm import Modules

# Where each contract's compiler output lies below node_modules.
ARTEFACTS = {
    "WETH9": "@uniswap/v2-periphery/build/WETH9.json",
    # An OpenZeppelin ERC-20 with EIP-2612 permit whose decimals are a constructor argument and which anybody may mint.
    "MintableERC20": "@aave/core-v3/artifacts/contracts/mocks/tokens/MintableERC20.sol/MintableERC20.json",
    "UniswapV2Factory": "@uniswap/v2-core/build/UniswapV2Factory.json",
    "UniswapV2Pair": "@uniswap/v2-core/build/UniswapV2Pair.json",
    "UniswapV2Router02": "@uniswap/v2-periphery/build/UniswapV2Router02.json",
    "UniswapV3Factory": "@uniswap/v3-core/artifacts/contracts/UniswapV3Factory.sol/UniswapV3Factory.json",
    "UniswapV3Pool": "@uniswap/v3-core/artifacts/contracts/UniswapV3Pool.sol/UniswapV3Pool.json",
    "NonfungiblePositionManager": (
        "@uniswap/v3-periphery/artifacts/contracts/NonfungiblePositionManager.sol/NonfungiblePositionManager.json"
    ),
    "SwapRouter": "@uniswap/v3-periphery/artifacts/contracts/SwapRouter.sol/SwapRouter.json",
}

ZERO_ADDRESS = "0x" + 40 * "0"

# The last nonce that is one byte in RLP; the seed's deployer never gets there.
_LAST_SHORT_NONCE = 0x7F


def bytecode(modules: Modules, name: str) -> bytes:
    """Return the creation code of contract `name`, without constructor arguments."""
    code: str = modules.artefact(ARTEFACTS[name])["bytecode"]
    return bytes.fromhex(code.removeprefix("0x"))


def call_data(signature: str, *arguments: object) -> bytes:
    """Return the data of a call of `signature`, such as transfer(address,uint256)."""
    types = _split(signature[signature.index("(") + 1 : -1])
    return keccak(text=signature)[:4] + encode(types, arguments)


def create_address(sender: str, nonce: int) -> str:
    """Return where CREATE puts what `sender` deploys with `nonce`: keccak256(rlp([sender, nonce]))."""
    if not 0 <= nonce <= _LAST_SHORT_NONCE:
        raise ValueError(f"nonce {nonce} is not between 0 and {_LAST_SHORT_NONCE}")
    body = b"\x94" + bytes.fromhex(sender[2:]) + (bytes([nonce]) if nonce else b"\x80")
    return to_checksum_address(keccak(bytes([0xC0 + len(body)]) + body)[12:])


def create2_address(sender: str, salt: bytes, code_hash: bytes) -> str:
    """Return where CREATE2 puts a contract (EIP-1014)."""
    return to_checksum_address(keccak(b"\xff" + bytes.fromhex(sender[2:]) + salt + code_hash)[12:])


def v2_pair_address(factory: str, token0: str, token1: str, code_hash: bytes) -> str:
    """Return where a Uniswap V2 factory puts the pair of two tokens, token0 being the lower address."""
    return create2_address(factory, keccak(bytes.fromhex(token0[2:] + token1[2:])), code_hash)


def v3_pool_address(factory: str, token0: str, token1: str, fee: int, code_hash: bytes) -> str:
    """Return where a Uniswap V3 factory puts the pool of two tokens with `fee` (millionths)."""
    salt = keccak(encode(["address", "address", "uint24"], [token0, token1, fee]))
    return create2_address(factory, salt, code_hash)


def _split(types: str) -> list[str]:
    """Split a list of ABI types at the commas that stand outside any tuple."""
    parts, depth, start = [], 0, 0
    for position, character in enumerate(types):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append(types[start:position])
            start = position + 1
    return [*parts, types[start:]] if types else []
