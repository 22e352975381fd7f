"""AppArmor's way back: what switching profiles on has left is gone once they are off, and a check says so and does nothing.

No kernel that this is tested on has AppArmor, so a program that writes down what it is asked stands in for its parser.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TASKS = ROOT / "roles" / "managed_service" / "tasks"
PARSER = """#!/bin/sh
echo "$*" >> "$ASKED"
case " $* " in *" --remove "*) cat >> "$ASKED";; esac
"""


class Host:
    """A directory with a profile's place, and what its parser has been asked."""

    def __init__(self, directory: Path) -> None:
        self.profile = directory / "fleet-node"
        self.asked = directory / "asked"
        self.programs = directory / "bin"
        self.programs.mkdir()
        parser = self.programs / "apparmor_parser"
        parser.write_text(PARSER)
        parser.chmod(0o755)

    def wants(self, mode: str, kernel_mode: str, *options: str) -> tuple[str, list[str]]:
        """Run the role's tasks; what they said, and what the kernel's parser was asked beside whether a file is a profile."""
        self.asked.write_text("")
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("ansible-playbook")),
                "--inventory=localhost,",
                "--extra-vars",
                json.dumps({"mode": mode, "kernel_mode": kernel_mode, "path": str(self.profile)}),
                *options,
                str(ROOT / "tests/contract/apparmor.yml"),
            ],
            cwd=ROOT,
            env={**os.environ, "PATH": f"{self.programs}:{os.environ['PATH']}", "ASKED": str(self.asked)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        asked = [line for line in self.asked.read_text().splitlines() if "--skip-kernel-load" not in line]
        return done.stdout, asked


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_what_was_switched_on_is_gone_once_it_is_off(host: Host) -> None:
    said, asked = host.wants("complain", "", "--check", "--diff")
    assert "+profile fleet-node" in said
    assert (host.profile.exists(), asked) == (False, [])
    said, asked = host.wants("complain", "")
    assert (host.profile.exists(), asked) == (True, [f"--replace {host.profile}"])
    said, asked = host.wants("off", "complain", "--check", "--diff")
    assert "changed=1" in said
    assert "absent" in said
    assert (host.profile.exists(), asked) == (True, [])
    said, asked = host.wants("off", "complain")
    assert (host.profile.exists(), asked) == (False, ["--remove", "profile fleet-node {}"])


def test_a_profile_whose_file_is_gone_leaves_the_kernel_as_well(host: Host) -> None:
    assert host.wants("off", "enforce")[1] == ["--remove", "profile fleet-node {}"]


def test_a_file_that_the_kernel_never_had_goes_without_it(host: Host) -> None:
    host.profile.write_text("profile fleet-node {}")
    assert host.wants("off", "")[1] == []
    assert not host.profile.exists()


def test_a_unit_has_its_profile_as_long_as_it_names_it() -> None:
    """Between the two a unit whose profile refuses could not be started."""
    order = {
        "on" if "!= 'off'" in task["when"] else "off" if "== 'off'" in task["when"] else task["name"]: at
        for at, task in enumerate(yaml.safe_load((TASKS / "bring.yml").read_text()))
    }
    assert order["on"] < order["Unit"] < order["Run"] < order["off"]
