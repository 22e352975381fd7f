"""Two hosts and an administrator's machine: who reaches whom, what a change of peers leaves alone, and what is never seen.

The tests follow each other: what one leaves is where the next one starts.
"""

from __future__ import annotations

import pytest
from testinfra.host import Host

from tests.vpn import ADDRESS, administrators, answers, connect, machine_of_alice, peers, reached, until, vpn


@pytest.fixture(scope="module")
def other() -> Host:
    return reached("wireguard-b")


@pytest.fixture(scope="module")
def alice() -> Host:
    return machine_of_alice()


@pytest.fixture(scope="module")
def admins(alice: Host) -> list[dict[str, str]]:
    return administrators(alice)


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
    # Again, and on one host: the keys of the others stay.
    assert vpn("--limit", "wireguard", catalogue_vpn_admins=admins).changed == 0
    assert peers(host)["wireguard-b"]["state"] == "up"
    for one in (host, other):
        connect(alice, one)
    assert until(lambda: answers(alice, ADDRESS["wireguard"]) and answers(alice, ADDRESS["wireguard-b"]))
    seen = peers(host)["alice"]
    assert seen["state"] == "up"
    assert seen["received_bytes"] > 0
    assert 'fleet_vpn_peer_up{peer="alice",kind="admin"} 1' in host.check_output("vpn-status --metrics").splitlines()


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
