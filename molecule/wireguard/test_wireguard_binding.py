"""SSH bound to the VPN: what is refused first, what comes in then, and the way back where the VPN is lost.

The tests follow each other: what one leaves is where the next one starts.
"""

from __future__ import annotations

import re

import pytest
from testinfra.host import Host

from tests.plays import Play, play
from tests.vpn import (
    ADDRESS,
    NETWORK,
    administrators,
    answers,
    connect,
    console,
    lets_ssh_in,
    machine_of_alice,
    over_the_vpn,
    peers,
    vpn,
)
from tests.waiting import until


@pytest.fixture(scope="module")
def alice() -> Host:
    return machine_of_alice()


@pytest.fixture(scope="module")
def admins(alice: Host) -> list[dict[str, str]]:
    return administrators(alice)


def bind(*options: str, **variables: object) -> Play:
    """Run the firewall's role on the first host."""
    given = {
        "catalogue_vpn_network": NETWORK,
        "node_chains": [],
        "iptables_vpn_only": True,
        **variables,
    }
    return play("wireguard", "bind.yml", given, "--limit=wireguard", *options)


def rules() -> str:
    text = console("iptables-save")
    return "\n".join(re.sub(r" \[\d+:\d+\]$", "", line) for line in text.splitlines() if not line.startswith("#"))


def look() -> None:
    console("systemctl start vpn-break-glass.service")


def test_ssh_is_not_bound_before_an_administrator_has_been_seen(
    host: Host, alice: Host, admins: list[dict[str, str]]
) -> None:
    alice.run("ip link delete wg0")
    host.check_output("systemctl restart fleet-vpn")
    before = rules()
    done = bind(catalogue_vpn_admins=admins)
    assert done.code != 0
    assert "no administrator of catalogue_vpn_admins is up on the VPN of wireguard" in done.messages
    assert rules() == before


def test_ssh_is_not_bound_while_ansible_comes_by_another_way(
    host: Host, alice: Host, admins: list[dict[str, str]]
) -> None:
    connect(alice, host)
    # The firewall knows of alice.
    assert bind(catalogue_vpn_admins=admins, iptables_vpn_only=False).code == 0
    assert until(lambda: answers(alice, ADDRESS["wireguard"]) and peers(host)["alice"]["state"] == "up")
    before = rules()
    done = bind(catalogue_vpn_admins=admins)
    assert done.code != 0
    assert "and not by the VPN, which iptables_vpn_only makes SSH's only way in (to 10.66.0.1)" in done.messages
    assert rules() == before
    # Told to do it all the same, it is undone by the host itself.
    short = {"iptables_confirm_seconds": 5, "iptables_revert_seconds": 15}
    done = bind(catalogue_vpn_admins=admins, iptables_check_own_access=False, **short)
    assert done.code != 0
    assert "were not confirmed by a new SSH connection within 5 seconds" in done.messages
    assert rules() == before
    assert lets_ssh_in()


def test_bound_ssh_is_reached_by_the_vpn_and_by_nothing_else(admins: list[dict[str, str]]) -> None:
    done = bind(catalogue_vpn_admins=admins, **over_the_vpn())
    assert (done.code, done.changed) == (0, 1), done.messages
    assert not lets_ssh_in()
    assert bind(catalogue_vpn_admins=admins, **over_the_vpn()).changed == 0
    assert "-A FLEET-SSH -s 10.66.0.200/32 -i wg0 -j RETURN" in console("iptables -S FLEET-SSH")


def test_a_lost_vpn_lets_ssh_in_beside_it_until_an_administrator_is_back(host: Host, alice: Host) -> None:
    alice.run("ip link delete wg0")
    console("systemctl restart fleet-vpn")
    look()
    # A day has not passed.
    assert not lets_ssh_in()
    console('sed -i \'s/"seen": [0-9.]*/"seen": 1/\' /var/lib/fleet-vpn/break-glass.json')
    look()
    assert lets_ssh_in()
    assert "break-glass: SSH is open beside the VPN, from iptables_admin_networks" in console(
        "journalctl --sync; journalctl -o cat -u vpn-break-glass"
    )
    assert "fleet_vpn_break_glass_open 1" in host.check_output("cat /var/lib/fleet-vpn/break_glass.prom").splitlines()
    connect(alice, host)
    assert until(lambda: answers(alice, ADDRESS["wireguard"]))
    look()
    assert not lets_ssh_in()
    assert "break-glass: SSH is bound to the VPN again" in console(
        "journalctl --sync; journalctl -o cat -u vpn-break-glass"
    )


def test_somebody_on_the_console_opens_ssh_for_a_while(host: Host) -> None:
    assert "asked for by hand" in console("vpn-break-glass open --seconds 600")
    assert lets_ssh_in()
    look()
    assert lets_ssh_in()
    assert host.run("vpn-break-glass close").rc == 0
    assert not lets_ssh_in()


def test_a_reboot_leaves_ssh_bound_and_break_glass_at_hand(host: Host) -> None:
    """Boots by way of what boot runs: the sets and the rules that were confirmed."""
    assert "10.66.0.200/32 -i wg0" in console("cat /etc/fleet-firewall/rules.v4")
    console("fleet-firewall remove")
    assert "fleet-glass" not in console("ipset list -name")
    console("fleet-firewall apply")
    assert not lets_ssh_in()
    console("vpn-break-glass open --seconds 600")
    assert host.run("true").rc == 0


def test_unbound_ssh_is_where_it_was(admins: list[dict[str, str]]) -> None:
    done = bind(catalogue_vpn_admins=admins, iptables_vpn_only=False)
    assert done.code == 0, done.messages
    assert "fleet-glass" not in console("iptables -S FLEET-SSH")
    assert "fleet-glass" not in console("ipset list -name")
    assert lets_ssh_in()


def test_an_administrator_who_is_off_the_list_is_out(host: Host, alice: Host) -> None:
    assert until(lambda: answers(alice, ADDRESS["wireguard"]))
    vpn()
    assert not answers(alice, ADDRESS["wireguard"])
    assert "alice" not in peers(host)
    assert until(lambda: answers(host, ADDRESS["wireguard-b"]))


def test_the_tunnel_leaves_with_all_that_is_its_own(host: Host) -> None:
    assert vpn("--limit", "wireguard", wireguard_state="absent").changed > 0
    paths = "/etc/fleet-vpn /var/lib/fleet-vpn /usr/local/sbin/fleet-vpn /usr/local/sbin/vpn-break-glass /usr/local/bin/vpn-status"
    assert host.run(f"ls -d {paths} /etc/systemd/system/*vpn* /sys/class/net/wg0").stdout == ""
    assert host.package("wireguard-tools").is_installed
