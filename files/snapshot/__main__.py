"""The command line: bring the snapshot of a plan to its place."""

from __future__ import annotations

import argparse
import fcntl
import sys
from pathlib import Path

from snapshot import __version__, place, space
from snapshot.client import download
from snapshot.errors import SnapshotError
from snapshot.fetch import fetch
from snapshot.plan import Plan, load
from snapshot.unpack import unpack


def main(arguments: list[str] | None = None) -> int:
    """Run the program and give its exit status: 0 in its place, 1 refused or failed."""
    top = argparse.ArgumentParser(prog="snapshot", description="Bring a chain's data to its place from a snapshot.")
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    top.add_argument("--plan", type=Path, required=True, help="the plan's JSON file")
    options = top.parse_args(arguments)
    try:
        bring(load(options.plan))
    except SnapshotError as error:
        sys.stderr.write(f"snapshot: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"snapshot: {error.filename or 'the host'}: {error.strerror}\n")
        return 1
    return 0


def bring(plan: Plan) -> None:
    """Do what is left to do. A run may end at any point; the next one goes on from what is on disk."""
    plan.staging.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (plan.staging / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SnapshotError(f"another run works in {plan.staging}.") from None
        if place.is_done(plan):
            return
        if not place.is_placed(plan):
            place.check_target(plan)
            space.check_place(plan)
            if not place.is_ready(plan):
                place.forget_ready(plan)
                if plan.command:
                    download(plan)
                else:
                    fetch(plan)
                    unpack(plan)
                place.note_ready(plan)
            place.place(plan)
        place.finish(plan)
        sys.stdout.write(f"{plan.target} holds the snapshot\n")


if __name__ == "__main__":
    sys.exit(main())
