"""A hardened host from outside: who gets in, what it keeps, and what a switch gives back."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from lab import ssh
from lab.checkout import Checkout
from tests.plays import play
from tests.vpn import console
from tests.waiting import journal, now, until

if TYPE_CHECKING:
    from testinfra.host import Host

SCENARIO = "host_hardening"
REVERT = "host-hardening-ssh-revert"
REFUSED = "/run/a-login-was-refused"
VAR_TMP = "/var/tmp"  # noqa: S108 - its mount is looked at


def log_in(*options: str, user: str = "ops") -> subprocess.CompletedProcess[str]:
    """A new SSH connection of its own."""
    command = [
        *("ssh", "-F", str(ssh.config(Checkout.here())), "-o", "ControlPath=none", "-o", "BatchMode=yes"),
        *("-o", "LogLevel=INFO", *options, "-l", user, SCENARIO, "id", "-un"),
    ]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60)


def test_a_key_opens_a_new_connection(host: Host) -> None:
    done = log_in()
    assert (done.returncode, done.stdout.strip()) == (0, "ops"), done.stderr
    assert host.run("id -u").stdout.strip() == "0"


@pytest.mark.parametrize("method", ["password", "keyboard-interactive"])
def test_passwords_are_not_even_asked_for(method: str) -> None:
    done = log_in("-o", f"PreferredAuthentications={method}")
    assert done.returncode == 255
    assert "Permission denied (publickey)" in done.stderr


def test_root_is_refused_even_with_a_key_that_is_his(host: Host) -> None:
    public = ssh.public(ssh.user_key(Checkout.here()))
    assert host.run(f"install -d -m 0700 /root/.ssh && echo '{public}' > /root/.ssh/authorized_keys").rc == 0
    try:
        done = log_in(user="root")
    finally:
        host.run("rm /root/.ssh/authorized_keys")
    assert done.returncode == 255
    assert "Permission denied (publickey)" in done.stderr


def test_an_account_that_the_inventory_does_not_name_is_refused_with_its_key(host: Host) -> None:
    public = ssh.public(ssh.user_key(Checkout.here()))
    made = host.run(
        "useradd --create-home stranger && install -d -m 0700 -o stranger ~stranger/.ssh"
        f" && echo '{public}' > ~stranger/.ssh/authorized_keys && chown stranger ~stranger/.ssh/authorized_keys"
    )
    assert made.rc == 0, made.stderr
    since = now(host)
    try:
        done = log_in(user="stranger")
        told = journal(host, "--unit=ssh", since)
    finally:
        host.run("userdel --remove stranger")
    assert done.returncode == 255
    assert "Permission denied (publickey)" in done.stderr
    assert "User stranger from" in told
    assert "not allowed because not listed in AllowUsers" in told


def test_weak_key_exchange_finds_no_partner() -> None:
    done = log_in("-o", "KexAlgorithms=ecdh-sha2-nistp256,diffie-hellman-group14-sha256")
    assert done.returncode == 255
    assert "no matching key exchange method found" in done.stderr


def test_a_tunnel_is_refused() -> None:
    done = log_in("-W", "127.0.0.1:22")
    assert done.returncode != 0
    assert "administratively prohibited" in done.stderr


def test_services_of_ours_run_on(host: Host) -> None:
    assert host.service("node-health").is_running
    assert host.run("systemctl is-system-running").stdout.strip() == "running"


def test_root_by_sudo_makes_files_that_services_can_read(host: Host) -> None:
    made = host.run("umask 0077; sudo -u root sh -c umask")
    assert made.stdout.strip() == "0022"


def test_a_set_uid_program_from_var_tmp_gains_nothing(host: Host) -> None:
    host.run("cp /usr/bin/id /var/tmp/id && chmod 4755 /var/tmp/id")
    try:
        seen = host.run("sudo -u ops /var/tmp/id -un")
    finally:
        host.run("rm -f /var/tmp/id")
    assert seen.stdout.strip() == "ops"


def test_the_machines_own_kernel_is_not_touched_from_a_container(host: Host) -> None:
    written = host.file("/etc/sysctl.d/90-host-hardening.conf").content_string
    assert "net.ipv4.conf.all.accept_redirects = 0" in written
    assert "kernel." not in written
    assert "fs." not in written
    assert host.sysctl("net.ipv4.conf.all.accept_redirects") == 0


def test_an_interface_that_was_there_before_takes_no_redirect_and_sends_none(host: Host) -> None:
    names = ("ipv4.conf.eth0.accept", "ipv4.conf.eth0.send", "ipv4.conf.eth0.secure", "ipv6.conf.eth0.accept")
    assert {name: host.sysctl(f"net.{name}_redirects") for name in names} == dict.fromkeys(names, 0)


def test_what_nobody_deployed_is_found_and_a_deployment_does_not_hide_it(host: Host) -> None:
    assert host.run("host-integrity accept 'what other tests did'").rc == 0
    assert host.run("systemctl start host-hardening-files.service").rc == 0
    since = now(host)
    host.run("echo evil > /etc/profile.d/evil.sh && install -m 4755 /usr/bin/id /usr/bin/evil")
    try:
        assert host.run("systemctl start host-hardening-files.service").rc != 0
        # What a deployment does: its own change is known afterwards, the one before it is not.
        host.run("host-integrity begin test && touch /etc/deployed && host-integrity end test")
        checked = host.run("host-integrity check")
        found = json.loads(host.file("/var/lib/host_integrity/findings.json").content_string)
        told = journal(host, "-t host-integrity", since)
    finally:
        host.run("rm -f /etc/profile.d/evil.sh /usr/bin/evil /etc/deployed; host-integrity accept 'the test is over'")
        host.run("systemctl reset-failed host-hardening-files.service")
    assert checked.rc == 1
    assert found["open"].keys() == {"/etc/profile.d/evil.sh", "/usr/bin/evil"}
    assert "/etc/profile.d/evil.sh added outside of a deployment" in told
    assert "accepted: /etc/deployed added (test)" in told
    assert host.run("systemctl start host-hardening-files.service").rc == 0


def test_a_program_that_is_not_its_packages_is_found(host: Host) -> None:
    host.run("cp -p /usr/bin/file /tmp/kept && echo >> /usr/bin/file")
    try:
        assert host.run("systemctl start host-hardening-integrity.service").rc != 0
        figures = host.file("/var/lib/host_integrity/host_integrity.prom").content_string
    finally:
        host.run("cp -p /tmp/kept /usr/bin/file")
    assert "host_integrity_package_findings 1\n" in figures
    assert host.run("systemctl start host-hardening-integrity.service").rc == 0


def test_wrong_passwords_lock_an_account_s_password(host: Host) -> None:
    host.run("useradd guessed && echo guessed:Korrekt-Horse-77 | chpasswd")
    try:
        for _ in range(5):
            host.run("echo wrong | timeout 20 runuser -u nobody -- su guessed -c id")
        locked = host.run("echo Korrekt-Horse-77 | runuser -u nobody -- su guessed -c 'id -un'")
        host.run("faillock --user guessed --reset")
        opened = host.run("echo Korrekt-Horse-77 | runuser -u nobody -- su guessed -c 'id -un; echo $TMPDIR'")
    finally:
        host.run("userdel guessed")
    assert locked.rc != 0
    name, directory = opened.stdout.split()
    assert name == "guessed"
    assert directory.startswith("/tmp/user/")  # noqa: S108 - what PAM says is looked at


def test_an_empty_password_opens_nothing_and_a_weak_one_is_not_taken(host: Host) -> None:
    host.run("useradd blank && passwd --delete blank")
    try:
        opened = host.run("echo | timeout 20 runuser -u nobody -- su blank -c id")
        taken = {
            word: host.run(f"echo blank:{word} | chpasswd").rc == 0
            for word in ("Short-1a", "correct-horse-battery-77", "Password-12345-Password", "Korrekt-Horse-77")
        }
    finally:
        host.run("userdel blank")
    assert opened.rc != 0
    assert "Permission denied" in opened.stderr or "Authentication failure" in opened.stderr
    assert [word for word, well in taken.items() if well] == ["Korrekt-Horse-77"]


def test_sessions_over_ssh_make_nothing_for_the_world_and_root_by_sudo_does() -> None:
    done = subprocess.run(
        ["ssh", "-F", str(ssh.config(Checkout.here())), SCENARIO, "umask; sudo sh -c umask; sudo -i sh -c umask"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == ["0027", "0022", "0022"]


def test_an_administrator_without_a_key_is_not_locked_out(host: Host) -> None:
    before = host.run("sshd -T").stdout
    host.run("useradd --create-home keyless")
    try:
        done = play(SCENARIO, "harden.yml", {"host_hardening_admin_user": "keyless"})
    finally:
        host.run("userdel --remove keyless")
    assert done.code != 0
    assert done.changed == 0
    assert "keyless (host_hardening_admin_user, inventory) does not get into host_hardening by key" in done.messages
    assert host.run("sshd -T").stdout == before


def test_a_change_that_locks_the_administrator_out_is_undone(host: Host) -> None:
    before = host.run("sshd -T").stdout
    files = [
        {
            "path": "/etc/ssh/sshd_config.d/00-host-hardening-root.conf",
            "content": "PermitRootLogin no\nDenyUsers ops\n",
            "mode": "0644",
        }
    ]
    done = play(SCENARIO, "harden.yml", {"host_hardening_control_overrides": {"ssh_root_login": {"files": files}}})
    assert done.code != 0
    assert "SSH on host_hardening is as it was before" in done.messages
    assert log_in().stdout.strip() == "ops"
    assert host.run("sshd -T").stdout == before
    assert REVERT not in host.run("systemctl list-timers --all").stdout


def test_ssh_that_was_closed_opens_by_itself_when_the_controller_is_gone(host: Host) -> None:
    before = host.run("sshd -T").stdout
    # It goes off by itself, and then waits until a login was refused: on a busy machine that would else come too late.
    drop_in = f"/run/systemd/system/{REVERT}.service.d"
    held = f'[Service]\\nExecStartPre=/bin/sh -c "until test -e {REFUSED}; do sleep 0.1; done"\\n'
    host.check_output(f"mkdir -p {drop_in} && printf '{held}' > {drop_in}/held.conf && systemctl daemon-reload")
    # What the play does up to the proof, which then never comes.
    closed = host.run(
        "/var/lib/host_hardening/ssh-revert arm 5 && echo 'DenyUsers ops' > /etc/ssh/sshd_config.d/00-host-hardening-root.conf"
        " && systemctl reload ssh.service"
    )
    assert closed.rc == 0, closed.stderr
    refused = log_in()
    console(f"touch {REFUSED}", SCENARIO)
    assert refused.returncode == 255, refused.stdout
    try:
        assert until(lambda: log_in().returncode == 0)
    finally:
        console(f"rm -r {drop_in} {REFUSED} && systemctl daemon-reload", SCENARIO)
    assert host.run("sshd -T").stdout == before


def test_a_control_that_is_switched_off_gives_back_what_was_there(host: Host) -> None:
    # The last of the file: it changes what the others look at, and back.
    hardened = host.file("/etc/issue").content_string
    off = [
        "login_banner",
        "login_umask",
        "net_redirects",
        "mount_var_tmp",
        "file_permissions",
        "ssh_sessions",
        "console_reboot",
        "password_lock",
    ]
    done = play(SCENARIO, "harden.yml", {"host_hardening_control_overrides": {name: {"on": False} for name in off}})
    assert done.code == 0, done.output
    assert "Debian" in host.file("/etc/issue").content_string
    assert host.run(r"grep -E '^(UMASK|HOME_MODE)\s' /etc/login.defs").stdout.split() == ["HOME_MODE", "0700"]
    assert host.sysctl("net.ipv4.conf.default.accept_redirects") == 1
    assert host.sysctl("net.ipv6.conf.eth0.accept_redirects") == 1
    assert "accept_redirects" not in host.file("/etc/sysctl.d/90-host-hardening.conf").content_string
    assert not host.mount_point(VAR_TMP).exists
    assert host.file("/etc/ssh/sshd_config").mode == 0o644
    assert "faillock" not in host.file("/etc/pam.d/common-auth").content_string
    assert "maxsessions 10" in host.run("sshd -T").stdout
    assert not host.file("/etc/systemd/system/ctrl-alt-del.target").exists
    again = play(SCENARIO, "harden.yml", {})
    assert again.code == 0, again.output
    assert host.file("/etc/issue").content_string == hardened
    assert host.mount_point(VAR_TMP).exists
