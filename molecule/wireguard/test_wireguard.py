"""Two hosts and an administrator's machine: who reaches whom, what a change of peers leaves alone, and what is never seen.

The tests follow each other: what one leaves is where the next one starts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

from lab import ssh
from lab.checkout import Checkout
from tests.plays import Play, play

NETWORK = "10.66.0.0/24"
ADDRESS = {"wireguard": "10.66.0.1", "wireguard-b": "10.66.0.2", "alice": "10.66.0.200"}


def reached(name: str) -> Host:
    return testinfra.get_host(f"ssh://{name}", ssh_config=str(ssh.config(Checkout.here())), sudo=True)


@pytest.fixture(scope="module")
def other() -> Host:
    return reached("wireguard-b")


@pytest.fixture(scope="module")
def alice() -> Host:
    """An administrator's machine, with keys of its own."""
    machine = reached("wireguard-c")
    machine.check_output(
        "command -v wireguard-go || (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "
        "--no-install-recommends wireguard-tools wireguard-go)"
    )
    machine.check_output("umask 077; test -s /root/key || wg genkey > /root/key")
    return machine


@pytest.fixture(scope="module")
def admins(alice: Host) -> list[dict[str, str]]:
    key = alice.check_output("wg pubkey < /root/key")
    return [{"name": "alice", "public_key": key, "address": ADDRESS["alice"]}]


def vpn(*options: str, **variables: object) -> Play:
    done = play("wireguard", "vpn.yml", {"catalogue_vpn_network": NETWORK, **variables}, *options)
    assert done.code == 0, done.messages
    return done


def until(happens: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def answers(host: Host, address: str) -> bool:
    return bool(host.run("ping -c 1 -W 1 %s", address).rc == 0)


def peers(host: Host) -> dict[str, dict[str, Any]]:
    found = json.loads(host.run("vpn-status --json").stdout)
    return {peer["name"]: peer for peer in found["peers"]}


def connect(alice: Host, host: Host) -> None:
    """Have alice's tunnel to a host, by the public key that its status need not show."""
    public = host.check_output("wg show wg0 public-key")
    where = host.check_output("hostname -I").split()[0]
    if alice.run("ip link show wg0").rc:
        alice.check_output("chmod 0666 /dev/net/tun; LOG_LEVEL=error wireguard-go wg0 >/dev/null 2>&1")
        alice.check_output("wg set wg0 private-key /root/key && ip address add %s/24 dev wg0", ADDRESS["alice"])
        alice.check_output("ip link set dev wg0 mtu 1420 up")
    alice.check_output(
        "wg set wg0 peer %s endpoint %s allowed-ips %s persistent-keepalive 5",
        public,
        f"{where}:51820",
        f"{ADDRESS[host.backend.hostname]}/32",
    )


def test_hosts_reach_each_other_inside(host: Host, other: Host) -> None:
    assert until(lambda: answers(host, ADDRESS["wireguard-b"]))
    assert answers(other, ADDRESS["wireguard"])
    # In the tunnel, and not by the network below it.
    assert host.check_output("ip route get %s", ADDRESS["wireguard-b"]).split()[1:3] == ["dev", "wg0"]
    assert peers(host)["wireguard-b"]["state"] == "up"
    assert host.run("vpn-status").rc == 0


def test_the_private_key_is_its_hosts_alone(host: Host, other: Host) -> None:
    for one in (host, other):
        file = one.file("/etc/fleet-vpn/private.key")
        assert (file.user, file.mode) == ("root", 0o600)
    key = host.check_output("cat /etc/fleet-vpn/private.key")
    assert key != other.check_output("cat /etc/fleet-vpn/private.key")
    places = "/etc/systemd /etc/default /etc/fleet-vpn/vpn.json /var/lib/fleet-vpn /var/log"
    # By the file: on a command line sudo would log it.
    assert host.run(f"grep -rqF --file=/etc/fleet-vpn/private.key {places}").rc == 1
    told = "ps axeww; journalctl -o cat; vpn-status; vpn-status --json; vpn-status --metrics"
    assert host.run(f"({told}) | grep -qF --file=/etc/fleet-vpn/private.key").rc == 1
    assert key not in other.check_output("cat /etc/fleet-vpn/vpn.json; journalctl -o cat")
    said = vpn("-vvv", "--diff").output
    assert "public_key" in said
    assert key not in said


def test_an_administrator_comes_in_while_the_others_tunnel_stays(
    host: Host, other: Host, alice: Host, admins: list[dict[str, str]]
) -> None:
    # A tunnel that began anew would count its bytes anew.
    host.check_output("ping -c 3 -s 1300 %s", ADDRESS["wireguard-b"])
    before = host.check_output("pgrep -x wireguard-go"), peers(host)["wireguard-b"]["received_bytes"]
    assert before[1] > 3900
    predicted = vpn("--check", "--diff", catalogue_vpn_admins=admins)
    assert '"alice"' in predicted.output
    assert predicted.changed == 2
    assert "alice" not in peers(host)
    vpn(catalogue_vpn_admins=admins)
    assert peers(host)["alice"]["state"] == "never"
    after = host.check_output("pgrep -x wireguard-go"), peers(host)["wireguard-b"]["received_bytes"]
    assert after[0] == before[0]
    assert after[1] >= before[1]
    assert vpn(catalogue_vpn_admins=admins).changed == 0
    for one in (host, other):
        connect(alice, one)
    assert until(lambda: answers(alice, ADDRESS["wireguard"]) and answers(alice, ADDRESS["wireguard-b"]))
    seen = peers(host)["alice"]
    assert seen["state"] == "up"
    assert seen["received_bytes"] > 0
    assert 'fleet_vpn_peer_up{peer="alice",kind="admin"} 1' in host.check_output("vpn-status --metrics").splitlines()


def test_a_run_on_one_host_keeps_the_keys_of_the_others(host: Host, admins: list[dict[str, str]]) -> None:
    assert vpn("--limit", "wireguard", catalogue_vpn_admins=admins).changed == 0
    assert peers(host)["wireguard-b"]["state"] == "up"


def test_a_tunnel_that_ends_comes_back(host: Host) -> None:
    first = host.check_output("pgrep -x wireguard-go")
    host.check_output("kill -KILL %s", first)
    assert until(lambda: host.run("pgrep -x wireguard-go").stdout.strip() not in ("", first))
    assert until(lambda: answers(host, ADDRESS["wireguard-b"]))
    assert host.run("systemctl is-active fleet-vpn").stdout.strip() == "active"


def test_a_host_without_its_tunnel_says_so(host: Host) -> None:
    host.check_output("systemctl stop fleet-vpn")
    assert host.run("ip link show wg0").rc
    assert host.run("vpn-status").rc == 3
    assert host.check_output("vpn-status --metrics") == "# TYPE fleet_vpn_up gauge\nfleet_vpn_up 0"
    host.check_output("systemctl start fleet-vpn")


def test_an_administrator_who_is_off_the_list_is_out(host: Host, alice: Host) -> None:
    assert until(lambda: answers(alice, ADDRESS["wireguard"]))
    vpn()
    assert not answers(alice, ADDRESS["wireguard"])
    assert "alice" not in peers(host)
    assert until(lambda: answers(host, ADDRESS["wireguard-b"]))


def test_the_tunnel_leaves_with_all_that_is_its_own(host: Host) -> None:
    assert vpn("--limit", "wireguard", wireguard_state="absent").changed > 0
    paths = "/etc/fleet-vpn /var/lib/fleet-vpn /usr/local/sbin/fleet-vpn /usr/local/bin/vpn-status"
    assert host.run(f"ls -d {paths} /etc/systemd/system/fleet-vpn* /sys/class/net/wg0").stdout == ""
    assert host.package("wireguard-tools").is_installed
    assert vpn("--limit", "wireguard", wireguard_state="absent").changed == 0
