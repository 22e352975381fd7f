"""What a service wants and what follows from what its host has; the role's scenario proves the same on a host."""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.plugins import ROLES, load_plugin

differences = load_plugin("managed_service", "action_plugins", "service_differences")
service_files = load_plugin("managed_service", "plugin_utils", "service_files")
service_values = load_plugin("managed_service", "plugin_utils", "service_values")
# Ansible lays a role's module_utils there on the host.
sys.modules["ansible.module_utils.socket_holders"] = load_plugin("managed_service", "module_utils", "socket_holders")
unit_facts = load_plugin("managed_service", "library", "unit_facts")

TEMPLATES = ROLES.parent / "templates" / "systemd"
DEFAULTS = yaml.safe_load((ROLES / "managed_service" / "defaults" / "main.yml").read_text())


def values(**given: Any) -> dict[str, Any]:
    """The role's defaults for a service called node, as Ansible would give them, with some of them replaced."""
    plain = {name.removeprefix("managed_service_"): value for name, value in DEFAULTS.items()}
    own = {"name": "node", "description": "A node", "user": "chain", "group": "chain", "syslog_identifier": "node"}
    own["apparmor_mode"] = "off"
    return {**plain, **own, "command": ["/opt/node/bin/node", "--data=/data"], **given}


def facts(**given: Any) -> dict[str, Any]:
    """What a host says of a service that runs and is as wanted."""
    return {
        "active_state": "active",
        "unit_file_state": "enabled",
        "needs_reload": False,
        "stale_reads": [],
        "stale_reloads": [],
        "is_ready": True,
        "has_profile": False,
        "profile_mode": "",
        **given,
    }


def texts(sandbox: dict[str, Any] | None = None) -> Any:
    return service_files.Texts(str(TEMPLATES), sandbox or {})


def test_files_have_all_their_attributes_and_the_unit_comes_last() -> None:
    wanted = values(
        files=[
            {"path": "/etc/node.toml", "content": "a = 1\n"},
            {"path": "/etc/secret", "random_bytes": 32, "mode": "0600"},
        ],
        environment={"LEVEL": "info", "TOKEN": "%d/token"},
    )
    files = service_files.wanted_files(wanted, texts(), {})
    assert [(file["path"], file["owner"], file["group"], file["mode"]) for file in files] == [
        ("/etc/node.toml", "root", "chain", "0640"),
        ("/etc/secret", "root", "chain", "0600"),
        ("/etc/default/node", "root", "root", "0640"),
        ("/etc/systemd/system/node.service", "root", "root", "0644"),
    ]
    assert files[2]["content"].splitlines()[-1] == 'LEVEL="info"'
    assert "EnvironmentFile=/etc/default/node\nEnvironment=TOKEN=%d/token\n" in files[3]["content"]
    assert files[3]["validate"].endswith(" %s:node.service")


def test_the_host_is_told_digests_and_no_contents() -> None:
    wanted = values(
        files=[
            {"path": "/etc/node.toml", "content": "a = 1\n"},
            {"path": "/etc/secret", "random_bytes": 32},
            {"path": "/etc/edge.key", "source": "/ca/edge.key"},
        ],
        credentials=[{"id": "jwt", "path": "/etc/secret"}, {"id": "key", "path": "/etc/key"}],
    )
    asked = differences.asked_of_host(
        wanted, [], service_files.wanted_files(wanted, texts(), {}), {"/ca/edge.key": "ab" * 32}
    )
    assert "content" not in str(asked)
    assert [file.get("sha256", "") for file in asked["files"]][:3] == [
        hashlib.sha256(b"a = 1\n").hexdigest(),
        "",
        "ab" * 32,
    ]
    # What this run makes itself need not be there before it.
    assert asked["credentials"] == ["/etc/key"]


def test_limits_and_weights_are_what_a_running_service_follows(tmp_path: Path) -> None:
    def unit(**given: Any) -> str:
        return str(texts().unit(values(memory_high="18G", memory_max="20G", **given)))

    assert "MemoryMax=20G\n" in unit()
    assert "Memory" not in differences.lasting(unit())
    assert differences.lasting(unit()) == differences.lasting(str(texts().unit(values(io_weight=300, cpu_weight=50))))
    assert differences.lasting(unit()) != differences.lasting(unit(cpus="2-3"))

    path = tmp_path / "node.service"
    path.write_text(unit())
    os.utime(path, (1_700_000_000.9, 1_700_000_000.9))
    digests = {
        "sha256": hashlib.sha256(unit(io_weight=300).encode()).hexdigest(),
        "lasting_sha256": hashlib.sha256(differences.lasting(unit(io_weight=300)).encode()).hexdigest(),
    }
    asked = {**mine(path, "0644"), **digests}
    path.chmod(0o644)
    (at,) = unit_facts.live_only([asked], list(differences.LIVE)).values()
    assert time.mktime(time.strptime(at, "%Y%m%d%H%M.%S")) == 1_700_000_000
    path.write_text(unit(io_weight=300))
    assert unit_facts.live_only([asked], list(differences.LIVE)) == {}
    path.write_text(unit(cpus="2-3"))
    assert unit_facts.live_only([asked], list(differences.LIVE)) == {}
    path.unlink()
    assert unit_facts.live_only([asked], list(differences.LIVE)) == {}


def test_a_pair_has_a_second_unit_that_restarts_nothing() -> None:
    recovery = {"command": ["/bin/wait"], "type": "oneshot", "wanted_by": []}
    second, own = service_files.wanted_files(values(), texts(), recovery)
    assert (second["path"], second["restarts"]) == ("/etc/systemd/system/node-recovery.service", False)
    assert (own["path"], own["restarts"]) == ("/etc/systemd/system/node.service", True)
    assert "ExecStart=/bin/wait\n" in second["content"]
    assert "[Install]" in own["content"]
    assert "[Install]" not in second["content"]


def test_an_absent_service_wants_no_files() -> None:
    assert service_files.wanted_files(values(state="absent", command=[]), texts(), {}) == []


RELOAD = {
    "reload_command": ["/bin/node", "-s", "reload"],
    "files": [{"path": "/etc/node.toml", "content": "a = 1\n"}],
}
CONFIGURATION = {"path": "/etc/node.toml", "restarts": True}
ENVIRONMENT = {"path": "/etc/default/node", "restarts": True}
HEALTH = {"path": "/etc/node_health/node.json", "restarts": False}
UNIT = {"path": "/etc/systemd/system/node.service", "restarts": True}


@pytest.mark.parametrize(
    ("given", "host", "differing", "expected"),
    [
        ({}, {}, [], "settled nothing"),
        ({}, {"is_ready": False}, [], "settled"),
        ({}, {}, [HEALTH], "settled"),
        ({}, {}, [CONFIGURATION], "restart"),
        ({}, {}, [UNIT], "restart reload"),
        ({}, {}, [{**UNIT, "restarts": False}], "reload"),
        ({}, {"needs_reload": True}, [], "reload"),
        ({}, {"stale_reads": ["/opt/node/current"]}, [], "restart"),
        ({"changed": True}, {}, [], "restart"),
        ({"changed": True}, {"active_state": "failed"}, [], ""),
        ({}, {"active_state": "inactive"}, [CONFIGURATION], ""),
        ({}, {"unit_file_state": "disabled"}, [], ""),
        ({"wanted_by": []}, {"unit_file_state": "static"}, [], "settled nothing"),
        ({"state": "stopped"}, {}, [], ""),
        (
            {"state": "stopped"},
            {"active_state": "inactive", "unit_file_state": "disabled", "is_ready": False},
            [],
            "settled nothing",
        ),
        ({"state": "stopped"}, {"active_state": "deactivating", "unit_file_state": "disabled"}, [], ""),
        (RELOAD, {}, [], "settled nothing"),
        (RELOAD, {}, [CONFIGURATION], "reread"),
        (RELOAD, {"stale_reloads": ["/etc/node.toml"]}, [], "reread"),
        (RELOAD, {"active_state": "inactive"}, [CONFIGURATION], ""),
        (RELOAD, {}, [ENVIRONMENT], "restart"),
        (RELOAD, {}, [UNIT, CONFIGURATION], "restart reload"),
        (RELOAD, {}, [{**UNIT, "restarts": False}, CONFIGURATION], "reread reload"),
        ({**RELOAD, "changed": True}, {}, [CONFIGURATION], "restart"),
        ({**RELOAD, "state": "stopped"}, {}, [CONFIGURATION], ""),
    ],
)
def test_what_differs_decides_what_is_done(
    given: dict[str, Any], host: dict[str, Any], differing: list[dict[str, Any]], expected: str
) -> None:
    done = differences.consequences(values(**given), facts(**host), differing)
    words = {
        "needs_restart": "restart",
        "needs_rereading": "reread",
        "needs_reload": "reload",
        "is_settled": "settled",
        "needs_nothing": "nothing",
    }
    assert " ".join(word for name, word in words.items() if done[name]) == expected


def test_a_service_that_can_reload_restarts_for_its_unit_and_its_environment_alone() -> None:
    wanted = values(**RELOAD, environment={"LEVEL": "info"}, reads=["/opt/node/current"])
    files = service_files.wanted_files(wanted, texts(), {})
    assert "ExecReload=/bin/node \\\n    -s \\\n    reload\n" in files[-1]["content"]
    asked = differences.asked_of_host(wanted, [], files, {})
    assert asked["reloads"] == ["/etc/node.toml"]
    assert asked["reads"] == ["/etc/default/node", "/etc/systemd/system/node.service", "/opt/node/current"]
    without = differences.asked_of_host({**wanted, "reload_command": []}, [], files, {})
    assert (without["reloads"], "/etc/node.toml" in without["reads"]) == ([], True)


SPECS = ROLES / "managed_service" / "meta" / "argument_specs.yml"


def test_values_of_the_specs_types_are_taken() -> None:
    assert service_values.type_problems(values(stop_seconds="90", changed=False), SPECS) == []


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"stop_seconds": "soon"}, "managed_service_stop_seconds"),
        ({"type": "forking"}, "must be one of: exec, simple, notify, oneshot"),
        ({"directories": [{"mode": "0700"}]}, "path found in managed_service_directories"),
        ({"environment": ["A=b"]}, "managed_service_environment"),
        ({"files": [{"path": "/a", "content": "", "mod": "0600"}]}, "mod. Supported parameters include"),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_name(given: dict[str, Any], sentence: str) -> None:
    [problem] = service_values.type_problems(values(**given), SPECS)
    assert sentence in problem
    assert problem.endswith("(for the service node).")


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        (
            {"path": "etc/node", "content": ""},
            "managed_service_files holds 'etc/node' (for the service node); allowed: absolute paths",
        ),
        ({"path": "/etc/node", "content": "", "mode": "rw"}, "managed_service_files gives /etc/node the mode 'rw'"),
        (
            {"path": "/etc/node"},
            "managed_service_files gives /etc/node no origin (for the service node); allowed: one of content, source, random_bytes.",
        ),
        ({"path": "/etc/node", "content": "", "random_bytes": 1}, "gives /etc/node content and random_bytes (for"),
        ({"path": "/etc/node", "source": "edge.key"}, "allowed: a file's absolute path on the controller."),
    ],
)
def test_a_file_that_cannot_be_written_is_refused(file: dict[str, Any], sentence: str) -> None:
    (problem,) = service_values.value_problems(values(files=[file]))
    assert sentence in problem


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (Path.exists, False),
        (lambda path: path.write_text("other"), True),
        (lambda path: path.chmod(0o600), True),
        (lambda path: path.unlink(), True),
        (lambda path: (path.rename(path.with_name("real")), path.symlink_to(path.with_name("real"))), True),
        (lambda path: (path.unlink(), path.mkdir()), True),
    ],
    ids=["as wanted", "content", "mode", "missing", "symlink", "directory"],
)
def test_a_file_differs(tmp_path: Path, change: Any, *, differs: bool) -> None:
    path = tmp_path / "file"
    path.write_text("text")
    path.chmod(0o640)
    change(path)
    assert unit_facts.file_differs({**mine(path, "0640"), "sha256": hashlib.sha256(b"text").hexdigest()}) is differs


def test_a_secret_may_hold_anything(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("whatever")
    path.chmod(0o640)
    assert not unit_facts.file_differs(mine(path, "0640"))


def test_a_directory_differs(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    assert not unit_facts.directory_differs(mine(tmp_path, "0750"))
    assert unit_facts.directory_differs(mine(tmp_path, "0755"))
    assert unit_facts.directory_differs({**mine(tmp_path, "0750"), "owner": "no-such-user"})
    assert unit_facts.directory_differs(mine(tmp_path / "missing", "0750"))


def test_an_account_that_can_log_in_differs() -> None:
    assert unit_facts.user_differs({"user": "root", "group": "root", "groups": []})
    assert unit_facts.user_differs({"user": "no-such-user", "group": "root", "groups": []})
    assert unit_facts.missing_groups({"user": "x", "group": "no-such-group", "groups": ["root"]}) == ["no-such-group"]


def mine(path: Path, mode: str) -> dict[str, str]:
    """What is wanted of a path that belongs to whoever runs the tests."""
    owner, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(path.parent.stat().st_gid).gr_name
    return {"path": str(path), "owner": owner, "group": group, "mode": mode}


def timed(**given: Any) -> dict[str, Any]:
    """A service that a timer starts."""
    return values(
        type="oneshot", wanted_by=[], timer={"on_calendar": ["*-*-* 03:00:00 UTC"], "jitter_seconds": 60}, **given
    )


def test_a_timer_has_a_file_of_its_own_and_is_what_is_started() -> None:
    wanted = timed(files=[{"path": "/etc/node.toml", "content": "a = 1\n"}])
    files = {file["path"]: file for file in service_files.wanted_files(wanted, texts(), {})}
    text = files["/etc/systemd/system/node.timer"]["content"]
    assert "OnCalendar=*-*-* 03:00:00 UTC\nRandomizedDelaySec=60\nPersistent=yes\n" in text
    assert "[Install]" not in files["/etc/systemd/system/node.service"]["content"]
    assert differences.asked_of_host(wanted, [], list(files.values()), {})["unit"] == "node.timer"
    assert "/etc/systemd/system/node.timer" in service_files.own_paths(wanted, {})
    assert differences.is_to_be_enabled(wanted)


@pytest.mark.parametrize(("path", "restarts"), [("node.service", False), ("node.timer", True)])
def test_a_timer_is_started_again_for_its_own_file_only(path: str, restarts: bool) -> None:
    differing = [{"path": f"/etc/systemd/system/{path}", "restarts": True}]
    followed = differences.consequences(timed(), facts(), differing)
    assert followed["needs_restart"] is restarts
    assert followed["needs_reload"]
    assert differences.consequences(timed(), facts(), [])["needs_nothing"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"type": "exec", "wanted_by": []}, "allowed: oneshot and an empty list."),
        ({"type": "oneshot", "wanted_by": ["multi-user.target"]}, "allowed: oneshot and an empty list."),
        ({"type": "oneshot", "wanted_by": [], "timer": {"on_calendar": []}}, "allowed: at least one moment."),
        ({"type": "oneshot", "wanted_by": [], "timer": {"on_calendar": ["x\ny"]}}, "allowed: systemd's calendar form"),
    ],
)
def test_a_timer_that_cannot_be_is_refused(given: dict[str, Any], words: str) -> None:
    [problem] = service_values.value_problems(values(**{"timer": {"on_calendar": ["daily"]}, **given}))
    assert words in problem


def test_an_early_unit_comes_before_the_network_and_counts_as_active_afterwards() -> None:
    unit = texts().unit(values(type="oneshot", early=True, restart="on-failure", wanted_by=["sysinit.target"]))
    for line in (
        "DefaultDependencies=no",
        "Conflicts=shutdown.target",
        "Wants=network-pre.target",
        "After=local-fs.target systemd-modules-load.service",
        "Before=network-pre.target shutdown.target",
        "RemainAfterExit=yes",
    ):
        assert f"\n{line}\n" in unit
    assert "network-online" not in unit
    assert "RemainAfterExit" not in texts().unit(values())
    assert "allowed: an early unit of type oneshot only" in " ".join(service_values.value_problems(values(early=True)))


def test_no_service_is_root_s() -> None:
    [problem] = service_values.value_problems(values(user="root"))
    assert "managed_service_user is root" in problem


NGINX: dict[str, Any] = {
    "name": "nginx",
    "command": ["/usr/sbin/nginx", "-g", "daemon off;"],
    "read_write_paths": ["/var/lib/nginx", "/var/log/edge/"],
    "read_only_paths": ["/var/lib/nginx/keys"],
    "sandbox": {"RuntimeDirectory": {"value": "nginx", "reason": "its socket"}},
}
TUNNEL: dict[str, Any] = {
    "name": "fleet-vpn",
    "command": ["/usr/local/sbin/fleet-vpn", "run"],
    "inaccessible_paths": ["/var/lib/nginx"],
    "sandbox": {
        "CapabilityBoundingSet": {"value": "CAP_NET_ADMIN CAP_NET_RAW", "reason": "its interface"},
        "DeviceAllow": {"value": "/dev/net/tun rw", "reason": "in user space"},
    },
}
SANDBOX = {"RestrictAddressFamilies": "AF_INET AF_INET6 AF_NETLINK AF_UNIX", "CapabilityBoundingSet": ""}


@pytest.mark.parametrize("given", [{}, NGINX, TUNNEL], ids=["client", "nginx", "tunnel"])
@pytest.mark.parametrize("mode", ["complain", "enforce"])
def test_a_profile_is_one_that_apparmor_s_own_parser_takes(given: dict[str, Any], mode: str, tmp_path: Path) -> None:
    path = tmp_path / "profile"
    path.write_text(texts(SANDBOX).profile(values(apparmor_mode=mode, **given)))
    done = subprocess.run(
        [service_files.PARSER, "--skip-kernel-load", "--skip-cache", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    names = subprocess.run([service_files.PARSER, "--names", path], capture_output=True, text=True, check=True).stdout
    assert names.split() == [f"fleet-{given.get('name', 'node')}"]


def test_a_profile_says_what_the_unit_does() -> None:
    nginx = str(texts(SANDBOX).profile(values(apparmor_mode="complain", **NGINX)))
    rules = [line.strip() for line in nginx.splitlines()]
    for rule in (
        "profile fleet-nginx flags=(attach_disconnected, complain) {",
        '"/var/log/edge{,/**}" rwkl,',
        '"/run/nginx{,/**}" rwkl,',
        'deny "/var/lib/nginx/keys{,/**}" wl,',
        "network inet6,",
    ):
        assert rule in rules
    assert "capability" not in nginx
    # What it can write it cannot run, but for links that lie in a program's place.
    assert not [line for line in rules if "x," in line and "w" in line.rpartition(" ")[2]]
    tunnel = str(texts(SANDBOX).profile(values(apparmor_mode="enforce", **TUNNEL)))
    assert "profile fleet-fleet-vpn flags=(attach_disconnected) {" in tunnel
    for rule in ("  capability net_raw,\n", '  "/dev/net/tun" rw,\n', '  deny "/var/lib/nginx{,/**}" mrwkl,\n'):
        assert rule in tunnel


@pytest.mark.parametrize(
    ("mode", "line"),
    [("off", ""), ("complain", "AppArmorProfile=-fleet-node\n"), ("enforce", "AppArmorProfile=fleet-node\n")],
)
def test_a_unit_names_its_profile_where_the_kernel_has_apparmor(mode: str, line: str) -> None:
    unit = str(texts().unit(values(apparmor_mode=mode)))
    assert ("AppArmorProfile" in unit) is bool(line)
    assert line in unit
    paths = [file["path"] for file in service_files.wanted_files(values(apparmor_mode=mode), texts(), {})]
    assert ("/etc/apparmor.d/fleet-node" in paths) is bool(line)


@pytest.mark.parametrize(
    ("mode", "given", "does"),
    [
        ("off", {}, (False, False)),
        # It was on before: the profile goes, and what runs is let alone.
        ("off", {"profile_mode": "complain", "has_profile": True}, (True, False)),
        ("complain", {}, (True, True)),
        ("complain", {"profile_mode": "complain", "has_profile": True}, (False, False)),
        ("enforce", {"profile_mode": "complain", "has_profile": True}, (True, False)),
    ],
)
def test_a_service_restarts_into_its_first_profile_alone(
    mode: str, given: dict[str, Any], does: tuple[bool, bool]
) -> None:
    then = differences.consequences(values(apparmor_mode=mode), facts(**given), [])
    assert (then["needs_profile"], then["needs_restart"]) == does
    assert then["needs_nothing"] is not any(does)


def test_the_kernel_says_which_profiles_it_has(tmp_path: Path) -> None:
    listed = tmp_path / "profiles"
    listed.write_text("fleet-node (complain)\n/usr/sbin/chronyd (enforce)\nfleet-nginx (enforce)\n")
    assert unit_facts.profile_mode("fleet-node", listed) == "complain"
    assert unit_facts.profile_mode("fleet-nginx", listed) == "enforce"
    assert unit_facts.profile_mode("fleet", listed) == ""
    assert unit_facts.profile_mode("fleet-node", tmp_path / "none") == ""
