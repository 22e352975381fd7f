"""What the firewall's rules let in, by an evaluation of them; and how they come into a kernel's tables and out again."""

from __future__ import annotations

import importlib.util
import ipaddress
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from roles.catalogue.filter_plugins import catalogue
from tests.plugins import ROLES, load_plugin

rendering = load_plugin("iptables", "filter_plugins", "iptables_rules")
firewall = load_plugin("iptables", "module_utils", "fleet_firewall")

CATALOGUE = ROLES / "catalogue" / "defaults" / "main"
SERVICES_FILE = yaml.safe_load((CATALOGUE / "services.yml").read_text())
SERVICES, HOST_SERVICES = SERVICES_FILE["catalogue_default_services"], SERVICES_FILE["catalogue_default_host_services"]
CHAINS = yaml.safe_load((CATALOGUE / "chains.yml").read_text())["catalogue_default_chains"]
DEFAULTS = yaml.safe_load((ROLES / "iptables" / "defaults" / "main.yml").read_text())
PRIVATE, NEIGHBOUR, ADMIN, STRANGER = "10.66.0.1", "10.66.0.2", "192.0.2.7", "198.51.100.9"
V6 = {PRIVATE: "2001:db8::1", NEIGHBOUR: "2001:db8::2", ADMIN: "2001:db8:ad::7", STRANGER: "2001:db8:bad::9"}
GROUPS = ["nodes", "edge", "mev"]


def policy(
    chains: list[str] | None = None, groups: list[str] | None = None, private: str = PRIVATE, **given: Any
) -> dict[str, Any]:
    """The role's defaults on a host, with some options replaced."""
    return {
        **{name.removeprefix("iptables_"): value for name, value in DEFAULTS.items()},
        "admin_networks": ["192.0.2.0/24", "2001:db8:ad::/48"],
        "private_address": private,
        "neighbours": [PRIVATE, NEIGHBOUR],
        "sets": SERVICES_FILE["catalogue_firewall"]["ban_sets"],
        "vpn_interface": SERVICES_FILE["catalogue_vpn"]["interface"],
        "vpn_admins": [],
        "vpn_network": "10.66.0.0/24",
        "glass_set": SERVICES_FILE["catalogue_vpn"]["break_glass_set"],
        "has_vpn": False,
        "fleet_ports": rendering.fleet_ports({**SERVICES, **HOST_SERVICES}),
        "listeners": rendering.listeners_here(
            catalogue.listeners(SERVICES, CHAINS, private),
            catalogue.listeners(HOST_SERVICES, {}, private),
            SERVICES,
            HOST_SERVICES,
            list(CHAINS) if chains is None else chains,
            GROUPS if groups is None else groups,
        ),
        **given,
    }


@dataclass(frozen=True)
class Packet:
    """The first packet of a connection, from a wire unless said."""

    protocol: str
    port: int
    source: str = STRANGER
    destination: str = PRIVATE
    interface: str = "eth0"


def verdict(rules: dict[str, str], packet: Packet, table: str = "filter", chain: str = "FLEET-INPUT") -> str:
    """`on` where a chain lets a new connection's packet go on, else `dropped`."""
    chains = firewall.parse(rules["v6" if ":" in packet.source else "v4"])[table]
    return {None: "on", "RETURN": "on"}.get(_walk(chains, chain, packet), "dropped")


def _walk(chains: dict[str, list[str]], chain: str, packet: Packet) -> str | None:
    for rule in chains.get(chain, []):
        target = _target(rule, packet)
        if target is None or target.partition(" ")[2] == "LOG":
            continue
        how, _, name = target.partition(" ")
        if name == "RETURN":
            return None
        if name not in chains and name != firewall.USER:
            return name
        ended = _walk(chains, name, packet)
        if ended is not None or how == "-g":
            return ended
    return None


# What a rule may ask of a packet; these see no packet of a flood, of ICMP, of a ban or of odd flags.
MATCHES: dict[str, Callable[[str, Packet], bool]] = {
    "-i": lambda value, packet: value == packet.interface,
    "-o": lambda value, packet: value == packet.interface,
    "-p": lambda value, packet: value == packet.protocol,
    "-s": lambda value, packet: ipaddress.ip_address(packet.source) in ipaddress.ip_network(value),
    "-d": lambda value, packet: ipaddress.ip_address(packet.destination) in ipaddress.ip_network(value),
    "--dport": lambda value, packet: int(value.split(":")[0]) <= packet.port <= int(value.split(":")[-1]),
    "--ctstate": lambda value, _packet: "NEW" in value.split(","),
    **dict.fromkeys(
        (
            "--sport",
            "--icmp-type",
            "--icmpv6-type",
            "--tcp-flags",
            "--match-set",
            "--connlimit-above",
            "--hashlimit-above",
        ),
        lambda _value, _packet: False,
    ),
    "--src-type": lambda value, packet: value == "LOCAL" and packet.source in {PRIVATE, V6[PRIVATE]},
    "--dst-type": lambda value, packet: value == "LOCAL" and packet.destination in {PRIVATE, V6[PRIVATE]},
    # These say how, and match nothing by themselves.
    **dict.fromkeys(("-m", "--comment", "--limit", "--limit-burst", "--reject-with"), lambda _value, _packet: True),
}


def _target(rule: str, packet: Packet) -> str | None:
    """`-j X` or `-g X` of a rule that matches the packet; a match that the table above lacks fails the test."""
    words = iter(shlex.split(rule))
    for word in words:
        is_negated = word == "!"
        option, value = next(words) if is_negated else word, next(words)
        if option in {"-j", "-g"}:
            return f"{option} {value}"
        if MATCHES[option](value, packet) is is_negated:
            return None
    raise AssertionError(rule)


def every_listener() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = policy()["listeners"]
    return found


@pytest.mark.parametrize("entry", every_listener(), ids=lambda entry: f"{entry['name']}/{entry['protocol']}")
def test_a_listener_is_let_in_from_where_its_exposure_says(entry: dict[str, Any]) -> None:
    rules = rendering.rules(policy())
    here = PRIVATE if entry["exposure"] == "vpn" else "203.0.113.5"
    sources = {
        source
        for source in (NEIGHBOUR, ADMIN, STRANGER)
        if verdict(rules, Packet(entry["protocol"], entry["port"], source, here)) == "on"
    }
    # A loopback listener may share its number with one of another exposure, on another address.
    ports = {(other["protocol"], other["port"]) for other in every_listener() if other["exposure"] == "public"}
    if entry["service"] == "ssh":
        assert sources == {ADMIN}
    elif entry["exposure"] == "public" or (entry["protocol"], entry["port"]) in ports:
        assert sources == {NEIGHBOUR, ADMIN, STRANGER}
    else:
        assert sources == ({NEIGHBOUR} if entry["exposure"] == "vpn" else set())


@given(
    chains=st.lists(st.sampled_from(list(CHAINS)), unique=True),
    groups=st.lists(st.sampled_from(GROUPS), unique=True),
    private=st.sampled_from(["", PRIVATE]),
    protocol=st.sampled_from(["tcp", "udp", "sctp", "gre", "dccp"]),
    port=st.one_of(st.integers(0, 65535), st.sampled_from([entry["port"] for entry in every_listener()])),
    source=st.sampled_from([NEIGHBOUR, ADMIN, STRANGER, *V6.values()]),
    is_private=st.booleans(),
    options=st.fixed_dictionaries({name: st.booleans() for name in ("output_deny", "synproxy", "dhcpv6_client")}),
)
def test_no_port_outside_the_catalogue_is_ever_let_in(
    chains: list[str],
    groups: list[str],
    private: str,
    protocol: str,
    port: int,
    source: str,
    is_private: bool,
    options: dict[str, bool],
) -> None:
    wanted = policy(chains, groups, private, **options)
    to = PRIVATE if is_private else "203.0.113.5"
    packet = Packet(protocol, port, source, to if "." in source else "2001:db8::1")
    offered = [
        entry
        for entry in wanted["listeners"]
        if (entry["protocol"], entry["port"]) == (protocol, port) and entry["exposure"] != "loopback"
    ]
    if verdict(rendering.rules(wanted), packet) == "on":
        assert offered
        assert any(
            (entry["exposure"] == "public" and entry["service"] != "ssh")
            or (entry["service"] == "ssh" and source in {ADMIN, V6[ADMIN]})
            or (entry["exposure"] == "vpn" and source == NEIGHBOUR and packet.destination == private)
            for entry in offered
        )


def test_ipv6_lets_in_what_ipv4_does_of_public_ports() -> None:
    rules = rendering.rules(policy())
    for entry in every_listener():
        if entry["exposure"] == "public":
            for source in (ADMIN, STRANGER):
                four = verdict(rules, Packet(entry["protocol"], entry["port"], source, "203.0.113.5"))
                six = verdict(rules, Packet(entry["protocol"], entry["port"], V6[source], V6[PRIVATE]))
                assert four == six, entry


def test_what_neighbours_read_comes_by_the_private_interface_where_one_is_named() -> None:
    rules = rendering.rules(policy(private_interface="wg0"))
    assert verdict(rules, Packet("tcp", 8545, NEIGHBOUR, PRIVATE, "wg0")) == "on"
    assert verdict(rules, Packet("tcp", 8545, NEIGHBOUR, PRIVATE, "eth0")) == "dropped"


BOUND: dict[str, Any] = {"vpn_only": True, "vpn_admins": ["10.66.0.200"], "has_vpn": True}


def test_bound_to_the_vpn_ssh_and_what_neighbours_read_come_by_its_interface_alone() -> None:
    rules = rendering.rules(policy(**BOUND))
    alice = "10.66.0.200"
    assert verdict(rules, Packet("tcp", 22, alice, PRIVATE, "wg0")) == "on"
    # The right address by the wrong way, another peer of the VPN, and who was let in before.
    assert verdict(rules, Packet("tcp", 22, alice, PRIVATE, "eth0")) == "dropped"
    assert verdict(rules, Packet("tcp", 22, NEIGHBOUR, PRIVATE, "wg0")) == "dropped"
    for source in (ADMIN, V6[ADMIN]):
        assert verdict(rules, Packet("tcp", 22, source, V6[PRIVATE] if ":" in source else PRIVATE)) == "dropped"
    assert verdict(rules, Packet("tcp", 8545, NEIGHBOUR, PRIVATE, "wg0")) == "on"
    assert verdict(rules, Packet("tcp", 8545, NEIGHBOUR, PRIVATE, "eth0")) == "dropped"
    # What is public stays so.
    assert verdict(rules, Packet("tcp", 8443)) == "on"


def test_administrators_come_in_by_the_vpn_before_it_is_the_only_way() -> None:
    rules = rendering.rules(policy(vpn_admins=["10.66.0.200"], has_vpn=True))
    assert verdict(rules, Packet("tcp", 22, "10.66.0.200", PRIVATE, "wg0")) == "on"
    assert verdict(rules, Packet("tcp", 22, "10.66.0.200", PRIVATE, "eth0")) == "dropped"
    assert verdict(rules, Packet("tcp", 22, ADMIN)) == "on"


def test_addresses_of_the_host_and_of_the_vpn_are_believed_by_their_own_interface_alone() -> None:
    rules = rendering.rules(policy(has_vpn=True))
    # What the rules of limits and of odd flags ask of a packet is none of this test's.
    rules = {
        family: "\n".join(line for line in text.splitlines() if "--tcp-flags" not in line and "--syn" not in line)
        for family, text in rules.items()
    }

    def checked(packet: Packet) -> str:
        return verdict(rules, packet, "mangle", "FLEET-CHECKS")

    for source in (PRIVATE, NEIGHBOUR, "127.0.0.1", "240.0.0.9", "0.0.0.0"):  # noqa: S104 - a false source
        assert checked(Packet("tcp", 8443, source)) == "dropped", source
    for source in (V6[PRIVATE], "::1", "ff02::1"):
        assert checked(Packet("tcp", 8443, source, V6[PRIVATE])) == "dropped", source
    assert checked(Packet("tcp", 8443, NEIGHBOUR, interface="wg0")) == "on"
    assert checked(Packet("tcp", 8443, PRIVATE, interface="lo")) == "on"
    for source in (STRANGER, ADMIN):
        assert checked(Packet("tcp", 8443, source)) == "on"
        assert checked(Packet("tcp", 8443, V6[source], V6[PRIVATE])) == "on"
    # A host's own words to many come back to it from its wire.
    assert checked(Packet("udp", 5353, V6[PRIVATE], "ff02::fb")) == "on"
    # The network of a fleet without a VPN is an ordinary one.
    assert "10.66.0.0/24" not in rendering.rules(policy())["v4"]


def test_while_the_vpn_is_lost_ssh_is_open_for_admin_networks_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MATCHES, "--match-set", lambda value, packet: value == "fleet-glass" and packet.port == 22)
    rules = rendering.rules(policy(**BOUND))
    for family in ("v4", "v6"):
        rules[family] = rules[family].replace("fleet-glass dst", "fleet-glass")
    for source in (ADMIN, V6[ADMIN]):
        assert verdict(rules, Packet("tcp", 22, source, V6[PRIVATE] if ":" in source else PRIVATE)) == "on"
    assert verdict(rules, Packet("tcp", 22, STRANGER)) == "dropped"
    assert verdict(rules, Packet("tcp", 8545, NEIGHBOUR, PRIVATE, "eth0")) == "dropped"


def test_the_set_of_break_glass_is_there_where_ssh_is_bound_and_is_no_set_of_bans(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "fleet-glass" not in rendering.rules(policy())["sets"]
    (tmp_path / "sets").write_text(rendering.rules(policy(**BOUND))["sets"])
    monkeypatch.setattr(firewall, "CONFIRMED", tmp_path)
    assert firewall.set_names() == {"fleet-ban4": 4, "fleet-ban6": 6}
    assert [words[1] for words in firewall.declared()] == ["fleet-ban4", "fleet-ban6", "fleet-glass"]


@pytest.mark.parametrize(
    ("status", "seen"),
    [
        ('{"peers": [{"name": "alice", "kind": "admin", "state": "up"}]}', ["alice"]),
        ('{"peers": [{"name": "alice", "kind": "admin", "state": "stale"}]}', []),
        ('{"peers": [{"name": "node2", "kind": "host", "state": "up"}]}', []),
        ("", []),
        ("[]", []),
    ],
)
def test_only_an_administrator_who_is_up_proves_the_vpn(status: str, seen: list[str]) -> None:
    assert rendering.admins_seen(status) == seen


def test_a_host_lets_in_nothing_of_chains_and_groups_that_it_is_not_in() -> None:
    rules = rendering.rules(policy([], []))
    assert verdict(rules, Packet("tcp", 22, ADMIN)) == "on"
    for entry in every_listener():
        if entry["service"] != "ssh":
            assert verdict(rules, Packet(entry["protocol"], entry["port"], NEIGHBOUR)) == "dropped", entry


def test_nothing_is_forwarded_but_for_interfaces_that_are_named() -> None:
    rules = rendering.rules(policy(forward_interfaces=["docker0"]))
    packet = Packet("tcp", 80, interface="docker0")
    assert verdict(rules, packet, "mangle", "FLEET-FORWARD") == "on"
    assert verdict(rules, Packet("tcp", 80), "mangle", "FLEET-FORWARD") == "dropped"


def test_outwards_all_is_free_unless_it_is_to_be_denied() -> None:
    assert "FLEET-OUTPUT" not in rendering.rules(policy())["v4"]
    allowed = [{"protocol": "tcp", "ports": [587], "networks": ["203.0.113.0/24", "2001:db8:25::/48"]}]
    rules = rendering.rules(policy([], ["edge"], output_deny=True, output_allow=allowed))

    def out(protocol: str, port: int, to: str, source: str = PRIVATE) -> str:
        return verdict(rules, Packet(protocol, port, source, to, ""), "filter", "FLEET-OUTPUT")

    assert out("udp", 53, STRANGER) == "on"
    assert out("tcp", 8545, NEIGHBOUR) == "on"
    assert out("tcp", 8545, STRANGER) == "dropped"
    assert out("tcp", 587, "203.0.113.9") == "on"
    assert out("tcp", 587, STRANGER) == "dropped"
    assert out("tcp", 587, "2001:db8:25::1", V6[PRIVATE]) == "on"
    assert out("tcp", 6667, STRANGER) == "dropped"
    on_a_node = rendering.rules(policy(["ethereum"], ["nodes"], output_deny=True))
    assert '--dport 1024:65535 -m comment --comment "peers" -j RETURN' in on_a_node["v4"]
    assert "--dport 1024:65535" not in rules["v4"]


def test_those_who_could_lift_a_ban_cannot_be_banned() -> None:
    chain = firewall.parse(rendering.rules(policy())["v4"])["raw"]["FLEET-BANNED"]
    ban = next(i for i, rule in enumerate(chain) if "--match-set" in rule)
    for network in ("192.0.2.0/24", f"{NEIGHBOUR}/32"):
        assert chain.index(f"-s {network} -j RETURN") < ban


def test_connections_are_counted_before_synproxy_hides_their_syns() -> None:
    tables = firewall.parse(rendering.rules(policy(synproxy=True))["v4"])
    checks = tables["mangle"]["FLEET-CHECKS"]
    limit = next(i for i, rule in enumerate(checks) if "nginx.connections" in rule)
    skipped = next(i for i, rule in enumerate(checks) if rule == "-p tcp -m tcp --dport 8443 -j RETURN")
    assert limit < skipped < next(i for i, rule in enumerate(checks) if "--ctstate INVALID" in rule)
    assert "ctstate" not in checks[limit]
    proxied = tables["filter"]["FLEET-INPUT"]
    assert next(i for i, rule in enumerate(proxied) if "SYNPROXY" in rule) < next(
        i for i, rule in enumerate(proxied) if "--ctstate INVALID -m comment" in rule
    )
    assert "SYNPROXY" not in rendering.rules(policy())["v4"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"admin_networks": []},
            "iptables_admin_networks is empty on host 'node1', so that nobody could reach it by SSH",
        ),
        ({"admin_networks": ["10.66.0.0/33"]}, "iptables_admin_networks holds '10.66.0.0/33' on host 'node1'"),
        (
            {"edge_connections": 0},
            "iptables_edge_connections is 0 on host 'node1'; allowed: a whole number from 1 to 1000000.",
        ),
        ({"ssh_burst": True}, "iptables_ssh_burst is True on host 'node1'"),
        ({"private_interface": "wg0; rm"}, "iptables_private_interface holds 'wg0; rm' on host 'node1'"),
        ({"forward_interfaces": ["a b"]}, "iptables_forward_interfaces holds 'a b' on host 'node1'"),
        ({"confirm_seconds": 40}, "allowed: at least 10 seconds between them"),
        (
            {"output_allow": [{"protocol": "icmp", "ports": [1]}]},
            "allowed: protocol tcp or udp, and ports from 1 to 65535.",
        ),
        ({"output_allow": [{"protocol": "tcp", "ports": [1], "networks": ["x"]}]}, "iptables_output_allow holds 'x'"),
        (
            {"vpn_only": True},
            "iptables_vpn_only is true on host 'node1', which nobody could reach by SSH then; allowed: a",
        ),
        ({"vpn_only": True, "has_vpn": True}, "administrators in catalogue_vpn_admins."),
        ({"state": "off"}, "iptables_state is 'off' on host 'node1'; allowed: present, absent, unmanaged."),
    ],
)
def test_an_option_that_cannot_be_carried_out_is_named_in_a_sentence(given: dict[str, Any], sentence: str) -> None:
    assert rendering.problems(policy(), "node1") == []
    found = rendering.problems(policy(**given), "node1")
    assert len(found) == 1
    assert sentence in found[0]


def test_a_host_whose_firewall_is_not_managed_needs_no_networks() -> None:
    assert rendering.problems(policy(state="unmanaged", admin_networks=[]), "node1") == []


def test_neighbours_are_the_inventory_s_private_addresses() -> None:
    hosts = {
        "a": {"private_address": "10.66.0.10"},
        "b": {},
        "c": {"private_address": "10.66.0.9"},
        "d": {"private_address": None},
    }
    assert rendering.neighbours(hosts, list(hosts)) == ["10.66.0.9", "10.66.0.10"]


OTHERS = """*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:f2b-sshd - [0:0]
:DOCKER-USER - [0:0]
{chains}-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd
{jump}-A INPUT -p tcp -m tcp --dport 9999 -j ACCEPT
-A FORWARD -j DOCKER-USER
-A f2b-sshd -s 203.0.113.9/32 -j REJECT --reject-with icmp-port-unreachable
-A f2b-sshd -j RETURN
COMMIT
"""
WANTED = {"filter": {"FLEET-INPUT": ["-i lo -j RETURN", "-j FLEET-USER", "-j DROP"]}}


def test_the_first_time_chains_are_made_and_hooked_before_all_others() -> None:
    live = firewall.parse(OTHERS.format(chains="", jump=""))
    assert firewall.payload(WANTED, live).splitlines() == [
        "*filter",
        ":FLEET-INPUT - [0:0]",
        ":FLEET-USER - [0:0]",
        *(f"-A FLEET-INPUT {rule}" for rule in WANTED["filter"]["FLEET-INPUT"]),
        "-I INPUT 1 -j FLEET-INPUT",
        "COMMIT",
    ]


def test_a_jump_behind_rules_that_let_nothing_in_stays_where_it_is() -> None:
    chains = ":FLEET-INPUT - [0:0]\n:FLEET-USER - [0:0]\n"
    live = firewall.parse(OTHERS.format(chains=chains, jump="-A INPUT -j FLEET-INPUT\n"))
    assert firewall.unhooked(live, WANTED) == []
    text = firewall.payload(WANTED, live)
    assert " INPUT " not in text
    assert ":FLEET-USER" not in text


def test_a_jump_behind_a_rule_that_lets_something_in_comes_before_it() -> None:
    live = firewall.parse("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp -j ACCEPT\n-A INPUT -j FLEET-INPUT\nCOMMIT\n")
    assert firewall.unhooked(live, WANTED) == ["filter INPUT FLEET-INPUT"]
    lines = firewall.payload(WANTED, live).splitlines()
    assert lines[-3:] == ["-D INPUT -j FLEET-INPUT", "-I INPUT 1 -j FLEET-INPUT", "COMMIT"]


def test_what_is_taken_away_is_ours_and_nothing_else() -> None:
    chains = ":FLEET-INPUT - [0:0]\n:FLEET-OLD - [0:0]\n:FLEET-USER - [0:0]\n"
    live = firewall.parse(OTHERS.format(chains=chains, jump="-A INPUT -j FLEET-INPUT\n"))
    assert firewall.payload({}, live).splitlines() == [
        "*filter",
        "-D INPUT -j FLEET-INPUT",
        "-F FLEET-INPUT",
        "-F FLEET-OLD",
        "-X FLEET-INPUT",
        "-X FLEET-OLD",
        "-X FLEET-USER",
        "COMMIT",
    ]


def test_an_operator_s_rules_outlive_the_role() -> None:
    live = firewall.parse(
        "*filter\n:FLEET-USER - [0:0]\n:FLEET-INPUT - [0:0]\n-A FLEET-USER -s 203.0.113.4/32 -j ACCEPT\nCOMMIT\n"
    )
    assert "FLEET-USER" not in firewall.payload({}, live)
    assert "FLEET-USER" not in firewall.own(live).get("filter", {})


def test_chains_survive_being_written_and_read() -> None:
    tables = firewall.own(firewall.parse(rendering.rules(policy(output_deny=True, synproxy=True))["v6"]))
    assert firewall.own(firewall.parse(firewall.text_of(tables))) == tables


@pytest.mark.parametrize("address", ["not an address", "10.0.0.0/4", "2001::/16", "0.0.0.0/0"])
def test_a_ban_of_nonsense_is_refused(address: str) -> None:
    with pytest.raises(firewall.FirewallError, match="allowed"):
        firewall.change_ban(address, 60)


@pytest.mark.parametrize("seconds", [0, -1, 2_147_484])
def test_a_ban_has_an_end(seconds: int) -> None:
    with pytest.raises(firewall.FirewallError, match="--seconds"):
        firewall.change_ban("203.0.113.9", seconds)


class Sets:
    """What ipset keeps, and what the journal is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.members: dict[str, dict[str, str]] = {"ban4": {}, "ban6": {}}
        self.said: list[str] = []
        monkeypatch.setattr(firewall, "run", self.run)
        monkeypatch.setattr(firewall, "set_names", lambda: {"ban4": 4, "ban6": 6})
        monkeypatch.setattr(firewall.syslog, "syslog", lambda _, line: self.said.append(line))

    def run(self, *argv: str, stdin: str = "") -> str:
        words = [word for word in argv if word != "-exist"]
        if words[1] == "add":
            self.members[words[2]][words[3]] = words[5]
        elif words[1] == "del":
            self.members[words[2]].pop(words[3], None)
        listed = "".join(
            f"{name.removesuffix('/32')} timeout {left}\n" for name, left in self.members[words[2]].items()
        )
        return f"Name: {words[2]}\nMembers:\n{listed}{stdin}"


@pytest.fixture
def sets(monkeypatch: pytest.MonkeyPatch) -> Sets:
    return Sets(monkeypatch)


def test_one_who_has_an_ipv6_address_is_banned_with_its_64(sets: Sets) -> None:
    firewall.change_ban("2001:db8:0:1::9", 60)
    firewall.change_ban("2001:db8::/48", 60)
    assert sets.members["ban6"] == {"2001:db8:0:1::/64": "60", "2001:db8::/48": "60"}
    firewall.change_ban("2001:db8:0:1::a", None)
    assert sets.members["ban6"] == {"2001:db8::/48": "60"}


def test_a_ban_does_not_shorten_a_longer_one(sets: Sets) -> None:
    firewall.change_ban("203.0.113.9", 3600, "an operator")
    assert firewall.change_ban("203.0.113.9", 60, "a program") == "203.0.113.9/32 is banned for 3600 s already"
    firewall.change_ban("203.0.113.9", 7200, "a program")
    assert sets.members["ban4"] == {"203.0.113.9/32": "7200"}
    assert [line.partition(", by ")[0] for line in sets.said] == [
        "ban 203.0.113.9/32 for 3600 s",
        "ban 203.0.113.9/32 for 7200 s",
    ]


def test_the_journal_is_told_who_and_why_in_one_line(sets: Sets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "ops")
    firewall.change_ban("203.0.113.9", 60, "a\nban 192.0.2.1/32 \x1b[31m" + "x" * 900)
    (line,) = sets.said
    assert line.startswith("ban 203.0.113.9/32 for 60 s, by ops: a?ban 192.0.2.1/32 ?[31mxx")
    assert len(line) == 400


def module() -> ModuleType:
    """The Ansible module, with the program in the place that Ansible gives it."""
    sys.modules["ansible.module_utils.fleet_firewall"] = firewall
    assert importlib.util.find_spec("ansible.module_utils.basic")
    return load_plugin("iptables", "library", "iptables_rules")


def test_rules_that_lock_their_own_connection_out_are_refused() -> None:
    lockout = module().lockout
    assert lockout(("192.0.2.7", PRIVATE, 22), ["192.0.2.0/24"], [22]) == ""
    assert lockout(("2001:db8:ad::1", V6[PRIVATE], 22), ["192.0.2.0/24", "2001:db8:ad::/48"], [22]) == ""
    assert lockout(None, ["192.0.2.0/24"], [22]) == ""
    assert "comes from 198.51.100.9, which the rules would lock out" in lockout(
        ("198.51.100.9", PRIVATE, 22), ["192.0.2.0/24"], [22]
    )
    assert lockout(("10.66.0.200", PRIVATE, 22), ["10.66.0.200"], [22], PRIVATE) == ""
    assert "catalogue_vpn_admins holds only 10.66.0.200" in lockout(
        (NEIGHBOUR, PRIVATE, 22), ["10.66.0.200"], [22], PRIVATE
    )
    assert "Ansible comes to 203.0.113.5 from 10.66.0.200, and not by the VPN" in lockout(
        ("10.66.0.200", "203.0.113.5", 22), ["10.66.0.200"], [22], PRIVATE
    )
    assert "SSH is reached on port 2222 here" in lockout(("192.0.2.7", PRIVATE, 2222), ["192.0.2.0/24"], [22])
