#!/usr/bin/python3 -IB
"""Show the VPN's peers on this host: who answers, since when, and how much has passed; see vpn-status --help.

It asks wg for one property at a time, never for a dump: no key is read that could be printed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CONFIG = Path("/etc/fleet-vpn/vpn.json")
# Sessions end 180 s after their handshake.
FRESH_SECONDS = 180
EPILOG = (
    "states: up (a handshake within the last 180 s), stale (an older one), never. exit status: 0 every host of the fleet is up, 1 one is "
    "not (administrators come and go, and do not count), 2 bad usage, 3 the VPN does not run on this host"
)
NOT_RUNNING = 3


class StatusError(Exception):
    """The VPN cannot be asked; the message is one sentence."""


def wg(interface: str, what: str) -> dict[str, list[str]]:
    """Ask for one property of every peer: {public_key: words}."""
    try:
        done = subprocess.run(["wg", "show", interface, what], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StatusError(f"wg cannot be run: {type(error).__name__}.") from error
    if done.returncode:
        raise StatusError(f"{interface} cannot be asked: {' '.join(done.stderr.split())[-200:].rstrip('.')}.")
    return {words[0]: words[1:] for words in map(str.split, done.stdout.splitlines()) if words}


def peer_status(peer: dict[str, Any], words: list[list[str]], now: float) -> dict[str, Any]:
    """Give what is known of one peer from wg's words about its handshake, transfer and endpoint; ages in seconds, sizes in bytes."""
    seen, passed, where = words
    at = int(seen[0]) if seen else 0
    # A clock that was set back must not make a handshake of the future.
    age = max(0, int(now) - at) if at else None
    received, sent = (int(word) for word in passed or ("0", "0"))
    return {
        "name": peer["name"],
        "kind": peer["kind"],
        "address": peer["address"],
        "endpoint": None if where in ([], ["(none)"]) else where[0],
        "handshake_age_seconds": age,
        "received_bytes": received,
        "sent_bytes": sent,
        "state": "never" if age is None else "up" if age <= FRESH_SECONDS else "stale",
    }


def status(config: dict[str, Any], now: float) -> dict[str, Any]:
    """Give {interface, implementation, peers} of the tunnel that runs."""
    name = config["interface"]
    device = Path("/sys/class/net") / name
    if not device.exists():
        raise StatusError(f"{name} is not there: fleet-vpn.service does not run.")
    tables = [wg(name, what) for what in ("latest-handshakes", "transfer", "endpoints")]
    return {
        "interface": name,
        "implementation": "user space" if (device / "tun_flags").exists() else "kernel",
        "peers": [
            peer_status(peer, [each.get(peer["public_key"], []) for each in tables], now) for peer in config["peers"]
        ],
    }


def label(text: str) -> str:
    """Write a text as a label's value."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def metrics(found: dict[str, Any] | None) -> str:
    """Give Prometheus' text format; where the VPN does not run, that alone."""
    lines = ["# TYPE fleet_vpn_up gauge", f"fleet_vpn_up {int(found is not None)}"]
    if found is None:
        return "\n".join(lines) + "\n"
    lines += ["# TYPE fleet_vpn_userspace gauge", f"fleet_vpn_userspace {int(found['implementation'] != 'kernel')}"]
    for series, kind, key in (
        ("fleet_vpn_peer_up", "gauge", "state"),
        ("fleet_vpn_peer_handshake_age_seconds", "gauge", "handshake_age_seconds"),
        ("fleet_vpn_peer_received_bytes_total", "counter", "received_bytes"),
        ("fleet_vpn_peer_sent_bytes_total", "counter", "sent_bytes"),
    ):
        lines.append(f"# TYPE {series} {kind}")
        for peer in found["peers"]:
            value = int(peer[key] == "up") if key == "state" else peer[key]
            if value is not None:
                lines.append(f'{series}{{peer="{label(peer["name"])}",kind="{peer["kind"]}"}} {value}')
    return "\n".join(lines) + "\n"


def text(found: dict[str, Any]) -> str:
    """Give a table for people."""
    rows: list[tuple[str, ...]] = [("peer", "kind", "address", "state", "handshake", "received", "sent", "endpoint")]
    for peer in found["peers"]:
        age = peer["handshake_age_seconds"]
        rows.append(
            (
                peer["name"],
                peer["kind"],
                peer["address"],
                peer["state"],
                "-" if age is None else f"{age} s ago",
                f"{peer['received_bytes']} B",
                f"{peer['sent_bytes']} B",
                peer["endpoint"] or "-",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([f"{found['interface']}, in {found['implementation']}", *lines]) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Print the status and give its exit code."""
    parser = argparse.ArgumentParser(prog="vpn-status", description=__doc__.partition("\n")[0], epilog=EPILOG)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs")
    form.add_argument("--metrics", action="store_true", help="Prometheus' text format; exit status 0 whatever it says")
    asked = parser.parse_args(argv)
    try:
        found = status(dict(json.loads(CONFIG.read_bytes())), time.time())
    except (StatusError, OSError, ValueError) as refusal:
        if asked.metrics:
            sys.stdout.write(metrics(None))
            return 0
        sys.stderr.write(f"vpn-status: {refusal}\n")
        return NOT_RUNNING
    if asked.metrics:
        sys.stdout.write(metrics(found))
        return 0
    sys.stdout.write(json.dumps(found) + "\n" if asked.json else text(found))
    return int(any(peer["state"] != "up" for peer in found["peers"] if peer["kind"] == "host"))


if __name__ == "__main__":
    sys.exit(main())
