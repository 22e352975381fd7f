"""What falls gets up: each service after kill -9, everything after a reboot."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from lab import hosts, ssh
from lab.checkout import Checkout
from lab.podman import Podman
from lab.process import as_root, run
from tests.e2e.conftest import CHAINS, SERVICES, Host, wait_for

UNITS = [*SERVICES, "node-health", "nginx", "strategy_engine", "analytics_engine"]


def main_pid(mev1: Host, unit: str) -> int:
    return int(mev1.run(f"systemctl show --property MainPID --value {unit}.service"))


def active(mev1: Host, unit: str) -> bool:
    return mev1.run(f"systemctl is-active {unit}.service", check=False) == "active"


def answers(rpc: Callable[..., Any], chain: str) -> bool:
    found: int = int(rpc(chain, "eth_chainId"), 16)
    return bool(found == CHAINS[chain]["id"])


def all_back(mev1: Host, rpc: Callable[..., Any]) -> None:
    for unit in UNITS:
        wait_for(f"{unit}.service", partial(active, mev1, unit), 180)
    for chain in CHAINS:
        wait_for(f"{chain} behind the edge", partial(answers, rpc, chain))


def included(mev1: Host) -> int:
    return sum(int(total["states"]["included"]) for total in mev1.mev("pnl")["totals"])


def booted(mev1: Host) -> str:
    """When this run of systemd began: a container's boot id is its machine's."""
    return mev1.run("systemctl show --property UserspaceTimestampMonotonic --value")


@pytest.mark.parametrize("unit", UNITS)
def test_kill_9_of_a_service_brings_it_back(unit: str, mev1: Host) -> None:
    before = main_pid(mev1, unit)
    assert before > 0
    mev1.run(f"kill -9 {before}")
    wait_for(f"{unit}.service", lambda: active(mev1, unit) and main_pid(mev1, unit) not in (0, before), 120)


@pytest.mark.parametrize("chain", ["base", "optimism"])
def test_restarting_a_pair_restarts_both_and_its_status_knows_both(chain: str, mev1: Host) -> None:
    members = [f"{chain}-execution", f"{chain}-consensus"]
    before = [main_pid(mev1, member) for member in members]
    mev1.run(f"systemctl restart {chain}.service", timeout=120)
    wait_for(f"{chain}.service", lambda: active(mev1, chain))
    assert all(main_pid(mev1, member) not in (0, old) for member, old in zip(members, before, strict=True))
    wait_for(
        "A status of both", lambda: all(member in mev1.run(f"systemctl status {chain}.service") for member in members)
    )


def test_a_pair_is_not_active_while_a_member_is_down(mev1: Host) -> None:
    mev1.run("systemctl stop base-consensus.service")
    try:
        wait_for("base.service to notice", lambda: not active(mev1, "base"))
    finally:
        mev1.run("systemctl start base-consensus.service")
    wait_for("base.service to come back", lambda: active(mev1, "base"))


def test_everything_is_back_after_a_reboot(mev1: Host, rpc: Callable[..., Any]) -> None:
    boot, trades = booted(mev1), included(mev1)
    mev1.run("systemctl reboot", check=False)
    wait_for("A new boot", lambda: booted(mev1) != boot, 180)
    all_back(mev1, rpc)
    assert included(mev1) >= trades


def test_the_engine_trades_again_after_all_this(mev1: Host) -> None:
    trades = included(mev1)
    wait_for("A further arbitrage", lambda: included(mev1) > trades, 240)


def test_the_lab_makes_a_host_anew_that_only_podman_s_list_remembers() -> None:
    """As after a restart of a machine whose /run is not emptied by it."""
    checkout, podman = Checkout.here(), Podman(Checkout.here())
    hosts.ensure_host(checkout, "revenant")
    try:
        [state] = podman.json("container", "inspect", "--format", "[{{json .State}}]", checkout.container("revenant"))
        # The shell's own kill: a bare machine has no program of that name.
        run(as_root(["sh", "-c", f"kill -9 {state['ConmonPid']} {state['Pid']}"]))
        assert hosts.ensure_host(checkout, "revenant")
        assert ssh.run_on(checkout, "revenant", "hostname").strip() == "revenant"
    finally:
        hosts.remove_host(checkout, "revenant")
