"""Two hosts and an administrator's machine: who reaches whom, what a change of peers leaves alone, and what is never seen.

The tests follow each other: what one leaves is where the next one starts.
"""

from __future__ import annotations

import pytest
from testinfra.host import Host

from tests.packets import SYN, count, send
from tests.plays import play
from tests.vpn import ADDRESS, NETWORK, administrators, answers, connect, machine_of_alice, peers, reached, vpn
from tests.waiting import until

# What a false source would have come to, had it been believed.
SSH_RULE = "ssh.refused"


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


def test_who_speaks_in_the_vpn_s_name_outside_of_it_is_not_heard(host: Host, alice: Host) -> None:
    outside = host.check_output("hostname -I").split()[0]
    sources = [*ADDRESS.values(), "10.66.0.99"]
    before = count(host, "bogus.source"), count(host, SSH_RULE)
    send(alice, outside, 22, [(source, SYN) for source in sources])
    assert count(host, "bogus.source") >= before[0] + len(sources)
    assert count(host, SSH_RULE) == before[1]


def test_a_host_of_the_vpn_cannot_speak_as_an_administrator_in_it(host: Host, other: Host, alice: Host) -> None:
    """Root on a host sends what it likes into its tunnel; the other end takes from it no address but its own."""
    seen = ["PREROUTING", "-i", "wg0", "-s", f"{ADDRESS['alice']}/32"]

    def heard() -> int:
        rules = host.check_output("iptables-save -c -t raw").splitlines()
        return sum(int(line[1:].partition(":")[0]) for line in rules if f"-s {ADDRESS['alice']}/32 -i wg0" in line)

    host.check_output("iptables -t raw -I %s %s %s %s %s", *seen)
    try:
        send(other, ADDRESS["wireguard"], 22, [(ADDRESS["alice"], SYN)] * 5)
        # What came before this in the tunnel has been looked at.
        assert answers(other, ADDRESS["wireguard"])
        assert heard() == 0
        assert answers(alice, ADDRESS["wireguard"])
        assert heard() > 0
    finally:
        host.check_output("iptables -t raw -D %s %s %s %s %s", *seen)


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


def public(host: Host) -> str:
    return str(host.check_output("wg show wg0 public-key"))


def test_a_new_key_to_which_nobody_answers_is_taken_back(host: Host) -> None:
    assert until(lambda: peers(host)["wireguard-b"]["state"] == "up")
    before = public(host)
    host.check_output("umask 077; wg genkey > /etc/fleet-vpn/next.key")
    keys = "--key /etc/fleet-vpn/private.key --next /etc/fleet-vpn/next.key"
    done = host.run(f"fleet-vpn rotate {keys} --seconds 4")
    assert done.rc == 1
    assert (
        done.stderr.strip() == "fleet-vpn: wireguard-b did not answer to the new key within 4 s; the old one is back."
    )
    assert public(host) == before
    assert not host.file("/etc/fleet-vpn/next.key").exists
    assert until(lambda: answers(host, ADDRESS["wireguard-b"]))


def test_a_host_goes_back_from_a_key_that_another_has_followed_it_to(host: Host, other: Host) -> None:
    """Switched by hand, without anybody who would accept it: the old key's handshake is the newer one again."""
    next_key = host.check_output("umask 077; wg genkey > /run/next.key; wg pubkey < /run/next.key")
    other.check_output(
        "systemd-run --quiet --collect --unit=follow --service-type=notify fleet-vpn expect --peer wireguard --key %s --seconds 600",
        next_key,
    )
    for key in ("/run/next.key", "/etc/fleet-vpn/private.key"):
        host.check_output("sleep 1.1; wg set wg0 private-key %s", key)
        assert until(lambda: answers(host, ADDRESS["wireguard-b"])), key
        held = other.check_output("wg show wg0 allowed-ips")
        assert f"{public(host)}\t10.66.0.1/32" in held
    other.check_output("systemctl stop follow")
    other.check_output("fleet-vpn sync")
    assert next_key not in other.check_output("wg show wg0 peers")


def test_every_host_has_a_new_key_and_its_tunnels_go_on(
    host: Host, other: Host, alice: Host, admins: list[dict[str, str]]
) -> None:
    assert until(lambda: peers(host)["wireguard-b"]["state"] == "up")
    before = {public(host), public(other)}
    tunnel = host.check_output("pgrep -x wireguard-go")
    done = play("wireguard", "../../playbooks/rotate_vpn_keys.yml", {"catalogue_vpn_network": NETWORK})
    assert done.code == 0, done.messages
    assert not before & {public(host), public(other)}
    assert other.check_output("wg pubkey < /etc/fleet-vpn/private.key") == public(other)
    assert not before & set(host.check_output("wg show wg0 peers").split())
    assert answers(host, ADDRESS["wireguard-b"])
    assert f"wireguard has a new public key, for the machines of administrators: {public(host)}" in done.messages
    # What the role would write is what is there, and the tunnel need not begin anew.
    assert vpn(catalogue_vpn_admins=admins).changed == 0
    assert host.check_output("pgrep -x wireguard-go") == tunnel
    for one in (host, other):
        connect(alice, one)
    assert until(lambda: answers(alice, ADDRESS["wireguard"]) and answers(alice, ADDRESS["wireguard-b"]))
