"""What OpenSCAP prints is read as it prints it; a judge that broke off is no host that passes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.host_audit.filter_plugins.host_audit_cis import cis, cis_findings, explained

# As oscap 1.3.7 prints it, where standard output is no terminal.
OUTPUT = """--- Starting Evaluation ---

Title\r\t/tmp has nodev
Rule\r\txccdf_org.ssgproject.content_rule_mount_option_tmp_nodev
Result\r\tpass

Title\r\tSomething with a reference
Rule\r\txccdf_org.ssgproject.content_rule_package_telnet_removed
Ident\r\tCCE-1
Result\r\tfail

Title\r\tA kernel's value
Rule\r\txccdf_org.ssgproject.content_rule_sysctl_x
Result\r\tnotapplicable

Title\r\tBroken
Rule\r\txccdf_org.ssgproject.content_rule_broken
Result\r\terror
"""


def test_rules_that_do_not_apply_count_neither_way_and_errors_are_failures() -> None:
    found = cis(OUTPUT)
    assert (found["passed"], found["judged"], found["percent"], found["not_applicable"]) == (1, 3, 33.3, 1)
    assert found["failed"] == [
        {"id": "package_telnet_removed", "title": "Something with a reference", "result": "fail"},
        {"id": "broken", "title": "Broken", "result": "error"},
    ]


def test_a_benchmark_for_another_debian_judges_nothing_and_is_no_pass() -> None:
    with pytest.raises(ValueError, match="judged no rule"):
        cis(OUTPUT.replace("pass", "notapplicable").replace("fail", "notapplicable").replace("error", "notchecked"))


def test_a_failed_rule_has_the_first_reason_that_names_it_and_stays_failed() -> None:
    reasons = [
        {"rules": ["package_*_removed"], "reason": "needed", "date": "2026-11-30"},
        {"rules": ["package_telnet_removed", "sysctl_x"], "reason": "late", "date": "2026-11-30"},
    ]
    found = explained(cis(OUTPUT), reasons)
    assert found is not None
    assert [row.get("reason") for row in found["failed"]] == ["needed", None]
    assert found["percent"] == 33.3
    assert explained(None, reasons) is None


def test_too_few_rules_and_a_judge_that_broke_off_are_held_against_the_host() -> None:
    found = {**cis(OUTPUT), "content": "0.1.82-1"}
    assert cis_findings(found, "", 33.3, "") == []
    assert cis_findings(found, "", 34, "0.1.82-1")[0]["text"] == "33.3 % of its rules pass, below 34"
    assert cis_findings(None, "no way out\n", 0, "") == [
        {"judge": "cis", "name": "judge", "text": "OpenSCAP did not judge: no way out"}
    ]
    assert cis_findings(None, "", 63, "0.1.82-1") == []


def test_rules_of_another_version_are_a_finding_of_their_own() -> None:
    (finding,) = cis_findings({**cis(OUTPUT), "content": "0.1.83-1"}, "", 0, "0.1.82-1")
    assert (finding["judge"], finding["name"]) == ("cis", "content")
    assert "ssg-debian 0.1.83-1, and host_audit_cis_floor was measured with 0.1.82-1" in finding["text"]


@given(st.text(max_size=400))
def test_whatever_openscap_prints_is_read_or_refused(text: str) -> None:
    try:
        cis(text)
    except ValueError:
        return
