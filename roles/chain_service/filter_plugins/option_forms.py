"""Options of the clients that have a form: what an operator sets is held against it before a client stumbles over it.

A client role says which of its options has which form, {form: [option]}; what is not set (empty, or nothing) is left to the client.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

PORTS = range(1, 65536)
UNITS = "b, kb, mb, gb or tb"


class Form(NamedTuple):
    """What a value, or each item of a list, has to be."""

    holds: Callable[[str], bool]
    allowed: str
    is_list: bool = False


def _pattern(text: str) -> Callable[[str], bool]:
    return lambda value: re.fullmatch(text, value, re.ASCII) is not None


def _number(low: int, high: int) -> Callable[[str], bool]:
    return lambda value: re.fullmatch(r"-?\d{1,20}", value, re.ASCII) is not None and low <= int(value) <= high


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _is_place(text: str, schemes: Sequence[str]) -> bool:
    """Say whether a URL has one of the schemes, a host and a port that can be."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in schemes and bool(parts.hostname) and not re.search(r"[\s,]", text) and port != 0


def _is_enode(text: str) -> bool:
    key, _, rest = text.removeprefix("enode://").partition("@")
    if not text.startswith("enode://") or not re.fullmatch(r"[0-9a-fA-F]{128}", key, re.ASCII):
        return False
    return bool(re.search(r":\d+(\?discport=\d{1,5})?$", rest)) and _is_place(f"enode://{rest}", ("enode",))


def _is_multiaddress(text: str) -> bool:
    return bool(re.fullmatch(r"/(ip4|ip6|dns|dns4|dns6)/[^/\s,]+/tcp/\d{1,5}/p2p/[1-9A-HJ-NP-Za-km-z]{20,80}", text))


def _are_comet_peers(text: str) -> bool:
    return all(
        re.fullmatch(r"[0-9a-fA-F]{40}@[^\s@,:]+:\d{1,5}", peer) and int(peer.rpartition(":")[2]) in PORTS
        for peer in text.split(",")
    )


FORMS = {
    "number": Form(_number(0, 2**63 - 1), "a whole number from 0"),
    "peers": Form(_number(0, 10_000), "a whole number from 0 to 10000"),
    "mebibytes": Form(_number(1, 2**22), "a whole number of MiB from 1 to 4194304"),
    "gibibytes": Form(
        lambda text: bool(re.fullmatch(r"\d{1,7}(\.\d{1,3})?", text, re.ASCII)) and float(text) > 0,
        "a number of GiB above 0, such as 2600 or 0.5",
    ),
    "size": Form(_pattern(r"(?i)\d+(\.\d+)?([kmgtp]b?|b)"), f"a number and {UNITS}, such as 2GB"),
    "duration": Form(_pattern(r"(\d+(\.\d+)?(ns|us|ms|s|m|h))+"), "numbers with ms, s, m or h, such as 5s"),
    "ipv4": Form(_is_ipv4, "an IPv4 address"),
    "url": Form(lambda text: _is_place(text, ("http", "https")), "an address that begins with http:// or https://"),
    "urls": Form(
        lambda text: _is_place(text, ("http", "https")), "addresses that begin with http:// or https://", is_list=True
    ),
    "websockets": Form(
        lambda text: _is_place(text, ("ws", "wss")), "addresses that begin with ws:// or wss://", is_list=True
    ),
    "enodes": Form(_is_enode, "enode:// with 128 hex digits, @, a host, ':' and a port", is_list=True),
    "multiaddresses": Form(
        _is_multiaddress, "/ip4/ADDRESS/tcp/PORT/p2p/ID, or with ip6 or dns in place of ip4", is_list=True
    ),
    "comet_peers": Form(_are_comet_peers, "ID@HOST:PORT separated by commas, an ID being 40 hex digits"),
    "namespaces": Form(_pattern(r"[a-z][a-z0-9_]*"), "names of small letters", is_list=True),
}


def ill_formed(values: Mapping[str, Any], forms: Mapping[str, Sequence[str]]) -> list[str]:
    """Say, one sentence each, which options do not have their form."""
    return [
        sentence
        for form, options in forms.items()
        for option in options
        for sentence in _look(option, values[option], FORMS[form])
    ]


def _look(option: str, value: object, form: Form) -> list[str]:
    if form.is_list:
        if not isinstance(value, Sequence) or isinstance(value, str):
            return [f"{option} is {value!r}; allowed: a list of {form.allowed}; [] for none."]
        return [f"{option} holds {item!r}; allowed: {form.allowed}." for item in value if not form.holds(str(item))]
    if value is None or value == "" or (not isinstance(value, bool) and form.holds(str(value))):
        return []
    return [f"{option} is {value!r}; allowed: {form.allowed}."]


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filters."""
        return {"chain_service_ill_formed": ill_formed}
