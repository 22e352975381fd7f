"""One host keeps what the other says, by the tunnel alone, and what it said while nobody kept it comes later."""

from __future__ import annotations

import json
import secrets

import pytest
from testinfra.host import Host

from tests.vpn import ADDRESS, reached, until

KEPT = "/var/log/journal/remote"
PORT = 19532


@pytest.fixture(scope="module")
def keeper() -> Host:
    return reached("wireguard-b")


def say(host: Host) -> str:
    """A line in a host's journal, as auditd's own plugin writes its."""
    line = f"type=SYSCALL key=secrets {secrets.token_hex(8)}"
    host.check_output("logger --priority authpriv.info --tag audisp-syslog %s", line)
    return line


def kept(keeper: Host, line: str) -> list[str]:
    """The hosts that have said a line, by the keeper's files."""
    found = keeper.run("journalctl --directory=%s --output=json --identifier=audisp-syslog --grep=%s", KEPT, line)
    return [json.loads(each)["_HOSTNAME"] for each in found.stdout.splitlines()]


def test_what_a_host_says_is_kept_by_another(host: Host, keeper: Host) -> None:
    line = say(host)
    assert until(lambda: kept(keeper, line) == ["wireguard"])
    assert keeper.check_output("stat -c '%%U %%a' %s", KEPT) == "journal-remote 2750"
    assert keeper.file(f"{KEPT}/remote-{ADDRESS['wireguard']}.journal").exists


def test_what_it_said_meanwhile_comes_later(host: Host, keeper: Host) -> None:
    keeper.check_output("systemctl stop journal-remote")
    line = say(host)
    # A sender that meets nobody is started again, and again.
    host.check_output("systemctl restart --no-block journal-upload")
    keeper.check_output("systemctl start journal-remote")
    assert until(lambda: kept(keeper, line) == ["wireguard"])
    assert host.run("systemctl is-active journal-upload").stdout.strip() == "active"


def test_nobody_else_is_heard_and_nothing_listens_but_in_the_tunnel(host: Host, keeper: Host) -> None:
    sockets = [line.split()[3] for line in keeper.check_output("ss -H -l -n -t").splitlines()]
    assert [each for each in sockets if each.endswith(f":{PORT}")] == [f"{ADDRESS['wireguard-b']}:{PORT}"]
    outside = keeper.check_output("hostname -I").split()[0]
    ask = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)"
    assert host.run("python3 -c %s %s %s", ask, outside, str(PORT)).rc
    # A stranger who sends the tunnel's packets by the wire below it.
    stranger = reached("wireguard-c")
    stranger.check_output("ip route replace %s via %s", ADDRESS["wireguard-b"], outside)
    try:
        assert stranger.run("python3 -c %s %s %s", ask, ADDRESS["wireguard-b"], str(PORT)).rc
    finally:
        stranger.check_output("ip route delete %s", ADDRESS["wireguard-b"])
    assert not host.file("/var/log/journal/remote").exists
