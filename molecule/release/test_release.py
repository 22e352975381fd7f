"""Releases of every kind, and what is left on the host when one of them goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
ORIGIN = "/srv/origin"
TAR = "tool-tar"


class Run(NamedTuple):
    """How one play ended."""

    changed: int
    failed: bool
    message: str


def run(**case: Any) -> Run:
    """Run the role on the scenario's host with the variables of one case."""
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            f"--inventory={HERE.parent / 'shared' / 'inventory.py'}",
            str(HERE / "play.yml"),
            "--extra-vars",
            json.dumps({"case": case}),
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json", "MOLECULE_SCENARIO_NAME": HERE.name},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    report = json.loads(done.stdout[done.stdout.index("{") :])
    stats = report["stats"][HERE.name]
    results = [
        task["hosts"][HERE.name] for play in report["plays"] for task in play["tasks"] if HERE.name in task["hosts"]
    ]
    messages = [str(result.get("msg", "")) for result in results if result.get("failed")]
    return Run(stats["changed"], bool(stats["failures"] or stats["unreachable"]), messages[-1] if messages else "")


def set_faults(host: Host, faults: dict[str, dict[str, Any]]) -> None:
    """Tell mirror and upstream what goes wrong from now on, and forget what they were asked."""
    host.check_output(f"printf %s '{json.dumps(faults)}' > {ORIGIN}/faults.json; : > {ORIGIN}/requests.jsonl")


def requests(host: Host) -> list[dict[str, Any]]:
    """What mirror and upstream were asked since."""
    return [json.loads(line) for line in host.file(f"{ORIGIN}/requests.jsonl").content_string.splitlines()]


def versions(host: Host, component: str = TAR, root: str = "/opt") -> dict[str, str]:
    """Everything in a component's directory: symlinks with their targets, the rest with nothing."""
    lines = host.check_output(f"find {root}/{component} -mindepth 1 -maxdepth 1 -printf '%f %l\\n'").splitlines()
    return {name: target for name, _, target in (line.partition(" ") for line in lines) if name != ".lock"}


def last_deployment(host: Host) -> dict[str, str]:
    """The newest line of the host's log of deployments."""
    entry: dict[str, str] = json.loads(host.file("/var/log/deployments.jsonl").content_string.splitlines()[-1])
    return entry


def artefact(version: str) -> str:
    """Where a version of tool-tar is published below a host's name."""
    return f"upstream.test/tool-tar/v{version}/tool-tar_v{version}_linux_amd64.tar"


def process_id(host: Host) -> str:
    return host.check_output("systemctl show --property=MainPID --value tool")


@pytest.fixture(autouse=True)
def _no_fault_stays(host: Host) -> Iterator[None]:
    set_faults(host, {})
    yield
    set_faults(host, {})


@pytest.fixture
def small_root(host: Host) -> Iterator[str]:
    """A file system of 4 MiB."""
    host.check_output("mkdir -p /mnt/small && mount -t tmpfs -o size=4m tmpfs /mnt/small")
    yield "/mnt/small"
    host.check_output("umount /mnt/small")


@pytest.mark.parametrize("component", ["tool-tar", "tool-deb", "tool-oci", "tool-dir"])
def test_program_of_each_kind_runs_and_is_root_s(host: Host, component: str) -> None:
    program = host.file(f"/opt/{component}/1.0.0/bin/tool")
    assert (program.user, program.group, program.mode) == ("root", "root", 0o755)
    assert host.file(f"/opt/{component}/current").linked_to == f"/opt/{component}/1.0.0"
    assert host.check_output(f"/opt/{component}/current/bin/tool ready") == "1.0.0"


def test_virtual_environment_stands_at_its_final_path(host: Host) -> None:
    assert host.check_output("/opt/tool-venv/current/bin/tool") == "1.0.0"
    assert host.file("/opt/tool-venv/1.0.0/bin/tool").contains("#!/opt/tool-venv/1.0.0/bin/python")
    assert host.file("/opt/tool-venv/current/tool_venv/__init__.py").is_file


def test_image_s_upper_layer_wins_and_its_whiteouts_count(host: Host) -> None:
    assert host.file("/opt/tool-oci/current/machines/0xnew/machine").content_string == "new"
    assert host.file("/opt/tool-oci/current/machines/latest").linked_to == "/opt/tool-oci/1.0.0/machines/0xnew"
    assert not host.file("/opt/tool-oci/current/machines/0xold").exists


def test_no_maintainer_script_ran(host: Host) -> None:
    assert not host.file("/maintainer-script-ran").exists


def test_only_the_listed_files_are_there_with_sane_modes(host: Host) -> None:
    found = host.check_output("cd /opt/tool-tar/1.0.0 && find . -printf '%P %m\\n' | sort").splitlines()
    assert [line.strip() for line in found] == [
        "755",
        ".release.json 644",
        "bin 755",
        "bin/tool 755",
        "share 755",
        "share/notes 644",
    ]


def test_mirror_serves_the_file_and_upstream_its_checksum(host: Host) -> None:
    marker = json.loads(host.file("/opt/tool-tar/1.0.0/.release.json").content_string)
    assert marker["source"] == f"https://mirror.test/{artefact('1.0.0')}"
    assert marker["verified_by"] == "https://upstream.test/tool-tar/v1.0.0/checksums.txt"


def test_nothing_is_asked_for_when_the_version_stands(host: Host) -> None:
    assert run(component=TAR, entry="deploy", service="tool") == Run(0, failed=False, message="")
    assert requests(host) == []


def test_upgrade_restarts_the_service_once_and_can_be_taken_back(host: Host) -> None:
    before = process_id(host)
    assert not run(component=TAR, version="1.1.0", entry="deploy", service="tool").failed
    assert process_id(host) != before
    assert host.check_output("/opt/tool-tar/current/bin/tool ready") == "1.1.0"
    deployed = last_deployment(host)
    assert (deployed["from"], deployed["to"], deployed["result"]) == ("1.0.0", "1.1.0", "deployed")

    assert not run(component=TAR, entry="rollback", service="tool").failed
    assert versions(host)["current"] == "1.0.0"
    assert versions(host)["previous"] == "1.1.0"
    assert "1.0.0" in host.check_output(
        f"tr '\\0' ' ' < /proc/{process_id(host)}/cmdline; /opt/tool-tar/current/bin/tool ready"
    )
    assert requests(host)[-1]["file"] != artefact("1.0.0")


def test_upgrade_that_does_not_come_up_goes_back_and_says_so(host: Host) -> None:
    before = versions(host)
    ended = run(component=TAR, version="2.0.0", entry="deploy", service="tool")
    assert ended.failed
    assert ended.message.startswith("tool-tar 2.0.0 failed on release and 1.0.0 runs again: ")
    assert "the database has an unknown format" in ended.message
    assert host.service("tool").is_running
    after = versions(host)
    assert (after["current"], after.get("previous")) == (before["current"], before.get("previous"))
    logged = last_deployment(host)
    assert (logged["from"], logged["to"], logged["result"]) == ("2.0.0", "1.0.0", "rolled_back")
    assert run(component=TAR, entry="deploy", service="tool") == Run(0, failed=False, message="")


def test_first_installation_that_does_not_come_up_leaves_no_current_and_no_unit(host: Host) -> None:
    ended = run(component=TAR, version="2.0.0", entry="deploy", service="first", root="/srv/first")
    assert ended.failed
    assert "nothing of it is current" in ended.message
    assert versions(host, root="/srv/first").keys() == {"2.0.0"}
    assert not host.file("/etc/systemd/system/first.service").exists
    assert last_deployment(host)["result"] == "removed"


def test_run_that_was_interrupted_before_the_proof_is_taken_up_again(host: Host) -> None:
    assert not run(component=TAR, version="1.0.0", entry="deploy", service="tool").failed
    host.check_output('printf \'%s\' \'{"version": "1.0.0", "before": "1.1.0"}\' > /opt/tool-tar/.unproven')
    assert run(component=TAR, entry="deploy", service="tool").changed > 0
    assert not host.file("/opt/tool-tar/.unproven").exists


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ({f"mirror.test/{artefact('1.4.0')}": {"tampered": True}}, "was tampered with or damaged: expected sha256 "),
        ({"upstream.test/tool-tar/v1.4.0/checksums.txt": {"status": 404}, "mirror.test/upstream.test/tool-tar/v1.4.0/checksums.txt": {"status": 403}}, "answers 403"),
    ],
)  # fmt: skip
def test_file_that_cannot_be_proved_is_not_installed(
    host: Host, fault: dict[str, dict[str, Any]], sentence: str
) -> None:
    before = versions(host)
    set_faults(host, fault)
    ended = run(component=TAR, version="1.4.0")
    assert ended.failed
    assert ended.message.startswith("tool-tar 1.4.0 cannot be installed: ")
    assert sentence in ended.message
    assert set(versions(host)) - {".download"} == set(before) - {".download"}
    assert host.run("ls -A /opt/tool-tar/.download").stdout == ""
    assert last_deployment(host)["result"] == "failed"


def test_tampering_is_named_with_both_sums_and_the_mended_mirror_serves(host: Host) -> None:
    set_faults(host, {f"mirror.test/{artefact('1.4.0')}": {"tampered": True}})
    ended = run(component=TAR, version="1.4.0", root="/srv/mended")
    assert f"https://mirror.test/{artefact('1.4.0')}" in ended.message
    assert ended.message.count("sha256") == 1
    assert ", got " in ended.message
    set_faults(host, {})
    assert not run(component=TAR, version="1.4.0", root="/srv/mended").failed
    assert host.check_output("/srv/mended/tool-tar/current/bin/tool ready") == "1.4.0"


def test_a_pin_goes_before_upstream_s_checksum(host: Host) -> None:
    wrong = "sha256:" + "ab" * 32
    pins = {TAR: {"1.4.0": {"x86_64": wrong, "aarch64": wrong}}}
    ended = run(component=TAR, version="1.4.0", root="/srv/pinned", pins=pins)
    assert f"expected sha256 {'ab' * 32} (release_pins)" in ended.message
    assert all("checksums" not in request["file"] for request in requests(host))


def test_upstream_serves_what_the_mirror_lacks(host: Host) -> None:
    assert not run(component=TAR, version="1.2.0", root="/srv/upstream").failed
    marker = json.loads(host.file("/srv/upstream/tool-tar/1.2.0/.release.json").content_string)
    assert marker["source"] == f"https://{artefact('1.2.0')}"


def test_unreachable_mirror_is_named_and_a_second_run_succeeds(host: Host) -> None:
    case = {"component": TAR, "version": "1.1.0", "root": "/srv/unreachable", "upstream": False}
    ended = run(mirror="https://mirror.test:444", **case)
    assert ended.message.startswith("tool-tar 1.1.0 cannot be installed: https://mirror.test:444/")
    assert "is unreachable: Connection refused" in ended.message
    assert not {"1.1.0", "current"} & versions(host, root="/srv/unreachable").keys()
    assert not run(**case).failed


def test_interrupted_download_continues_in_the_same_run(host: Host) -> None:
    set_faults(host, {f"mirror.test/{artefact('1.3.0')}": {"cut_after": 2_500_000}})
    assert not run(component=TAR, version="1.3.0", root="/srv/cut").failed
    parts = [request for request in requests(host) if request["file"].endswith(".tar")]
    assert [request["range"] for request in parts] == ["", "bytes=2500000-", "bytes=5000000-"]


def test_interrupted_download_continues_in_the_next_run(host: Host) -> None:
    case = {"component": TAR, "version": "1.3.0", "root": "/srv/later", "upstream": False}
    set_faults(host, {f"mirror.test/{artefact('1.3.0')}": {"cut_after": 900_000}})
    ended = run(attempts=1, **case)
    assert "was cut after 900000 of " in ended.message
    assert not {"1.3.0", "current"} & versions(host, root="/srv/later").keys()
    set_faults(host, {})
    assert not run(**case).failed
    assert [request["range"] for request in requests(host) if request["file"].endswith(".tar")] == ["bytes=900000-"]
    assert ".download" not in versions(host, root="/srv/later")


def test_download_that_does_not_fit_is_refused_before_a_byte_is_written(host: Host, small_root: str) -> None:
    ended = run(component=TAR, version="1.3.0", root=small_root)
    assert "the file system of /mnt/small/tool-tar has " in ended.message
    assert "the download needs 7 MiB" in ended.message
    assert host.run(f"find {small_root} -type f -size +0").stdout.strip() == ""


def test_archive_that_swells_is_refused_before_it_is_unpacked(host: Host, small_root: str) -> None:
    ended = run(component=TAR, version="2.2.0", root=small_root)
    assert "the unpacked release needs 25 MiB" in ended.message
    assert not {"2.2.0", "current", ".staging", ".download"} & versions(host, root=small_root).keys()


def test_disk_that_fills_up_on_the_way_is_cleared_and_a_second_run_succeeds(host: Host, small_root: str) -> None:
    set_faults(host, {f"mirror.test/{artefact('1.3.0')}": {"no_length": True}})
    ended = run(component=TAR, version="1.3.0", root=small_root)
    assert "the file system of /mnt/small/tool-tar filled up" in ended.message
    assert versions(host, root=small_root) == {}
    host.check_output(f"mount -o remount,size=64m {small_root}")
    assert not run(component=TAR, version="1.3.0", root=small_root).failed


def test_file_that_the_artefact_lacks_is_named(host: Host) -> None:
    ended = run(component=TAR, version="2.1.0", root="/srv/lacking")
    assert "it holds no tool-tar_v2.1.0_linux_amd64/tool; it holds " in ended.message
    assert not {"2.1.0", "current", ".staging", ".download"} & versions(host, root="/srv/lacking").keys()


def test_image_with_another_digest_is_refused(host: Host) -> None:
    wrong = "sha256:" + "cd" * 32
    pins = {"tool-oci": {"x86_64": wrong, "aarch64": wrong}}
    ended = run(component="tool-oci", root="/srv/digest", pins=pins)
    assert ended.message.startswith(
        "tool-oci 1.0.0 cannot be installed: registry.test:5443/images/tool-oci@sha256:cdcd"
    )
    assert "manifest unknown" in ended.message
    assert not {"1.0.0", "current"} & versions(host, "tool-oci", "/srv/digest").keys()


def test_image_without_a_pin_is_refused_before_the_host_is_touched(host: Host) -> None:
    ended = run(component="tool-oci", root="/srv/unpinned", pins={})
    assert ended.message.startswith("release_pins has no digest for tool-oci 1.0.0 on ")
    assert not host.file("/srv/unpinned").exists


def test_wheel_that_is_not_what_its_hash_says_leaves_no_environment(host: Host, tmp_path: Path) -> None:
    built = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "artefacts" / "wheelhouse"
    for file in built.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes() + (b"\0" if file.suffix == ".whl" else b""))
    ended = run(component="tool-venv", root="/srv/hash", directory=str(tmp_path))
    assert ended.message.startswith(
        "tool-venv 1.0.0 cannot be installed: installing the wheels failed: THESE PACKAGES DO NOT MATCH THE HASHES"
    )
    assert versions(host, "tool-venv", "/srv/hash") == {}


def test_kept_versions_are_the_newest_and_never_lose_current_or_previous(host: Host) -> None:
    for version in ("1.0.0", "1.1.0", "1.2.0", "1.4.0"):
        assert not run(component=TAR, version=version, root="/srv/kept").failed
    kept = versions(host, root="/srv/kept")
    assert kept == {"1.1.0": "", "1.2.0": "", "1.4.0": "", "current": "1.4.0", "previous": "1.2.0"}
    assert not run(component=TAR, version="1.1.0", root="/srv/kept", keep=2).failed
    assert versions(host, root="/srv/kept") == {"1.1.0": "", "1.4.0": "", "current": "1.1.0", "previous": "1.4.0"}


def test_damaged_version_is_installed_again(host: Host) -> None:
    host.check_output("mkdir -p /srv/damaged")
    assert not run(component=TAR, root="/srv/damaged").failed
    host.check_output("truncate -s 1 /srv/damaged/tool-tar/1.0.0/bin/tool")
    assert run(component=TAR, root="/srv/damaged").changed > 0
    assert host.check_output("/srv/damaged/tool-tar/current/bin/tool ready") == "1.0.0"
