"""Wait until a systemd unit is ready, or say why it will not be; an Ansible module."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from typing import BinaryIO

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: unit_ready
short_description: Wait until a systemd unit is ready
description:
  - Reads, and changes nothing; check mode makes no difference.
  - Ready means that systemd calls the unit active, in a run other than C(previous), and that C(command), where given, exits 0.
  - Fails at once where the unit has failed, keeps ending, or the command exits 3; else when the time is up. The message is one
    sentence that ends in the unit's last journal lines.
author: mev-infrastructure maintainers
options:
  name:
    description: The unit's name without its C(.service) ending.
    type: str
    required: true
  command:
    description: Program and arguments that exit 0 once the service is ready.
    type: list
    elements: str
    default: []
  seconds:
    description: Seconds to wait, counted from the end of the run before.
    type: int
    required: true
  stop_seconds:
    description: Seconds that the run before may take to stop.
    type: int
    default: 90
  settle_seconds:
    description: Seconds that a unit without C(command) must have stayed active.
    type: float
    default: 0
  previous:
    description: Id of the run that is being replaced; empty where there is none.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Erigon answers
  unit_ready:
    name: erigon
    command: [/usr/local/bin/node-health, check, --config, /etc/node_health/erigon.json]
    seconds: 120
"""

RETURN = r"""
waited_seconds:
  description: How long it took.
  type: float
  returned: success
"""

PROPERTIES = "ActiveState,SubState,Result,InvocationID,NRestarts,ExecMainCode,ExecMainStatus,StatusText,Job"
RESTARTS_UNTIL_HOPELESS = 3
HOPELESS = 3
POLL_SECONDS = 0.5
LINE_LENGTH = 300


class NotReadyError(Exception):
    """The service is not ready and waiting longer would not help; the message is the reason."""


@dataclass
class Wait:
    """One wait: what was asked, and what has been seen so far."""

    name: str
    command: list[str]
    seconds: float
    stop_seconds: float
    settle_seconds: float
    previous: str
    first_restarts: int | None = None
    last_words: str = ""
    last_exit: str = ""
    seen: dict[str, str] = field(default_factory=dict)
    active_run: str = ""
    active_since: float = 0.0

    def run(self) -> None:
        """Return when the unit is ready; raise NotReadyError with the reason."""
        stop_deadline = time.monotonic() + self.stop_seconds
        self.look()
        while self.is_previous() and time.monotonic() < stop_deadline:
            time.sleep(POLL_SECONDS)
            self.look()
        deadline = time.monotonic() + self.seconds
        while not (self.answers(deadline) if self.command else self.has_settled()):
            if time.monotonic() > deadline:
                raise NotReadyError(f"is not ready after {self.seconds:g} seconds ({self.state()})")
            time.sleep(POLL_SECONDS)
            self.look()

    def look(self) -> None:
        """Ask systemd again; raise where its account says that waiting is pointless."""
        self.seen = show(self.name)
        if not self.is_previous() and self.seen.get("ExecMainCode", "0") != "0":
            self.last_exit = self.seen.get("ExecMainStatus", "")
        run = self.seen.get("InvocationID", "") if self.is_active() else ""
        if run != self.active_run:
            self.active_run, self.active_since = run, time.monotonic()
        if not self.is_previous():
            self.give_up_early()

    def is_active(self) -> bool:
        """Say whether the unit is active, in the run that is waited for."""
        return self.seen.get("ActiveState") == "active" and not self.is_previous()

    def has_settled(self) -> bool:
        """Say whether one run has been active for long enough."""
        return bool(self.active_run) and time.monotonic() - self.active_since >= self.settle_seconds

    def is_previous(self) -> bool:
        """Say whether the run to be replaced is still there: active, stopping, or waiting for its turn."""
        if not self.previous or self.seen.get("InvocationID") != self.previous:
            return False
        return self.seen.get("ActiveState") != "failed" or self.has_job()

    def has_job(self) -> bool:
        """Say whether systemd has something to do with the unit."""
        return self.seen.get("Job", "0") not in {"", "0"}

    def give_up_early(self) -> None:
        """Raise where systemd's own account says that waiting is pointless."""
        restarts = int(self.seen.get("NRestarts") or 0)
        if self.first_restarts is None or restarts < self.first_restarts:
            self.first_restarts = restarts
        if self.seen.get("ActiveState") == "failed" and not self.has_job():
            raise NotReadyError(f"has failed ({self.state()})")
        if restarts - self.first_restarts >= RESTARTS_UNTIL_HOPELESS:
            raise NotReadyError(f"keeps ending ({self.state()})")

    def answers(self, deadline: float) -> bool:
        """Run the readiness command once, with an eye on the unit; raise where waiting is pointless."""
        if not self.is_active():
            return False
        run = self.active_run
        with tempfile.TemporaryFile() as output:
            try:
                process = subprocess.Popen(
                    self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
                )
            except OSError as error:
                raise NotReadyError(f"cannot be asked: {error}") from error
            try:
                code = self.watch(process, deadline)
            finally:
                process.kill()
                process.wait()
                self.last_words = last_line(output) or self.last_words
        if code == HOPELESS:
            raise NotReadyError(f"will not become ready ({self.state()})")
        self.look()
        # Another program may have answered for a run that has died since.
        return code == 0 and self.active_run == run

    def watch(self, process: subprocess.Popen[bytes], deadline: float) -> int | None:
        """Give the command's exit status, or None where it or its unit's run has outlived its time."""
        run = self.active_run
        while time.monotonic() <= deadline and self.active_run == run:
            try:
                return process.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                self.look()
        return None

    def state(self) -> str:
        """Put what is known into a few words."""
        words = f"{self.seen.get('ActiveState', 'unknown')}, {self.seen.get('SubState', 'unknown')}"
        if self.seen.get("Result", "success") != "success":
            words += f", {self.seen['Result']}"
        if self.last_exit:
            words += f", last exit status {self.last_exit}"
        said = self.last_words or self.seen.get("StatusText", "")
        return f"{words}; {said}" if said else words


def last_line(output: BinaryIO) -> str:
    """Keep the last line of what a program wrote."""
    output.seek(max(0, output.seek(0, os.SEEK_END) - 4096))
    lines = output.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip()[:LINE_LENGTH] if lines else ""


def show(name: str) -> dict[str, str]:
    """Ask systemd for the unit's properties."""
    output = subprocess.run(
        ["systemctl", "show", f"--property={PROPERTIES}", f"{name}.service"],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    ).stdout
    return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)


def journal(name: str) -> str:
    """Give the last lines of the unit's own programs, then systemd's of it, in one line: a unit that keeps ending has more of these."""
    return " | ".join([*last_lines(f"_SYSTEMD_UNIT={name}.service"), *last_lines(f"UNIT={name}.service")]) or "no lines"


def last_lines(match: str) -> list[str]:
    """Give the last few lines of the journal that match, each cut to a length that can be read."""
    done = subprocess.run(
        ["journalctl", match, "--lines=3", "--no-pager", "--quiet", "--output=cat"],
        check=False,
        capture_output=True,
        timeout=30,
    )
    lines = [line.strip() for line in done.stdout.decode(errors="replace").splitlines()]
    return [line[:LINE_LENGTH] for line in lines if line]


def main() -> None:
    """Run as Ansible runs a module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "command": {"type": "list", "elements": "str", "default": []},
            "seconds": {"type": "int", "required": True},
            "stop_seconds": {"type": "int", "default": 90},
            "settle_seconds": {"type": "float", "default": 0.0},
            "previous": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    started = time.monotonic()
    wait = Wait(**module.params)
    try:
        wait.run()
    except NotReadyError as reason:
        module.fail_json(msg=f"{wait.name}.service {reason}; its last journal lines: {journal(wait.name)}")
    except (OSError, subprocess.SubprocessError) as error:
        module.fail_json(msg=f"systemd does not answer for {wait.name}.service: {error}")
    module.exit_json(changed=False, waited_seconds=round(time.monotonic() - started, 1))


if __name__ == "__main__":
    main()
