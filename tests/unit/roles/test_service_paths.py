"""What a service's directories, secrets and files become: the module itself, as Ansible runs it on a host."""

from __future__ import annotations

import base64
import grp
import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.plugins import ROLES

MODULE = ROLES / "managed_service" / "library" / "service_paths.py"
OWN = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}
SECRET = b"for nobody's eyes\n"


def ran(check: bool = False, **given: Any) -> dict[str, Any]:
    """What the module says, the text that it printed under `printed`."""
    told = {"_ansible_diff": True, "_ansible_check_mode": check, **given}
    done = subprocess.run(
        [sys.executable, str(MODULE)],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": told}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    said: dict[str, Any] = json.loads(done.stdout)
    said.pop("invocation", None)
    return {**said, "printed": done.stdout}


def wanted(path: Path, mode: str = "0640", **more: Any) -> dict[str, Any]:
    return {"path": str(path), "mode": mode, **OWN, **more}


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.fixture
def service(tmp_path: Path) -> dict[str, Any]:
    """A directory, a secret, a file with its text and one from the controller."""
    data = tmp_path / "data"
    return {
        # An inner one first: the outer ones are made before it.
        "directories": [wanted(data / "inner", "0700"), wanted(data, "0750")],
        "files": [
            wanted(data / "jwt.hex", random_bytes=32),
            wanted(data / "node.toml", "0644", content="a = 1\nb = 2\n", validate="grep -q 'a = 1' %s"),
            wanted(data / "token", "0600", data=base64.b64encode(SECRET).decode()),
        ],
    }


def test_all_of_it_is_brought_there_and_a_second_run_changes_nothing(service: dict[str, Any], tmp_path: Path) -> None:
    data = tmp_path / "data"
    done = ran(**service)
    assert done["changed"]
    assert done["paths"] == [str(data / name) for name in ("", "inner", "jwt.hex", "node.toml", "token")]
    modes = {path.name: mode_of(path) for path in (data, *data.iterdir())}
    assert modes == {"data": 0o750, "inner": 0o700, "jwt.hex": 0o640, "node.toml": 0o644, "token": 0o600}
    assert (data / "token").read_bytes() == SECRET
    held = (data / "jwt.hex").read_text()
    assert (len(bytes.fromhex(held)), held[-1]) == (32, "\n")
    again = ran(**service)
    assert (again["changed"], again["paths"], again["diff"]) == (False, [], [])
    assert (data / "jwt.hex").read_text() == held


def test_check_mode_says_the_same_of_each_path_and_changes_nothing(service: dict[str, Any], tmp_path: Path) -> None:
    # An account that is still to be made, and a directory that is.
    service["directories"][0]["owner"] = service["files"][0]["group"] = "nobody-yet"
    would = ran(check=True, **service)
    assert not (tmp_path / "data").exists()
    assert [Path(path).name for path in would["paths"]] == ["data", "inner", "jwt.hex", "node.toml", "token"]
    assert would["diff"][3]["after"] == "a = 1\nb = 2\n"
    assert would["diff"][3]["after_header"] == str(tmp_path / "data" / "node.toml")
    assert would["diff"][1]["after"]["state"] == "directory"


def test_of_secrets_nothing_is_said(service: dict[str, Any], tmp_path: Path) -> None:
    printed = ran(**service)["printed"]
    drawn = (tmp_path / "data" / "jwt.hex").read_text().strip()
    assert [
        value for value in (drawn, SECRET.decode().strip(), base64.b64encode(SECRET).decode()) if value in printed
    ] == []


def test_what_differs_is_mended_and_shown_and_the_rest_is_left(service: dict[str, Any], tmp_path: Path) -> None:
    ran(**service)
    data = tmp_path / "data"
    (data / "node.toml").write_text("a = 2\n")
    (data / "jwt.hex").chmod(0o644)
    data.chmod(0o755)
    kept = (data / "jwt.hex").read_text()
    inode = (data / "token").stat().st_ino
    done = ran(**service)
    assert done["paths"] == [str(data), str(data / "jwt.hex"), str(data / "node.toml")]
    assert (done["diff"][0]["before"]["mode"], done["diff"][0]["after"]["mode"]) == ("0755", "0750")
    assert (done["diff"][2]["before"], done["diff"][2]["after"]) == ("a = 2\n", "a = 1\nb = 2\n")
    assert ((data / "jwt.hex").read_text(), mode_of(data / "jwt.hex")) == (kept, 0o640)
    assert (data / "token").stat().st_ino == inode


def test_a_file_that_its_reader_refuses_leaves_the_one_before_and_says_what_was_done(
    service: dict[str, Any], tmp_path: Path
) -> None:
    ran(**service)
    data = tmp_path / "data"
    service["files"][1]["content"] = "b = 2\n"
    service["files"][1]["validate"] = "sh -c 'echo line 1 of $0: no a >&2; exit 3' %s"
    data.chmod(0o755)
    done = ran(**service)
    assert done["failed"]
    assert (done["changed"], done["paths"]) == (True, [str(data)])
    assert done["msg"].startswith(f"{data}/node.toml is not what its reader takes (")
    assert done["msg"].endswith(f"ends with 3): line 1 of {data}/node.toml: no a")
    assert (data / "node.toml").read_text() == "a = 1\nb = 2\n"
    assert sorted(path.name for path in data.iterdir()) == ["inner", "jwt.hex", "node.toml", "token"]


def test_a_symlink_is_replaced_and_what_it_led_to_is_left(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("theirs\n")
    (tmp_path / "conf").symlink_to(tmp_path / "elsewhere")
    assert ran(files=[wanted(tmp_path / "conf", content="ours\n")])["changed"]
    assert not (tmp_path / "conf").is_symlink()
    assert ((tmp_path / "conf").read_text(), (tmp_path / "elsewhere").read_text()) == ("ours\n", "theirs\n")


def test_a_directory_that_a_symlink_leads_to_is_the_one_that_is_meant(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir(mode=0o755)
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    assert ran(directories=[wanted(tmp_path / "data", "0750")])["changed"]
    assert ((tmp_path / "data").is_symlink(), mode_of(tmp_path / "disk")) == (True, 0o750)
    assert not ran(directories=[wanted(tmp_path / "data", "0750")])["changed"]


@pytest.mark.skipif(os.geteuid() != 0, reason="a link of somebody else's is root's to make")
@pytest.mark.parametrize("check", [False, True])
def test_a_symlink_that_a_service_made_is_not_followed(tmp_path: Path, check: bool) -> None:
    """Who may write beside it would have root hand over whatever it leads to."""
    etc = tmp_path / "etc"
    etc.mkdir(mode=0o700)
    (etc / "shadow").write_text("theirs\n")
    (etc / "shadow").chmod(0o600)
    for name, led, given in (
        ("data", etc, {"directories": [wanted(tmp_path / "data", "0755")]}),
        ("jwt", etc / "shadow", {"files": [wanted(tmp_path / "jwt", "0644", random_bytes=32)]}),
    ):
        (tmp_path / name).symlink_to(led)
        os.chown(tmp_path / name, 65534, 65534, follow_symlinks=False)
        done = ran(check=check, **given)
        assert (done.get("failed"), done["changed"]) == (True, False)
        assert (mode_of(etc), mode_of(etc / "shadow")) == (0o700, 0o600)
        assert done["msg"].startswith(f"{tmp_path / name} is a link that the account 65534 made")


@pytest.mark.parametrize("check", [False, True])
def test_what_stands_in_the_way_gets_one_sentence(tmp_path: Path, check: bool) -> None:
    (tmp_path / "file").write_text("x")
    for given, words in (
        ({"directories": [wanted(tmp_path / "file")]}, "is there and is no directory; move it away."),
        ({"files": [wanted(tmp_path, content="x")]}, "is there and is a directory; move it away."),
    ):
        done = ran(check=check, **given)
        assert (done["failed"], done["changed"]) == (True, False)
        assert done["msg"].endswith(words)


def test_without_its_directory_a_file_is_no_traceback(tmp_path: Path) -> None:
    done = ran(files=[wanted(tmp_path / "none" / "conf", content="x")])
    assert done["msg"] == f"{tmp_path}/none/conf cannot be brought there: No such file or directory."


def test_a_file_is_never_to_be_seen_with_another_mode(tmp_path: Path) -> None:
    """Its reader looks while it is being accepted: it has what it is to have already."""
    seen = tmp_path / "seen"
    ran(files=[wanted(tmp_path / "conf", "0600", content="x", validate=f"sh -c 'stat -c %a $0 > {seen}' %s")])
    assert seen.read_text().strip() == "600"
