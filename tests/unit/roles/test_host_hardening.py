"""The table of controls, and the module that holds a host to it, on a directory in the place of a host."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from roles.host_hardening.filter_plugins import host_hardening as table
from roles.host_hardening.module_utils import host_targets as targets

# Ansible lays a role's module_utils there on the host.
sys.modules["ansible.module_utils.host_targets"] = targets
from roles.host_hardening.library import host_controls as module  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
CONTROLS = yaml.safe_load((ROOT / "roles/host_hardening/defaults/main/controls.yml").read_text())[
    "host_hardening_default_controls"
]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> module.Host:
    monkeypatch.setattr(targets, "installed", lambda: {"bash"})
    monkeypatch.setattr(targets, "ids", lambda _: (-1, -1))
    return module.Host(tmp_path / "record.json", check=False)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_every_control_has_a_reason_and_nothing_that_is_not_known() -> None:
    assert all(control["reason"] for control in CONTROLS.values())
    assert table.problems(CONTROLS, CONTROLS) == []


def test_what_only_a_machine_has_is_left_alone_in_a_container() -> None:
    off = [row["name"] for row in table.wanted(CONTROLS, container=True) if not row["on"]]
    assert off == [name for name, control in CONTROLS.items() if control.get("where") == "machine"]
    kernel = [
        key
        for row in table.wanted(CONTROLS, container=True)
        if row["on"]
        for key in row.get("sysctls", {})
        if not key.startswith(("net.ipv4.", "net.ipv6."))
    ]
    assert kernel == []


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ({"banner": {"on": False}}, "names the control banner, which is not there; allowed: ssh_keys_only,"),
        ({"login_banner": {"on": "no"}}, "login_banner.on in host_hardening_control_overrides (inventory) is 'no'"),
        ({"login_banner": {"off": True}}, "has off; allowed:"),
        ({"login_banner": {"where": "vm"}}, "is 'vm'; allowed: any and machine."),
    ],
)
def test_a_wrong_override_gets_a_sentence(override: dict[str, Any], sentence: str) -> None:
    merged = {**CONTROLS, **{name: {**CONTROLS.get(name, {}), **words} for name, words in override.items()}}
    assert sentence in " ".join(table.problems(merged, CONTROLS))


def test_a_report_has_the_controls_names_and_states() -> None:
    controls: dict[str, dict[str, Any]] = {
        "a": {"reason": "r"},
        "b": {"reason": "r", "on": False},
        "c": {"reason": "r", "where": "machine"},
    }
    rows = table.report(controls, container=True, looked=[{"name": "a", "differs": ["/x differs"]}])
    assert [(row["name"], row["state"]) for row in rows] == [("a", "differs"), ("b", "off"), ("c", "elsewhere")]


def test_a_switch_gives_back_files_settings_and_modes(host: module.Host, tmp_path: Path) -> None:
    issue, new, defs = tmp_path / "issue", tmp_path / "new", tmp_path / "login.defs"
    issue.write_text("Debian\n")
    defs.write_text("# UMASK 077\nUMASK\t\t022\nOTHER 1\n")
    defs.chmod(0o640)
    control = {
        "name": "c",
        "on": True,
        "files": [{"path": str(issue), "content": "told\n", "mode": "0600"}, {"path": str(new), "content": "x\n"}],
        "settings": [
            {"path": str(defs), "key": "UMASK", "value": "027"},
            {"path": str(defs), "key": "HOME_MODE", "value": "0750"},
        ],
    }
    before = [(path.read_text(), mode(path)) for path in (issue, defs)]
    assert len(host.hold(control)) == 4
    assert (issue.read_text(), mode(issue)) == ("told\n", 0o600)
    assert defs.read_text() == "# UMASK 077\nUMASK\t027\nOTHER 1\nHOME_MODE\t0750\n"
    assert mode(defs) == 0o640
    assert host.hold(control) == []
    # Another run of the play knows it from the record alone.
    later = module.Host(tmp_path / "record.json", check=False)
    later.hold({**control, "on": False})
    assert [(path.read_text(), mode(path)) for path in (issue, defs)] == before
    assert not new.exists()
    assert json.loads((tmp_path / "record.json").read_text()) == {}


def test_what_a_control_no_longer_names_is_given_back(host: module.Host, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    files = [{"path": str(path), "content": "x\n"} for path in (first, second)]
    host.hold({"name": "c", "on": True, "files": files})
    host.hold({"name": "c", "on": True, "files": files[1:]})
    assert not first.exists()
    assert second.exists()


def test_the_record_keeps_the_first_state_and_is_roots(host: module.Host, tmp_path: Path) -> None:
    path = tmp_path / "issue"
    path.write_text("Debian\n")
    for words in ("one\n", "two\n"):
        host.hold({"name": "c", "on": True, "files": [{"path": str(path), "content": words}]})
    host.hold({"name": "c", "on": False})
    assert path.read_text() == "Debian\n"
    assert mode(tmp_path / "record.json") == 0o600


def test_a_mode_whose_path_went_with_its_package_is_no_difference(host: module.Host, tmp_path: Path) -> None:
    path = tmp_path / "cron.d"
    path.mkdir(mode=0o755)
    control = {"name": "c", "on": True, "modes": [{"path": str(path), "mode": "0700"}]}
    host.hold(control)
    assert mode(path) == 0o700
    path.rmdir()
    assert host.hold(control) == []


def test_check_mode_says_what_differs_and_changes_nothing(host: module.Host, tmp_path: Path) -> None:
    host.check = True
    path = tmp_path / "new"
    wrong = host.hold({"name": "c", "on": True, "files": [{"path": str(path), "content": "x\n"}], "packages": ["acl"]})
    assert wrong == ["the package acl is not installed", f"{path} differs"]
    assert host.missing == ["acl"]
    assert [difference["after_header"] for difference in host.differences] == ["package acl", str(path)]
    assert not path.exists()
    assert not (tmp_path / "record.json").exists()


def test_a_file_that_its_reader_refuses_is_not_written(host: module.Host, tmp_path: Path) -> None:
    path = tmp_path / "sudoers"
    with pytest.raises(targets.ControlError, match=f"/bin/false refuses {path}"):
        host.hold(
            {"name": "c", "on": True, "files": [{"path": str(path), "content": "x\n", "validate": "/bin/false %s"}]}
        )
    assert not path.exists()


def test_the_file_for_the_boot_holds_what_is_on_alone() -> None:
    controls = [
        {"name": "a", "on": True, "sysctls": {"net.ipv4.x": 0, "net.ipv4.ip_forward": 0}},
        {"name": "b", "on": False, "sysctls": {"net.ipv4.y": 1}},
        {"name": "c", "on": True},
    ]
    (*_, last) = module.with_sysctl_file(controls, "/etc/sysctl.d/90.conf")
    assert last["files"][0]["content"] == "# Ansible managed\n# a\n-net.ipv4.x = 0\nnet.ipv4.ip_forward = 0\n"


def test_each_interface_has_the_value_and_gets_its_own_back_while_it_is_there(
    host: module.Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "SYSCTLS", tmp_path)
    files = {
        name: tmp_path / "net/ipv4/conf" / name / "accept_redirects" for name in ("all", "eth0", "eth0.7", "veth1")
    }
    for file in files.values():
        file.parent.mkdir(parents=True)
        file.write_text("1\n")
    control = {"name": "c", "on": True, "sysctls": {"net.ipv4.conf.*.accept_redirects": 0}}
    assert len(host.hold(control)) == len(files)
    assert {file.read_text() for file in files.values()} == {"0"}
    assert host.hold(control) == []
    files["veth1"].unlink()
    assert host.hold(control) == []
    host.hold({**control, "on": False})
    assert [file.read_text() for file in files.values() if file.exists()] == ["1", "1", "1"]
    (*_, last) = module.with_sysctl_file([control], "/etc/sysctl.d/90.conf")
    assert "\nnet.ipv4.conf.*.accept_redirects = 0\n" in last["files"][0]["content"]


def test_a_mount_of_the_operators_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    table_of_mounts = "36 35 98:0 / /srv/x rw,nosuid shared:1 - ext4 /dev/sda1 rw\n"
    monkeypatch.setattr(targets, "text_of", lambda path: table_of_mounts if "mountinfo" in str(path) else None)
    wanted, wrong = targets.mount_targets({"path": "/srv/x", "options": ["nosuid", "nodev"]})
    assert wanted == []
    assert wrong == ["/srv/x is a file system of its own without nodev; its options are set where it is mounted"]
    wanted, wrong = targets.mount_targets({"path": "/srv/y", "options": ["nodev"]})
    assert [target.key for target in wanted] == ["/etc/systemd/system/srv-y.mount", "srv-y.mount"]
    assert wrong == []


def test_what_a_control_has_to_bring_about_and_did_not_is_said_each_time(host: module.Host, tmp_path: Path) -> None:
    path = tmp_path / "common-auth"
    path.write_text("auth required pam_unix.so\n")
    control: dict[str, Any] = {
        "name": "c",
        "on": True,
        "proofs": [{"path": str(path), "has": "pam_faillock.so", "otherwise": "it has no lock"}],
    }
    assert host.hold(control) == ["it has no lock"]
    assert host.hold(control) == ["it has no lock"]
    assert host.differences == []
    path.write_text("auth required pam_faillock.so\n")
    assert host.hold(control) == []
    path.write_text("")
    assert host.hold({**control, "on": False}) == []
    control["proofs"][0]["lacks"] = "nullok"
    path.write_text("auth required pam_faillock.so\nauth required pam_unix.so nullok\n")
    assert host.hold(control) == ["it has no lock"]
