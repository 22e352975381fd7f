#!/usr/bin/python3 -IB
"""Open SSH beside the VPN while no administrator gets through it, and close it again; see vpn-break-glass --help.

With SSH bound to the VPN the firewall lets it in from elsewhere (from iptables_admin_networks, and from nowhere else) while its port is
in a set. Entries of the set end by themselves, so that nothing stays open because this program has died.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CONFIG = Path("/etc/fleet-vpn/vpn.json")
STATUS = "/usr/local/bin/vpn-status"
STATE = Path("/var/lib/fleet-vpn/break-glass.json")
METRICS = Path("/var/lib/fleet-vpn/break_glass.prom")
# A look comes every minute.
HOLD_SECONDS = 180
SECONDS = range(60, 86_401)


class GlassError(Exception):
    """What was asked for is not done; the message is one sentence."""


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run a program."""
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GlassError(f"{argv[0]} cannot be run: {type(error).__name__}.") from error


def configured() -> dict[str, Any]:
    """Read {set, port, hours}: the firewall's set, SSH's port, and the hours without an administrator after which SSH opens."""
    try:
        return dict(json.loads(CONFIG.read_bytes())["break_glass"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GlassError(f"{CONFIG} does not say when SSH opens: {error}.") from error


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Let no other run decide meanwhile."""
    handle = os.open(STATE.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def newest_admin() -> float | None:
    """Give the seconds since an administrator's last handshake, of all of them; None where the tunnel knows of none or does not run."""
    done = run(STATUS, "--json")
    if done.returncode not in (0, 1):
        return None
    ages = [
        float(peer["handshake_age_seconds"])
        for peer in json.loads(done.stdout)["peers"]
        if peer["kind"] == "admin" and peer["handshake_age_seconds"] is not None
    ]
    return min(ages, default=None)


def remembered(now: float) -> dict[str, Any]:
    """Give {seen, until, open}: when an administrator was last seen, until when somebody opened SSH by hand, and what was done last.

    Seconds since 1970. A host that remembers nothing, or something from a future that a clock has taken back, begins to count now.
    """
    try:
        state = json.loads(STATE.read_bytes())
        state = {"seen": float(state["seen"]), "until": float(state["until"]), "open": bool(state["open"])}
    except (OSError, ValueError, KeyError, TypeError):
        state = {"seen": now, "until": 0.0, "open": False}
    state["seen"] = min(state["seen"], now)
    state["until"] = min(state["until"], now + SECONDS[-1])
    return state


def remember(state: dict[str, Any]) -> None:
    """Write what is remembered and what monitoring is told, each in one step."""
    told = (
        "# TYPE fleet_vpn_break_glass_open gauge\n"
        f"fleet_vpn_break_glass_open {int(state['open'])}\n"
        "# TYPE fleet_vpn_admin_seen_timestamp_seconds gauge\n"
        f"fleet_vpn_admin_seen_timestamp_seconds {state['seen']:.0f}\n"
    )
    for path, text, mode in ((STATE, json.dumps(state) + "\n", 0o640), (METRICS, told, 0o644)):
        new = path.with_name(f".{path.name}")
        new.write_text(text)
        new.chmod(mode)
        # By hand root writes it, which the unit's account has to read and replace.
        if os.geteuid() == 0:
            owner = path.parent.stat()
            os.chown(new, owner.st_uid, owner.st_gid)
        new.replace(path)


def is_bound(glass: dict[str, Any]) -> bool:
    """Say whether SSH is bound to the VPN: only then is the firewall's set there."""
    if not shutil.which("ipset"):
        return False
    done = run("ipset", "list", glass["set"], "-terse")
    if done.returncode and "does not exist" not in done.stderr:
        raise GlassError(f"the firewall's sets cannot be asked: {' '.join(done.stderr.split()).rstrip('.')}.")
    return done.returncode == 0


def set_port(glass: dict[str, Any], seconds: float) -> None:
    """Have SSH's port in the set for some seconds, or out of it."""
    how = ["add", glass["set"], str(glass["port"]), "timeout", str(max(1, int(seconds)))]
    done = run("ipset", "-exist", *(how if seconds > 0 else ["del", glass["set"], str(glass["port"])]))
    if done.returncode:
        raise GlassError(
            f"the firewall's set {glass['set']} cannot be changed: {' '.join(done.stderr.split()).rstrip('.')}."
        )


def look(glass: dict[str, Any], now: float) -> str:
    """Open or close, as the last handshake of an administrator has it; say what has changed, if anything."""
    state = remembered(now)
    age = newest_admin()
    if age is not None:
        state["seen"] = max(state["seen"], now - age)
    lost = now - state["seen"] > glass["hours"] * 3600
    opens = is_bound(glass) and (lost or now < state["until"])
    if is_bound(glass):
        set_port(glass, (HOLD_SECONDS if lost else state["until"] - now) if opens else 0)
    changed, state["open"] = opens != state["open"], opens
    remember(state)
    if not changed:
        return ""
    if opens:
        why = f"no administrator's handshake for {glass['hours']} h" if lost else "asked for by hand"
        return f"break-glass: SSH is open beside the VPN, from iptables_admin_networks ({why})"
    return "break-glass: SSH is bound to the VPN again"


def by_hand(glass: dict[str, Any], now: float, seconds: int) -> str:
    """Open for some seconds, or end what was opened by hand."""
    if not is_bound(glass):
        raise GlassError(
            "SSH is not bound to the VPN on this host (iptables_vpn_only), so that nothing has to be opened."
        )
    remember({**remembered(now), "until": now + seconds if seconds else 0.0})
    return look(glass, now)


def main(argv: list[str] | None = None) -> int:
    """Do what the command line says; 0 done, 1 refused, 2 bad usage."""
    parser = argparse.ArgumentParser(prog="vpn-break-glass", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("look", help="open or close, as the VPN is; what the timer does")
    opening = commands.add_parser("open", help="open SSH beside the VPN for a while")
    opening.add_argument("--seconds", type=int, default=3600, help="60 to 86400 (default 3600)")
    commands.add_parser("close", help="end what was opened by hand")
    asked = parser.parse_args(argv)
    if asked.command == "open" and asked.seconds not in SECONDS:
        parser.error(f"--seconds is {asked.seconds}; allowed: {SECONDS[0]} to {SECONDS[-1]}")
    try:
        with alone():
            now = time.time()
            if asked.command == "look":
                said = look(configured(), now)
            else:
                said = by_hand(configured(), now, asked.seconds if asked.command == "open" else 0)
    except GlassError as refusal:
        print(f"vpn-break-glass: {refusal}", file=sys.stderr)
        return 1
    if said:
        print(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
