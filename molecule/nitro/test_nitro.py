"""Nitro runs Arbitrum, and comes through a disk that is full."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.chain_units import ChainUnits
from tests.plays import play

if TYPE_CHECKING:
    from testinfra.host import Host


class TestUnits(ChainUnits):
    CHAINS = ("arbitrum",)


DATA = "/data/blockchain/arbitrum"


@pytest.fixture
def small_disk(host: Host) -> Iterator[str]:
    """A file system of the chain's own with little room, in the place of its data."""
    host.check_output("systemctl stop arbitrum")
    host.check_output("mount -t tmpfs -o size=1m,mode=0750,uid=arbitrum,gid=arbitrum tmpfs %s", DATA)
    try:
        yield DATA
    finally:
        host.check_output("systemctl stop arbitrum && umount %s && systemctl start arbitrum", DATA)
        assert ready(host)


def ready(host: Host) -> bool:
    return bool(host.run("node-health wait --timeout 60 --config /etc/node_health/arbitrum.json").rc == 0)


def test_a_full_disk_is_said_in_the_client_s_words_and_room_mends_it(host: Host, small_disk: str) -> None:
    host.check_output("systemctl start arbitrum")
    assert ready(host)
    host.run("dd if=/dev/zero of=%s/fill bs=64k", small_disk)
    # systemd keeps starting it, and says so where a play or an operator asks.
    host.check_output(
        "timeout 60 sh -c 'until test $(systemctl show -p NRestarts --value arbitrum) -ge 2; do sleep 0.5; done'"
    )
    assert host.run("node-health check --config /etc/node_health/arbitrum.json").rc != 0
    done = play("nitro", "converge.yml", {})
    assert done.code != 0
    assert "No space left on device" in done.messages
    host.check_output("rm %s/fill", small_disk)
    assert ready(host)
