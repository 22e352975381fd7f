"""The executor contract seen from outside: where it stands, how it is deployed, how it is called."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

import msgspec

from mev.chain.abi import encode_call, keccak256, selector
from mev.domain.market import Address, Pool
from mev.domain.opportunity import Cycle, Flash, Seizure
from mev.market.curve_state import coins

# The canonical deterministic deployment proxy: the same address on every chain, called with salt ++ init code.
CREATE2_DEPLOYER: Address = bytes.fromhex("4e59b44847b379578588920ca78fbf26c0b4956c")
SALT = b"mev executor".ljust(32, b"\0")

_ARGUMENTS = "(uint256,uint256,uint256,(address,address,bool,uint256,uint256,uint256)[])"
EXECUTE = selector(f"execute{_ARGUMENTS}")
EXECUTE_FLASH = selector(f"execute_flash{_ARGUMENTS}")
WITHDRAW = selector("withdraw(address,uint256)")
# Where in execute()'s arguments its one dynamic one begins: behind four words.
WORD_BYTES = 32
HOPS_OFFSET = 4 * WORD_BYTES
# What stands in a fee_denominator's place marks a V4 pool; its fee, above that its spacing, and whether it is the native coin's, stand in the numerator's.
V4_MARK = 1 << 128
V4_SPACING_SHIFT = 24
V4_NATIVE_SHIFT = 48
# What stands there of a Balancer pool, whose id stands in the numerator's.
BALANCER_MARK = 1 << 129
# What stands there of a Curve pool; the numbers of the coins that go in and come out stand in the numerator's.
CURVE_MARK = 1 << 130
CURVE_OUT_SHIFT = 8


class ExecutorMissingError(Exception):
    """The package was installed from a checkout in which the contract was never compiled."""


class Artefact(msgspec.Struct, frozen=True):
    """What the build wrote: the compiled contract and where it came from."""

    abi: list[dict[str, Any]]
    bytecode: str
    source_sha256: str
    compiler: str


@cache
def artefact() -> Artefact:
    """Read the compiled contract from the package."""
    file = resources.files(__package__) / "executor.json"
    try:
        return msgspec.json.decode(file.read_bytes(), type=Artefact)
    except FileNotFoundError:
        raise ExecutorMissingError(
            f"{file} is not there: `make venv` compiles it in a checkout, a wheel carries it"
        ) from None


def init_code(owner: Address) -> bytes:
    """Bytecode followed by its constructor's argument."""
    return bytes.fromhex(artefact().bytecode.removeprefix("0x")) + encode_call(b"", owner)


def address(owner: Address) -> Address:
    """Where this owner's executor stands on every chain (EIP-1014)."""
    return keccak256(b"\xff" + CREATE2_DEPLOYER + SALT + keccak256(init_code(owner)))[12:]


def encode_deployment(owner: Address) -> bytes:
    """Calldata for CREATE2_DEPLOYER."""
    return SALT + init_code(owner)


def encode_execute(
    cycle: Cycle,
    pools: Mapping[Address, Pool],
    amount_in: int,
    min_profit: int,
    deadline_block: int,
    seizure: Seizure | None = None,
    flash: Flash | None = None,
    parts: Sequence[int] = (),
) -> bytes:
    """Calldata of execute(): amounts in base units of the cycle's token; a deadline of 0 is none.

    A V3 pool knows its own fee: it is marked by one of 0/0. A Solidly pair, of which 0/1 takes part, says itself what it gives. A V4 pool's step names its manager and its key, a Balancer pool's its vault and its id, a Curve pool's its coins' numbers. A liquidation is one of BORROWER/0.
    With `flash` it is that of execute_flash(): the first step is paid last, and a loan of a V3 pool is one of LENT/0. `parts` has for each
    hop what it takes of what is held where the next one takes of it too, base units of its token; 0 is all that is left.
    """
    steps: list[list[int | Address]] = []
    for hop, part in zip(cycle.hops, parts or (0,) * len(cycle.hops), strict=True):
        pool = pools[hop.pool]
        token_in = pool.token0 if hop.zero_for_one else pool.token1
        venue = hop.pool
        fee = (0, 0) if pool.concentrated else (pool.fee_numerator, pool.fee_denominator)
        if pool.v4 is not None:
            venue = pool.v4.manager
            own = pool.fee_denominator - pool.fee_numerator
            key = own | pool.tick_spacing << V4_SPACING_SHIFT | pool.v4.native << V4_NATIVE_SHIFT
            fee = (key, V4_MARK)
        elif pool.balancer is not None:
            venue = pool.balancer.vault
            fee = (int.from_bytes(pool.balancer.id, "big"), BALANCER_MARK)
        elif pool.curve is not None:
            venue = pool.curve.pool
            i, j = coins(pool, zero_for_one=hop.zero_for_one)
            fee = (i | j << CURVE_OUT_SHIFT, CURVE_MARK)
        steps.append([venue, token_in, int(hop.zero_for_one), *fee, part])
    if seizure is not None:
        borrower = int.from_bytes(seizure.borrower, "big")
        steps.insert(seizure.after, [seizure.pool, seizure.debt, int(seizure.absorbs), borrower, 0, 0])
    if flash is not None and flash.lent:
        lender = pools[flash.pool]
        fee = (flash.lent, 0) if lender.concentrated else (lender.fee_numerator, lender.fee_denominator)
        steps.insert(0, [lender.address, cycle.token, int(lender.token1 == cycle.token), *fee, 0])
    words = [word for step in steps for word in step]
    function = EXECUTE if flash is None else EXECUTE_FLASH
    return encode_call(function, amount_in, min_profit, deadline_block, HOPS_OFFSET, len(steps), *words)


def with_min_profit(data: bytes, min_profit: int) -> bytes:
    """Return calldata of execute() or execute_flash() that asks for another minimum; raises ValueError where it is a call of something else."""
    if data[: len(EXECUTE)] not in (EXECUTE, EXECUTE_FLASH):
        raise ValueError(f"0x{data[:4].hex()} is no call of execute()")
    start = len(EXECUTE) + WORD_BYTES
    return data[:start] + min_profit.to_bytes(WORD_BYTES, "big") + data[start + WORD_BYTES :]


def encode_withdraw(token: Address, amount: int) -> bytes:
    """Calldata of withdraw(): `amount` base units of `token` to the owner."""
    return encode_call(WITHDRAW, token, amount)
