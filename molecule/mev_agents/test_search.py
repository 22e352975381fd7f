"""No secret of the host stands where others could read it: processes, units, journal, logs, files that are open to all, a play's output."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests import secrets_fleet as fleet
from tests.plays import play

if TYPE_CHECKING:
    from testinfra.host import Host

UNIT = "leak-decoy"
PLANT = """
import os, pathlib, subprocess
value = os.environ.pop("DECOY")
pathlib.Path("/etc/systemd/system/%(unit)s.service").write_text(
    f"[Service]\\nEnvironment=TOKEN={value}\\nExecStart=/bin/sh -c 'sleep 300; :' {value.upper()}\\n")
subprocess.run(["systemctl", "daemon-reload"], check=True)
subprocess.run(["systemctl", "start", "%(unit)s.service"], check=True)
subprocess.run(["logger", "--tag", "%(unit)s"], input=value.encode(), check=True)
pathlib.Path("/var/log/%(unit)s.log").write_text(value)
os.chmod("/var/log/%(unit)s.log", 0o600)
pathlib.Path("/etc/%(unit)s.conf").write_text("password=" + value)
pathlib.Path("/run/%(unit)s-shut").write_text(value)
os.chmod("/run/%(unit)s-shut", 0o600)
""" % {"unit": UNIT}  # noqa: UP031 - the script has braces of its own


@contextmanager
def planted(decoy: str) -> Iterator[None]:
    try:
        fleet.on_host(f"import os\nos.environ['DECOY'] = {decoy!r}\n{PLANT}")
        yield
    finally:
        fleet.on_host(
            f"import subprocess\nsubprocess.run('systemctl stop {UNIT}; rm -f /etc/systemd/system/{UNIT}.service /etc/{UNIT}.conf "
            f"/run/{UNIT}-shut /var/log/{UNIT}.log; systemctl daemon-reload', shell=True)"
        )


def test_no_secret_is_found_and_what_is_planted_is() -> None:
    decoy = secrets.token_hex(24)
    with planted(decoy):
        said = fleet.search(decoy)
    assert said["secrets"] == [
        "bus_password",
        "control_token",
        "database_password",
        "decoy",
        "edge_certificate",
        "edge_given_key",
        "jwt ethereum",
    ]
    # Each place was looked at, and would have told.
    assert {where for where, name in said["leaks"] if name == "decoy"} == {
        "process environ",
        "process cmdline",
        "systemctl show",
        "systemctl cat",
        "journal",
        f"file /var/log/{UNIT}.log",
        f"file /etc/{UNIT}.conf",
        f"file /etc/systemd/system/{UNIT}.service",
    }
    assert [leak for leak in said["leaks"] if leak[1] != "decoy"] == []
    assert said["looked"]["process environ"] > 10
    assert said["looked"]["file"] > 1000


def test_a_play_that_brings_a_secret_says_none_of_it(host: Host) -> None:
    keys = f"{fleet.SECURITY}/signing_keys"
    # Of a builder that an inventory named once.
    unnamed = [f"{keys}/submitter_{kind}_ethereum_gone" for kind in ("identity", "url")]
    former = secrets.token_hex(32)
    for path in unnamed:
        host.check_output("umask 0077 && echo %s > %s", former, path)
    told = play(fleet.SCENARIO, "../../playbooks/mev.yml", fleet.VARIABLES, "--check", "--diff")
    assert told.code == 0, told.messages
    assert [path for path in unnamed if f'"path": "{path}"' not in told.output] == []
    assert told.changed >= 1
    assert [path for path in unnamed if not host.file(path).exists] == []
    host.check_output("rm %s/redis_password", keys)
    done = play(fleet.SCENARIO, "../../playbooks/mev.yml", fleet.VARIABLES, "--diff", "-vvv")
    assert done.code == 0, done.messages
    assert host.file(f"{keys}/redis_password").exists
    assert [path for path in unnamed if host.file(path).exists] == []
    assert host.check_output("ls %s", keys).split() == ["control_token", "postgres_password", "redis_password"]
    assert former not in told.output + done.output
    # Where it is may be said: this was a run that placed it.
    assert "redis_password" in done.output
    values = [
        host.check_output("cat %s", f"{fleet.SECURITY}/{name}").strip()
        for name in ("signing_keys/redis_password", "jwt_secrets/ethereum.hex")
    ]
    assert all(len(value) >= 32 for value in values)
    assert [value for value in values if value in done.output] == []
