"""Who is never banned, and what is wrong with the options of detection, in sentences. Pure functions; no host is asked."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

STATES = ("present", "absent", "unmanaged")
RANGES = {
    "window_seconds": (10, 86_400),
    "ban_seconds": (5, 86_400),
    # An ipset holds no entry for longer than 2,147,483 seconds.
    "ban_most_seconds": (5, 2_000_000),
    "ssh_attempts": (0, 100_000),
    "edge_keys": (0, 100_000),
    "edge_unreadable": (0, 100_000),
    "edge_methods": (0, 100_000),
    "edge_rate": (0, 100_000),
}
# The host itself, and its link: without a neighbour's answers IPv6 has no router.
ALWAYS = ("127.0.0.0/8", "169.254.0.0/16", "::1/128", "fe80::/10")


def problems(options: Mapping[str, Any], host: str) -> list[str]:
    """What cannot be carried out, a sentence each: what, where it is set, what is allowed."""
    if options["state"] not in STATES:
        return [f"detection_state is {options['state']!r} on host '{host}'; allowed: {', '.join(STATES)}."]
    found = [
        f"detection_{name} is {options[name]!r} on host '{host}'; allowed: a whole number from {low} to {high}."
        for name, (low, high) in RANGES.items()
        if not (isinstance(options[name], int) and not isinstance(options[name], bool) and low <= options[name] <= high)
    ]
    if not found and options["ban_seconds"] > options["ban_most_seconds"]:
        found.append(
            f"detection_ban_seconds is {options['ban_seconds']} and detection_ban_most_seconds {options['ban_most_seconds']} on host '{host}'; "
            "allowed: a first ban that is no longer than the longest."
        )
    found += [
        f"detection_allowed_networks holds {network!r} on host '{host}'; allowed: addresses and networks such as 10.66.0.0/24."
        for network in options["allowed_networks"]
        if _network(network) is None
    ]
    hook = list(options["alert_hook"])
    if hook and not str(hook[0]).startswith("/"):
        found.append(
            f"detection_alert_hook begins with {hook[0]!r} on host '{host}'; allowed: a program's absolute path, then its arguments."
        )
    if options["state"] == "present" and options["firewall"] != "present":
        found.append(
            f"detection_state is present and iptables_state {options['firewall']} on host '{host}'; allowed: iptables_state: present, because it is "
            "the firewall that bans, or detection_state: absent or unmanaged."
        )
    return found


def allowed(networks: Iterable[object]) -> list[str]:
    """Networks that are never banned, each once, those that are always so among them; what is no network is left to whoever gave it."""
    found = {network for network in map(_network, (*ALWAYS, *networks)) if network}
    return [str(network) for network in sorted(found, key=lambda each: (each.version, int(each.network_address)))]


def _network(given: object) -> Network | None:
    try:
        return ipaddress.ip_network(str(given), strict=False)
    except ValueError:
        return None


class FilterModule:
    """Ansible's way to find the filters."""

    def filters(self) -> dict[str, Any]:
        """The filters by name."""
        return {"detection_problems": problems, "detection_allowed": allowed}
