"""What the VPN refuses, who is a host's peer, how peers change without a restart, and what vpn-status says."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.plugins import load_plugin

rendering = load_plugin("wireguard", "filter_plugins", "wireguard")
program = load_plugin("wireguard", "files", "fleet_vpn")
status = load_plugin("wireguard", "files", "vpn_status")
glass = load_plugin("wireguard", "files", "vpn_break_glass")


def key(number: int) -> str:
    return base64.b64encode(bytes([number] * 32)).decode()


GLASS = {"set": "fleet-glass", "port": 22, "hours": 24}
ALICE = {"name": "alice", "public_key": key(7), "address": "10.66.0.200"}


def vpn(**given: Any) -> dict[str, Any]:
    return {
        "state": "present",
        "endpoint": "node1.example.com",
        "mtu": 1420,
        "keepalive_seconds": 25,
        "break_glass_hours": 24,
        "network": "10.66.0.0/24",
        "admins": [ALICE],
        "members": {"node1": "10.66.0.1", "node2": "10.66.0.2"},
        "others": {"old": "192.0.2.4", "none": ""},
        **given,
    }


def test_a_sound_inventory_is_let_through() -> None:
    assert rendering.problems(vpn(), "node1") == []


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"state": "on"}, "wireguard_state is 'on' on host 'node1'; allowed: present, absent."),
        ({"mtu": 576}, "wireguard_mtu is 576 on host 'node1'; allowed: 1280 to 9000 bytes."),
        ({"keepalive_seconds": 601}, "wireguard_keepalive_seconds is 601 on host 'node1'; allowed: 0 (none) to 600."),
        ({"break_glass_hours": 0}, "wireguard_break_glass_hours is 0 on host 'node1'; allowed: 1 to 720."),
        ({"endpoint": "a b"}, "wireguard_endpoint is 'a b' on host 'node1'; allowed: a name or an address"),
        ({"network": ""}, "catalogue_vpn_network is '' in the inventory; allowed: an IPv4 network of /30 or wider"),
        ({"network": "10.66.0.7/24"}, "catalogue_vpn_network is '10.66.0.7/24' in the inventory"),
        ({"network": "fd00::/64"}, "catalogue_vpn_network is 'fd00::/64' in the inventory"),
        ({"members": {"node1": "10.67.0.1"}}, "private_address of host 'node1' is '10.67.0.1' in the inventory"),
        ({"members": {"node1": "10.66.0.255"}}, "private_address of host 'node1' is '10.66.0.255' in the inventory"),
        ({"members": {"node1": ""}}, "private_address of host 'node1' is '' in the inventory"),
        (
            {"others": {"old": "10.66.0.9"}},
            "private_address of host 'old' is 10.66.0.9, an address of the VPN's network",
        ),
        (
            {"members": {"node1": "10.66.0.1", "node2": "10.66.0.1"}},
            "The VPN's address is the same for node1 and node2 in the inventory; allowed: one of its own for each.",
        ),
        (
            {"admins": [{**ALICE, "address": "10.66.0.2"}]},
            "The VPN's address is the same for node2 and alice in the inventory; allowed: one of its own for each.",
        ),
        (
            {"admins": [ALICE, {**ALICE, "name": "bob", "address": "10.66.0.201"}]},
            "A public key of catalogue_vpn_admins is the same for alice and bob in the inventory",
        ),
        ({"admins": [{**ALICE, "name": "node2"}]}, "'node2' names two peers of the VPN in the inventory"),
        ({"admins": [{**ALICE, "name": 'a"\n'}]}, "cannot be used; allowed: letters, digits"),
        (
            {"admins": [{**ALICE, "public_key": "x" * 44}]},
            "public_key of administrator 'alice' (catalogue_vpn_admins) is",
        ),
        ({"admins": [{**ALICE, "public_key": key(1)[:-2] + "\n="}]}, "public_key of administrator 'alice'"),
        ({"admins": [{"name": "alice"}]}, "An entry of catalogue_vpn_admins has name; allowed: name, public_key and"),
        ({"admins": "alice"}, "catalogue_vpn_admins in the inventory is no list; allowed: entries of name,"),
    ],
)
def test_what_cannot_be_carried_out_is_one_sentence(given: dict[str, Any], sentence: str) -> None:
    found = rendering.problems(vpn(**given), "node1")
    assert len(found) == 1, found
    assert sentence in found[0]


def test_peers_are_the_other_hosts_and_the_administrators() -> None:
    hostvars = {
        "node1": {"private_address": "10.66.0.1", "__wireguard_host": {"public_key": key(1)}},
        "node2": {"private_address": "10.66.0.2", "__wireguard_host": {"public_key": key(2)}},
        # Not in this run, and at a port of its own.
        "node3": {"private_address": "10.66.0.3", "wireguard_endpoint": "[2001:db8::3]:4500"},
        "node4": {"private_address": "10.66.0.4"},
    }
    own = {"port": 51820, "keepalive_seconds": 25}
    found = rendering.peers(list(hostvars), hostvars, "node1", {"node3": key(3)}, [ALICE], own)
    assert [(each["name"], each["public_key"], each["endpoint"], each["keepalive"]) for each in found] == [
        ("node2", key(2), "node2:51820", 25),
        ("node3", key(3), "[2001:db8::3]:4500", 25),
        ("node4", "", "node4:51820", 25),
        ("alice", key(7), "", 0),
    ]
    shown = rendering.config("wg0", found, GLASS)
    assert shown["break_glass"] == GLASS
    assert [peer["public_key"] for peer in shown["peers"]] == [key(2), key(3), rendering.TO_BE_MADE, key(7)]


def test_a_host_that_left_the_group_is_nobody_s_peer_though_its_key_is_known() -> None:
    hostvars = {name: {"private_address": f"10.66.0.{at}"} for at, name in enumerate(("node1", "node2", "node3"), 1)}
    known = {"node2": key(2), "node3": key(3)}
    own = {"port": 51820, "keepalive_seconds": 25}
    found = rendering.peers(["node1", "node2"], hostvars, "node1", known, [], own)
    assert [(peer["name"], peer["public_key"]) for peer in found] == [("node2", key(2))]


PEERS = [
    {
        "name": "node2",
        "kind": "host",
        "public_key": key(2),
        "address": "10.66.0.2",
        "endpoint": "192.0.2.2:51820",
        "keepalive": 25,
    },
    {"kind": "admin", "endpoint": "", "keepalive": 0, **ALICE},
]


class Wg:
    """What wg would say, and what it was told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **tables: str) -> None:
        self.tables = {"private-key": key(9), "listen-port": "51820", **tables}
        self.told: list[tuple[tuple[str, ...], str]] = []
        monkeypatch.setattr(program, "run", self.run)
        monkeypatch.setattr(program, "ages", lambda *_: {key(2): 10.0})

    def run(self, *argv: str, stdin: str = "") -> str:
        if argv[:2] == ("wg", "show"):
            assert argv[3] != "dump"
            return self.tables[argv[3]]
        self.told.append((argv, stdin))
        return ""


def test_a_peer_that_stays_keeps_the_endpoint_that_it_was_heard_at(monkeypatch: pytest.MonkeyPatch) -> None:
    wg = Wg(
        monkeypatch,
        **{
            "allowed-ips": f"{key(2)}\t10.66.0.2/32\n{key(5)}\t10.66.0.5/32\n",
            "persistent-keepalive": f"{key(2)}\t25\n{key(5)}\toff\n",
            "endpoints": f"{key(2)}\t198.51.100.7:4000\n{key(5)}\t(none)\n",
        },
    )
    assert program.sync("wg0", PEERS) is True
    [(argv, text)] = wg.told
    assert argv == ("wg", "syncconf", "wg0", "/dev/stdin")
    assert text.splitlines() == [
        "[Interface]",
        f"PrivateKey = {key(9)}",
        "ListenPort = 51820",
        "[Peer]",
        f"PublicKey = {key(2)}",
        "AllowedIPs = 10.66.0.2/32",
        "Endpoint = 198.51.100.7:4000",
        "PersistentKeepalive = 25",
        "[Peer]",
        f"PublicKey = {key(7)}",
        "AllowedIPs = 10.66.0.200/32",
    ]


def test_a_tunnel_with_its_peers_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    wg = Wg(
        monkeypatch,
        **{
            "allowed-ips": f"{key(7)}\t10.66.0.200/32\n{key(2)}\t10.66.0.2/32\n",
            "persistent-keepalive": f"{key(7)}\toff\n{key(2)}\t25\n",
        },
    )
    assert program.sync("wg0", PEERS) is False
    assert wg.told == []


@pytest.mark.parametrize(
    "allowed",
    ["10.66.0.2/32 10.66.0.1/32", "0.0.0.0/0", "(none)"],
)
def test_a_peer_that_has_other_addresses_than_its_own_is_put_right(
    allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wg = Wg(
        monkeypatch,
        **{
            "allowed-ips": f"{key(7)}\t10.66.0.200/32\n{key(2)}\t{allowed}\n",
            "persistent-keepalive": f"{key(7)}\toff\n{key(2)}\t25\n",
            "endpoints": f"{key(7)}\t(none)\n{key(2)}\t198.51.100.7:4000\n",
        },
    )
    assert program.sync("wg0", PEERS) is True
    [(_, text)] = wg.told
    assert [line for line in text.splitlines() if line.startswith("AllowedIPs")] == [
        "AllowedIPs = 10.66.0.2/32",
        "AllowedIPs = 10.66.0.200/32",
    ]


def test_what_fails_shows_no_input() -> None:
    with pytest.raises(program.VpnError) as refusal:
        program.run("sh", "-c", "cat >/dev/null; echo no >&2; exit 1", stdin="secret")
    assert "secret" not in str(refusal.value)
    assert str(refusal.value).endswith("refuses: no.")


@pytest.mark.parametrize(
    ("handshake", "state", "age"), [("0", "never", None), ("820", "up", 180), ("819", "stale", 181), ("2000", "up", 0)]
)
def test_a_peer_is_up_while_its_session_lives(handshake: str, state: str, age: int | None) -> None:
    found = status.peer_status(PEERS[0], [[handshake], ["10", "20"], ["192.0.2.2:51820"]], 1000.0)
    assert (found["state"], found["handshake_age_seconds"]) == (state, age)
    assert (found["received_bytes"], found["sent_bytes"]) == (10, 20)


def test_a_peer_that_the_tunnel_lacks_never_answered() -> None:
    found = status.peer_status(PEERS[1], [[], [], []], 1000.0)
    assert (found["state"], found["endpoint"], found["received_bytes"]) == ("never", None, 0)


@pytest.mark.parametrize(("host", "admin", "code"), [("up", "never", 0), ("stale", "up", 1), ("never", "up", 1)])
def test_the_exit_status_is_the_hosts(
    host: str,
    admin: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tmp_path / "vpn.json"
    config.write_text(json.dumps({"interface": "wg0", "peers": PEERS}))
    at = {"up": "990", "stale": "1", "never": "0"}

    def peers(*_: Any) -> dict[str, Any]:
        words = [([at[state]], ["1", "2"], ["(none)"]) for state in (host, admin)]
        found = [status.peer_status(peer, list(each), 1000.0) for peer, each in zip(PEERS, words, strict=True)]
        return {"interface": "wg0", "implementation": "kernel", "peers": found}

    monkeypatch.setattr(status, "CONFIG", config)
    monkeypatch.setattr(status, "status", peers)
    assert status.main(["--json"]) == code
    assert [peer["state"] for peer in json.loads(capsys.readouterr().out)["peers"]] == [host, admin]
    assert status.main(["--metrics"]) == 0
    assert f'fleet_vpn_peer_up{{peer="node2",kind="host"}} {int(host == "up")}' in capsys.readouterr().out.splitlines()


def test_a_host_without_the_tunnel_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status, "CONFIG", tmp_path / "none.json")
    assert status.main([]) == status.NOT_RUNNING
    assert status.main(["--metrics"]) == 0
    assert capsys.readouterr().out == "# TYPE fleet_vpn_up gauge\nfleet_vpn_up 0\n"


def test_a_host_is_had_by_its_new_key_in_a_file_as_the_role_writes_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "vpn.json"
    config.write_text(json.dumps(rendering.config("wg0", PEERS, GLASS), indent=4, sort_keys=True) + "\n")
    config.chmod(0o640)
    before = config.read_text()
    synced: list[list[str]] = []
    monkeypatch.setattr(program, "CONFIG", config)
    monkeypatch.setattr(program.configured, "__defaults__", (config,))
    monkeypatch.setattr(program, "sync", lambda _, peers: synced.append([peer["public_key"] for peer in peers]))
    assert program.accept("node2", key(3)) is True
    assert config.read_text() == before.replace(key(2), key(3))
    assert config.stat().st_mode & 0o777 == 0o640
    assert program.accept("node2", key(3)) is False
    assert synced == [[key(3), key(7)]]
    # An administrator's key is the inventory's to say.
    with pytest.raises(program.VpnError, match="alice is no host that this one has a tunnel to; allowed: node2"):
        program.accept("alice", key(4))


def test_a_host_that_nobody_would_answer_to_keeps_its_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A fleet of one, and a host whose neighbours are all away: an administrator's handshake proves nothing."""
    wg = Wg(monkeypatch)
    config = tmp_path / "vpn.json"
    monkeypatch.setattr(program.configured, "__defaults__", (config,))
    current, following = tmp_path / "private.key", tmp_path / "next.key"
    current.write_text(key(9))
    following.write_text(key(8))
    # The administrator has just been heard, the other host has not for longer than a session lives.
    for peers, heard in ((PEERS[1:], {key(7): 1.0}), (PEERS, {key(7): 1.0, key(2): 181.0})):
        config.write_text(json.dumps(rendering.config("wg0", peers, GLASS)))
        monkeypatch.setattr(program, "ages", lambda *_, heard=heard: heard)
        with pytest.raises(program.VpnError, match="no host is up on the VPN, so that nothing would prove a new key"):
            program.rotate(current, following, 1.0)
    assert (current.read_text(), following.read_text()) == (key(9), key(8))
    assert wg.told == []


class Glass:
    """A host whose SSH is bound to the VPN: when an administrator was last heard, and how long the firewall's set holds SSH's port."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
        self.age: float | None = None
        self.bound = True
        self.open_seconds = 0.0
        monkeypatch.setattr(glass, "STATE", directory / "state.json")
        monkeypatch.setattr(glass, "METRICS", directory / "glass.prom")
        monkeypatch.setattr(glass, "newest_admin", lambda: self.age)
        monkeypatch.setattr(glass, "is_bound", lambda _: self.bound)
        monkeypatch.setattr(glass, "set_port", self.set_port)

    def set_port(self, _: Any, seconds: float) -> None:
        self.open_seconds = seconds

    def look(self, now: float) -> str:
        return str(glass.look(GLASS, now))


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Glass:
    return Glass(monkeypatch, tmp_path)


HOUR, START = 3600.0, 1_700_000_000.0


def test_ssh_opens_when_no_administrator_was_there_for_long_enough_and_closes_when_one_is(
    host: Glass, tmp_path: Path
) -> None:
    assert host.look(START) == ""
    host.age = 10.0
    assert host.look(START + HOUR) == ""
    # The tunnel's own memory goes with its restart; this one does not.
    host.age = None
    assert host.look(START + 25 * HOUR - 10) == ""
    assert host.open_seconds == 0
    assert "SSH is open beside the VPN" in host.look(START + 25 * HOUR + 1)
    assert host.open_seconds == glass.HOLD_SECONDS
    assert "fleet_vpn_break_glass_open 1\n" in (tmp_path / "glass.prom").read_text()
    # Said once, held on.
    assert host.look(START + 25 * HOUR + 61) == ""
    assert host.open_seconds == glass.HOLD_SECONDS
    host.age = 5.0
    assert host.look(START + 26 * HOUR) == "break-glass: SSH is bound to the VPN again"
    assert host.open_seconds == 0
    assert "fleet_vpn_break_glass_open 0\n" in (tmp_path / "glass.prom").read_text()


def test_a_host_that_remembers_nothing_counts_from_now(host: Glass, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"seen": "never"}')
    assert host.look(START) == ""
    assert host.look(START + 24 * HOUR - 1) == ""
    assert host.look(START + 24 * HOUR + 1) != ""


def test_a_clock_that_was_set_back_keeps_nobody_out_for_longer(host: Glass) -> None:
    host.look(START + 1000 * HOUR)
    host.look(START)
    assert host.look(START + 25 * HOUR) != ""


def test_a_host_whose_ssh_is_not_bound_opens_nothing(host: Glass) -> None:
    host.bound = False
    host.look(START)
    assert host.look(START + 48 * HOUR) == ""
    with pytest.raises(glass.GlassError, match=r"SSH is not bound to the VPN on this host \(iptables_vpn_only\)"):
        glass.by_hand(GLASS, START, 600)


def test_what_was_opened_by_hand_stays_open_for_its_time_though_the_vpn_is_well(host: Glass) -> None:
    host.age = 5.0
    assert "asked for by hand" in glass.by_hand(GLASS, START, 600)
    assert host.open_seconds == 600
    assert host.look(START + 300) == ""
    assert host.open_seconds == 300
    assert host.look(START + 601) == "break-glass: SSH is bound to the VPN again"
    glass.by_hand(GLASS, START + 700, 600)
    assert glass.by_hand(GLASS, START + 710, 0) == "break-glass: SSH is bound to the VPN again"
    assert host.open_seconds == 0
