"""Packed paths of concentrated pools: token, what chooses the pool, token, …; without choice where a factory has one pool a pair (Algebra)."""

from mev.chain.abi.words import AbiError
from mev.domain.calls import RouterHop, Venue

MAX_HOPS = 16

_ADDRESS = 20
_STEP = 23


def packed_path(path: bytes, *, backwards: bool = False) -> tuple[RouterHop, ...]:
    """Read a path in the direction of the swap; one for an exact output is written from its end.

    A path of 20 n bytes that could be either is taken with fees: that many hops (20) no path has. One of addresses alone whose every second one is zero
    names Algebra Integral's own pools: the zero address, no token, is their deployer. A path that names other deployers cannot be told from one of tokens.
    """
    tail = len(path) - _ADDRESS
    if tail > 0 and tail % _STEP == 0:
        step = _STEP
    elif tail > 0 and tail % _ADDRESS == 0:
        step = _ADDRESS
    else:
        raise AbiError(f"{len(path)} bytes are no path")
    if step == _ADDRESS:
        path = _without_deployers(path)
    count = (len(path) - _ADDRESS) // step
    if count > MAX_HOPS:
        raise AbiError(f"{count} hops are more than {MAX_HOPS}")
    hops = []
    for start in range(0, count * step, step):
        one, other = path[start : start + _ADDRESS], path[start + step : start + step + _ADDRESS]
        ends = (other, one) if backwards else (one, other)
        if step == _ADDRESS:
            hops.append(RouterHop(Venue.ALGEBRA, *ends))
        else:
            hops.append(RouterHop(Venue.V3, *ends, int.from_bytes(path[start + _ADDRESS : start + _STEP], "big")))
    return tuple(reversed(hops)) if backwards else tuple(hops)


def _without_deployers(path: bytes) -> bytes:
    """Leave tokens alone in a path; raises AbiError where a token is the zero address."""
    each = [path[start : start + _ADDRESS] for start in range(0, len(path), _ADDRESS)]
    if len(each) % 2 and not any(map(any, each[1::2])):
        each = each[::2]
    if not all(map(any, each)):
        raise AbiError("a path goes through the zero address")
    return b"".join(each)
