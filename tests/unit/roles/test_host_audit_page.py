"""The audit's page says all that an operator has to decide on."""

from __future__ import annotations

from typing import Any

from roles.host_audit.filter_plugins import host_audit as audit
from roles.host_audit.filter_plugins.host_audit_page import page

CIS = {
    "passed": 2,
    "judged": 3,
    "percent": 66.6,
    "not_applicable": 7,
    "failed": [
        {"id": "no_rsh", "title": "Remove rsh", "result": "fail"},
        {"id": "no_cron", "title": "Have cron", "result": "fail", "reason": "timers", "date": "2026-11-30"},
    ],
    "profile": "cis_level1_server",
    "content": "0.1.82-1",
}


def host(found: list[dict[str, str]], waivers: list[dict[str, str]], **more: Any) -> dict[str, Any]:
    return {
        "findings": audit.judged(found, waivers, "node1"),
        "lynis": {"index": 78, "warnings": [], "suggestions": [{"id": "ACCT-9622", "text": "Enable it"}]},
        "cis": CIS,
        "units": {"erigon.service": 1.1},
        "limits": audit.unit_limits({"erigon.service": 1.1}, {"default": 2.0, "erigon": 1.5}),
        "controls": [{"name": "login_banner", "state": "off", "reason": "told"}],
        "integrity": None,
        "stayed": [],
        **more,
    }


def test_the_page_says_what_failed_what_is_waived_and_which_waiver_is_idle() -> None:
    found = [
        audit.finding("lynis", "index", "hardening index 70 is below 78"),
        audit.finding("listeners", "tcp *:9", "a|b"),
    ]
    waivers = [
        {"judge": "listeners", "name": "tcp *:9", "reason": "known", "date": "2026-11-25"},
        {"judge": "lynis", "name": "OLD-1", "reason": "was", "date": "2020-01-01"},
    ]
    hosts = {"node1": host(found, waivers, stayed=["e2fsprogs", "logsave"])}
    text = page({"at": "2026-11-25 17:00", "hosts": hosts, "idle_waivers": audit.idle_waivers(waivers, hosts)})
    assert "1 finding is not waived." in text
    assert "| node1 | 78 | 66.6 % | 0 | 1.1 | 1.10 | 1 | 1 | 1 |" in text
    assert "| waived | listeners | tcp *:9 | a\\|b | known | 2026-11-25 |" in text
    assert "| login_banner | off | told |" in text
    assert "| erigon.service | 1.1 | 1.5 |" in text
    assert "Packages that came with the judges and stay: e2fsprogs, logsave." in text
    assert "2 of 3 rules pass (66.6 %); 7 do not apply to this host." in text
    assert "| no_rsh | Remove rsh |  |  |" in text
    assert "| no_cron | Have cron | timers | 2026-11-30 |" in text
    assert "Waivers that nothing needs any more: lynis OLD-1." in text


def test_a_host_that_nobody_held_against_cis_is_not_shown_as_one_that_passes() -> None:
    text = page({"at": "2026-11-25 17:00", "hosts": {"node1": host([], [], cis=None)}, "idle_waivers": []})
    assert "Everything holds, or is waived with a reason." in text
    assert "Nothing is held against the host." in text
    assert "| node1 | 78 | not judged | 0 | 1.1 | 1.10 | 0 | 0 | 0 |" in text
    assert "No judge held the host against it." in text
