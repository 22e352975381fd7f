#!/usr/bin/python3 -IB
"""Show the edge's pools on this host, and take nodes out of them and back; see edge-pools --help."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import http.client
import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CONFIG = Path("/etc/nginx/pools.json")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
SLEEP_SECONDS = 0.1
# Polls come twice a second.
EFFECT_SECONDS = 5.0
# nginx' workers look 20 times a second who is in; so long after a node is out none sends it a call.
SETTLED_SECONDS = 0.2
REFUSED, NOT_SERVED = 1, 3
EPILOG = (
    """exit status: 0 done, 1 refused or not reached in time, 2 bad usage, 3 this edge's pools do not have the node"""
)


class EdgeError(Exception):
    """What was asked for is not done; the message is one sentence."""

    def __init__(self, message: str, code: int = REFUSED) -> None:
        super().__init__(message)
        self.code = code


def configured(key: str) -> Path:
    """Give a path that the edge's own configuration names: its socket, or where the flags of drained nodes are."""
    try:
        return Path(json.loads(CONFIG.read_bytes())[key])
    except (OSError, ValueError, KeyError) as error:
        raise EdgeError(f"{CONFIG} does not say where the {key} is: {error}.") from error


class Connection(http.client.HTTPConnection):
    """HTTP over nginx' socket."""

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5)
        self.sock.connect(str(configured("socket")))


def page(path: str) -> str | None:
    """Give a page of the edge's status; None where nginx does not run."""
    link = Connection("edge")
    try:
        link.request("GET", path)
        return link.getresponse().read().decode()
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except (OSError, http.client.HTTPException) as error:
        raise EdgeError(f"The edge's status does not answer: {error}.") from error
    finally:
        link.close()


def pools() -> dict[str, Any] | None:
    """Give {chain: {members, retries, nodes}}; None where nginx does not run."""
    text = page("/pools")
    return None if text is None else dict(json.loads(text)["pools"])


def loaded(_: argparse.Namespace) -> dict[str, Any]:
    """Say that nginx runs with what it is configured with; refuse where a file of it is younger than the reading."""
    text = page("/pools")
    if text is None:
        raise EdgeError("nginx does not run on this host.")
    at = float(json.loads(text)["loaded_at"])
    files = [CONFIG, CONFIG.with_name("nginx.conf"), *CONFIG.parent.glob("lua/edge/*.lua")]
    for path in files:
        if path.stat().st_mtime > at:
            raise EdgeError(f"nginx still runs with what it read before {path} changed; its journal says why.")
    return {"loaded_at": at}


def find(known: dict[str, Any], chain: str, host: str) -> dict[str, Any]:
    """Give what is known of a node."""
    if chain not in known:
        raise EdgeError(f"This edge has no pool of {chain}; allowed: {', '.join(sorted(known))}.", NOT_SERVED)
    nodes = {node["host"]: node for node in known[chain]["nodes"]}
    if host not in nodes:
        raise EdgeError(f"{host} is not in the pool of {chain}; allowed: {', '.join(sorted(nodes))}.", NOT_SERVED)
    return dict(nodes[host])


def drain(options: argparse.Namespace) -> dict[str, Any]:
    """Take a node out of its pool, and wait for its calls in flight to end."""
    with alone():
        known = pools()
        if known is not None:
            find(known, options.chain, options.host)
            if not options.empty:
                leaves_another(known, options.chain, options.host)
        flag = configured("drained") / options.chain / options.host
        changed = not flag.exists()
        if changed and not options.dry_run:
            # Whatever root's umask is, nginx must see it.
            flag.parent.mkdir(exist_ok=True)
            flag.parent.chmod(0o755)
            flag.write_text(options.by or "")
            flag.chmod(0o644)
    if known is None or options.dry_run:
        return {"changed": changed, "calls": 0, "sockets": 0}
    node = wait(options, EFFECT_SECONDS, lambda node: not node["member"])
    if node["member"]:
        raise EdgeError(f"{options.host} is still in the pool of {options.chain} after {EFFECT_SECONDS:g} s.")
    time.sleep(SETTLED_SECONDS)
    node = wait(options, options.seconds, lambda node: not node["calls"])
    return {"changed": changed, "calls": node["calls"], "sockets": node["sockets"]}


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Let no other run decide meanwhile: two that drain the last two nodes must not both find another member."""
    handle = os.open(configured("drained"), os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def leaves_another(known: dict[str, Any], chain: str, host: str) -> None:
    """Refuse to take the last member."""
    is_member = find(known, chain, host)["member"]
    others = [
        node["host"]
        for node in known[chain]["nodes"]
        if node["member"] and node["host"] != host and not (configured("drained") / chain / node["host"]).exists()
    ]
    if is_member and not others:
        raise EdgeError(
            f"{host} is not drained: no other node of {chain} is in the pool; bring one back first, or say --empty (nginx_drain_empty)."
        )


def undrain(options: argparse.Namespace) -> dict[str, Any]:
    """Let a node back into its pool, and wait until it is."""
    flag = configured("drained") / options.chain / options.host
    known = pools()
    if known is not None:
        find(known, options.chain, options.host)
    by = drained_by(flag)
    changed = by is not None and options.by in (None, by)
    if changed and not options.dry_run:
        with contextlib.suppress(FileNotFoundError):
            flag.unlink()
    if known is None or options.dry_run or (options.by and not changed):
        return {"changed": changed}
    node = wait(options, options.seconds, lambda node: bool(node["member"]))
    if not node["member"]:
        raise EdgeError(
            f"{options.host} is not back in the pool of {options.chain} after {options.seconds:g} s: {node['reason']}."
        )
    return {"changed": changed}


def drained_by(flag: Path) -> str | None:
    """Give the name under which a node was drained, empty where that was given none; None where it is not drained."""
    try:
        return flag.read_text()
    except FileNotFoundError:
        return None


def wait(options: argparse.Namespace, seconds: float, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Look until a node is as wanted or the time is up; give what was seen last."""
    deadline = time.monotonic() + seconds
    while True:
        known = pools()
        if known is None:
            raise EdgeError("nginx has stopped meanwhile.")
        node = find(known, options.chain, options.host)
        if reached(node) or time.monotonic() > deadline:
            return node
        time.sleep(SLEEP_SECONDS)


def show(options: argparse.Namespace) -> None:
    """Print every pool."""
    text = page("/metrics" if options.metrics else "/pools")
    if text is None:
        raise EdgeError("nginx does not run on this host.")
    if options.json or options.metrics:
        sys.stdout.write(text)
        return
    known = json.loads(text)
    emergency = known["emergency"]
    if emergency:
        sys.stdout.write(f"emergency profile: callers without a key are {emergency['public']}; edge-emergency status\n")
    rows: list[tuple[str, ...]] = [("chain", "host", "in", "calls", "sockets", "head", "why")]
    for chain, pool in sorted(known["pools"].items()):
        for node in pool["nodes"]:
            share = f"{node['share']:.0%}" if node["member"] else "no"
            head = "-" if node.get("head") is None else f"{node['head']:.0f}"
            why = node["reason"] if node["reached"] else f"{node['reason']}, cannot be reached"
            rows.append((chain, node["host"], share, str(node["calls"]), str(node["sockets"]), head, why))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")


def name(text: str) -> str:
    """Read a chain's or a host's name."""
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name; allowed: letters, digits, '.', '_' and '-'")
    return text


def seconds(text: str) -> float:
    """Read seconds, none or more."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 86400 seconds")
    return value


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(prog="edge-pools", description=__doc__, epilog=EPILOG)
    commands = top.add_subparsers(dest="command")
    showing = commands.add_parser("show", help="every pool as a table (the default)")
    showing.add_argument("--json", action="store_true", help="for programs")
    showing.add_argument("--metrics", action="store_true", help="Prometheus' text format")
    top.set_defaults(json=False, metrics=False)
    commands.add_parser("loaded", epilog=EPILOG, help="whether nginx runs with its configuration as it is on disk")
    node = argparse.ArgumentParser(add_help=False)
    node.add_argument("chain", type=name)
    node.add_argument("host", type=name, help="the node's host, by its name in the inventory")
    node.add_argument(
        "--by",
        type=name,
        help="who drains; an undrain with a name lifts what was drained by that name only",
    )
    node.add_argument("--dry-run", action="store_true", help="only say whether something would be changed")
    draining = commands.add_parser("drain", parents=[node], epilog=EPILOG, help="send a node no further calls")
    draining.add_argument(
        "--seconds", type=seconds, default=65.0, help="wait so long for its calls to end (default 65)"
    )
    draining.add_argument("--empty", action="store_true", help="also where the pool has no other member")
    returning = commands.add_parser(
        "undrain", parents=[node], epilog=EPILOG, help="send it calls again once it is in step"
    )
    returning.add_argument("--seconds", type=seconds, default=65.0, help="wait so long for that (default 65)")
    return top


def main() -> int:
    """Run the program and give its exit status."""
    options = parser().parse_args()
    if os.geteuid() != 0:
        sys.stderr.write("edge-pools: only root may ask the edge.\n")
        return REFUSED
    try:
        if action := {"drain": drain, "undrain": undrain, "loaded": loaded}.get(options.command):
            sys.stdout.write(json.dumps(action(options)) + "\n")
        else:
            show(options)
    except EdgeError as refusal:
        sys.stderr.write(f"edge-pools: {refusal}\n")
        return refusal.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
