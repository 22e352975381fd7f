"""What is wrong with the central log's options, in sentences. No host is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STATES = ("present", "absent")
RANGES = {"most_gib": range(1, 10_001), "silent_minutes": range(10, 1_441)}
# systemd's files are of 128 MiB each: a sender needs one that is written to, and some that are kept.
LEAST_SHARE_MIB = 512


def share_mib(most_gib: object, senders: int) -> int:
    """The MiB of the keeper's disk that each of the hosts that send may have."""
    return int(str(most_gib)) * 1024 // max(1, senders)


def problems(options: Mapping[str, Any], host: str) -> list[str]:
    """What cannot be carried out on a host, a sentence each: what, where it is set, what is allowed.

    `options` holds state, most_gib and silent_minutes, and of the inventory's groups `keepers` (logs), `members` (vpn), as lists of names.
    """
    found = []
    keepers, members = list(options["keepers"]), set(options["members"])
    if len(keepers) > 1:
        found.append(f"The group logs holds {', '.join(keepers)} in the inventory; allowed: one host.")
    found += [
        f"Host '{keeper}' is in the group logs and not in vpn in the inventory; allowed: a host of both, as logs go by the VPN alone."
        for keeper in keepers
        if keeper not in members
    ]
    if options["state"] not in STATES:
        found.append(f"central_log_state is {options['state']!r} on host '{host}'; allowed: {', '.join(STATES)}.")
    for name, allowed in RANGES.items():
        value = options[name]
        if isinstance(value, bool) or str(value) not in map(str, allowed):
            found.append(
                f"central_log_{name} is {value!r} on host '{host}'; allowed: a whole number from {allowed[0]} to {allowed[-1]}."
            )
    senders = len(members.difference(keepers))
    if not found and share_mib(options["most_gib"], senders) < LEAST_SHARE_MIB:
        found.append(
            f"central_log_most_gib is {options['most_gib']} on host '{host}', less than {LEAST_SHARE_MIB} MiB for each of {senders} hosts that "
            f"send; allowed: {-(-senders * LEAST_SHARE_MIB // 1024)} or more."
        )
    return found


class FilterModule:
    """The filters' names in playbooks."""

    def filters(self) -> dict[str, Any]:
        """Map each name to its function."""
        return {"central_log_problems": problems, "central_log_share_mib": share_mib}
