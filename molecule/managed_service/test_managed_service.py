"""The services that converge left behind: unit, sandbox, account, credentials, limits, placement."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.waiting import journal

if TYPE_CHECKING:
    from testinfra.host import Host

SERVICES = ["dummy-execution", "dummy-consensus", "dummy"]


def witness(host: Host, port: int) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(host.check_output(f"curl --silent --fail http://127.0.0.50:{port}/"))
    return shown


@pytest.mark.parametrize("name", SERVICES)
def test_service_runs_and_starts_at_boot(host: Host, name: str) -> None:
    assert host.service(name).is_running
    assert host.service(name).is_enabled


@pytest.mark.parametrize("name", SERVICES)
def test_sandbox_satisfies_systemds_own_judge(host: Host, name: str) -> None:
    shown = host.check_output(f"systemd-analyze security --no-pager {name}.service")
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", shown)
    assert exposure
    assert float(exposure[1]) <= 1.5


@pytest.mark.parametrize("name", SERVICES)
def test_unit_passes_systemds_verification(host: Host, name: str) -> None:
    assert host.run(f"systemd-analyze verify --man=no --recursive-errors=no /etc/systemd/system/{name}.service").rc == 0


def test_program_sees_its_arguments_and_environment_as_given(host: Host) -> None:
    seen = witness(host, 18545)
    assert seen["argv"] == [
        "--address=127.0.0.50",
        "--port=18545",
        "--data=/data/dummies/one/execution",
        "--secret=/run/credentials/dummy-execution.service/key",
        '--say=it\'s 100% "$HOME" \\ ; back',
    ]
    assert seen["environment"] == {
        "DUMMY_NUMBER": "7",
        "DUMMY_TEXT": 'it\'s 100% "$HOME" \\ `back`',
        "DUMMY_SECRET": "/run/credentials/dummy-execution.service/key",
    }


def test_program_gets_its_credential_and_nobody_else_does(host: Host) -> None:
    assert witness(host, 18545)["secret"] == hashlib.sha256(b"for the service's eyes only\n").hexdigest()
    assert host.run("setpriv --reuid=nobody --clear-groups cat /run/credentials/dummy-execution.service/key").rc != 0


def test_program_runs_with_the_limits_and_the_place_that_were_asked_for(host: Host) -> None:
    seen = witness(host, 18545)
    assert seen["nofile"] == [10000, 10000]  # what was asked for, cut at the host's ceiling
    assert (seen["nice"], seen["policy"], seen["cpus"]) == (5, 3, [0])
    assert seen["directory"] == "/data/dummies/one/execution"
    pid = host.check_output("systemctl show --property=MainPID --value dummy-execution.service")
    groups = host.check_output(f"grep ^Groups: /proc/{pid}/status").split()[1:]
    assert str(host.group("dummy-secrets").gid) in groups


def test_user_cannot_log_in(host: Host) -> None:
    user = host.user("dummy")
    assert user.uid < 1000
    assert user.shell == "/usr/sbin/nologin"
    assert host.check_output("passwd --status dummy").split()[1] == "L"
    assert witness(host, 18545)["uid"] == user.uid


@pytest.mark.parametrize(
    ("path", "owner", "mode"),
    [
        ("/data/dummies", "root", 0o755),
        ("/data/dummies/one", "root", 0o755),
        ("/data/dummies/one/execution", "dummy", 0o750),
        ("/data/dummies/one/shared", "root", 0o755),
    ],
)
def test_directories_belong_to_the_service_and_their_parents_let_all_pass(
    host: Host, path: str, owner: str, mode: int
) -> None:
    directory = host.file(path)
    assert (directory.user, directory.mode) == (owner, mode)


def test_unit_gives_the_reason_of_an_exception(host: Host) -> None:
    unit = host.file("/etc/systemd/system/dummy-execution.service").content_string
    assert "# Shows that an exception carries its reason.\nProtectHostname=no\n" in unit
    assert "ProtectHostname=yes" not in unit


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("KillSignal", "2"),
        ("TimeoutStopUSec", "20s"),
        ("CPUWeight", "50"),
        ("MemoryHigh", "209715200"),
        ("PartOf", "dummy.service"),
        ("RequiresMountsFor", "/data/dummies/one/execution"),
        ("Restart", "always"),
    ],
)
def test_systemd_holds_what_was_asked_for(host: Host, setting: str, value: str) -> None:
    shown = host.check_output(f"systemctl show --property={setting} --value dummy-execution.service")
    assert value in shown.split()


def test_lines_in_the_journal_carry_the_services_name(host: Host) -> None:
    assert "listening on port 18545" in journal(host, "--identifier=dummy-execution")


def test_service_cannot_write_elsewhere(host: Host) -> None:
    pid = host.check_output("systemctl show --property=MainPID --value dummy-execution.service")
    inside = f"nsenter --target {pid} --mount"
    assert host.run(f"{inside} touch /data/dummies/one/execution/x").rc == 0
    for path in ("/etc/x", "/usr/local/bin/x", "/data/dummies/one/shared/x", "/data/dummies/one/consensus/x"):
        assert "Read-only file system" in host.run(f"{inside} touch {path}").stderr


def test_nothing_failed_on_the_host(host: Host) -> None:
    assert host.check_output("systemctl list-units --failed --plain --no-legend") == ""
