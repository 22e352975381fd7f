#!/usr/bin/python3 -IB
"""Bring the fleet's own firewall chains in and take them back, and ban addresses; see fleet-firewall --help.

Only chains whose names begin with FLEET- are touched, and the one jump to each from a chain of the kernel's. What others have put there
(Docker, fail2ban, an operator) stays, and FLEET-USER is the operator's own: made where it is missing, never flushed.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import ipaddress
import os
import pwd
import re
import shutil
import subprocess
import sys
import syslog
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

# What boots: rules.v4, rules.v6 and sets, as the last trial that was confirmed left them.
CONFIRMED = Path("/etc/fleet-firewall")
# A trial that nobody has confirmed yet: the chains as they were before it. Gone with a reboot, as its rules are.
TRIAL = Path("/run/fleet-firewall-trial")
PROGRAM = "/usr/local/sbin/fleet-firewall"
REVERT_UNIT = "fleet-firewall-revert"
FAMILIES = {"v4": "iptables", "v6": "ip6tables"}
TABLES = ("raw", "mangle", "filter")
# Where each chain is jumped to from, always the first thing there that lets anything in.
HOOKS = {
    ("raw", "FLEET-BANNED"): "PREROUTING",
    ("mangle", "FLEET-CHECKS"): "PREROUTING",
    # Docker puts its jumps before everybody's in filter at each start; mangle comes before filter.
    ("mangle", "FLEET-FORWARD"): "FORWARD",
    ("filter", "FLEET-INPUT"): "INPUT",
    ("filter", "FLEET-OUTPUT"): "OUTPUT",
}
PREFIX, USER = "FLEET-", "FLEET-USER"
# Until every flow that was there before has been seen by conntrack, which follows none before a rule asks for it.
WARM = {"filter": {"FLEET-INPUT": ["-m conntrack --ctstate ESTABLISHED -j RETURN"]}}
WARM_SECONDS = 3
WAIT = ["-w", "5"]
SECONDS = range(1, 2_147_484)
# One who has an IPv6 address has its /64.
HOSTS_V6 = 64
COMMENT = re.compile(r'^\[(\d+):(\d+)\] -A (FLEET-\S+) .*--comment "?([^"\s]+)"?')

# {table: {chain: [rule, ...]}}, a rule without its `-A CHAIN`.
Tables = Mapping[str, Mapping[str, list[str]]]


class FirewallError(Exception):
    """What was asked for is not done; the message is one sentence."""


def run(*argv: str, stdin: str = "") -> str:
    """Run a program and return what it prints; FirewallError with its last line where it fails or is missing."""
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FirewallError(f"{argv[0]} cannot be run: {error}.") from error
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise FirewallError(f"{' '.join(argv[:3])} refuses: {said[-500:]}.")
    return done.stdout


def families() -> list[str]:
    """Name the families that this host speaks; a kernel without IPv6 has nothing of it to guard."""
    return [family for family in FAMILIES if family != "v6" or Path("/proc/net/if_inet6").exists()]


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Keep others from changing the chains meanwhile."""
    # The directory itself is the lock: the unit that boots may read it, and write nothing.
    handle = os.open(CONFIRMED, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def parse(text: str) -> dict[str, dict[str, list[str]]]:
    """Read what iptables-save prints: {table: {chain: [rule, ...]}}."""
    found: dict[str, dict[str, list[str]]] = {}
    table: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("*"):
            table = found.setdefault(line[1:].strip(), {})
        elif line.startswith(":"):
            table.setdefault(line[1:].split()[0], [])
        elif line.startswith("-A "):
            chain, _, rule = line[3:].partition(" ")
            table.setdefault(chain, []).append(rule)
    return found


def own(tables: Tables) -> dict[str, dict[str, list[str]]]:
    """Keep the chains that are the role's."""
    mine = {
        name: {chain: rules for chain, rules in chains.items() if chain.startswith(PREFIX) and chain != USER}
        for name, chains in tables.items()
    }
    return {name: chains for name, chains in mine.items() if chains}


def text_of(tables: Tables) -> str:
    """Write chains as a restore file that declares them and nothing else."""
    lines: list[str] = []
    for name in TABLES:
        chains = tables.get(name, {})
        if chains:
            lines += [f"*{name}", *(f":{chain} - [0:0]" for chain in sorted(chains))]
            lines += [f"-A {chain} {rule}" for chain in sorted(chains) for rule in chains[chain]]
            lines.append("COMMIT")
    return "".join(f"{line}\n" for line in lines)


def lets_in(chains: Mapping[str, list[str]], rule: str, depth: int = 16) -> bool:
    """Say whether a rule, or a chain that it leads to, could accept a packet."""
    words = rule.split()
    target = next((words[i + 1] for i, word in enumerate(words[:-1]) if word in {"-j", "-g"}), "")
    if target in {"", "DROP", "REJECT", "RETURN", "LOG", "NFLOG"}:
        return False
    if target not in chains or depth == 0:
        return True
    return any(lets_in(chains, inner, depth - 1) for inner in chains[target])


def is_hooked(chains: Mapping[str, list[str]], builtin: str, chain: str) -> bool:
    """Say whether a chain is jumped to once, with nothing before it that could let a packet in."""
    rules, jump = chains.get(builtin, []), f"-j {chain}"
    return rules.count(jump) == 1 and not any(lets_in(chains, rule) for rule in rules[: rules.index(jump)])


def unhooked(live: Tables, wanted: Tables) -> list[str]:
    """Name the hooks that are not as the wanted chains need them."""
    return [
        f"{table} {builtin} {chain}"
        for (table, chain), builtin in HOOKS.items()
        if (
            not is_hooked(live.get(table, {}), builtin, chain)
            if chain in wanted.get(table, {})
            else f"-j {chain}" in live.get(table, {}).get(builtin, [])
        )
    ]


def payload(wanted: Tables, live: Tables) -> str:
    """Write what makes the own chains of `live` those of `wanted`, a transaction a table; nothing of others is named in it."""
    lines: list[str] = []
    for name in TABLES:
        chains, present = wanted.get(name, {}), live.get(name, {})
        stale = sorted(set(own(live).get(name, {})) - set(chains))
        if not chains and not stale and USER not in present:
            continue
        lines += [f"*{name}", *(f":{chain} - [0:0]" for chain in sorted(chains))]
        needs_user = any(f" {USER}" in f" {rule}" for rules in chains.values() for rule in rules)
        if needs_user and USER not in present:
            lines.append(f":{USER} - [0:0]")
        lines += [f"-A {chain} {rule}" for chain in sorted(chains) for rule in chains[chain]]
        for (table, chain), builtin in HOOKS.items():
            if table == name and not (chain in chains and is_hooked(present, builtin, chain)):
                lines += [f"-D {builtin} -j {chain}"] * present.get(builtin, []).count(f"-j {chain}")
                lines += [f"-I {builtin} 1 -j {chain}"] if chain in chains else []
        lines += [f"-F {chain}" for chain in stale]
        lines += [f"-X {chain}" for chain in stale]
        # What the operator has put there outlives the role.
        if not needs_user and present.get(USER) == [] and not _is_used(present, USER):
            lines.append(f"-X {USER}")
        lines.append("COMMIT")
    return "".join(f"{line}\n" for line in lines)


def _is_used(chains: Mapping[str, list[str]], name: str) -> bool:
    others = {chain: rules for chain, rules in chains.items() if not chain.startswith(PREFIX)}
    return any(name in rule.split() for rules in others.values() for rule in rules)


def live(family: str) -> dict[str, dict[str, list[str]]]:
    """Ask the kernel for every table of a family."""
    return parse(run(f"{FAMILIES[family]}-save"))


def canonical(family: str, rules: str, sets: str) -> dict[str, dict[str, list[str]]]:
    """Give rules as this host's own iptables prints them, by way of a network name space of their own, which also proves them."""
    script = 'ipset restore && "$0"-restore --noflush "$1" && "$0"-save'
    with tempfile.NamedTemporaryFile("w", suffix=".rules") as file:
        file.write(payload(own(parse(rules)), {}))
        file.flush()
        return own(parse(run("unshare", "--net", "sh", "-c", script, FAMILIES[family], file.name, stdin=sets)))


def declare(sets: str) -> None:
    """Have the sets that rules name; what is in them stays."""
    run("ipset", "-exist", "restore", stdin=sets)


def bring(wanted: Mapping[str, Tables]) -> None:
    """Make each family's own chains the wanted ones: all of them, or as they were."""
    before = {family: live(family) for family in wanted}
    for family, tables in wanted.items():
        run(f"{FAMILIES[family]}-restore", "--test", "--noflush", *WAIT, stdin=payload(tables, before[family]))
    done: list[str] = []
    try:
        for family, tables in wanted.items():
            done.append(family)
            run(f"{FAMILIES[family]}-restore", "--noflush", *WAIT, stdin=payload(tables, before[family]))
    except FirewallError:
        for family in done:
            back = payload(own(before[family]), live(family))
            run(f"{FAMILIES[family]}-restore", "--noflush", *WAIT, stdin=back)
        raise


def read(directory: Path) -> dict[str, Tables]:
    """Give the chains that a directory's files hold, a family each."""
    return {family: own(parse((directory / f"rules.{family}").read_text())) for family in families()}


def write(directory: Path, rules: Mapping[str, Tables], sets: str) -> None:
    """Write chains and sets, each file in one step, for the directory's group to read."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    texts = {f"rules.{family}": text_of(tables) for family, tables in rules.items()}
    for name, text in {**texts, "sets": sets}.items():
        new = directory / f".{name}"
        new.write_text(text)
        new.chmod(0o640)
        os.chown(new, -1, directory.stat().st_gid)
        new.replace(directory / name)


def start_trial(rules: Mapping[str, Tables], sets: str, seconds: int) -> None:
    """Bring rules in for `seconds`, after which systemd takes them back unless they are confirmed."""
    with locked():
        if TRIAL.exists():
            _take_back()
        declare(sets)
        before = {family: live(family) for family in rules}
        write(TRIAL, {family: own(tables) for family, tables in before.items()}, "")
        try:
            subprocess.run(["systemctl", "stop", f"{REVERT_UNIT}.timer"], capture_output=True, timeout=30, check=False)
            run(
                "systemd-run",
                f"--unit={REVERT_UNIT}",
                "--collect",
                "--quiet",
                f"--on-active={seconds}",
                "--timer-property=AccuracySec=100ms",
                PROGRAM,
                "revert",
            )
            if not any(own(tables) for tables in before.values()):
                bring(dict.fromkeys(rules, WARM))
                time.sleep(WARM_SECONDS)
            bring(rules)
        except BaseException:
            _take_back()
            raise


def confirm(rules: Mapping[str, Tables], sets: str) -> None:
    """End a trial well: from here on its rules are those that boot. FirewallError where they have been taken back already."""
    with locked():
        if not TRIAL.exists():
            raise FirewallError("The trial is over: the rules have been taken back.")
        changed = [family for family, tables in rules.items() if own(live(family)) != tables]
        if changed:
            raise FirewallError(f"The rules of IP{changed[0]} have changed during their trial.")
        before = declared()
        write(CONFIRMED, rules, sets)
        destroy(words for words in before if words not in declared())
        shutil.rmtree(TRIAL)
        run("systemctl", "stop", f"{REVERT_UNIT}.timer")


def _take_back() -> None:
    """Bring back what was before a trial; where even that is refused, nothing of ours stays, so that the host can be reached."""
    try:
        bring(read(TRIAL))
    except (FirewallError, OSError) as error:
        print(f"what was before cannot be brought back ({error}); the fleet's chains go", file=sys.stderr)
        bring({family: {} for family in families()})
    shutil.rmtree(TRIAL, ignore_errors=True)


def revert() -> str:
    """Take an unconfirmed trial back."""
    with locked():
        if not TRIAL.exists():
            return "no trial is under way"
        _take_back()
    return "nobody confirmed the new rules; the host is back at the ones before"


def apply() -> str:
    """Bring in the rules that were confirmed last; at boot, and by hand."""
    with locked():
        if TRIAL.exists():
            return "a trial is under way; its timer decides"
        if not (CONFIRMED / "sets").exists():
            return "no rules have been confirmed yet"
        declare((CONFIRMED / "sets").read_text())
        bring(read(CONFIRMED))
    return "the confirmed rules are in"


def remove() -> str:
    """Take the fleet's chains, their jumps and sets away, and nothing else; the next boot brings the confirmed rules back."""
    with locked():
        if TRIAL.exists():
            shutil.rmtree(TRIAL)
        bring({family: {} for family in families()})
        destroy(declared())
    return "the fleet's chains are gone"


def declared() -> list[list[str]]:
    """Give the words that declare each set."""
    path = CONFIRMED / "sets"
    return [words for line in (path.read_text() if path.exists() else "").splitlines() if (words := line.split())]


def destroy(sets: Iterable[list[str]]) -> None:
    """Have sets no more; the kernel keeps one that a rule still names."""
    for words in sets:
        subprocess.run(["ipset", "destroy", words[1]], capture_output=True, timeout=30, check=False)


def set_names() -> dict[str, int]:
    """Give the sets of banned addresses and their IP versions, by name; another set is of ports."""
    return {words[1]: 6 if "inet6" in words else 4 for words in declared() if words[2] == "hash:net"}


def change_ban(address: str, seconds: int | None, reason: str = "") -> str:
    """Ban an address (IPv6: its /64) or network for `seconds` and why; None lifts the ban. A longer ban than that stays as it is."""
    try:
        network = ipaddress.ip_network(address, strict=False)
    except ValueError:
        raise FirewallError(f"{address!r} is no address; allowed: an IP address or network.") from None
    if network.version == 6 and network.prefixlen > HOSTS_V6:
        network = network.supernet(new_prefix=HOSTS_V6)
    if network.prefixlen < (8 if network.version == 4 else 32):
        raise FirewallError(f"{network} is too wide to ban; allowed: /8 and longer, and /32 and longer for IPv6.")
    if seconds is not None and seconds not in SECONDS:
        raise FirewallError(f"--seconds is {seconds}; allowed: {SECONDS[0]} to {SECONDS[-1]}.")
    name = next((each for each, version in set_names().items() if version == network.version), "")
    if not name:
        raise FirewallError("The firewall's sets are not there: the role iptables has not confirmed any rules.")
    if seconds is None:
        run("ipset", "-exist", "del", name, str(network))
        audit(f"unban {network}", reason)
        return f"{network} is not banned"
    left = dict(banned()).get(network, 0)
    if left >= seconds:
        return f"{network} is banned for {left} s already"
    run("ipset", "-exist", "add", name, str(network), "timeout", str(seconds))
    audit(f"ban {network} for {seconds} s", reason)
    return f"{network} is banned for {seconds} s"


def audit(what: str, reason: str) -> None:
    """Write a line to the journal: what was done, who did it, and why; what is no printable ASCII is not in it."""
    by = os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    line = f"{what}, by {by}" + (f": {reason}" if reason else "")
    syslog.openlog("fleet-firewall", 0, syslog.LOG_AUTH)
    syslog.syslog(syslog.LOG_NOTICE, re.sub(r"[^ -~]", "?", line)[:400])


def banned() -> Iterator[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, int]]:
    """Give the bans, each with the seconds that it has left."""
    for name in set_names():
        for line in run("ipset", "list", name).partition("Members:\n")[2].splitlines():
            words = line.split()
            yield ipaddress.ip_network(words[0]), int(words[-1])


def shown(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    """Write a network as ipset does: a single address without its length."""
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def metrics() -> str:
    """Give the counters in Prometheus' text format, one for each name that rules carry as their comment."""
    packets: Counter[str] = Counter()
    octets: Counter[str] = Counter()
    hooked: list[str] = []
    for family, program in FAMILIES.items():
        if family in families():
            text = run(f"{program}-save", "--counters")
            for found in filter(None, map(COMMENT.match, text.splitlines())):
                labels = f'family="ip{family}",chain="{found[3]}",rule="{found[4]}"'
                packets[labels] += int(found[1])
                octets[labels] += int(found[2])
            tables = parse(re.sub(r"(?m)^\[\d+:\d+\] ", "", text))
            sound = bool(own(tables)) and not unhooked(tables, own(tables))
            hooked.append(f'fleet_firewall_active{{family="ip{family}"}} {int(sound)}')
    sizes = [
        (version, len(run("ipset", "list", name).partition("Members:\n")[2].splitlines()))
        for name, version in set_names().items()
    ]
    conntrack = Path("/proc/sys/net/netfilter")
    series = {
        "fleet_firewall_packets_total counter": [f"{{{labels}}} {count}" for labels, count in sorted(packets.items())],
        "fleet_firewall_bytes_total counter": [f"{{{labels}}} {count}" for labels, count in sorted(octets.items())],
        "fleet_firewall_active gauge": [line.partition("active")[2] for line in hooked],
        "fleet_firewall_bans gauge": [f'{{family="ipv{version}"}} {size}' for version, size in sizes],
        "fleet_firewall_conntrack_entries gauge": [f" {(conntrack / 'nf_conntrack_count').read_text().strip()}"],
        "fleet_firewall_conntrack_limit gauge": [f" {(conntrack / 'nf_conntrack_max').read_text().strip()}"],
    }
    return "".join(
        f"# TYPE {name}\n" + "".join(f"{name.split()[0]}{value}\n" for value in values)
        for name, values in series.items()
    )


def keep_metrics(path: Path, seconds: float) -> None:
    """Write the counters to a file again and again, each time in one step."""
    new = path.with_name(f".{path.name}")
    while True:
        new.write_text(metrics())
        new.chmod(0o644)
        new.replace(path)
        time.sleep(seconds)


def commands_of(asked: argparse.Namespace) -> dict[str, Callable[[], str]]:
    """Give what each command does; what it returns is printed."""
    return {
        "apply": apply,
        "revert": revert,
        "remove": remove,
        "ban": lambda: change_ban(asked.address, asked.seconds, asked.reason),
        "unban": lambda: change_ban(asked.address, None, asked.reason),
        "banned": lambda: "\n".join(f"{shown(network)} {left}" for network, left in banned()),
        "metrics": lambda: metrics().rstrip("\n"),
    }


def main(argv: list[str] | None = None) -> int:
    """Do what the command line says; 0 done, 1 refused, 2 bad usage."""
    parser = argparse.ArgumentParser(prog="fleet-firewall", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, function in (("apply", apply), ("revert", revert), ("remove", remove)):
        commands.add_parser(name, help=str(function.__doc__).partition("\n")[0])
    ban = commands.add_parser("ban", help="Ban an address or network for a while.")
    ban.add_argument("address")
    ban.add_argument("--seconds", type=int, default=3600)
    unban = commands.add_parser("unban", help="Lift a ban.")
    unban.add_argument("address")
    for parsed in (ban, unban):
        parsed.add_argument("--reason", default="", help="Why, for the line in the journal.")
    commands.add_parser("banned", help="List the bans with the seconds that they have left.")
    told = commands.add_parser(
        "metrics", help="Print the counters in Prometheus' text format, or keep writing them to a file."
    )
    told.add_argument("--file", type=Path)
    told.add_argument("--interval", type=float, default=15)
    asked = parser.parse_args(argv)
    try:
        if asked.command == "metrics" and asked.file:
            keep_metrics(asked.file, asked.interval)
        print(commands_of(asked)[asked.command]())
    except FirewallError as error:
        print(f"fleet-firewall: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
