"""Run a scenario's playbooks from its tests, with the variables that a test wants."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Play:
    """What a play did: how it ended, what it said, and how many tasks changed something, all hosts' together."""

    code: int
    output: str
    stats: Mapping[str, int]

    @property
    def changed(self) -> int:
        return self.stats["changed"]

    @property
    def messages(self) -> str:
        """The failed tasks' messages, one after the other."""
        return " ".join(self.output.split())


def play(scenario: str, playbook: str, variables: dict[str, Any], *options: str, timeout_seconds: float = 300) -> Play:
    """Run a playbook of a scenario's folder on its host; `variables` become extra variables."""
    process = start(scenario, playbook, variables, *options)
    try:
        output, errors = process.communicate(timeout=timeout_seconds)
    except BaseException:
        kill(process)
        raise
    counts = Counter[str]()
    for name, count in re.findall(r"(\w+)=(\d+)", output.rpartition("PLAY RECAP")[2]):
        counts[name] += int(count)
    return Play(process.returncode, output + errors, counts)


def start(scenario: str, playbook: str, variables: dict[str, Any], *options: str) -> subprocess.Popen[str]:
    """Start a playbook as `play` does, in a process group of its own, and do not wait for its end."""
    return subprocess.Popen(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            f"--inventory={ROOT / 'molecule/shared/inventory.py'}",
            f"--extra-vars={json.dumps(variables)}",
            *options,
            str(ROOT / "molecule" / scenario / playbook),
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "MOLECULE_SCENARIO_NAME": scenario,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            # Molecule forces colour.
            "ANSIBLE_FORCE_COLOR": "0",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def kill(process: subprocess.Popen[str]) -> None:
    """End a playbook that was started, and all that it has started here, without a chance to tidy up."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    # SSH's shared connection, which outlives the play, has them too: nobody reads to their end.
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
