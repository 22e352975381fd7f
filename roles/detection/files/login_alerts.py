#!/usr/bin/python3 -IB
"""Tell of logins and of what is done with accounts: a line in the journal each (`journalctl -t login-alerts`), and a hook where one is set.

Follows the journal. What somebody writes there under another's name is told apart by what journald itself says of the writer.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
import subprocess
import sys
import syslog
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

CONFIG = Path("/etc/login-alerts.json")
STATE = Path("/var/lib/login-alerts/state.json")
ACCOUNT_TOOLS = (
    "useradd",
    "userdel",
    "usermod",
    "groupadd",
    "groupdel",
    "groupmod",
    "gpasswd",
    "passwd",
    "chpasswd",
    "chsh",
    "chage",
)
# These run as their caller, and any process may give itself their name: what file it is, the kernel says.
SESSION_TOOLS = {"/usr/bin/su": "su", "/usr/bin/login": "login", "/usr/bin/sudo": "sudo"}
# Fields that journald fills in itself begin with an underscore; one group a line, each an alternative.
MATCHES = [
    ["_SYSTEMD_UNIT=ssh.service", "_UID=0"],
    *([f"_EXE={path}"] for path in SESSION_TOOLS),
    ["_COMM=audisp-syslog", "_UID=0"],
    *([f"_COMM={tool}", "_UID=0"] for tool in ACCOUNT_TOOLS),
]
ACCEPTED = re.compile(
    r"Accepted (?P<method>\S+) for (?P<user>\S+) from (?P<address>[0-9A-Fa-f:.]+) port \d+ ssh2(?:: (?P<key>.+))?"
)
ROOT_SESSION = re.compile(
    r"pam_unix\((?P<by>su|su-l|login):session\): session opened for user root\b(?:.*? by (?P<user>[^\s(]*))?.*"
)
SUDO = re.compile(
    r"\s*(?P<user>\S+) : (?P<what>(?:user NOT in sudoers|user NOT authorized|command not allowed|a password is required|\d+ incorrect password attempts?)[^;]*) ; .*"
)
AUDIT_KEYS = ("accounts", "keys", "sudo", "ssh", "audit")
AUDIT_TYPES = ("ADD_USER", "DEL_USER", "ADD_GROUP", "DEL_GROUP", "USER_CHAUTHTOK", "CONFIG_CHANGE")
AUDIT = re.compile(r"(?:node=\S+ )?type=(?P<type>\w+) msg=audit\([\d.:]+\): (?P<rest>.*)")
# Of one address family and account; the oldest go first.
MOST_KNOWN = 200
MOST_A_MINUTE = 20
HOOK_SECONDS = 10
LONGEST = 300

Alert = dict[str, Any]


def alerts(entry: Mapping[str, Any], known: dict[str, list[str]]) -> Iterator[Alert]:
    """Give what an entry of the journal is an alert of; `known` are the addresses of each account, and learns new ones."""
    message, program = entry.get("MESSAGE"), entry.get("_COMM")
    session = SESSION_TOOLS.get(entry.get("_EXE", ""))
    if not isinstance(message, str):
        return
    # A session's processes, sudo's among them, may stay in that unit where no login manager runs.
    if entry.get("_SYSTEMD_UNIT") == "ssh.service" and entry.get("_UID") == "0" and program in ("sshd", "sshd-session"):
        yield from _login(message, known)
    elif session in ("su", "login"):
        found = ROOT_SESSION.fullmatch(message)
        if found:
            yield {"kind": "root_login", "user": found["user"] or "root", "by": found["by"]}
    elif session == "sudo":
        found = SUDO.fullmatch(message)
        if found:
            yield {"kind": "sudo_refused", "user": found["user"], "detail": message.strip()}
    elif program == "audisp-syslog":
        yield from _audited(message)
    elif program in ACCOUNT_TOOLS:
        yield {"kind": "account_changed", "by": program, "detail": message}


def _login(message: str, known: dict[str, list[str]]) -> Iterator[Alert]:
    found = ACCEPTED.fullmatch(message)
    if not found:
        return
    said = {"user": found["user"], "address": found["address"], "detail": found["key"] or found["method"]}
    if found["user"] == "root":
        yield {"kind": "root_login", **said, "by": "ssh"}
    network = _network(found["address"])
    addresses = known.setdefault(found["user"], [])
    if network and network not in addresses:
        addresses.append(network)
        del addresses[:-MOST_KNOWN]
        yield {"kind": "new_address", **said}


def _network(address: str) -> str:
    """Give an address as one is told from another: IPv6 by its /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    return address if parsed.version == 4 else str(ipaddress.ip_network((parsed, 64), strict=False))


def _audited(message: str) -> Iterator[Alert]:
    found = AUDIT.fullmatch(message)
    if not found:
        return
    # The words of a program's own message stand in quotes of its own, after the kernel's fields.
    fields = dict(re.findall(r"\b(auid|exe|key|acct)=\"?([^\s\"']+)", found["rest"]))
    is_watched = found["type"] == "SYSCALL" and fields.get("key") in AUDIT_KEYS
    if is_watched or found["type"] in AUDIT_TYPES:
        yield {
            "kind": f"{fields['key']}_changed" if is_watched else "account_changed",
            "user": fields.get("auid", ""),
            "by": fields.get("exe", ""),
            "detail": found["type"] + (f" {fields['acct']}" if "acct" in fields else ""),
        }


class Teller:
    """Writes alerts to the journal and hands them to the hook, a bounded number of each kind a minute."""

    def __init__(self, hook: list[str]) -> None:
        self._hook = hook
        self._told: dict[str, list[float]] = {}
        self._left_out: dict[str, int] = {}

    def tell(self, alert: Alert) -> None:
        """Tell of one; how many of its kind were left out before it is said with the next that is told."""
        kind, now = alert["kind"], time.monotonic()
        recent = self._told[kind] = [at for at in self._told.get(kind, []) if now - at < 60]
        if len(recent) >= MOST_A_MINUTE:
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return
        recent.append(now)
        said = {name: value[:LONGEST] for name, value in alert.items() if value}
        if self._left_out.get(kind):
            said["left_out"] = self._left_out.pop(kind)
        line = json.dumps(said)
        syslog.syslog(syslog.LOG_WARNING, line)
        if self._hook:
            self._run(line)

    def _run(self, line: str) -> None:
        try:
            done = subprocess.run(
                self._hook, input=line + "\n", text=True, capture_output=True, timeout=HOOK_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            syslog.syslog(syslog.LOG_ERR, f"the hook {self._hook[0]} cannot be run: {error}")
            return
        if done.returncode:
            syslog.syslog(
                syslog.LOG_ERR,
                f"the hook {self._hook[0]} ended with {done.returncode}: {done.stderr.strip()[-LONGEST:]}",
            )


def read_state() -> dict[str, Any]:
    """Give what was known at the last stop; what cannot be read is nothing."""
    try:
        found = json.loads(STATE.read_text())
        return {
            "known": {str(user): list(each) for user, each in found["known"].items()},
            "cursor": str(found["cursor"]),
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {"known": {}, "cursor": ""}


def write_state(state: Mapping[str, Any]) -> None:
    """Keep it, whole or not at all."""
    new = STATE.with_suffix(".new")
    new.write_text(json.dumps(state))
    new.replace(STATE)


def entries(cursor: str) -> Iterator[dict[str, Any]]:
    """Follow the journal from a cursor on, or from now."""
    command = ["journalctl", "--follow", "--output=json", "--no-pager", "--quiet", "--all"]
    command += [f"--after-cursor={cursor}"] if cursor else ["--lines=0"]
    for group in MATCHES:
        command += [*group, "+"]
    with subprocess.Popen(command[:-1], stdout=subprocess.PIPE, text=True, errors="replace") as journal:
        for line in journal.stdout or ():
            with contextlib.suppress(ValueError):
                yield json.loads(line)
    sys.exit("login-alerts: journalctl has ended")


def main() -> None:
    """Follow the journal until stopped."""
    hook = json.loads(CONFIG.read_text())["hook"]
    syslog.openlog("login-alerts", 0, syslog.LOG_AUTH)
    state, teller = read_state(), Teller(hook)
    for entry in entries(state["cursor"]):
        for alert in alerts(entry, state["known"]):
            teller.tell(alert)
        state["cursor"] = entry.get("__CURSOR", "")
        write_state(state)


if __name__ == "__main__":
    main()
