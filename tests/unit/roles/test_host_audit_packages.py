"""The audit takes its judges away again, and never a package that a system cannot be without."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

from roles.host_audit.filter_plugins.host_audit_packages import came, packages

VARS = Path(__file__).parents[3] / "roles/host_audit/vars/main.yml"
BEFORE = ["installed\tlibc6\tno\tno\t\t, libgcc-s1\t"]
# As dpkg-query prints them on a bare Debian 12 after lynis was installed.
AFTER = [
    *BEFORE,
    "installed\tlynis\tno\tno\t\t, e2fsprogs, menu:any (>= 2) | whatever\t",
    "installed\te2fsprogs\tno\tno\tyes\tlibblkid1 (>= 2.36), libc6 (>= 2.34), libext2fs2 (= 1.47.0-2), logsave, \t",
    "installed\tlibext2fs2t64\tno\tno\t\t, libc6 (>= 2.34)\tlibext2fs2 (= 1.47.0-2)",
    "installed\tlogsave\tno\tno\t\t, libc6 (>= 2.34)\t",
    "installed\tmenu\tno\tno\t\t, libc6 (>= 2.34)\t",
]


def test_what_is_protected_stays_with_all_that_it_stands_on() -> None:
    assert came(BEFORE, AFTER) == {"go": ["lynis", "menu"], "stay": ["e2fsprogs", "libext2fs2t64", "logsave"]}


def test_a_package_whose_configuration_alone_was_left_is_a_judge_to_install_and_to_take_away() -> None:
    before = [*BEFORE, "config-files\tlynis\tno\tno\t\t, e2fsprogs\t"]
    assert list(packages(before)) == ["libc6"]
    assert "lynis" in came(before, AFTER)["go"]


def test_nothing_goes_that_was_there_before() -> None:
    assert came(AFTER, AFTER) == {"go": [], "stay": []}
    assert came([*BEFORE, AFTER[1]], AFTER)["go"] == ["menu"]


def test_essential_and_protected_are_read_as_this_debian_s_dpkg_says_them() -> None:
    form = yaml.safe_load(VARS.read_text())["_host_audit_package_format"]
    done = subprocess.run(
        ["dpkg-query", "--show", "--showformat", form], check=True, capture_output=True, text=True, timeout=60
    )
    found = packages(done.stdout.splitlines())
    assert found["bash"]["protected"]
    assert not found["python3"]["protected"]
    assert "dpkg" in found["perl-base"]["needs"]
