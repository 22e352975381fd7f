"""What OpenSCAP says of a host by a profile of the CIS benchmark, and how much of it a host passes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

PREFIX = "xccdf_org.ssgproject.content_rule_"
PASSED = ("pass", "fixed")
HELD_AGAINST = ("fail", "error", "unknown")
FIELD = re.compile(r"(?P<key>Title|Rule|Result)[\r\t ]+(?P<value>.*\S)")


def cis(output: str) -> dict[str, Any]:
    """`oscap xccdf eval` as {passed, judged: counts, percent: with one decimal, not_applicable, failed: [{id, title, result}]}.

    What does not apply to the host, and what OpenSCAP leaves to people, counts neither way; an error counts as a failure. ValueError where
    no rule was judged.
    """
    rows: list[dict[str, str]] = []
    row: dict[str, str] = {}
    for line in output.split("\n"):
        match = FIELD.fullmatch(line.strip())
        if not match:
            continue
        row[match["key"]] = match["value"]
        if match["key"] == "Result":
            rows.append(
                {
                    "id": row.get("Rule", "").removeprefix(PREFIX),
                    "title": row.get("Title", ""),
                    "result": row["Result"],
                }
            )
            row = {}
    passed = sum(each["result"] in PASSED for each in rows)
    failed = [each for each in rows if each["result"] in HELD_AGAINST]
    judged = passed + len(failed)
    if not judged:
        msg = "OpenSCAP judged no rule: its content is not this Debian's, or it did not come to its end."
        raise ValueError(msg)
    return {
        "passed": passed,
        "judged": judged,
        "percent": 1000 * passed // judged / 10,
        "not_applicable": sum(each["result"] == "notapplicable" for each in rows),
        "failed": failed,
    }


def explained(found: Mapping[str, Any] | None, reasons: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What `cis` found, its failed rules with the reason and date of the first entry of [{rules: patterns, reason, date}] that names them."""
    if not found:
        return None
    reasons = list(reasons)
    rows = []
    for row in found["failed"]:
        known = next((each for each in reasons if any(fnmatchcase(row["id"], rule) for rule in each["rules"])), None)
        rows.append({**row, "reason": known["reason"], "date": str(known["date"])} if known else dict(row))
    return {**found, "failed": rows}


def cis_findings(found: Mapping[str, Any] | None, missing: str, floor: float, content: str) -> list[dict[str, str]]:
    """What is held against a host: a share of passed rules below the floor, that it was judged by other rules than `content`'s (if any), or by nobody."""
    if missing:
        return [{"judge": "cis", "name": "judge", "text": f"OpenSCAP did not judge: {missing.strip()}"}]
    said = {}
    if found and content and found["content"] != content:
        said["content"] = (
            f"its rules are those of ssg-debian {found['content']}, and host_audit_cis_floor was measured with {content}; look at what has changed, then name the"
            " new one in host_audit_cis_content"
        )
    if found and found["percent"] < floor:
        said["percent"] = f"{found['percent']} % of its rules pass, below {floor}"
    return [{"judge": "cis", "name": name, "text": text} for name, text in said.items()]


class FilterModule:
    """Ansible's way to find the filters."""

    def filters(self) -> dict[str, Any]:
        """The filters by name."""
        return {"host_audit_cis": cis, "host_audit_cis_explained": explained, "host_audit_cis_findings": cis_findings}
