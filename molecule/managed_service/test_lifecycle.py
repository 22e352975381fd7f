"""What the role does over time: restart once, wait, refuse, remove."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.plays import Play, play

if TYPE_CHECKING:
    from testinfra.host import Host

DATA = "/data/dummies/lone"
LONE: dict[str, Any] = {
    "managed_service_name": "lone",
    "managed_service_command": ["/usr/local/bin/dummy-node", "--port=18600", f"--data={DATA}"],
    "managed_service_directories": [{"path": DATA}],
    "managed_service_read_write_paths": [DATA],
    "managed_service_listeners": [{"address": "127.0.0.1", "port": 18600, "protocol": "tcp"}],
    "managed_service_reads": ["/etc/dummy.conf"],
    "managed_service_environment": {"DUMMY": "first"},
}


def one(variables: dict[str, Any], *options: str) -> Play:
    """Include the role once, with a test's variables."""
    return play("managed_service", "one.yml", variables, *options)


@pytest.fixture(scope="module")
def lone(host: Host) -> Iterator[Host]:
    """A host with one more service, which is gone afterwards."""
    done = one(LONE)
    assert done.code == 0, done.output
    yield host
    one({**LONE, "managed_service_state": "absent"})


@pytest.fixture(scope="module")
def late() -> Iterator[dict[str, Any]]:
    """The variables of a service that the tests spoil in many ways."""
    variables = {
        "managed_service_name": "late",
        "managed_service_user": "dummy",
        "managed_service_command": ["/usr/local/bin/dummy-node", "--port=18601"],
        "managed_service_listeners": [{"address": "127.0.0.1", "port": 18601, "protocol": "tcp"}],
        "managed_service_ready_seconds": 3,
    }
    yield variables
    one({**variables, "managed_service_state": "absent"})


def starts(host: Host) -> int:
    return len(host.file(f"{DATA}/starts").content_string.splitlines())


def test_a_virgin_hosts_check_tells_what_would_come_and_changes_nothing(host: Host) -> None:
    done = one({**LONE, "managed_service_name": "never", "managed_service_user": "never"}, "--check", "--diff")
    assert done.code == 0, done.output
    assert "ExecStart=/usr/local/bin/dummy-node" in done.output
    assert done.changed >= 4
    assert not host.user("never").exists
    assert not host.file("/etc/systemd/system/never.service").exists


def test_where_the_kernel_has_apparmor_a_check_shows_the_profile_and_else_nothing_of_it_is_there(lone: Host) -> None:
    assert "AppArmor" not in lone.file("/etc/systemd/system/lone.service").content_string
    assert not lone.file("/etc/apparmor.d/fleet-lone").exists
    variables = {
        "managed_service_apparmor": True,
        "managed_service_apparmor_enforced": ["other"],
        "_managed_service_kernel_apparmor": "enabled",
    }
    done = one({**LONE, **variables}, "--check", "--diff")
    assert done.code == 0, done.output
    for line in ("profile fleet-lone flags=(attach_disconnected, complain) {", f"{DATA}{{,/**}}"):
        assert line in done.output
    assert "+AppArmorProfile=-fleet-lone" in done.output
    assert not lone.file("/etc/apparmor.d/fleet-lone").exists


def test_a_second_run_changes_nothing_and_restarts_nothing(lone: Host) -> None:
    before = starts(lone)
    done = one(LONE)
    assert (done.code, done.changed) == (0, 0), done.output
    assert starts(lone) == before


@pytest.mark.parametrize(
    "change",
    [
        {"managed_service_environment": {"DUMMY": "second"}},
        {"managed_service_nice": 3, "managed_service_environment": {"DUMMY": "third"}},
        {"managed_service_environment": {}},
        {"managed_service_changed": True},
    ],
)
def test_any_change_restarts_exactly_once(lone: Host, change: dict[str, Any]) -> None:
    before = starts(lone)
    done = one({**LONE, **change})
    assert done.code == 0, done.output
    assert starts(lone) == before + 1


def test_limits_and_weights_reach_a_running_service_without_a_restart(lone: Host) -> None:
    one(LONE)
    before = starts(lone)
    limited = {**LONE, "managed_service_placement": {"memory_max": "300M", "memory_high": "200M", "io_weight": 300}}
    assert one(limited).changed > 0
    known = lone.check_output("systemctl show lone --property=MemoryHigh,MemoryMax,IOWeight,NeedDaemonReload")
    assert set(known.splitlines()) == {
        f"MemoryHigh={200 * 2**20}",
        f"MemoryMax={300 * 2**20}",
        "IOWeight=300",
        "NeedDaemonReload=no",
    }
    assert one(limited).changed == 0
    assert starts(lone) == before
    # Another change restarts it as ever.
    assert one({**limited, "managed_service_nice": 4}).code == 0
    assert starts(lone) == before + 1


def test_a_file_changed_by_a_run_that_broke_off_still_restarts_once(lone: Host) -> None:
    one(LONE)
    before = starts(lone)
    lone.check_output("touch /etc/dummy.conf")
    assert one(LONE).changed == 1
    assert one(LONE).changed == 0
    assert starts(lone) == before + 1


def test_a_check_after_a_change_restarts_nothing(lone: Host) -> None:
    before = starts(lone)
    done = one({**LONE, "managed_service_nice": 7}, "--check", "--diff")
    assert (done.code, done.changed) == (0, 2), done.output
    assert starts(lone) == before


def test_a_killed_service_comes_back(lone: Host) -> None:
    before = starts(lone)
    lone.check_output("systemctl kill --signal=KILL lone.service")
    lone.check_output(f"timeout 15 sh -c 'until [ $(wc -l < {DATA}/starts) -gt {before} ]; do sleep 0.3; done'")
    assert lone.service("lone").is_running


@pytest.mark.parametrize(
    ("change", "sentences"),
    [
        (
            {"managed_service_ready_command": ["/usr/bin/sh", "-c", "echo still asleep; exit 1"]},
            ["late.service is not ready after 3 seconds", "still asleep", "dummy: listening on port 18601"],
        ),
        (
            {"managed_service_ready_command": ["/usr/bin/sh", "-c", "echo chain id 1, expected 10; exit 3"]},
            ["late.service will not become ready", "chain id 1, expected 10"],
        ),
        (
            {"managed_service_ready_command": ["/usr/bin/sleep", "100"]},
            ["late.service is not ready after 3 seconds"],
        ),
        (
            {
                "managed_service_command": ["/usr/local/bin/dummy-node", "--port=18601", "--die"],
                "managed_service_ready_seconds": 60,
            },
            ["late.service keeps ending", "last exit status 1", "dummy: I was told to die"],
        ),
        (
            {
                "managed_service_command": ["/usr/local/bin/dummy-node", "--port=18601", "--die"],
                "managed_service_restart": "no",
                "managed_service_ready_seconds": 60,
            },
            ["late.service has failed", "dummy: I was told to die"],
        ),
        (
            {"managed_service_credentials": [{"id": "key", "path": "/etc/none.secret"}]},
            ["The credential /etc/none.secret of late.service (managed_service_credentials) is not there"],
        ),
        (
            {"managed_service_listeners": [{"address": "127.0.0.50", "port": 18545, "protocol": "tcp"}]},
            [
                "127.0.0.50 port 18545/tcp, which late.service is to bind (managed_service_listeners), is held on managed_service by",
                "dummy-execution.service); stop that",
            ],
        ),
        (
            {"managed_service_sandbox": {"ProtectEverything": {"value": True, "reason": "why not"}}},
            ["systemd refuses late.service", "Unknown key", "ProtectEverything"],
        ),
        (
            {"managed_service_command": ["/usr/local/bin/absent-program"]},
            ["systemd refuses late.service", "/usr/local/bin/absent-program is not executable"],
        ),
        (
            {"managed_service_stop_seconds": 99999, "managed_service_nice": 40},
            [
                "managed_service_stop_seconds is 99999 (for the service late); allowed: 1 to 3600.",
                "managed_service_nice is 40",
            ],
        ),
        ({"managed_service_stop_seconds": "soon"}, ["managed_service_stop_seconds", "'soon'", "int"]),
        (
            {"managed_service_cpus": "0,900"},
            ["managed_service_cpus of late names CPU 900, which managed_service lacks; allowed: 0"],
        ),
    ],
    ids=[
        "not-ready",
        "hopeless",
        "hanging-question",
        "keeps-ending",
        "failed",
        "no-credential",
        "port",
        "directive",
        "program",
        "range",
        "type",
        "cpu",
    ],
)
def test_what_cannot_be_done_ends_with_one_sentence(
    late: dict[str, Any], change: dict[str, Any], sentences: list[str]
) -> None:
    done = one({**late, **change})
    assert done.code != 0
    for sentence in sentences:
        assert sentence in done.messages


def test_a_run_after_mending_succeeds(late: dict[str, Any]) -> None:
    done = one(late)
    assert done.code == 0, done.output


def test_a_taken_port_stops_the_play_before_anything_changes(host: Host) -> None:
    done = one(
        {
            "managed_service_name": "taker",
            "managed_service_command": ["/usr/local/bin/dummy-node", "--port=18545"],
            "managed_service_listeners": [{"address": "::", "port": 18545, "protocol": "tcp"}],
        }
    )
    assert (done.code, done.changed) == (2, 0)
    assert not host.user("taker").exists


def test_a_stopped_service_stays_stopped(lone: Host) -> None:
    stopped = {**LONE, "managed_service_state": "stopped"}
    assert one(stopped).code == 0
    assert not lone.service("lone").is_running
    assert not lone.service("lone").is_enabled
    assert one(stopped).changed == 0


def test_absent_removes_the_unit_and_keeps_user_and_data(lone: Host) -> None:
    gone = {**LONE, "managed_service_state": "absent"}
    assert one(LONE).code == 0
    assert one(gone).code == 0
    assert not lone.file("/etc/systemd/system/lone.service").exists
    assert not lone.file("/etc/default/lone").exists
    assert lone.run("systemctl cat lone.service").rc != 0
    assert lone.file(f"{DATA}/starts").exists
    assert lone.user("lone").exists
    assert one(gone).changed == 0
