"""Who is never banned, what is refused, and that no jail waits for a reason that the edge does not write."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.plugins import ROLES, load_plugin

PLUGIN = load_plugin("detection", "filter_plugins", "detection")
DEFAULTS = yaml.safe_load((ROLES / "detection" / "defaults" / "main.yml").read_text())
VARS = yaml.safe_load((ROLES / "detection" / "vars" / "main.yml").read_text())
EDGE = ROLES / "nginx" / "files" / "edge"


def problems(**given: Any) -> list[str]:
    options = {name.removeprefix("detection_"): value for name, value in DEFAULTS.items()}
    found: list[str] = PLUGIN.problems({**options, "firewall": "present", **given}, "host1")
    return found


@pytest.mark.parametrize("state", ["present", "absent", "unmanaged"])
def test_the_defaults_can_be_carried_out(state: str) -> None:
    assert problems(state=state) == []


def test_no_host_bans_before_its_inventory_says_so() -> None:
    assert DEFAULTS["detection_state"] == "unmanaged"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"state": "on"}, "detection_state is 'on' on host 'host1'; allowed: present, absent, unmanaged."),
        ({"ban_seconds": 0}, "detection_ban_seconds is 0"),
        ({"edge_keys": True}, "detection_edge_keys is True"),
        ({"edge_rate": "600"}, "detection_edge_rate is '600'"),
        ({"ban_most_seconds": 3_000_000}, "allowed: a whole number from 5 to 2000000."),
        ({"ban_seconds": 600, "ban_most_seconds": 300}, "allowed: a first ban that is no longer than the longest."),
        ({"allowed_networks": ["10.0.0.0/99"]}, "detection_allowed_networks holds '10.0.0.0/99'"),
        ({"alert_hook": ["page", "x"]}, "detection_alert_hook begins with 'page'"),
        ({"state": "present", "firewall": "unmanaged"}, "because it is the firewall that bans"),
    ],
)
def test_what_cannot_be_carried_out_is_one_sentence(given: dict[str, Any], words: str) -> None:
    (problem,) = problems(**given)
    assert words in problem
    assert "allowed:" in problem


def test_loopback_and_the_link_are_always_let_alone() -> None:
    assert PLUGIN.allowed([]) == ["127.0.0.0/8", "169.254.0.0/16", "::1/128", "fe80::/10"]


def test_networks_are_written_as_fail2ban_reads_them_each_once() -> None:
    found = PLUGIN.allowed(["10.66.0.7/24", "10.66.0.0/24", "2001:db8::1", "no network", "192.0.2.1"])
    assert found == [
        "10.66.0.0/24",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "192.0.2.1/32",
        "::1/128",
        "2001:db8::1/128",
        "fe80::/10",
    ]


def test_jails_count_just_the_edge_s_offences_and_each_is_one_that_it_gives() -> None:
    counted = [reason for jail in VARS["_detection_all_edge_jails"].values() for reason in jail["reasons"]]
    refusals = (EDGE / "refusals.lua").read_text()
    offences = re.findall(r"(\w+) = true", refusals.partition("M.OFFENCES = {")[2].partition("}")[0])
    assert sorted(counted) == sorted(offences)
    given = {word for path in EDGE.glob("*.lua") for word in re.findall(r'"(\w+)"', path.read_text())}
    assert set(counted) <= given
    # A chain's ceiling for all callers, a missing node and a failure are no caller's fault.
    assert not {"ceiling", "no_node", "unreached", "node", "internal"} & set(counted)
