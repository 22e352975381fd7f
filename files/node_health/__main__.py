"""The command line: check once, wait for a state, watch, or serve what is seen of every node."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from ipaddress import IPv4Address
from pathlib import Path

from node_health import __version__
from node_health.config import ConfigError, Node, Pair, load, nodes_of
from node_health.judge import Judge, State, Verdict, worst
from node_health.serve import serve
from node_health.watch import watch

PROGRESS_SECONDS = 30.0
EXIT_STATES = """exit status: 0 the state asked for, 1 another one, 2 bad usage or configuration, 3 wrong chain"""


def main(arguments: list[str] | None = None) -> int:
    """Run the program and give its exit status."""
    options = parser().parse_args(arguments)
    if options.command == "serve":
        return serve(options.directory, options.listen, options.interval, options.timeout)
    try:
        subject = load(options.config)
    except ConfigError as error:
        sys.stderr.write(f"node-health: {error}\n")
        return 2
    if options.command == "check":
        return check(subject, as_json=options.json)
    if options.command == "wait":
        return wait(subject, options.until, options.timeout, options.interval, as_json=options.json)
    return watch(subject, options.interval)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(prog="node-health", description="How a node is, in one word.", epilog=EXIT_STATES)
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = top.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", type=Path, required=True, help="a node's or a pair's JSON file")
    output = argparse.ArgumentParser(add_help=False)
    output.add_argument("--json", action="store_true", help="print one JSON object")
    pace = argparse.ArgumentParser(add_help=False)
    pace.add_argument("--interval", type=positive, default=1.0, help="seconds between two looks (default 1)")
    commands.add_parser("check", parents=[common, output], epilog=EXIT_STATES, help="look once; 0 means in step")
    waiting = commands.add_parser(
        "wait", parents=[common, output, pace], epilog=EXIT_STATES, help="look until it is so"
    )
    waiting.add_argument("--until", choices=["answering", "in_step"], default="in_step", help="what to wait for")
    waiting.add_argument("--timeout", type=not_negative, default=60.0, help="seconds to wait, 0 for ever (default 60)")
    commands.add_parser("watch", parents=[common, pace], help="look for as long as it answers, and tell systemd")
    serving = commands.add_parser("serve", parents=[pace], help="look at every node, and answer over HTTP what is seen")
    serving.add_argument("--directory", type=directory, required=True, help="where the nodes' JSON files lie")
    serving.add_argument("--listen", type=address, required=True, help="ADDRESS:PORT for /metrics and /health")
    serving.add_argument(
        "--timeout",
        type=positive,
        default=5.0,
        help="seconds that a look may take, unless a node's file says less (default 5)",
    )
    return top


def directory(text: str) -> Path:
    """Read the path of a directory that is there."""
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no directory")
    return path


def address(text: str) -> tuple[str, int]:
    """Read an IPv4 address and a port, which are separated by a colon."""
    host, _, port = text.rpartition(":")
    try:
        return str(IPv4Address(host)), _port(port)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not an IPv4 address, a colon and a port") from error


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 <= int(text) <= 65535):
        raise ValueError(text)
    return int(text)


def positive(text: str) -> float:
    """Read seconds, more than none."""
    seconds = not_negative(text)
    if seconds == 0:
        raise argparse.ArgumentTypeError("0 is not more than 0 seconds")
    return seconds


def not_negative(text: str) -> float:
    """Read seconds, none or more."""
    try:
        seconds = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from error
    if not 0 <= seconds <= 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1000000 seconds")
    return seconds


def check(subject: Node | Pair, *, as_json: bool) -> int:
    """Look once; the exit status says whether all is in step."""
    verdicts = [Judge(node).look(time.time()) for node in nodes_of(subject)]
    show(subject, verdicts, as_json=as_json)
    return exit_status(worst(verdicts), reached=all(verdict.state is State.IN_STEP for verdict in verdicts))


def wait(subject: Node | Pair, until: str, timeout: float, interval: float, *, as_json: bool) -> int:
    """Look until every node answers or is in step; a wrong chain ends it at once."""
    judges = [Judge(node, expected_up=False) for node in nodes_of(subject)]
    started = time.monotonic()
    said: tuple[str, float] = ("", 0.0)
    while True:
        verdicts = [judge.look(time.time()) for judge in judges]
        reached = all(
            verdict.answering if until == "answering" else verdict.state is State.IN_STEP for verdict in verdicts
        )
        waited = time.monotonic() - started
        over = bool(timeout) and waited + interval > timeout
        if reached or over or worst(verdicts).state is State.WRONG_CHAIN:
            show(subject, verdicts, as_json=as_json)
            return exit_status(worst(verdicts), reached=reached)
        words = ", ".join(f"{verdict.name} {verdict.state}" for verdict in verdicts)
        if words != said[0] or waited - said[1] >= PROGRESS_SECONDS:
            said = (words, waited)
            sys.stderr.write(f"{waited:.0f} s: {'; '.join(map(str, verdicts))}\n")
            sys.stderr.flush()
        time.sleep(interval)


def show(subject: Node | Pair, verdicts: list[Verdict], *, as_json: bool) -> None:
    """Print the verdicts, for a reader or for a program."""
    if not as_json:
        sys.stdout.write("; ".join(map(str, verdicts)) + "\n")
        return
    if isinstance(subject, Node):
        record = asdict(verdicts[0])
    else:
        judged = worst(verdicts)
        record = {"name": subject.name, "kind": "pair", "state": judged.state, "detail": str(judged)}
        record["members"] = [asdict(verdict) for verdict in verdicts]
    sys.stdout.write(json.dumps(record) + "\n")


def exit_status(judged: Verdict, *, reached: bool) -> int:
    """Turn the worst verdict into the program's exit status."""
    if judged.state is State.WRONG_CHAIN:
        return 3
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
