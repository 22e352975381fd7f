"""What is wrong with the edge's tiers, method sets and ceilings: pure functions over the role's options."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
METHOD = re.compile(r"[a-z][a-z0-9]*_[A-Za-z0-9_]+")
# They steer a node or hold its keys; the edge's Lua knows them too.
NEVER = frozenset({"admin", "anvil", "engine", "evm", "hardhat", "miner", "personal"})
PUBLIC = "public"
LEAST = {"requests_per_minute": 2, "burst": 1, "connections": 1, "websockets": 0, "batch_calls": 1, "log_blocks": 1}

NUMBERS = {
    "nginx_header_seconds": (1, 300),
    "nginx_body_pause_seconds": (1, 300),
    "nginx_body_seconds": (1, 3600),
    "nginx_send_seconds": (1, 300),
    "nginx_keepalive_seconds": (1, 3600),
    "nginx_keepalive_requests": (1, 1_000_000),
    "nginx_http2_streams": (1, 1024),
    "nginx_requests_in_flight": (1, 100_000),
    "nginx_chain_requests_in_flight": (1, 100_000),
    "nginx_public_in_flight_percent": (1, 100),
    "nginx_websockets_in_all": (1, 100_000),
    "nginx_websocket_ping_seconds": (1, 3600),
    "nginx_websocket_idle_seconds": (1, 1_000_000),
    "nginx_websocket_subscriptions": (1, 100_000),
    "nginx_emergency_requests_per_minute": (2, 1_000_000),
    "nginx_emergency_burst": (1, 1_000_000),
    "nginx_emergency_connections": (1, 65_535),
}

Facts = Mapping[str, Any]


def problems(
    tiers: Sequence[Facts], method_sets: Sequence[Facts], ceilings: Sequence[Facts], chains: Facts
) -> list[str]:
    """Everything wrong, a sentence each: what, where it is set, what is allowed. `chains` is the catalogue's."""
    names = [tier.get("name") for tier in tiers]
    sets = [each.get("name") for each in method_sets]
    found = [*_names("nginx_tiers", names), *_names("nginx_method_sets", sets)]
    if PUBLIC not in names:
        found.append(f"nginx_tiers has no tier {PUBLIC}, which callers without a key are in; allowed: a list with one.")
    for tier in tiers:
        found += _tier(tier, sets)
    for each in method_sets:
        found += _method_set(each, chains)
    for ceiling in ceilings:
        found += _ceiling(ceiling, chains)
    return found


def _names(option: str, names: Sequence[Any]) -> Iterator[str]:
    for name in dict.fromkeys(names):
        if not isinstance(name, str) or not NAME.fullmatch(name):
            yield f"{option} has the name {name!r}; allowed: small letters, digits and '_', 32 at most, a letter first."
        if names.count(name) > 1:
            yield f"{option} has {names.count(name)} entries of the name {name}; allowed: one."


def _tier(tier: Facts, sets: Sequence[Any]) -> Iterator[str]:
    where = f"of the tier {tier.get('name')} (nginx_tiers)"
    values = {key: _number(tier.get(key)) for key in LEAST}
    wrong = {key for key, value in values.items() if value < LEAST[key]}
    for key in sorted(wrong):
        yield f"{key} {where} is {tier.get(key)!r}; allowed: a whole number from {LEAST[key]} on."
    if not wrong & {"burst", "requests_per_minute"} and values["burst"] >= values["requests_per_minute"]:
        yield (
            f"burst {where} is {values['burst']}; allowed: less than its requests_per_minute, {values['requests_per_minute']}, "
            "because those of a burst are among a minute's."
        )
    if not wrong & {"burst", "batch_calls"} and values["batch_calls"] > values["burst"]:
        yield (
            f"batch_calls {where} is {values['batch_calls']}; allowed: at most its burst, {values['burst']}, because each call of a batch counts."
        )
    for name in tier.get("method_sets") or []:
        if name not in sets:
            yield f"method_sets {where} names {name}, which is not in nginx_method_sets; allowed: {', '.join(map(str, sets))}."


def _method_set(each: Facts, chains: Facts) -> Iterator[str]:
    where = f"of the method set {each.get('name')} (nginx_method_sets)"
    for method in each.get("methods") or []:
        if not isinstance(method, str) or not METHOD.fullmatch(method):
            yield f"A method {where} is {method!r}; allowed: a name such as eth_call."
        elif method.split("_")[0] in NEVER:
            yield f"A method {where} is {method}; allowed: none that begins with {', '.join(sorted(NEVER))}."
    known = {"chains": list(chains), "families": sorted({chain["family"] for chain in chains.values()})}
    for key, allowed in known.items():
        for name in each.get(key) or []:
            if name not in allowed:
                yield f"{key} {where} names {name}; allowed: {', '.join(allowed)}."


def _ceiling(ceiling: Facts, chains: Facts) -> Iterator[str]:
    if ceiling.get("chain") not in chains:
        yield f"nginx_chain_ceilings names {ceiling.get('chain')}; allowed: {', '.join(chains)}."
    for key in ("calls_per_second", "burst"):
        value = _number(ceiling.get(key))
        if value < 1:
            yield f"{key} of {ceiling.get('chain')} (nginx_chain_ceilings) is {ceiling.get(key)!r}; allowed: a whole number from 1 on."


def _number(value: object) -> int:
    """Inventories write numbers as text as well; -1 for what is none."""
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,9}", str(value)):
        return -1
    return int(str(value))


def number_problems(options: Facts) -> list[str]:
    """Which of the options, by name, are beyond their bounds, a sentence each."""
    found = [
        f"{name} is {value!r} in the inventory; allowed: a whole number from {NUMBERS[name][0]} to {NUMBERS[name][1]}."
        for name, value in options.items()
        if not NUMBERS[name][0] <= _number(value) <= NUMBERS[name][1]
    ]
    burst, minute = (_number(options.get(f"nginx_emergency_{what}")) for what in ("burst", "requests_per_minute"))
    if 0 < minute <= burst:
        found.append(
            f"nginx_emergency_burst is {burst} in the inventory; allowed: less than nginx_emergency_requests_per_minute, {minute}."
        )
    return found


def no_networks(names: Sequence[object]) -> list[object]:
    """Those of the names that are no network in CIDR form, and no address."""
    return [name for name in names if not isinstance(name, str) or _network(name) is None]


def address_ranges(networks: Sequence[str]) -> list[list[str]]:
    """Each network's first and last address as hex digits, 8 of IPv4 and 32 of IPv6."""
    found = [known for known in map(_network, networks) if known is not None]
    return [[network[0].packed.hex(), network[-1].packed.hex()] for network in found]


def _network(name: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(name, strict=False)
    except ValueError:
        return None


class FilterModule:
    """Give Ansible the filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Give the filters by name."""
        return {
            "nginx_rule_problems": problems,
            "nginx_number_problems": number_problems,
            "nginx_no_networks": no_networks,
            "nginx_address_ranges": address_ranges,
        }
