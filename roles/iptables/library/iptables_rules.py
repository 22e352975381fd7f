"""Try the fleet's firewall chains, keep them, or take them away; an Ansible module."""

from __future__ import annotations

import ipaddress
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils import fleet_firewall as firewall
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: iptables_rules
short_description: Try the fleet's firewall chains, keep them, or take them away
description:
  - C(tried) compares the rules with the kernel's, and where they differ brings them in for C(revert_seconds), after which systemd takes them
    back. Refuses rules that would lock out the address that this very connection comes from.
  - C(confirmed) ends the trial; it is for a new connection to say.
  - Only chains whose names begin with C(FLEET-) are looked at and touched.
author: mev-infrastructure maintainers
options:
  state:
    description: What to do.
    type: str
    choices: [tried, confirmed, absent]
    required: true
  rules_v4:
    description: The IPv4 chains as iptables-restore reads them.
    type: str
    default: ""
  rules_v6:
    description: The IPv6 chains.
    type: str
    default: ""
  sets:
    description: The sets that they name, as C(ipset restore) reads them.
    type: str
    default: ""
  sysctls:
    description: Kernel values by name. One that the kernel lets nobody write here (in a container) is left.
    type: dict
    default: {}
  admin_networks:
    description: Networks that SSH is let in from.
    type: list
    elements: str
    default: []
  own_address:
    description: Address of this host that SSH is let in to, in the VPN; any if empty.
    type: str
    default: ""
  ssh_ports:
    description: Ports that SSH is let in on.
    type: list
    elements: int
    default: []
  check_own_access:
    description: Whether rules that would lock out this connection's address are refused.
    type: bool
    default: true
  revert_seconds:
    description: Seconds until systemd takes unconfirmed rules back.
    type: int
    default: 45
"""

EXAMPLES = r"""
- name: The rules are tried
  iptables_rules:
    state: tried
    rules_v4: "{{ rules.v4 }}"
    rules_v6: "{{ rules.v6 }}"
    sets: "{{ rules.sets }}"
    admin_networks: [10.66.0.0/24]
    ssh_ports: [22]
"""

RETURN = r"""
on_trial:
  description: Whether rules are in that wait to be confirmed.
  type: bool
  returned: success
"""


def ssh_connection() -> tuple[str, str, int] | None:
    """Give where this module's SSH connection comes from, and the address and port that it came to; None where it is not SSH's.

    sudo keeps the variable from its child, not from the process that called it.
    """
    process = os.getpid()
    while process > 1:
        directory = Path("/proc") / str(process)
        for entry in (directory / "environ").read_bytes().split(b"\0"):
            if entry.startswith(b"SSH_CONNECTION="):
                words = entry.partition(b"=")[2].decode().split()
                here, there = (word.partition("%")[0].removeprefix("::ffff:") for word in (words[2], words[0]))
                return there, here, int(words[3])
        process = int((directory / "stat").read_text().rpartition(")")[2].split()[1])
    return None


def lockout(
    connection: tuple[str, str, int] | None, networks: list[str], ports: list[int], own_address: str = ""
) -> str:
    """Say in one sentence how the rules would lock a connection's address out; empty where they would not."""
    if connection is None:
        return ""
    address, here, port = ipaddress.ip_address(connection[0]), connection[1], connection[2]
    if own_address and here != own_address:
        return (
            f"Ansible comes to {here} from {address}, and not by the VPN, which iptables_vpn_only makes SSH's only way in (to {own_address}); "
            "allowed: ansible_host in the VPN, or iptables_check_own_access: false."
        )
    if port not in ports:
        return (
            f"SSH is reached on port {port} here, which the rules would close (catalogue_host_services.ssh says "
            f"{', '.join(map(str, ports))}); allowed: the port of the way that Ansible comes by, or iptables_check_own_access: false."
        )
    if any(address in ipaddress.ip_network(each, strict=False) for each in networks):
        return ""
    return (
        f"Ansible comes from {address}, which the rules would lock out, for "
        f"{'catalogue_vpn_admins' if own_address else 'iptables_admin_networks'} holds only {', '.join(networks)}; "
        "allowed: networks that hold it, or iptables_check_own_access: false."
    )


def sysctl_path(name: str) -> Path:
    """Give the file of a kernel value."""
    return Path("/proc/sys") / name.replace(".", "/")


def other_sysctls(wanted: Mapping[str, Any]) -> dict[str, str]:
    """Name the kernel values that are otherwise here and may be written, as they are now."""
    found = {}
    for name in wanted:
        path = sysctl_path(name)
        # The mode says it, where root's own permission does not.
        if path.exists() and path.stat().st_mode & 0o200:
            value = path.read_text().strip()
            if value != str(wanted[name]):
                found[name] = value
    return found


def differences(
    rules: Mapping[str, firewall.Tables], sysctls: Mapping[str, Any], now: Mapping[str, firewall.Tables]
) -> dict[str, str]:
    """Give what differs as two texts, of the kernel and of what is wanted; equal ones where nothing does."""
    others = other_sysctls(sysctls)
    texts = {"before": "", "after": ""}
    for family, wanted in rules.items():
        before = now.get(family, {})
        texts["before"] += f"# IP{family}\n{firewall.text_of(firewall.own(before))}"
        texts["after"] += f"# IP{family}\n{firewall.text_of(wanted)}"
        texts["after"] += "".join(f"# jump: {hook}\n" for hook in firewall.unhooked(before, wanted))
    texts["before"] += "".join(f"{name} = {value}\n" for name, value in others.items())
    texts["after"] += "".join(f"{name} = {sysctls[name]}\n" for name in others)
    return texts


def confirmed_rules() -> dict[str, firewall.Tables]:
    """Give the rules that the next boot brings in; none where there are none yet."""
    try:
        confirmed: dict[str, firewall.Tables] = firewall.read(firewall.CONFIRMED)
    except OSError:
        return {}
    return confirmed


def present(module: AnsibleModule) -> dict[str, Any]:
    """Try or confirm the rules, or say what that would do."""
    given = module.params
    texts = {family: given[f"rules_{family}"] for family in firewall.families()}
    if given["check_own_access"] and given["state"] == "tried":
        sentence = lockout(ssh_connection(), given["admin_networks"], given["ssh_ports"], given["own_address"])
        if sentence:
            module.fail_json(msg=sentence)
    if module.check_mode and not (shutil.which("iptables") and shutil.which("ipset")):
        # On a virgin host nobody is there who could say how they will look.
        bare = {family: firewall.own(firewall.parse(text)) for family, text in texts.items()}
        return {"changed": True, "diff": differences(bare, given["sysctls"], {}), "on_trial": False}
    if "nf_tables" not in firewall.run("iptables", "--version"):
        module.fail_json(
            msg="iptables is the legacy one on this host, whose tables are apart from everybody else's; allowed: the one on nf_tables "
            "(update-alternatives --set iptables /usr/sbin/iptables-nft, and ip6tables alike)."
        )
    rules = {family: firewall.canonical(family, text, given["sets"]) for family, text in texts.items()}
    if given["state"] == "confirmed":
        firewall.confirm(rules, given["sets"])
        return {"changed": False, "on_trial": False}
    diff = differences(rules, given["sysctls"], {family: firewall.live(family) for family in rules})
    is_new = confirmed_rules() != rules or firewall.TRIAL.exists()
    needs_trial = is_new or any(
        firewall.unhooked(now := firewall.live(each), rules[each]) or firewall.own(now) != rules[each] for each in rules
    )
    others = other_sysctls(given["sysctls"])
    if not module.check_mode:
        if needs_trial:
            firewall.start_trial(rules, given["sets"], given["revert_seconds"])
        else:
            firewall.declare(given["sets"])
        # Afterwards: what is open has been picked up in its middle by then, which these may forbid.
        for name in others:
            sysctl_path(name).write_text(f"{given['sysctls'][name]}\n")
    return {"changed": bool(needs_trial or others), "diff": diff, "on_trial": needs_trial and not module.check_mode}


def absent(module: AnsibleModule) -> dict[str, Any]:
    """Take the chains away, and what would bring them back."""
    if not shutil.which("iptables"):
        return {"changed": False, "on_trial": False}
    found = {family: firewall.own(firewall.live(family)) for family in firewall.families()}
    changed = any(found.values()) or firewall.CONFIRMED.exists()
    if changed and not module.check_mode:
        firewall.CONFIRMED.mkdir(mode=0o750, exist_ok=True)
        firewall.remove()
        shutil.rmtree(firewall.CONFIRMED, ignore_errors=True)
    before = "".join(f"# IP{family}\n{firewall.text_of(tables)}" for family, tables in found.items() if tables)
    return {"changed": changed, "diff": {"before": before, "after": ""}, "on_trial": False}


def main() -> None:
    """Run as Ansible's module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "required": True, "choices": ["tried", "confirmed", "absent"]},
            "rules_v4": {"type": "str", "default": ""},
            "rules_v6": {"type": "str", "default": ""},
            "sets": {"type": "str", "default": ""},
            "sysctls": {"type": "dict", "default": {}},
            "admin_networks": {"type": "list", "elements": "str", "default": []},
            "own_address": {"type": "str", "default": ""},
            "ssh_ports": {"type": "list", "elements": "int", "default": []},
            "check_own_access": {"type": "bool", "default": True},
            "revert_seconds": {"type": "int", "default": 45},
        },
        supports_check_mode=True,
    )
    try:
        result = absent(module) if module.params["state"] == "absent" else present(module)
    except firewall.FirewallError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
