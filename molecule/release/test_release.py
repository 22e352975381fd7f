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
    """How one case ended: changes, and why it failed if it did."""

    changed: int
    message: str


UNCHANGED = Run(0, "")
Case = dict[str, Any]


def run(*cases: Case) -> list[Run]:
    """Run the role on the scenario's host, once for each case, in one play."""
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            f"--inventory={HERE.parent / 'shared' / 'inventory.py'}",
            str(HERE / "play.yml"),
            "--extra-vars",
            json.dumps({"cases": cases}),
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json", "MOLECULE_SCENARIO_NAME": HERE.name},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60 + 60 * len(cases),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ended: list[Run] = []
    for task in json.loads(done.stdout[done.stdout.index("{") :])["plays"][0]["tasks"]:
        for result in task["hosts"].values():
            if task["task"]["name"] == "A case begins":
                ended.append(UNCHANGED)
            elif task["task"]["name"] == "A case has failed":
                ended[-1] = ended[-1]._replace(message=result["msg"])
            elif ended and result.get("changed"):
                ended[-1] = ended[-1]._replace(changed=ended[-1].changed + 1)
    assert len(ended) == len(cases), done.stdout
    return ended


def succeed(*cases: Case) -> list[Run]:
    """Run cases that all end well."""
    ended = run(*cases)
    assert [one.message for one in ended] == [""] * len(cases)
    return ended


def requests(host: Host) -> list[dict[str, Any]]:
    """What mirror and upstream were asked for since the test began."""
    return [json.loads(line) for line in host.file(f"{ORIGIN}/requests.jsonl").content_string.splitlines()]


def asked_ranges(host: Host, root_file: str) -> list[str]:
    """The ranges of an artefact that were asked for."""
    return [request["range"] for request in requests(host) if request["file"] == f"mirror.test/{root_file}"]


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


def checksums(version: str) -> str:
    """Where its checksum file is published."""
    return f"upstream.test/tool-tar/v{version}/checksums.txt"


def marker(host: Host, version: str, root: str = "/opt") -> dict[str, Any]:
    """What the host knows about a version of tool-tar."""
    known: dict[str, Any] = json.loads(host.file(f"{root}/tool-tar/{version}/.release.json").content_string)
    return known


def process_id(host: Host) -> str:
    """The service's main process."""
    return str(host.check_output("systemctl show --property=MainPID --value tool"))


@pytest.fixture(autouse=True)
def _forgotten_requests(host: Host) -> None:
    host.check_output(f"truncate -s 0 {ORIGIN}/requests.jsonl")


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
    known = marker(host, "1.0.0")
    assert known["source"] == f"https://mirror.test/{artefact('1.0.0')}"
    assert known["verified_by"] == f"https://{checksums('1.0.0')}"


def test_nothing_is_asked_for_when_the_version_stands(host: Host) -> None:
    assert run({"entry": "deploy", "service": "tool"}) == [UNCHANGED]
    assert requests(host) == []


def test_upgrade_restarts_the_service_and_can_be_taken_back(host: Host) -> None:
    before = process_id(host)
    succeed({"version": "1.1.0", "entry": "deploy", "service": "tool"})
    upgraded = process_id(host)
    assert upgraded != before
    assert host.check_output("/opt/tool-tar/current/bin/tool ready") == "1.1.0"
    deployed = last_deployment(host)
    assert (deployed["from"], deployed["to"], deployed["result"]) == ("1.0.0", "1.1.0", "deployed")

    succeed({"entry": "rollback", "service": "tool"})
    assert process_id(host) != upgraded
    assert (versions(host)["current"], versions(host)["previous"]) == ("1.0.0", "1.1.0")
    assert host.check_output("/opt/tool-tar/current/bin/tool ready") == "1.0.0"


def test_upgrade_that_does_not_come_up_goes_back_and_says_so(host: Host) -> None:
    before = versions(host)
    ended, mended = run(
        {"version": "2.0.0", "entry": "deploy", "service": "tool"}, {"entry": "deploy", "service": "tool"}
    )
    assert ended.message.startswith("tool-tar 2.0.0 failed on release and 1.0.0 runs again: ")
    assert "the database has an unknown format" in ended.message
    assert mended == UNCHANGED
    assert host.service("tool").is_running
    after = versions(host)
    assert (after["current"], after.get("previous")) == (before["current"], before.get("previous"))
    logged = last_deployment(host)
    assert (logged["from"], logged["to"], logged["result"]) == ("2.0.0", "1.0.0", "rolled_back")


def test_first_installation_that_does_not_come_up_leaves_no_current_and_no_unit(host: Host) -> None:
    [ended] = run({"version": "2.0.0", "entry": "deploy", "service": "first", "root": "/srv/first"})
    assert "nothing of it is current" in ended.message
    assert versions(host, root="/srv/first").keys() == {"2.0.0"}
    assert not host.file("/etc/systemd/system/first.service").exists
    assert last_deployment(host)["result"] == "removed"


def test_services_that_share_a_component_go_back_together(host: Host) -> None:
    """The second service's ready command fails on the new version only; both end on the version before."""
    root = "/srv/shared"
    both = [{"root": root, "version": "1.0.0", "entry": "deploy", "service": name} for name in ("one", "two")]
    picky = {"ready": ["/usr/bin/grep", "-q", "1.0.0", f"{root}/tool-tar/current/bin/tool"]}
    ended = run(*both, {**both[0], "version": "1.1.0"}, {**both[1], "version": "1.1.0", **picky})
    assert [one.message for one in ended[:3]] == ["", "", ""]
    assert ended[3].message.startswith("tool-tar 1.1.0 failed on release and 1.0.0 runs again: ")
    assert versions(host, root=root)["current"] == "1.0.0"
    for name in ("one", "two"):
        assert host.service(name).is_running
        process = host.check_output(f"systemctl show --property=MainPID --value {name}")
        link_age = float(host.check_output(f"stat -c %.Y {root}/tool-tar/current"))
        assert float(host.check_output(f"stat -c %.Y /proc/{process}")) >= link_age


def test_run_that_was_interrupted_before_the_proof_is_taken_up_again(host: Host) -> None:
    unproven = json.dumps({"version": "1.0.0", "before": "1.1.0"})
    host.check_output(f"printf '%s' '{unproven}' > /opt/tool-tar/.unproven")
    before = process_id(host)
    succeed({"entry": "deploy", "service": "tool"})
    assert not host.file("/opt/tool-tar/.unproven").exists
    assert process_id(host) != before


WRONG = {"x86_64": "sha256:" + "ab" * 32, "aarch64": "sha256:" + "ab" * 32}
REFUSED: dict[str, tuple[Case, list[str]]] = {
    "tampered": (
        {"version": "1.4.0", "faults": {f"mirror.test/{artefact('1.4.0')}": {"tampered": True}}},
        [
            f"tool-tar 1.4.0 cannot be installed: the file from https://mirror.test/{artefact('1.4.0')} was tampered with",
            f"(https://{checksums('1.4.0')}), got ",
        ],
    ),
    "unproved": (
        {
            "version": "1.4.0",
            "faults": {checksums("1.4.0"): {"status": 404}, f"mirror.test/{checksums('1.4.0')}": {"status": 403}},
        },
        [f"https://{checksums('1.4.0')} answers 404", f"https://mirror.test/{checksums('1.4.0')} answers 403"],
    ),
    "pinned-otherwise": (
        {"version": "1.4.0", "pins": {TAR: {"1.4.0": WRONG}}},
        [f"expected sha256 {'ab' * 32} (release_pins), got "],
    ),
    "unreachable": (
        {"version": "1.1.0", "upstream": False, "mirror": "https://mirror.test:444"},
        ["tool-tar 1.1.0 cannot be installed: https://mirror.test:444/", "is unreachable: Connection refused"],
    ),
    "lacking": ({"version": "2.1.0"}, ["it holds no tool-tar_v2.1.0_linux_amd64/tool; it holds "]),
    "other-digest": (
        {"component": "tool-oci", "pins": {"tool-oci": WRONG}},
        ["tool-oci 1.0.0 cannot be installed: registry.test:5443/images/tool-oci@sha256:abab", "manifest unknown"],
    ),
    "unpinned": (
        {"component": "tool-oci", "pins": {}},
        ["release_pins has no digest for tool-oci 1.0.0 on ", "set release_pins.tool-oci."],
    ),
    "unknown": ({"component": "tool-x"}, ["release_component is 'tool-x'; allowed: a key of catalogue_releases ("]),
    "careless": ({"version": "1.4.0", "keep": 1}, ["release_keep is 1; allowed: 2 to 50."]),
}


@pytest.fixture(scope="module")
def refusals() -> dict[str, Run]:
    """Every case that must be refused, each below a root of its own, and how it ended."""
    ended = run(*({**case, "root": f"/srv/refused-{name}"} for name, (case, _) in REFUSED.items()))
    return dict(zip(REFUSED, ended, strict=True))


@pytest.mark.parametrize("name", REFUSED)
def test_refusal_is_one_sentence_and_leaves_nothing(host: Host, refusals: dict[str, Run], name: str) -> None:
    case, fragments = REFUSED[name]
    message = refusals[name].message
    assert [fragment for fragment in fragments if fragment not in message] == []
    assert message.endswith(".")
    assert "\n" not in message
    left = host.run(f"find /srv/refused-{name} -mindepth 2 -not -name .lock -not -name .download").stdout
    assert left == "", case


def test_mended_causes_let_a_second_run_succeed(host: Host, refusals: dict[str, Run]) -> None:
    assert refusals["tampered"].message
    succeed(
        {"version": "1.4.0", "root": "/srv/refused-tampered"},
        {"version": "1.1.0", "root": "/srv/refused-unreachable", "upstream": False},
        {"component": "tool-oci", "root": "/srv/refused-other-digest"},
    )
    assert host.check_output("/srv/refused-tampered/tool-tar/current/bin/tool ready") == "1.4.0"


def test_upstream_serves_what_the_mirror_lacks(host: Host) -> None:
    succeed({"version": "1.2.0", "root": "/srv/upstream"})
    assert marker(host, "1.2.0", "/srv/upstream")["source"] == f"https://{artefact('1.2.0')}"


def test_interrupted_download_continues_in_the_same_run(host: Host) -> None:
    succeed(
        {
            "version": "1.3.0",
            "root": "/srv/cut",
            "faults": {f"mirror.test/{artefact('1.3.0')}": {"cut_after": 2_500_000}},
        }
    )
    assert asked_ranges(host, artefact("1.3.0")) == ["", "bytes=2500000-", "bytes=5000000-"]


def test_interrupted_download_continues_in_the_next_run(host: Host) -> None:
    case = {"version": "1.3.0", "root": "/srv/later", "upstream": False}
    cut = {f"mirror.test/{artefact('1.3.0')}": {"cut_after": 900_000}}
    first, second = run({**case, "attempts": 1, "faults": cut}, case)
    assert "was cut after 900000 of " in first.message
    assert second.message == ""
    assert asked_ranges(host, artefact("1.3.0")) == ["", "bytes=900000-"]
    assert ".download" not in versions(host, root="/srv/later")


def test_full_disk_is_said_and_cleared_and_room_mends_it(host: Host, small_root: str) -> None:
    download, swelling, filling = run(
        {"version": "1.3.0", "root": small_root},
        {"version": "2.2.0", "root": small_root},
        {"version": "1.3.0", "root": small_root, "faults": {f"mirror.test/{artefact('1.3.0')}": {"no_length": True}}},
    )
    assert "the file system of /mnt/small/tool-tar has " in download.message
    assert "the download needs 7 MiB" in download.message
    assert "the unpacked release needs 25 MiB" in swelling.message
    assert "the file system of /mnt/small/tool-tar filled up" in filling.message
    assert host.run(f"find {small_root} -type f -size +0").stdout == ""
    host.check_output(f"mount -o remount,size=64m {small_root}")
    succeed({"version": "1.3.0", "root": small_root})


def test_wheel_that_is_not_what_its_hash_says_leaves_no_environment(host: Host, tmp_path: Path) -> None:
    built = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "artefacts" / "wheelhouse"
    for file in built.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes() + (b"\0" if file.suffix == ".whl" else b""))
    [ended] = run({"component": "tool-venv", "root": "/srv/hash", "directory": str(tmp_path)})
    assert ended.message.startswith(
        "tool-venv 1.0.0 cannot be installed: installing the wheels failed: THESE PACKAGES DO NOT MATCH THE HASHES"
    )
    assert versions(host, "tool-venv", "/srv/hash") == {}


def test_kept_versions_are_the_newest_and_never_lose_current_or_previous(host: Host) -> None:
    root = "/srv/kept"
    succeed(*({"version": version, "root": root} for version in ("1.0.0", "1.1.0", "1.2.0", "1.4.0")))
    assert versions(host, root=root) == {
        "1.1.0": "",
        "1.2.0": "",
        "1.4.0": "",
        "current": "1.4.0",
        "previous": "1.2.0",
    }
    succeed({"version": "1.1.0", "root": root, "keep": 2})
    assert versions(host, root=root) == {"1.1.0": "", "1.4.0": "", "current": "1.1.0", "previous": "1.4.0"}


def test_damaged_version_is_installed_again(host: Host) -> None:
    host.check_output("truncate -s 1 /opt/tool-deb/1.0.0/bin/tool")
    assert succeed({"component": "tool-deb"})[0].changed > 0
    assert host.check_output("/opt/tool-deb/current/bin/tool ready") == "1.0.0"
