"""One unit for a pair: it restarts both, tells the truth about both, and comes back with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.plays import play

if TYPE_CHECKING:
    from testinfra.host import Host

MEMBERS = ["dummy-execution", "dummy-consensus"]


def run_ids(host: Host, *names: str) -> list[str]:
    return [host.check_output(f"systemctl show --property=InvocationID --value {name}.service") for name in names]


def wait_for(host: Host, state: str, name: str = "dummy", seconds: int = 30) -> None:
    host.check_output(
        f"timeout {seconds} sh -c 'until [ $(systemctl show --property=ActiveState --value {name}.service) = {state} ]; do sleep 0.3; done'"
    )


@pytest.fixture(autouse=True)
def standing(host: Host) -> None:
    host.check_output("systemctl start dummy-execution.service dummy-consensus.service")
    wait_for(host, "active")


def test_restarting_the_pairs_unit_restarts_both_members(host: Host) -> None:
    before = run_ids(host, *MEMBERS)
    host.check_output("systemctl restart dummy.service")
    assert not set(before) & set(run_ids(host, *MEMBERS))
    assert all(host.service(name).is_running for name in [*MEMBERS, "dummy"])


def test_stopping_and_starting_the_pairs_unit_takes_the_members_along(host: Host) -> None:
    host.check_output("systemctl stop dummy.service")
    wait_for(host, "inactive", "dummy-execution")
    wait_for(host, "inactive", "dummy-consensus")
    host.check_output("systemctl start dummy.service")
    assert all(host.service(name).is_running for name in [*MEMBERS, "dummy"])


def test_its_status_speaks_of_both_members(host: Host) -> None:
    host.check_output(
        "timeout 10 sh -c 'until systemctl status dummy.service | grep -q \"Status:.*execution in_step.*consensus in_step\"; do sleep 0.3; done'"
    )


@pytest.mark.parametrize("stopping", ["systemctl stop", "systemctl kill --signal=STOP"], ids=["stopped", "hanging"])
def test_it_is_not_active_while_a_member_is_away_and_leaves_the_other_alone(host: Host, stopping: str) -> None:
    other = run_ids(host, "dummy-execution")
    host.check_output(f"{stopping} dummy-consensus.service")
    try:
        wait_for(host, "failed")
        assert host.run("systemctl is-active dummy.service").stdout.strip() == "failed"
        assert (
            host.service("dummy-recovery").is_running
            or "activating" in host.run("systemctl is-active dummy-recovery").stdout
        )
        assert run_ids(host, "dummy-execution") == other
    finally:
        host.run("systemctl kill --signal=CONT dummy-consensus.service")
        host.check_output("systemctl start dummy-consensus.service")
    wait_for(host, "active")
    assert run_ids(host, "dummy-execution") == other


def test_a_short_absence_is_forgiven(host: Host) -> None:
    before = run_ids(host, "dummy")
    host.check_output("systemctl kill --signal=KILL dummy-consensus.service")
    wait_for(host, "active", "dummy-consensus")
    host.check_output("sleep 4")
    assert run_ids(host, "dummy") == before


def test_a_change_of_the_pairs_own_unit_leaves_the_members_running(host: Host) -> None:
    host.check_output("systemctl restart dummy.service")
    members, own = run_ids(host, *MEMBERS), run_ids(host, "dummy")
    host.check_output("touch /etc/node_health/dummy.json")
    done = play("managed_service", "converge.yml", {})
    assert (done.code, done.changed) == (0, 1), done.output
    assert run_ids(host, *MEMBERS) == members
    assert run_ids(host, "dummy") != own
