"""What judges print is read as they print it, and held against limits, catalogue and waivers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.host_audit.filter_plugins import host_audit as audit

LYNIS = """# Lynis Report
lynis_version=3.0.8
warning[]=FIRE-4512|iptables module(s) loaded, but no rules active|-|-|
suggestion[]=SSH-7408|Consider hardening SSH configuration|MaxSessions (set 4 to 2)|-|
suggestion[]=ACCT-9622|Enable process accounting|-|-|
hardening_index=78
"""
SSH = """# general
(gen) banner: SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u10

# key exchange algorithms
(kex) sntrup761x25519-sha512                -- [warn] unknown algorithm
(kex) curve25519-sha256                     -- [info] available since OpenSSH 7.4
(mac) umac-64@openssh.com                   -- [warn] using encrypt-and-MAC mode
                                            `- [warn] using small 64-bit tag size
                                            `- [info] available since OpenSSH 4.7
(mac) hmac-sha1                             -- [fail] using broken SHA-1 hash algorithm
"""
SOCKETS = """udp   UNCONN 0      0            0.0.0.0:30303       0.0.0.0:*    users:(("erigon",pid=9,fd=3))
tcp   LISTEN 0      128          0.0.0.0:22          0.0.0.0:*    users:(("sshd",pid=50,fd=3))
tcp   LISTEN 0      128             [::]:22             [::]:*    users:(("sshd",pid=50,fd=4))
tcp   LISTEN 0      4096       127.0.0.1:8545        0.0.0.0:*    users:(("erigon",pid=9,fd=7))
udp   UNCONN 0      0      127.0.0.53%lo:53          0.0.0.0:*
tcp   LISTEN 0      4096               *:9000              *:*    users:(("other",pid=7,fd=1))
tcp   LISTEN 0      4096 [::ffff:10.0.0.1]:9110          *:*
"""
EVERYWHERE = audit.EVERY_ADDRESS[0]
LISTENERS = {
    "ssh": {"ssh": {"address": EVERYWHERE, "port": 22, "protocols": ["tcp"]}},
    "erigon": {
        "rpc": {"address": "127.0.0.1", "port": 8545, "protocols": ["tcp"]},
        "p2p": {"address": EVERYWHERE, "port": 30303, "protocols": ["tcp", "udp"]},
    },
    "node-health": {"http": {"address": "10.0.0.1", "port": 9110, "protocols": ["tcp"]}},
}


def test_lynis_index_warnings_and_suggestions_are_read() -> None:
    found = audit.lynis(LYNIS)
    assert found["index"] == 78
    assert found["warnings"] == [{"id": "FIRE-4512", "text": "iptables module(s) loaded, but no rules active"}]
    assert found["suggestions"][0]["text"] == "Consider hardening SSH configuration (MaxSessions (set 4 to 2))"


def test_a_lynis_that_was_cut_off_is_no_clean_report() -> None:
    with pytest.raises(ValueError, match="did not come to its end"):
        audit.lynis(LYNIS.replace("hardening_index=78\n", ""))


def test_every_failure_and_warning_of_an_algorithm_is_read() -> None:
    assert [(row["kind"], row["name"], row["level"]) for row in audit.ssh_audit(SSH)] == [
        ("kex", "sntrup761x25519-sha512", "warn"),
        ("mac", "umac-64@openssh.com", "warn"),
        ("mac", "umac-64@openssh.com", "warn"),
        ("mac", "hmac-sha1", "fail"),
    ]


def test_a_server_that_was_not_met_is_no_clean_report() -> None:
    with pytest.raises(ValueError, match="met no SSH server"):
        audit.ssh_audit("[exception] cannot connect to 127.0.0.1 port 22: [Errno 111] Connection refused\n")


def test_sockets_outside_the_catalogue_are_named_by_address_port_and_protocol() -> None:
    allowed = audit.allowed_listeners(LISTENERS, ["ssh", "erigon", "node-health"])
    names = [row["name"] for row in audit.unlisted(audit.sockets(SOCKETS), allowed)]
    assert names == ["udp 127.0.0.53:53", "tcp *:9000"]


def test_what_is_for_loopback_may_not_listen_everywhere() -> None:
    allowed = audit.allowed_listeners(LISTENERS, ["erigon"])
    everywhere = {"protocol": "tcp", "address": EVERYWHERE, "port": 8545, "process": "erigon"}
    elsewhere = {"protocol": "tcp", "address": "127.0.0.2", "port": 8545, "process": "erigon"}
    other = {"protocol": "udp", "address": "127.0.0.1", "port": 8545, "process": "erigon"}
    assert len(audit.unlisted([everywhere, elsewhere, other], allowed)) == 3


def test_a_service_that_the_host_does_not_run_allows_nothing() -> None:
    services = {"erigon": {"chain": "ethereum"}, "base": {"chain": "base"}}
    host_services = {"ssh": {}, "certbot": {}, "nginx": {"group": "edge"}, "node-health": {"group": "nodes"}}
    assert audit.services_of(services, host_services, ["base"], ["nodes"]) == ["base", "ssh", "node-health"]


@given(st.text(max_size=400))
def test_whatever_a_judge_prints_is_read_or_refused(text: str) -> None:
    for read in (audit.lynis, audit.ssh_audit):
        try:
            read(text)
        except ValueError:
            continue


NMAP = """# Nmap 7.93 scan initiated as: nmap -n -Pn -oG - 192.0.2.1
Host: 192.0.2.1 ()\tStatus: Up
Host: 192.0.2.1 ()\tPorts: 22/open/tcp//ssh///, 80/closed/tcp//http///, 8545/open/tcp//unknown///, 9999/open/tcp//x///\tIgnored State: filtered (65531)
# Nmap done
"""


def test_ports_that_are_open_from_outside_are_the_catalogue_s_for_others() -> None:
    allowed = audit.allowed_listeners(LISTENERS, ["ssh", "erigon"])
    assert audit.scanned(NMAP) == [22, 8545, 9999]
    one = NMAP.replace("8545/open", "8545/filtered")
    scans = [{"item": "192.0.2.7", "stdout": one}, {"item": "2001:db8::7", "stdout": NMAP}]
    found = audit.strange_ports(scans, allowed)
    assert [row["name"] for row in found] == ["tcp 8545", "tcp 9999"]
    assert "from outside at 2001:db8::7, and" in found[0]["text"]
    assert "from outside at 192.0.2.7 and 2001:db8::7, and" in found[1]["text"]


def test_a_scan_of_no_host_is_no_clean_report() -> None:
    with pytest.raises(ValueError, match="did not come to its end"):
        audit.scanned("# Nmap done at x -- 0 IP addresses scanned\n")


def test_units_have_limits_and_have_to_be_there() -> None:
    seen = audit.exposures('[{"unit":"erigon.service","exposure":"1.6","predicate":"OK","happy":"🙂"}]')
    found = audit.unit_findings(seen, ["erigon", "nginx"], {"default": 2.0, "erigon": 1.5})
    assert [row["text"] for row in found] == ["exposure 1.6 is above 1.5", "systemd has no such unit loaded"]


def test_a_waiver_counts_for_its_finding_and_host_alone() -> None:
    found = [audit.finding("lynis", "FIRE-4512", "no rules"), audit.finding("units", "FIRE-4512", "not lynis")]
    waiver = {"judge": "lynis", "name": "FIRE-4512", "reason": "upstream", "date": "2026-11-25", "host": "node1"}
    assert [row["state"] for row in audit.judged(found, [waiver], "node1")] == ["waived", "failed"]
    assert [row["state"] for row in audit.judged(found, [waiver], "node2")] == ["failed", "failed"]


def test_what_changed_outside_of_deployments_and_packages_is_held_against_the_host() -> None:
    found = {
        "open": {"/etc/cron.d/x": {"what": "added", "since": "2026-11-30T06:55:25Z"}},
        "packages": ["/usr/bin/ssh"],
        "checked_at": "2026-11-30T07:00:00Z",
        "packages_checked_at": "2026-11-30T07:00:01Z",
    }
    assert [(row["name"], row["text"]) for row in audit.integrity_findings(found)] == [
        ("/etc/cron.d/x", "added outside of a deployment, first seen 2026-11-30T06:55:25Z"),
        ("/usr/bin/ssh", "is not what its package installed"),
    ]
    assert audit.integrity_findings(None) == []


@pytest.mark.parametrize(
    ("waiver", "sentence"),
    [
        ({"judge": "lynis", "name": "X", "date": "2026-11-25"}, "has no reason"),
        ({"judge": "nessus", "name": "X", "reason": "r", "date": "2026-11-25"}, "has the judge nessus"),
        ({"judge": "lynis", "name": "X", "reason": "r", "date": "soon"}, "has the date soon"),
    ],
)
def test_a_waiver_without_reason_judge_or_day_is_refused(waiver: dict[str, str], sentence: str) -> None:
    assert sentence in audit.waiver_problems([waiver])[0]
