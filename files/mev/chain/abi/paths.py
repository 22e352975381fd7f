"""Packed paths of concentrated pools: token, what chooses the pool, token, …; without choice where a factory has one pool a pair (Algebra)."""

from mev.chain.abi.words import AbiError
from mev.domain.calls import RouterHop, Venue

MAX_HOPS = 16

_ADDRESS = 20
_STEP = 23


def packed_path(path: bytes, *, backwards: bool = False) -> tuple[RouterHop, ...]:
    """Read a path in the direction of the swap; one for an exact output is written from its end.

    A path of 20 n bytes that could be either is taken with fees: that many hops (20) no path has.
    """
    tail = len(path) - _ADDRESS
    if tail > 0 and tail % _STEP == 0:
        step = _STEP
    elif tail > 0 and tail % _ADDRESS == 0:
        step = _ADDRESS
    else:
        raise AbiError(f"{len(path)} bytes are no path")
    count = tail // step
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
