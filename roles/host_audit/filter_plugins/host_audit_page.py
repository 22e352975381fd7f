"""The audit of a fleet as a page of Markdown, for who has to decide what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Entry = Mapping[str, Any]
NOT_JUDGED = "not judged"


def page(report: Entry) -> str:
    """The report as a page of Markdown."""
    lines = ["# Audit", "", f"Made {report['at']} (UTC). {_verdict(report)}", ""]
    lines += _table(
        (
            "Host",
            "Lynis index (of 100)",
            "CIS rules passed",
            "ssh-audit findings",
            "Worst unit's exposure (of 10)",
            "Mean exposure",
            "Sockets and ports outside the catalogue",
            "Failed",
            "Waived",
        ),
        ([name, *_figures(host)] for name, host in report["hosts"].items()),
    )
    for name, host in report["hosts"].items():
        lines += ["", f"## {name}", ""]
        lines += _host(host)
    if report["idle_waivers"]:
        lines += ["", f"Waivers that nothing needs any more: {', '.join(report['idle_waivers'])}."]
    return "\n".join(lines) + "\n"


def _host(host: Entry) -> list[str]:
    lines = _table(
        ("State", "Judge", "What", "Says", "Reason", "Since"),
        (
            [row["state"], row["judge"], row["name"], row["text"], row.get("reason", ""), row.get("date", "")]
            for row in sorted(host["findings"], key=lambda row: row["state"])
        ),
        otherwise="Nothing is held against the host.",
    )
    lines += ["", "### Controls", ""]
    lines += _table(
        ("Control", "State", "Why it is there"),
        ([row["name"], row["state"], row["reason"]] for row in host["controls"]),
    )
    lines += ["", "### Units", ""]
    lines += _table(
        ("Unit", "Exposure (of 10)", "Limit"),
        ([unit, str(value), str(host["limits"][unit])] for unit, value in host["units"].items()),
        otherwise="None of ours runs here.",
    )
    lines += ["", "### Files", "", _files(host["integrity"])]
    if host["stayed"]:
        lines += ["", f"Packages that came with the judges and stay: {', '.join(host['stayed'])}."]
    lines += ["", "### CIS benchmark", "", *_cis(host["cis"])]
    lines += ["", "### What lynis suggests", ""]
    return lines + _table(
        ("Test", "Suggestion"), ([row["id"], row["text"]] for row in host["lynis"]["suggestions"]), otherwise="Nothing."
    )


def _verdict(report: Entry) -> str:
    failed = sum(row["state"] == "failed" for host in report["hosts"].values() for row in host["findings"])
    if not failed:
        return "Everything holds, or is waived with a reason."
    return "1 finding is not waived." if failed == 1 else f"{failed} findings are not waived."


def _files(found: Entry | None) -> str:
    if not found:
        return "The host keeps no record of its files (the control file_integrity is off, or the host is not hardened)."
    return (
        f"Held against the last deployment's record at {found['checked_at']}: {len(found['open'])} open. Held against packages' sums at"
        f" {found['packages_checked_at']}: {len(found['packages'])} differ."
    )


def _cis(found: Entry | None) -> list[str]:
    if not found:
        return ["No judge held the host against it."]
    said = (
        f"OpenSCAP by the profile {found['profile']} of ssg-debian {found['content']}: {found['passed']} of {found['judged']} rules pass"
        f" ({found['percent']} %); {found['not_applicable']} do not apply to this host. Those that do not pass, with the reason where it is known:"
    )
    rows = ([row["id"], row["title"], row.get("reason", ""), row.get("date", "")] for row in found["failed"])
    return [said, "", *_table(("Rule", "Asks", "Why it is so", "Since"), rows)]


def _figures(host: Entry) -> list[str]:
    values = list(host["units"].values())
    states = [row["state"] for row in host["findings"]]
    return [
        str(host["lynis"]["index"]),
        f"{host['cis']['percent']} %" if host["cis"] else NOT_JUDGED,
        str(sum(row["judge"] == "ssh-audit" for row in host["findings"])),
        str(max(values, default="none")),
        f"{sum(values) / len(values):.2f}" if values else "none",
        str(sum(row["judge"] in ("listeners", "nmap") for row in host["findings"])),
        str(states.count("failed")),
        str(states.count("waived")),
    ]


def _table(titles: Iterable[str], rows: Iterable[Iterable[str]], otherwise: str = "none") -> list[str]:
    titles = list(titles)
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    if not cells:
        return [otherwise]
    return [f"| {' | '.join(row)} |" for row in [titles, ["---"] * len(titles), *cells]]


class FilterModule:
    """Ansible's way to find the filters."""

    def filters(self) -> dict[str, Any]:
        """The filters by name."""
        return {"host_audit_page": page}
