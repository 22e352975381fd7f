"""One host keeps what the other says, by the tunnel alone, and what it said while nobody kept it comes later.

The tests follow each other: the last one takes it away.
"""

from __future__ import annotations

import json
import secrets

import pytest
from testinfra.host import Host

from tests.plays import play
from tests.vpn import ADDRESS, NETWORK, reached
from tests.waiting import until

KEPT = "/var/log/journal/remote"
PORT = 19532
UNITS = {"wireguard": ["journal-upload"], "wireguard-b": ["journal-remote", "journal-remote-watch"]}
# Root on a host speaks to the keeper without its journal, as another host and of another time.
FALSE_LINE = """
import sys, time, urllib.request
address, line = sys.argv[1:]
entry = f"__REALTIME_TIMESTAMP={int((time.time() + 3e7) * 1e6)}\\nMESSAGE={line}\\n_HOSTNAME=wireguard-b\\nSYSLOG_IDENTIFIER=audisp-syslog\\n\\n"
type = {"Content-Type": "application/vnd.fdo.journal"}
urllib.request.urlopen(urllib.request.Request(f"http://{address}:19532/upload", entry.encode(), type), timeout=10)
"""
ASK = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1)"


@pytest.fixture(scope="module")
def keeper() -> Host:
    return reached("wireguard-b")


def say(host: Host) -> str:
    """A line in a host's journal, as auditd's own plugin writes its."""
    line = f"type=SYSCALL key=secrets {secrets.token_hex(8)}"
    host.check_output("logger --priority authpriv.info --tag audisp-syslog %s", line)
    return line


def kept(keeper: Host, line: str, name: str = "wireguard") -> list[str]:
    """What a host's files on the keeper have of a line: the host that each says it is of."""
    files = f"{KEPT}/remote-{ADDRESS[name]}[.@]*"
    found = keeper.run("journalctl --file=%s --output=json --identifier=audisp-syslog --grep=%s", files, line)
    return [json.loads(each)["_HOSTNAME"] for each in found.stdout.splitlines()]


def test_what_a_host_says_is_kept_by_another(host: Host, keeper: Host) -> None:
    line = say(host)
    assert until(lambda: kept(keeper, line) == ["wireguard"])
    assert keeper.check_output("stat -c '%%U %%a' %s", KEPT) == "journal-remote 2750"
    assert not host.file(KEPT).exists


def test_no_unit_of_it_may_more_than_the_others_of_the_host(host: Host, keeper: Host) -> None:
    for one, name in ((host, "wireguard"), (keeper, "wireguard-b")):
        for unit in UNITS[name]:
            one.check_output("systemd-analyze security --no-pager --threshold=20 %s", f"{unit}.service")
        # What Debian's package brings would listen on every address.
        theirs = one.run("systemctl is-enabled systemd-journal-remote.socket systemd-journal-gatewayd.socket").stdout
        assert theirs.split() == ["disabled", "disabled"]


def test_what_it_said_meanwhile_comes_later(host: Host, keeper: Host) -> None:
    keeper.check_output("systemctl stop journal-remote")
    line = say(host)
    # A sender that meets nobody ends, and is started again after ten seconds; here at once.
    host.run("systemctl restart journal-upload")
    keeper.check_output("systemctl start journal-remote")
    host.check_output("systemctl restart journal-upload")
    assert until(lambda: kept(keeper, line) == ["wireguard"])


def test_a_host_that_says_it_is_another_is_kept_as_itself(host: Host, keeper: Host) -> None:
    line = f"false {secrets.token_hex(8)}"
    host.check_output("python3 -c %s %s %s", FALSE_LINE, ADDRESS["wireguard-b"], line)
    assert until(lambda: kept(keeper, line) == ["wireguard-b"])
    assert {name.partition(".journal")[0].partition("@")[0] for name in keeper.check_output("ls %s", KEPT).split()} == {
        f"remote-{ADDRESS['wireguard']}"
    }


def test_nobody_else_is_heard_and_nothing_listens_but_in_the_tunnel(host: Host, keeper: Host) -> None:
    sockets = [line.split()[3] for line in keeper.check_output("ss -H -l -n -t").splitlines()]
    assert [each for each in sockets if each.endswith(f":{PORT}")] == [f"{ADDRESS['wireguard-b']}:{PORT}"]
    outside = keeper.check_output("hostname -I").split()[0]
    assert host.run("python3 -c %s %s %s", ASK, outside, str(PORT)).rc
    # A stranger who sends the tunnel's packets by the wire below it.
    stranger = reached("wireguard-c")
    stranger.check_output("ip route replace %s via %s", ADDRESS["wireguard-b"], outside)
    try:
        assert stranger.run("python3 -c %s %s %s", ASK, ADDRESS["wireguard-b"], str(PORT)).rc
    finally:
        stranger.check_output("ip route delete %s", ADDRESS["wireguard-b"])


def test_it_leaves_with_all_that_is_its_own_but_what_was_kept(host: Host, keeper: Host) -> None:
    given = {"catalogue_vpn_network": NETWORK, "node_chains": [], "central_log_state": "absent"}
    done = play("wireguard", "logs.yml", given)
    assert done.code == 0, done.messages
    own = "/etc/systemd/system/*journal-* /etc/systemd/journal-remote.conf.d/fleet.conf /var/lib/journal-upload /usr/local/sbin/central-log-watch"
    for one in (host, keeper):
        assert one.run(f"ls -d {own}").stdout == ""
    assert keeper.file(f"{KEPT}/remote-{ADDRESS['wireguard']}.journal").exists
    assert not [line for line in keeper.check_output("ss -H -l -n -t").splitlines() if f":{PORT}" in line]
