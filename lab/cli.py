"""The lab's commands: `python -m lab <command>` from the controller's virtual environment."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from lab import hosts
from lab.checkout import Checkout
from lab.errors import LabError
from lab.image.build import DEFAULT_SUITE, Recipe, ensure_image
from lab.podman import Podman
from lab.progress import say
from lab.world.world import ensure_world

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the process's exit code."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(Checkout.here(), arguments)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    image = commands.add_parser("image", help="build the hosts' image, unless it is there")
    _add_suite(image)
    image.set_defaults(run=_image)

    host = commands.add_parser("host", help="create or remove one host").add_subparsers(required=True)
    create = host.add_parser("create", help="have a host up and reachable")
    create.add_argument("name")
    _add_suite(create)
    create.set_defaults(run=_host_create)
    remove = host.add_parser("remove", help="remove a host")
    remove.add_argument("name")
    remove.set_defaults(run=_host_remove)

    world = commands.add_parser("world", help="have what hosts reach: mirror, registry, chains")
    world.set_defaults(run=_world)
    return parser


def _add_suite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--suite", default=DEFAULT_SUITE, choices=Recipe.read().suites)


def _image(checkout: Checkout, arguments: argparse.Namespace) -> None:
    say(f"the image is {ensure_image(checkout, Podman(checkout), arguments.suite)}")


def _host_create(checkout: Checkout, arguments: argparse.Namespace) -> None:
    created = hosts.ensure_host(checkout, arguments.name, arguments.suite)
    say(f"{arguments.name} {'is up' if created else 'was up already'}")


def _host_remove(checkout: Checkout, arguments: argparse.Namespace) -> None:
    removed = hosts.remove_host(checkout, arguments.name)
    say(f"{arguments.name} {'is gone' if removed else 'was not there'}")


def _world(checkout: Checkout, _: argparse.Namespace) -> None:
    say(f"the world {'is up' if ensure_world(checkout) else 'was up already'}")
