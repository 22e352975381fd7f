"""The programs that this repository itself brings to hosts: what their hosts have of them."""

from __future__ import annotations

from pathlib import Path

from tests.plugins import ROLES, load_plugin

host_programs = load_plugin("catalogue", "filter_plugins", "host_programs")
PROGRAM = ROLES.parent / "files" / "node_health"


def test_a_program_s_modules_are_root_s_and_all_of_them_come() -> None:
    # As a role says where it is.
    files = host_programs.host_program_files(
        f"{ROLES}/node_health/../../files/node_health", "/opt/node_health/1/node_health"
    )
    assert [Path(file["path"]).name for file in files] == sorted(path.name for path in PROGRAM.glob("*.py"))
    assert {(file["owner"], file["group"], file["mode"]) for file in files} == {("root", "root", "0644")}
    assert all(Path(file["source"]).parent == PROGRAM for file in files)
    assert files[0]["path"] == "/opt/node_health/1/node_health/__init__.py"


def test_a_directory_is_root_s_and_lets_all_pass() -> None:
    assert host_programs.host_directory("/opt/x") == {
        "path": "/opt/x",
        "owner": "root",
        "group": "root",
        "mode": "0755",
    }


def test_a_version_changes_with_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text('__version__ = "1.2.0"\n')
    first = host_programs.host_program_version(str(tmp_path))
    (tmp_path / "other.py").write_text("")
    second = host_programs.host_program_version(str(tmp_path))
    assert first.startswith("1.2.0-")
    assert second.startswith("1.2.0-")
    assert first != second
