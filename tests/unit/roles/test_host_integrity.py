"""What of a host's changes is a deployment's and what is a finding, with AIDE's words in the place of AIDE."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from roles.host_hardening.files import host_integrity as program


class Host:
    """What differs from the database on the host, and what the journal was told."""

    def __init__(self) -> None:
        self.differs: dict[str, str] = {}
        self.told: list[str] = []


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host()

    def aide(self: program.Integrity, verb: str) -> dict[str, str]:
        seen = {} if verb == "--init" else dict(host.differs)
        if verb != "--check":
            Path(f"{self.database}.new").write_text("")
            host.differs.clear()
        return seen

    monkeypatch.setattr(program.Integrity, "aide", aide)
    monkeypatch.setattr(program, "tell", lambda _, lines: host.told.extend(lines))
    return host


def test_what_a_deployment_changes_is_known_and_told(host: Host, tmp_path: Path) -> None:
    program.Integrity(tmp_path).end("first")
    program.Integrity(tmp_path).begin("site.yml")
    host.differs = {"/etc/x": "added"}
    program.Integrity(tmp_path).end("site.yml")
    assert program.Integrity(tmp_path).check() == 0
    assert "accepted: /etc/x added (site.yml)" in host.told


def test_what_was_changed_before_a_deployment_stays_a_finding_after_it(host: Host, tmp_path: Path) -> None:
    program.Integrity(tmp_path).end("first")
    host.differs = {"/etc/cron.d/evil": "added"}
    program.Integrity(tmp_path).begin("site.yml")
    program.Integrity(tmp_path).end("site.yml")
    assert program.Integrity(tmp_path).check() == 1
    assert json.loads((tmp_path / "findings.json").read_text())["open"]["/etc/cron.d/evil"]["what"] == "added"
    assert "host_integrity_open_findings 1\n" in (tmp_path / "host_integrity.prom").read_text()
    program.Integrity(tmp_path).end("looked at by ops", everything=True)
    assert program.Integrity(tmp_path).check() == 0
    assert host.told[-1] == "accepted: /etc/cron.d/evil added (looked at by ops)"


def test_what_is_back_as_it_was_is_no_finding_any_more(host: Host, tmp_path: Path) -> None:
    program.Integrity(tmp_path).end("first")
    host.differs = {"/etc/x": "changed"}
    assert program.Integrity(tmp_path).check() == 1
    host.differs = {}
    assert program.Integrity(tmp_path).check() == 0


def test_without_a_record_there_is_no_clean_report(host: Host, tmp_path: Path) -> None:
    assert host.told == []
    with pytest.raises(program.IntegrityError, match="no deployment has ended here yet"):
        program.Integrity(tmp_path).check()


def test_aide_s_report_is_read_or_refused() -> None:
    report = {"added": {"/etc/a": "f"}, "changed": {"/etc/b": "p"}, "number_of_entries": {"total": 9}}
    assert program.differences(json.dumps(report)) == {"/etc/a": "added", "/etc/b": "changed"}
    with pytest.raises(program.IntegrityError, match="no JSON"):
        program.differences("Start timestamp: ")


def test_files_that_packages_lost_are_told_but_for_documentation() -> None:
    errors = (
        "debsums: missing file /usr/bin/ssh (from openssh-client package)\n"
        "debsums: missing file /usr/share/man/man1/ssh.1.gz (from openssh-client package)\n"
    )
    assert program.strange_files("/usr/bin/id\n", errors) == ["/usr/bin/id", "/usr/bin/ssh"]
