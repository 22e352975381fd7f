"""The lab's commands: `python -m lab <command>` from the controller's virtual environment."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from lab import hosts, lifecycle, status
from lab.checkout import Checkout
from lab.errors import LabError
from lab.image.build import DEFAULT_SUITE, Recipe, ensure_image
from lab.podman import Podman
from lab.progress import say
from lab.world.world import ensure_world

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Command = Callable[[Checkout, argparse.Namespace], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the process's exit code."""
    arguments = command_line().parse_args(argv)
    try:
        arguments.run(Checkout.here(), arguments)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def command_line() -> argparse.ArgumentParser:
    """Return the parser of every command."""
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Command, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    command("all", _all, "the lab, site.yml on it, and a summary of what runs where")
    command("up", _up, "the lab without its system: world, host, generated inventory")
    command("down", _down, "remove what this checkout's lab made")
    shown = command("status", _status, "what runs where")
    shown.add_argument("--format", default="table", choices=("table", "json"), help="json is for programs")
    command("shell", _shell, "a shell on the lab's host")
    command("world", _world, "have what hosts reach up: mirror, registry, chains")
    _add_suite(command("image", _image, "build the hosts' image, unless it is there"))
    command("forget-image", _forget_image, "remove the hosts' images from this machine")

    host = commands.add_parser("host", help="create or remove one host").add_subparsers(
        required=True, metavar="COMMAND"
    )
    create = host.add_parser("create", help="have a host up and reachable")
    create.add_argument("name", help="the host's name")
    _add_suite(create)
    create.set_defaults(run=_host_create)
    remove = host.add_parser("remove", help="remove a host")
    remove.add_argument("name", help="the host's name")
    remove.set_defaults(run=_host_remove)
    return parser


def _add_suite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--suite", default=DEFAULT_SUITE, choices=Recipe.read().suites, help="the Debian release")


def _all(checkout: Checkout, _: argparse.Namespace) -> None:
    lifecycle.everything(checkout)


def _up(checkout: Checkout, _: argparse.Namespace) -> None:
    lifecycle.up(checkout)


def _down(checkout: Checkout, _: argparse.Namespace) -> None:
    lifecycle.down(checkout)


def _status(checkout: Checkout, arguments: argparse.Namespace) -> None:
    found = status.read(checkout)
    if arguments.format == "json":
        print(status.as_json(found))
    else:
        status.show(found)


def _shell(checkout: Checkout, _: argparse.Namespace) -> None:
    lifecycle.shell(checkout)


def _world(checkout: Checkout, _: argparse.Namespace) -> None:
    say(f"the world {'is up' if ensure_world(checkout) else 'was up already'}")


def _image(checkout: Checkout, arguments: argparse.Namespace) -> None:
    say(f"the image is {ensure_image(checkout, Podman(checkout), arguments.suite)}")


def _forget_image(checkout: Checkout, _: argparse.Namespace) -> None:
    lifecycle.forget_images(checkout)


def _host_create(checkout: Checkout, arguments: argparse.Namespace) -> None:
    created = hosts.ensure_host(checkout, arguments.name, arguments.suite)
    say(f"{arguments.name} {'is up' if created else 'was up already'}")


def _host_remove(checkout: Checkout, arguments: argparse.Namespace) -> None:
    removed = hosts.remove_host(checkout, arguments.name)
    say(f"{arguments.name} {'is gone' if removed else 'was not there'}")
