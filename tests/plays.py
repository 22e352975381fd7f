"""Run a scenario's playbooks from its tests, with the variables that a test wants."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Play:
    """What a play did: how it ended, what it said, and how many tasks changed something."""

    code: int
    output: str
    stats: dict[str, int]

    @property
    def changed(self) -> int:
        return self.stats["changed"]

    @property
    def messages(self) -> str:
        """The failed tasks' messages, one after the other."""
        return " ".join(self.output.split())


def play(scenario: str, playbook: str, variables: dict[str, Any], *options: str) -> Play:
    """Run a playbook of a scenario's folder on its host; `variables` become extra variables."""
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            f"--inventory={ROOT / 'molecule/shared/inventory.py'}",
            f"--extra-vars={json.dumps(variables)}",
            *options,
            str(ROOT / "molecule" / scenario / playbook),
        ],
        check=False,
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
        capture_output=True,
        text=True,
        timeout=300,
    )
    recap = done.stdout.rpartition("PLAY RECAP")[2]
    words = dict(word.split("=") for word in recap.split() if "=" in word)
    return Play(done.returncode, done.stdout + done.stderr, {name: int(count) for name, count in words.items()})
