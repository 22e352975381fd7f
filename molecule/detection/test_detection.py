"""A stranger guesses at the edge and at SSH, and is banned for a while; nobody is banned for what somebody else wrote.

The tests follow each other.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest
import testinfra
from testinfra.host import Host

from lab import hosts, ssh
from lab.checkout import Checkout
from tests.plays import play
from tests.waiting import journal, until

NAME = "ethereum.rpc.lyftium.com"
CALL = '{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}'
# Nobody's; what hostile words name as the one to be banned.
VICTIM, VICTIM_V6 = "198.51.100.77", "2001:db8:bad::7"
OFFENCES = "/var/log/edge/offences.log"
HOSTILE = f'x","client":"{VICTIM}","network":"{VICTIM}/32","refused":"key'
# Takes a program's name, writes a line as that would, often, and lives on until journald has looked at who wrote it.
FORGE = """
import ctypes, sys, syslog, time
ctypes.CDLL(None).prctl(15, sys.argv[2].encode(), 0, 0, 0)
syslog.openlog(sys.argv[2], syslog.LOG_PID, syslog.LOG_AUTH)
for _ in range(6):
    syslog.syslog(sys.argv[1])
time.sleep(1)
"""
DETECTION = {
    "node_chains": ["ethereum"],
    "nginx_unlimited_networks": [],
    "detection_state": "present",
    "detection_ban_seconds": 300,
}


@pytest.fixture(scope="module")
def stranger() -> Host:
    return testinfra.get_host("ssh://detection-b", ssh_config=str(ssh.config(Checkout.here())), sudo=True)


@pytest.fixture(scope="module")
def address() -> str:
    return str(hosts.known(Checkout.here())["detection"].address)


@pytest.fixture(scope="module")
def stranger_address() -> str:
    return str(hosts.known(Checkout.here())["detection-b"].address)


@pytest.fixture(scope="module", autouse=True)
def nothing_has_happened(host: Host) -> None:
    """Forget what earlier runs of these tests have left, from which bans would grow."""
    host.check_output(
        "systemctl stop fail2ban && rm -f /var/lib/detection/* && truncate --size=0 %s && journalctl --quiet --rotate --vacuum-time=1s "
        "&& for one in $(fleet-firewall banned | cut -d' ' -f1); do fleet-firewall unban $one; done && systemctl start fail2ban "
        "&& until fail2ban-client get edge-rate findtime; do sleep 0.2; done",
        OFFENCES,
    )


@pytest.fixture(autouse=True)
def nobody_is_banned(host: Host) -> Iterator[None]:
    yield
    for address in banned(host):
        host.run("fail2ban-client unban %s", address.partition("/32")[0])
    assert banned(host) == {}


def banned(host: Host) -> dict[str, int]:
    """The firewall's bans and the seconds that they have left."""
    lines = [line.split() for line in host.check_output("fleet-firewall banned").splitlines()]
    return {words[0]: int(words[1]) for words in lines}


def counted(host: Host, jail: str) -> int:
    """Offences that a jail has counted since it was started."""
    return int(host.check_output("fail2ban-client status %s", jail).partition("Total failed:")[2].split()[0])


def audited(host: Host) -> list[str]:
    return journal(host, "--identifier=fleet-firewall").splitlines()


def ask(stranger: Host, address: str, *options: str, times: int = 1, path: str = "/", body: str = CALL) -> str:
    """Call the edge from the stranger's host; the HTTP statuses, 000 where it is not let in."""
    words = " ".join("%s" for _ in options)
    command = (
        f"for i in $(seq {times}); do curl --silent --insecure --max-time 2 --output /dev/null --write-out '%%{{http_code}} ' "
        f"--resolve %s --header content-type:application/json --data-raw %s {words} %s; done"
    )
    host = f"[{address}]" if ":" in address else address
    return str(stranger.run(command, f"{NAME}:8443:{host}", body, *options, f"https://{NAME}:8443{path}").stdout)


def guess(stranger: Host, address: str, times: int = 6) -> str:
    """Guess keys, with words in every place that a caller has which would name somebody else."""
    options = ("--header", "X-API-Key: guessed", "--header", f"X-Forwarded-For: {VICTIM}", "--user-agent", HOSTILE)
    return ask(stranger, address, *options, times=times)


def test_who_guesses_keys_is_banned_and_the_ban_ends_and_the_next_one_is_longer(
    host: Host, stranger: Host, address: str, stranger_address: str
) -> None:
    host.check_output("fail2ban-client set edge-keys bantime 8")
    assert guess(stranger, address).split() == ["401"] * 6
    # The ban is short: who looks at it elsewhere first may come too late to meet it.
    assert until(lambda: ask(stranger, address).strip() == "000")
    assert until(lambda: ask(stranger, address).strip() != "000")
    assert guess(stranger, address).split()[0] == "401"
    said = re.compile(rf"ban {stranger_address}/32 for (\d+) s, by fail2ban: detection, jail edge-keys, offences \d+")
    # What is left of it once it is carried out.
    assert any(found and 0 < int(found[1]) <= 8 for found in map(said.fullmatch, audited(host)))
    assert until(lambda: any(int(found[1]) > 8 for found in map(said.fullmatch, audited(host)) if found))
    host.check_output("fail2ban-client set edge-keys bantime 300")
    host.check_output("fail2ban-client unban %s", stranger_address)
    assert f"unban {stranger_address}/32, by fail2ban: detection, jail edge-keys" in audited(host)


def test_what_is_no_call_and_forbidden_methods_count_and_one_of_each_does_not(
    host: Host, stranger: Host, address: str, stranger_address: str
) -> None:
    forbidden = json.dumps({"jsonrpc": "2.0", "id": 1, "method": f"admin_{HOSTILE}", "params": []})
    assert ask(stranger, address, times=7, body=forbidden).split() == ["403"] * 7
    assert ask(stranger, address, times=7, body='{"not": "a call').split() == ["400"] * 7
    assert until(lambda: counted(host, "edge-methods") == 7 and counted(host, "edge-unreadable") == 7)
    assert banned(host) == {}
    ask(stranger, address, times=2, path=f"/{NAME}%22client%22{VICTIM}")
    assert until(lambda: set(banned(host)) == {stranger_address})


def test_one_who_has_an_ipv6_address_has_its_64(host: Host, stranger: Host) -> None:
    host.check_output("ip -6 address add 2001:db8:1::1/64 dev eth0 nodad")
    stranger.check_output(
        "ip -6 address add 2001:db8:1::9/64 dev eth0 nodad && ip -6 address add 2001:db8:1::a/64 dev eth0 nodad"
    )
    try:
        sources = ["2001:db8:1::9", "2001:db8:1::a"]
        for source in sources:
            got = ask(
                stranger, "2001:db8:1::1", "--interface", source, "--header", "X-API-Key: guessed", times=3
            ).split()
            assert got == ["401"] * 3
        assert until(lambda: set(banned(host)) == {"2001:db8:1::/64"})
        for source in sources:
            assert ask(stranger, "2001:db8:1::1", "--interface", source).strip() == "000"
    finally:
        host.run("ip -6 address del 2001:db8:1::1/64 dev eth0")
        stranger.run("ip -6 address flush dev eth0 scope global")


def test_an_administrator_is_not_banned_whatever_he_does(host: Host, stranger: Host, address: str) -> None:
    assert guess(testinfra.get_host("local://"), address, 10).split() == ["401"] * 10
    # Once the stranger's later one has been counted, his have been read.
    before = counted(host, "edge-keys")
    assert guess(stranger, address, 1).strip() == "401"
    assert until(lambda: counted(host, "edge-keys") == before + 1)
    assert banned(host) == {}


def test_lines_that_nobody_but_the_edge_could_write_are_held_to_their_form(host: Host) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sound: dict[str, object] = {
        "time": now,
        "chain": "ethereum",
        "client": "203.0.113.9",
        "network": "203.0.113.9/32",
        "transport": "http",
        "calls": 0,
        "methods": [],
        "key": None,
        "tier": "public",
        "status": 401,
        "refused": "key",
        "cache": None,
        "node": None,
    }

    def line(**changed: object) -> str:
        text = json.dumps({**sound, **changed}, separators=(",", ":"))
        return f'{text[:-1]},"seconds":0.001,"bytes":362}}'

    hostile = [line(**{field: HOSTILE}) for field in ("chain", "client", "network", "key", "tier", "node", "cache")]
    # As if the edge did not escape either.
    hostile += [text.replace("\\", "") for text in hostile]
    hostile += [
        line(methods=[HOSTILE]),
        line(refused="ceiling"),
        f"{line()} {VICTIM}",
        f"x{line()}",
        line(network=VICTIM + "/3x"),
    ]
    host.check_output("printf '%%s\n' %s > /tmp/lines.log", "\n".join([line(), *hostile]))
    said = host.check_output("fail2ban-regex --verbose /tmp/lines.log 'fleet-edge[reasons=key]'")
    assert f"Lines: {len(hostile) + 1} lines, 0 ignored, 1 matched" in said
    assert VICTIM not in said.partition("Ignoreregex:")[0].partition("Failregex:")[2]


def test_who_guesses_at_ssh_is_banned_and_one_whose_name_was_written_is_not(
    host: Host, stranger: Host, address: str, stranger_address: str
) -> None:
    host.check_output("iptables -A FLEET-USER -s %s -p tcp --dport 22 -j ACCEPT", stranger_address)
    try:
        # Whoever has a shell here may write to the journal what he likes, under any name.
        forged = f"Failed password for root from {VICTIM} port 22 ssh2"
        host.check_output("runuser -u ops -- python3 -c %s %s sshd", FORGE, forged)
        names = (f"root from {VICTIM} port 1 ssh2", f"a from {VICTIM_V6} port 22", "root")
        for user in names:
            options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes -o ConnectTimeout=5"
            stranger.run(f"timeout 15 ssh {options} -l %s %s true || true", user, address)
        assert until(lambda: set(banned(host)) == {stranger_address})
        assert forged in journal(host, "--identifier=sshd")
        # As long as a ban lasts it outlives who asked for it.
        host.check_output("systemctl restart fail2ban")
        assert set(banned(host)) == {stranger_address}
    finally:
        host.run("iptables -F FLEET-USER")


def test_offences_are_read_on_after_their_file_was_rotated(
    host: Host, stranger: Host, address: str, stranger_address: str
) -> None:
    host.check_output("logrotate --force /etc/logrotate.d/edge-offences")
    assert host.file(OFFENCES).mode == 0o640
    assert until(lambda: guess(stranger, address, 1).strip() == "000")
    assert set(banned(host)) == {stranger_address}


def told(host: Host) -> list[dict[str, str]]:
    text = journal(host, "--identifier=login-alerts")
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_what_is_done_with_accounts_is_told(host: Host) -> None:
    host.run("echo wrong | runuser -u nobody -- sudo -S id")
    host.check_output("userdel --remove eve 2>/dev/null; useradd --create-home eve")
    forged = f"Accepted publickey for root from {VICTIM} port 1 ssh2: ED25519 SHA256:x"
    host.check_output("runuser -u ops -- python3 -c %s %s sshd", FORGE, forged)
    shell = "pam_unix(su:session): session opened for user root(uid=0) by ops(uid=1000)"
    host.check_output("runuser -u nobody -- python3 -c %s %s su", FORGE, shell)
    refused = "     forger : command not allowed ; PWD=/ ; USER=root ; COMMAND=/usr/bin/id"
    host.check_output("runuser -u nobody -- python3 -c %s %s sudo", FORGE, refused)
    assert until(
        lambda: (
            any(alert["kind"] == "sudo_refused" and alert["user"] == "nobody" for alert in told(host))
            and any("name=eve" in alert.get("detail", "") for alert in told(host))
        )
    )
    alerts = told(host)
    assert not any(alert["kind"] == "root_login" or alert.get("user") == "forger" for alert in alerts)
    state = json.loads(host.check_output("cat /var/lib/login-alerts/state.json"))
    assert hosts.known(Checkout.here())["detection"].gateway in state["known"]["ops"]


def test_the_units_are_not_root_s_and_the_firewall_is_its_only_privilege(host: Host) -> None:
    shown = host.check_output("systemctl show fail2ban --property=User,CapabilityBoundingSet")
    assert set(shown.splitlines()) == {"CapabilityBoundingSet=cap_net_admin", "User=fail2ban"}
    assert "f2b" not in host.check_output("iptables-save; nft list ruleset 2>/dev/null || true")
    found = json.loads(host.check_output("systemd-analyze security --json=short --no-pager"))
    exposures = {row["unit"]: float(row["exposure"]) for row in found}
    assert exposures["fail2ban.service"] <= 2.0
    assert exposures["login-alerts.service"] <= 1.5


def test_who_reads_the_edge_s_log_does_not_read_its_key(host: Host) -> None:
    key = host.check_output("find /data/blockchain/nodes/security/ssl_keys/edge -type f -group www-data | head -1")
    assert host.run(f"runuser -u fail2ban -- cat {key}").rc == 0
    # What runs in the unit has its groups, and its view of the file system.
    inside = "nsenter --mount --target $(systemctl show fail2ban --property=MainPID --value) setpriv --reuid fail2ban --init-groups"
    assert host.run(f"{inside} --regid fail2ban cat {OFFENCES}").rc == 0
    done = host.run(f"{inside} --regid fail2ban cat {key}")
    assert done.rc != 0
    assert "Permission denied" in done.stderr


def test_without_a_firewall_that_bans_it_is_refused(host: Host) -> None:
    refused = play("detection", "detection.yml", {**DETECTION, "iptables_state": "unmanaged"})
    assert refused.code != 0
    assert "because it is the firewall that bans" in refused.messages
    assert host.service("fail2ban").is_running


def test_it_goes_whole(host: Host) -> None:
    gone = play("detection", "detection.yml", {**DETECTION, "detection_state": "absent"})
    assert gone.code == 0, gone.output
    assert not host.service("fail2ban").is_running
    assert not host.service("fail2ban").is_enabled
    assert not host.service("login-alerts").is_running
    assert "fleet" not in host.check_output("ls /etc/fail2ban/jail.d /etc/fail2ban/filter.d /etc/fail2ban/action.d")
