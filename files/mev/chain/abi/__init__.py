"""The ABI's layouts that the engine reads and writes: single words here by name, events in `logs`, routers' calldata in `routers`."""

from mev.chain.abi.words import (
    PAIR_CREATED,
    SYNC,
    WORD_BYTES,
    AbiError,
    AddressError,
    Reserves,
    checksum,
    decode_address,
    decode_reserves,
    decode_sync,
    decode_uint,
    encode_call,
    event_topic,
    keccak256,
    parse_address,
    selector,
)

__all__ = [
    "PAIR_CREATED",
    "SYNC",
    "WORD_BYTES",
    "AbiError",
    "AddressError",
    "Reserves",
    "checksum",
    "decode_address",
    "decode_reserves",
    "decode_sync",
    "decode_uint",
    "encode_call",
    "event_topic",
    "keccak256",
    "parse_address",
    "selector",
]
