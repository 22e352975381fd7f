"""What of the journal is an alert, in lines as Debian's programs write them, and what nobody can have told by writing like them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.plugins import load_plugin

PROGRAM = load_plugin("detection", "files", "login_alerts")
KEY = "ED25519 SHA256:Zm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyZm9v"


def told(message: Any, known: dict[str, list[str]] | None = None, /, **fields: str) -> list[dict[str, Any]]:
    return list(PROGRAM.alerts({"MESSAGE": message, **fields}, {} if known is None else known))


def login(user: str, address: str, known: dict[str, list[str]] | None = None) -> list[str]:
    message = f"Accepted publickey for {user} from {address} port 50122 ssh2: {KEY}"
    return [alert["kind"] for alert in told(message, known, _SYSTEMD_UNIT="ssh.service", _UID="0", _COMM="sshd")]


def test_an_account_s_address_is_told_once() -> None:
    known: dict[str, list[str]] = {}
    assert login("ops", "192.0.2.7", known) == ["new_address"]
    assert login("ops", "192.0.2.7", known) == []
    assert login("eve", "192.0.2.7", known) == ["new_address"]
    assert login("ops", "2001:db8:0:1::7", known) == ["new_address"]
    assert login("ops", "2001:db8:0:1::8", known) == []
    assert login("ops", "2001:db8:0:2::7", known) == ["new_address"]


def test_what_is_known_of_an_account_is_bounded() -> None:
    known: dict[str, list[str]] = {}
    for at in range(PROGRAM.MOST_KNOWN + 5):
        login("ops", f"198.51.{at // 256}.{at % 256}", known)
    assert len(known["ops"]) == PROGRAM.MOST_KNOWN


def test_root_s_login_is_told_each_time() -> None:
    known: dict[str, list[str]] = {}
    assert login("root", "192.0.2.7", known) == ["root_login", "new_address"]
    assert login("root", "192.0.2.7", known) == ["root_login"]


@pytest.mark.parametrize(
    ("program", "message", "by"),
    [
        ("su", "pam_unix(su-l:session): session opened for user root(uid=0) by ops(uid=1000)", "su-l"),
        ("su", "pam_unix(su:session): session opened for user root(uid=0) by (uid=1000)", "su"),
        ("login", "pam_unix(login:session): session opened for user root(uid=0) by LOGIN(uid=0)", "login"),
    ],
)
def test_a_root_s_shell_is_told_however_it_was_opened(program: str, message: str, by: str) -> None:
    (alert,) = told(message, _COMM=program, _EXE=f"/usr/bin/{program}")
    assert (alert["kind"], alert["by"]) == ("root_login", by)
    assert told(message.replace("user root", "user rooter"), _COMM=program, _EXE=f"/usr/bin/{program}") == []


def test_a_service_that_calls_itself_su_or_sudo_tells_nothing() -> None:
    shell = "pam_unix(su:session): session opened for user root(uid=0) by ops(uid=1000)"
    assert told(shell, _COMM="su", _EXE="/usr/bin/python3.11", _UID="986") == []
    refused = "     ops : command not allowed ; PWD=/ ; USER=root ; COMMAND=/usr/bin/id"
    assert told(refused, _COMM="sudo", _EXE="/opt/mev/bin/python", _UID="986") == []
    asked = [match for alternative in PROGRAM.MATCHES for match in alternative]
    assert not {"_COMM=su", "_COMM=sudo", "_COMM=login"} & set(asked)


@pytest.mark.parametrize(
    "message",
    [
        "     ops : 3 incorrect password attempts ; TTY=pts/0 ; PWD=/home/ops ; USER=root ; COMMAND=/usr/bin/id",
        "  nobody : user NOT in sudoers ; PWD=/ ; USER=root ; COMMAND=/usr/bin/id",
        "     ops : a password is required ; PWD=/home/ops ; USER=root ; COMMAND=/usr/bin/id",
        "     ops : command not allowed ; PWD=/home/ops ; USER=root ; COMMAND=/usr/bin/id",
    ],
)
def test_a_refused_sudo_is_told(message: str) -> None:
    (alert,) = told(message, _COMM="sudo", _EXE="/usr/bin/sudo")
    assert alert["kind"] == "sudo_refused"
    assert alert["user"] in ("ops", "nobody")


def test_sudo_that_was_allowed_is_not_told() -> None:
    words = "     ops : PWD=/home/ops ; USER=root ; COMMAND=/bin/sh -c x : user NOT in sudoers ; y"
    assert told(words, _COMM="sudo", _EXE="/usr/bin/sudo") == []


SYSCALL = (
    "type=SYSCALL msg=audit(1764467000.123:456): arch=c000003e syscall=257 success=yes exit=3 a0=ffffff9c ppid=1 pid=2 auid=1000 uid=0 "
    'gid=0 ses=3 comm="vi" exe="/usr/bin/vi" subj=unconfined key="{key}"'
)


@pytest.mark.parametrize("key", ["accounts", "keys", "sudo", "ssh", "audit"])
def test_what_auditd_saw_touched_is_told(key: str) -> None:
    (alert,) = told(SYSCALL.format(key=key), _COMM="audisp-syslog")
    assert alert == {"kind": f"{key}_changed", "user": "1000", "by": "/usr/bin/vi", "detail": "SYSCALL"}


def test_what_auditd_wrote_of_a_new_account_on_a_machine_is_told() -> None:
    """Recorded from Debian 13 (auditd 4.0.2), which adds the names to the numbers."""
    message = (
        "type=SYSCALL msg=audit(1796077825.066:511): arch=c000003e syscall=82 success=yes exit=0 a0=7ffc9c5d4d80 a1=558139ab4ee0 a2=7ffc9c5d4cf0 "
        "a3=100 items=5 ppid=1364 pid=1367 auid=1000 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=(none) ses=7 "
        'comm="useradd" exe="/usr/sbin/useradd" subj=unconfined key="accounts" ARCH=x86_64 SYSCALL=rename AUID="ops" UID="root" '
        'GID="root" EUID="root" SUID="root" FSUID="root" EGID="root" SGID="root" FSGID="root"'
    )
    (alert,) = told(message, _COMM="audisp-syslog", _UID="0", SYSLOG_IDENTIFIER="audispd")
    assert alert == {"kind": "accounts_changed", "user": "1000", "by": "/usr/sbin/useradd", "detail": "SYSCALL"}


@pytest.mark.parametrize("key", ["secrets", "units", "modules", "clock"])
def test_what_services_and_upgrades_do_all_day_is_not_told(key: str) -> None:
    assert told(SYSCALL.format(key=key), _COMM="audisp-syslog") == []


def test_a_new_account_is_told_by_auditd_and_by_its_own_program() -> None:
    message = (
        "type=ADD_USER msg=audit(1764467000.1:7): pid=9 uid=0 auid=1000 ses=3 subj=unconfined msg='op=add-user "
        'acct="eve" exe="/usr/sbin/useradd" hostname=h addr=? terminal=pts/0 res=success\''
    )
    (alert,) = told(message, _COMM="audisp-syslog")
    assert alert == {
        "kind": "account_changed",
        "user": "1000",
        "by": "/usr/sbin/useradd",
        "detail": "ADD_USER eve",
    }
    said = "new user: name=eve, UID=1001, GID=1001, home=/home/eve, shell=/bin/sh, from=/dev/pts/0"
    (alert,) = told(said, _COMM="useradd")
    assert alert == {"kind": "account_changed", "by": "useradd", "detail": said}


SSHD = {"_SYSTEMD_UNIT": "ssh.service", "_UID": "0", "_COMM": "sshd"}


@pytest.mark.parametrize("another", [{"_SYSTEMD_UNIT": "session-1.scope"}, {"_UID": "1000"}, {"_COMM": "logger"}])
def test_words_of_another_program_are_not_believed(another: dict[str, str]) -> None:
    words = f"Accepted publickey for root from 192.0.2.7 port 50122 ssh2: {KEY}"
    assert len(told(words, **SSHD)) == 2
    assert told(words, **{**SSHD, **another}) == []


def test_a_name_that_looks_like_a_login_is_none() -> None:
    words = f"Accepted publickey for root from 192.0.2.7 port 50122 ssh2: {KEY}"
    assert told(f"Invalid user {words} from 198.51.100.9 port 22", **SSHD) == []


def test_what_is_done_in_a_session_that_stays_in_sshd_s_unit_is_told() -> None:
    (alert,) = told("new user: name=eve, UID=1001", _COMM="useradd", _UID="0", _SYSTEMD_UNIT="ssh.service")
    assert alert["kind"] == "account_changed"


@pytest.mark.parametrize("message", [None, [1, 2, 255], 7])
def test_what_is_no_text_is_passed_over(message: Any) -> None:
    assert told(message, **SSHD) == []


class Journal:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: list[str] = []
        self.now = 0.0
        monkeypatch.setattr(PROGRAM.syslog, "syslog", lambda _, line: self.said.append(line))
        monkeypatch.setattr(PROGRAM.time, "monotonic", lambda: self.now)


def test_a_flood_of_one_kind_is_bounded_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(monkeypatch)
    teller = PROGRAM.Teller([])
    for _ in range(PROGRAM.MOST_A_MINUTE + 30):
        teller.tell({"kind": "sudo_refused", "user": "ops"})
    teller.tell({"kind": "root_login", "user": "root"})
    assert len(journal.said) == PROGRAM.MOST_A_MINUTE + 1
    journal.now = 61
    teller.tell({"kind": "sudo_refused", "user": "ops\nx" * 500})
    assert journal.said[-1].endswith('"left_out": 30}')
    assert len(journal.said[-1]) < 1000
    assert "\n" not in journal.said[-1]


def test_a_hook_gets_each_alert_and_one_that_fails_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    journal = Journal(monkeypatch)
    file = tmp_path_factory.mktemp("hook") / "got"
    PROGRAM.Teller(["/bin/sh", "-c", f"cat > {file}"]).tell({"kind": "root_login", "user": "root"})
    assert file.read_text() == '{"kind": "root_login", "user": "root"}\n'
    PROGRAM.Teller(["/bin/false"]).tell({"kind": "root_login", "user": "root"})
    PROGRAM.Teller(["/nonexistent"]).tell({"kind": "root_login", "user": "root"})
    assert [line.partition(":")[0] for line in journal.said if "hook" in line] == [
        "the hook /bin/false ended with 1",
        "the hook /nonexistent cannot be run",
    ]


def test_a_state_that_cannot_be_read_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(PROGRAM, "STATE", tmp_path / "state.json")
    assert PROGRAM.read_state() == {"known": {}, "cursor": ""}
    for text in ("", "[]", '{"known": []}', '{"known": {"ops": 1}, "cursor": ""}'):
        (tmp_path / "state.json").write_text(text)
        assert PROGRAM.read_state() == {"known": {}, "cursor": ""}
    state = {"known": {"ops": ["192.0.2.7"]}, "cursor": "s=1"}
    PROGRAM.write_state(state)
    assert PROGRAM.read_state() == state
