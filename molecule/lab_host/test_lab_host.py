"""What the lab promises of a host, before any role of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testinfra.host import Host


def test_host_has_booted_without_a_failed_unit(host: Host) -> None:
    assert host.check_output("systemctl is-system-running") == "running"


def test_only_keys_open_the_host(host: Host) -> None:
    assert "passwordauthentication no" in host.check_output("sshd -T")
    assert host.user("ops").password in {"!", "*"}


def test_baked_in_services_wait_for_their_role(host: Host) -> None:
    for unit in ("nginx", "docker-registry"):
        assert host.package(unit).is_installed
        assert not host.service(unit).is_enabled
        assert not host.service(unit).is_running


def test_host_knows_the_world_by_name(host: Host) -> None:
    assert host.addr("mirror.lab").ipv4_addresses == host.addr("world").ipv4_addresses


def test_lab_authority_is_trusted(host: Host) -> None:
    assert host.run("openssl verify /usr/local/share/ca-certificates/lab.crt").succeeded


def test_inventory_variables_of_the_lab_apply(host: Host) -> None:
    assert host.file("/etc/motd").content_string == "https://mirror.lab\n"
