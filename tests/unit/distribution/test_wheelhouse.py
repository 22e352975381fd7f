"""The wheels are chosen for the host's Python and machine, whatever the controller runs."""

from __future__ import annotations

import pytest

from distribution.wheelhouse import Target, requirements_for

LOCK = """\
# made by: make locks
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:aaaa \\
    --hash=sha256:bbbb
    # via mev (pyproject.toml)
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:cccc
greenlet==3.3.0 ; platform_machine == 'aarch64' \\
    --hash=sha256:dddd
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:eeee
rich==15.0.0 \\
    --hash=sha256:ffff
"""


def test_markers_are_those_of_the_host() -> None:
    older = requirements_for(LOCK, Target("3.11", "x86_64", "2.36"))
    newer = requirements_for(LOCK, Target("3.13", "aarch64", "2.41"))
    assert older == ["numpy==2.4.6 --hash=sha256:aaaa --hash=sha256:bbbb", "rich==15.0.0 --hash=sha256:ffff"]
    assert newer == [
        "numpy==2.5.5 --hash=sha256:cccc",
        "greenlet==3.3.0 --hash=sha256:dddd",
        "rich==15.0.0 --hash=sha256:ffff",
    ]


def test_no_requirement_loses_its_hash() -> None:
    assert all("--hash=sha256:" in line for line in requirements_for(LOCK, Target("3.13", "x86_64", "2.41")))


def test_platforms_stop_at_the_host_s_c_library() -> None:
    platforms = Target("3.11", "x86_64", "2.36").platforms()
    assert platforms[0] == "manylinux_2_36_x86_64"
    assert "manylinux_2_37_x86_64" not in platforms
    assert "manylinux2014_x86_64" in platforms


def test_another_c_library_is_refused_with_one_sentence() -> None:
    with pytest.raises(SystemExit, match=r"allowed: 2\.x"):
        Target("3.11", "x86_64", "1.2").platforms()
