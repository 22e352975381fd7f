"""The molecule scenario whose hosts a suite measures on, and programs on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from lab import hosts as lab_hosts
from lab import ssh
from lab.checkout import Checkout
from tests.plays import Play

ROOT = Path(__file__).parents[2]


def molecule(step: str, scenario: str) -> None:
    """Run one step of a scenario, its words on standard error; subprocess.CalledProcessError where it fails."""
    command = [str(Path(sys.executable).with_name("molecule")), step, "--scenario-name", scenario]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=sys.stderr)


def hosts(step: str, *names: str) -> None:
    """Create or remove hosts of the benchmark's own, which no scenario has."""
    known = lab_hosts.known(Checkout.here()) if step == "remove" else {}
    # An inventory is read when a play begins, and the digests in it are made with the world.
    steps = [["world"]] if step == "create" else []
    steps += [["host", step, name] for name in names if step == "create" or name in known]
    for words in steps:
        command = [sys.executable, "-m", "lab", *words]
        subprocess.run(command, check=True, cwd=ROOT, env=dict(os.environ), stdout=sys.stderr)


def done(play: Play) -> None:
    """Go on where a play ended well; else SystemExit with what it said."""
    if play.code:
        raise SystemExit(play.output)


def on_host(host: str, program: Path, *arguments: str, seconds: float = 300) -> Any:
    """Run a Python program of ours on a host as root, and give the JSON that it prints; SystemExit where it fails."""
    command = ssh.command(Checkout.here(), host, "sudo", "python3", "-", *arguments)
    ended = subprocess.run(
        command, check=False, input=program.read_text(), capture_output=True, text=True, timeout=seconds
    )
    sys.stderr.write(ended.stderr)
    if ended.returncode:
        raise SystemExit(f"{program.name} on {host} ended with {ended.returncode}.")
    return json.loads(ended.stdout)
