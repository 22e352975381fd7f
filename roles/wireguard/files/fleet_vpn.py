#!/usr/bin/python3 -IB
"""Hold this host's WireGuard tunnel, by the kernel or by wireguard-go where the kernel has none; see fleet-vpn --help.

No key is ever printed: private keys go to wg through a pipe, and what is shown of a peer is its name.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

CONFIG = Path("/etc/fleet-vpn/vpn.json")
SOCKETS = Path("/run/wireguard")
STATUS = "/usr/local/bin/vpn-status"
USERSPACE = "wireguard-go"
# Sessions end after 180 s without a new handshake; with the keepalive a sound tunnel has one every 120 s.
FRESH_SECONDS = 180
LOOK_SECONDS = 15.0
START_SECONDS = 10.0
EXPECT_SECONDS = 0.2

Peer = dict[str, Any]


class VpnError(Exception):
    """What was asked for is not done; the message is one sentence and holds no key."""


def run(*argv: str, stdin: str = "") -> str:
    """Run a program and return what it prints; VpnError with its last words where it fails. Arguments are shown, input never."""
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise VpnError(f"{argv[0]} cannot be run: {type(error).__name__}.") from error
    if done.returncode:
        said = " ".join(done.stderr.split()).rstrip(".") or f"exit status {done.returncode}"
        raise VpnError(f"{' '.join(argv[:4])} refuses: {said[-300:]}.")
    return done.stdout


def configured(path: Path = CONFIG) -> dict[str, Any]:
    """Read {interface, peers: [{name, kind, public_key, address, endpoint, keepalive}]}; no secret is in it."""
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise VpnError(f"{path} cannot be read: {error}.") from error


def table(interface: str, what: str) -> dict[str, list[str]]:
    """Ask wg for one property of every peer: {public_key: words}. Never `dump`, which holds the private key."""
    lines = [line.split() for line in run("wg", "show", interface, what).splitlines()]
    return {words[0]: words[1:] for words in lines if words}


def resolved(endpoint: str) -> str:
    """Turn NAME:PORT into ADDRESS:PORT; empty where the name has no address now."""
    host, _, port = endpoint.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)
    except (OSError, ValueError):
        return ""
    address = str(found[0][4][0])
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def ages(interface: str, now: float) -> dict[str, float]:
    """Give the seconds since each peer's last handshake; a peer that had none is left out."""
    seen = {key: int(words[0]) for key, words in table(interface, "latest-handshakes").items()}
    return {key: max(0.0, now - at) for key, at in seen.items() if at}


def differs(interface: str, peers: list[Peer]) -> bool:
    """Say whether the tunnel's peers are others than the configured ones. Where a peer is reached is its own to change."""
    allowed, keepalive = table(interface, "allowed-ips"), table(interface, "persistent-keepalive")
    live = {key: (words, keepalive[key]) for key, words in allowed.items()}
    wanted = {each["public_key"]: ([f"{each['address']}/32"], [str(each["keepalive"] or "off")]) for each in peers}
    return live != wanted


def sync(interface: str, peers: list[Peer]) -> bool:
    """Make the tunnel's peers the configured ones by `wg syncconf`, which leaves those alone that stay; say whether any differed."""
    if not differs(interface, peers):
        return False
    key, port = (run("wg", "show", interface, what).strip() for what in ("private-key", "listen-port"))
    fresh = {peer for peer, age in ages(interface, time.time()).items() if age <= FRESH_SECONDS}
    where = table(interface, "endpoints")
    lines = ["[Interface]", f"PrivateKey = {key}", f"ListenPort = {port}"]
    for peer in peers:
        public = peer["public_key"]
        # Behind a router a peer is where its last packet came from.
        endpoint = where[public][0] if public in fresh else resolved(peer["endpoint"]) if peer["endpoint"] else ""
        lines += ["[Peer]", f"PublicKey = {public}", f"AllowedIPs = {peer['address']}/32"]
        lines += [f"Endpoint = {endpoint}"] if endpoint and endpoint != "(none)" else []
        lines += [f"PersistentKeepalive = {peer['keepalive']}"] if peer["keepalive"] else []
    run("wg", "syncconf", interface, "/dev/stdin", stdin="\n".join(lines) + "\n")
    return True


def peer_of(name: str) -> Peer:
    """Give the configured host of a name."""
    hosts = {peer["name"]: dict(peer) for peer in configured()["peers"] if peer["kind"] == "host"}
    if name not in hosts:
        raise VpnError(
            f"{name} is no host that this one has a tunnel to; allowed: {', '.join(sorted(hosts)) or 'none'}."
        )
    return hosts[name]


def expect(name: str, key: str, seconds: float) -> None:
    """Take a host by a new public key beside its old one, for a while: its address is whose handshake is the newest.

    So a host that changes its key is followed within a moment, and one that goes back to its old key as well. In the end the configuration
    decides, which `accept` changes.
    """
    peer, interface = peer_of(name), configured()["interface"]
    old, deadline = peer["public_key"], time.monotonic() + seconds
    if key == old:
        raise VpnError(f"that is {name}'s key already.")
    endpoint = table(interface, "endpoints").get(old, ["(none)"])[0]
    words = [] if endpoint == "(none)" else ["endpoint", endpoint]
    run("wg", "set", interface, "peer", key, *words, "persistent-keepalive", str(peer["keepalive"] or "off"))
    started()
    holder = old
    while time.monotonic() < deadline and peer_of(name)["public_key"] == old:
        seen = {public: int(at[0]) for public, at in table(interface, "latest-handshakes").items()}
        newest = key if seen.get(key, 0) >= max(1, seen.get(old, 0)) else old
        if newest != holder:
            run("wg", "set", interface, "peer", newest, "allowed-ips", f"{peer['address']}/32")
            holder = newest
        time.sleep(EXPECT_SECONDS)
    sync(interface, configured()["peers"])


def accept(name: str, key: str) -> bool:
    """Have a host by its new public key alone; say whether it was by another."""
    config = configured()
    if peer_of(name)["public_key"] == key:
        return False
    for peer in config["peers"]:
        if (peer["kind"], peer["name"]) == ("host", name):
            peer["public_key"] = key
    status = CONFIG.stat()
    new = CONFIG.with_name(f".{CONFIG.name}")
    # As the role writes it, which then finds no difference.
    new.write_text(json.dumps(config, indent=4, sort_keys=True) + "\n")
    new.chmod(status.st_mode & 0o777)
    os.chown(new, status.st_uid, status.st_gid)
    new.replace(CONFIG)
    sync(config["interface"], config["peers"])
    return True


def prod(peers: list[Peer]) -> None:
    """Send each peer a packet, so that a tunnel without a session has one made."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for peer in peers:
            with contextlib.suppress(OSError):
                sender.sendto(b"", (peer["address"], 9))


def rotate(current: Path, following: Path, seconds: float) -> None:
    """Change this host's key for the one that is ready; back to the old one unless every host that was up answers to the new."""
    config, now = configured(), time.time()
    interface = config["interface"]
    known = ages(interface, now)
    up = [
        peer
        for peer in config["peers"]
        if peer["kind"] == "host" and known.get(peer["public_key"], now) <= FRESH_SECONDS
    ]
    if not up:
        raise VpnError(
            "no host is up on the VPN, so that nothing would prove a new key; allowed: a host with a tunnel to another."
        )
    # Handshakes are known to the second: one of the same second as the change would not be told from one before it.
    time.sleep(1.1)
    before = table(interface, "latest-handshakes")
    run("wg", "set", interface, "private-key", str(following))
    deadline = time.monotonic() + seconds
    silent = up
    while silent and time.monotonic() < deadline:
        prod(silent)
        time.sleep(0.5)
        seen = table(interface, "latest-handshakes")
        silent = [peer for peer in silent if seen[peer["public_key"]] == before[peer["public_key"]]]
    if silent:
        run("wg", "set", interface, "private-key", str(current))
        following.unlink()
        prod(up)
        names = ", ".join(peer["name"] for peer in silent)
        raise VpnError(f"{names} did not answer to the new key within {seconds:g} s; the old one is back.")
    # The tunnel that runs has this key: it needs no restart because of a younger file.
    was = current.stat()
    os.utime(following, ns=(was.st_atime_ns, was.st_mtime_ns))
    following.replace(current)


def look_again(interface: str, peers: list[Peer]) -> None:
    """Ask names again where a peer does not answer: it may have moved."""
    known, live, now = ages(interface, time.time()), table(interface, "endpoints"), time.time()
    for peer in peers:
        public = peer["public_key"]
        if public in live and peer["endpoint"] and known.get(public, now) > FRESH_SECONDS:
            endpoint = resolved(peer["endpoint"])
            if endpoint and live[public] != [endpoint]:
                run("wg", "set", interface, "peer", public, "endpoint", endpoint)


@contextlib.contextmanager
def link(interface: str) -> Iterator[subprocess.Popen[bytes] | None]:
    """Have the interface for a while: the kernel's, or that of a wireguard-go of ours, which is given."""
    subprocess.run(["ip", "link", "delete", "dev", interface], capture_output=True, timeout=30, check=False)
    child = None
    try:
        try:
            run("ip", "link", "add", "dev", interface, "type", "wireguard")
            print(f"{interface} is the kernel's", flush=True)
        except VpnError as refusal:
            print(f"the kernel has no WireGuard ({refusal}); {USERSPACE} holds {interface} in user space", flush=True)
            child = userspace(interface)
        yield child
    finally:
        if child is not None:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(5)
        else:
            subprocess.run(["ip", "link", "delete", "dev", interface], capture_output=True, timeout=30, check=False)


def userspace(interface: str) -> subprocess.Popen[bytes]:
    """Start wireguard-go and wait until it can be spoken to."""
    try:
        child = subprocess.Popen([USERSPACE, "--foreground", interface], env={**os.environ, "LOG_LEVEL": "error"})
    except OSError as error:
        raise VpnError(f"{USERSPACE} cannot be run: {error.strerror}.") from error
    deadline = time.monotonic() + START_SECONDS
    while not (SOCKETS / f"{interface}.sock").exists():
        if child.poll() is not None or time.monotonic() > deadline:
            child.kill()
            raise VpnError(f"{USERSPACE} does not hold {interface}.")
        time.sleep(0.05)
    return child


def started() -> None:
    """Tell systemd that the tunnel is there."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect(f"\0{path[1:]}" if path.startswith("@") else path)
            notify.send(b"READY=1")


def keep_metrics(path: Path) -> None:
    """Write what vpn-status says for monitoring, in one step; a look that fails leaves the last one, whose age shows."""
    try:
        text = run(STATUS, "--metrics")
    except VpnError as refusal:
        print(refusal, file=sys.stderr, flush=True)
        return
    new = path.with_name(f".{path.name}")
    new.write_text(text)
    new.chmod(0o644)
    new.replace(path)


def wait(child: subprocess.Popen[bytes] | None) -> None:
    """Let time pass until the next look; an end of wireguard-go is seen at once."""
    if child is None:
        time.sleep(LOOK_SECONDS)
        return
    with contextlib.suppress(subprocess.TimeoutExpired):
        raise VpnError(f"{USERSPACE} has ended with status {child.wait(LOOK_SECONDS)}.")


def hold(asked: argparse.Namespace) -> None:
    """Bring the tunnel up and hold it until a signal comes."""

    def leave(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, leave)
    interface = configured()["interface"]
    with link(interface) as child:
        run(*f"wg set {interface} listen-port {asked.port} private-key /dev/stdin".split(), stdin=asked.key.read_text())
        run("ip", "address", "replace", asked.address, "dev", interface)
        run("ip", "link", "set", "dev", interface, "mtu", str(asked.mtu), "up")
        sync(interface, configured()["peers"])
        started()
        while True:
            keep_metrics(asked.metrics)
            wait(child)
            look_again(interface, configured()["peers"])


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(prog="fleet-vpn", description=__doc__.partition("\n")[0])
    commands = top.add_subparsers(dest="command", required=True)
    held = commands.add_parser("run", help="hold the tunnel; what the unit does")
    held.add_argument("--address", required=True, help="this host's address and the network's length, 10.66.0.1/24")
    held.add_argument("--port", type=int, required=True, help="UDP port")
    held.add_argument("--mtu", type=int, required=True, help="bytes")
    held.add_argument("--key", type=Path, required=True, help="file of the private key")
    held.add_argument("--metrics", type=Path, required=True, help="file for node_exporter's textfile collector")
    commands.add_parser("sync", help=f"make the tunnel's peers those of {CONFIG}; prints whether any differed")
    expecting = commands.add_parser("expect", help="follow a host from its key to a new one, and back, for a while")
    accepting = commands.add_parser("accept", help="have a host by its new key alone; prints whether it was by another")
    for one in (expecting, accepting):
        one.add_argument("--peer", required=True, help="the host, by its name in the inventory")
        one.add_argument("--key", required=True, help="its new public key")
    expecting.add_argument("--seconds", type=float, default=180.0, help="default 180")
    rotating = commands.add_parser("rotate", help="change this host's key, and back where others do not answer to it")
    rotating.add_argument("--key", type=Path, required=True, help="file of the private key")
    rotating.add_argument("--next", type=Path, required=True, help="file of the key that takes its place")
    rotating.add_argument("--seconds", type=float, default=30.0, help="wait so long for an answer (default 30)")
    return top


def main(argv: list[str] | None = None) -> int:
    """Do what the command line says; 0 done, 1 refused, 2 bad usage."""
    asked = parser().parse_args(argv)
    changed = True
    try:
        if asked.command == "run":
            hold(asked)
        elif asked.command == "expect":
            expect(asked.peer, asked.key, asked.seconds)
        elif asked.command == "accept":
            changed = accept(asked.peer, asked.key)
        elif asked.command == "rotate":
            rotate(asked.key, asked.next, asked.seconds)
        else:
            config = configured()
            changed = sync(config["interface"], config["peers"])
    except VpnError as error:
        print(f"fleet-vpn: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"changed": changed}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
