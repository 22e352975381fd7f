"""The whole lab up, with its system on it, and down again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from lab import hosts, status
from lab.errors import LabError
from lab.files import replace
from lab.image.build import Recipe, ensure_image
from lab.podman import Podman
from lab.process import as_root
from lab.progress import say, step
from lab.world.world import DEPLOYMENT, PINS, ensure_world

if TYPE_CHECKING:
    from lab.checkout import Checkout

HOST = status.HOST
INVENTORY = "inventories/lab"
CONNECTION = f"{INVENTORY}/host_vars/{HOST}/connection.yml"
GENERATED = (CONNECTION, DEPLOYMENT, PINS)
"""What the lab writes outside .lab; git ignores each of them."""

_FIRST_ARBITRAGE_SECONDS = 180


def up(checkout: Checkout) -> None:
    """Have the world and the host `mev1` up, and the inventory's generated part written; no role has run then."""
    if subprocess.run([checkout.root / "lab" / "prerequisites.sh"], check=False).returncode != 0:
        raise LabError("the prerequisites could not be installed: what apt-get printed above says why")
    ensure_image(checkout, Podman(checkout))
    ensure_world(checkout)
    hosts.ensure_host(checkout, HOST)
    write_connection(checkout)
    say(f"{HOST} is up at {hosts.known(checkout)[HOST].address}")


def everything(checkout: Checkout) -> None:
    """Bring the lab up, run site.yml on it, wait for the first arbitrage and show what runs where."""
    with step("bringing the lab up"):
        up(checkout)
    with step(f"running site.yml on {HOST}"):
        play = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", INVENTORY, "site.yml"]
        if subprocess.run(play, cwd=checkout.root, check=False).returncode != 0:
            raise LabError("site.yml failed: the task above says why; `make lab` goes on from there")
    status.wait_for_arbitrage(checkout, _FIRST_ARBITRAGE_SECONDS)
    status.show(status.read(checkout))


def write_connection(checkout: Checkout) -> None:
    """Write how Ansible reaches the host, for the inventory."""
    path = checkout.root / CONNECTION
    variables = hosts.connection(checkout, hosts.known(checkout)[HOST])
    replace(
        path, f"---\n# Written by `make lab`; where the lab's host is and how to get in.\n{yaml.safe_dump(variables)}"
    )


def down(checkout: Checkout) -> None:
    """Remove this checkout's containers, network and files; the image stays, because other checkouts use it too."""
    podman = Podman(checkout)
    with step(f"removing the lab {checkout.prefix}"):
        for row in podman.containers():
            podman.remove(row["Id"])
        if checkout.prefix in podman.run("network", "ls", "--format", "{{.Name}}").split():
            podman.run("network", "rm", checkout.prefix)
        for path in GENERATED:
            (checkout.root / path).unlink(missing_ok=True)
        if checkout.state.exists():
            # Containers wrote into it as users of their own.
            subprocess.run(as_root(["rm", "-rf", "--one-file-system", str(checkout.state)]), check=True)


def forget_images(checkout: Checkout) -> None:
    """Remove the lab's images from this machine; each checkout's next lab builds them again."""
    podman, recipe = Podman(checkout), Recipe.read()
    for tag in map(recipe.tag, recipe.suites):
        if podman.image_exists(tag):
            image = podman.run("images", "--quiet", "--no-trunc", tag).split()[0]
            podman.run("untag", image)
            try:
                podman.run("image", "rm", image)
            except LabError:
                say(f"{tag} has lost its name; its layers stay while containers of other checkouts run on them")
            else:
                say(f"removed {tag}")


def shell(checkout: Checkout) -> None:
    """Become a shell on the host."""
    if HOST not in hosts.known(checkout):
        raise LabError(f"this checkout has no lab host {HOST}: `make lab` makes it")
    client = shutil.which("ssh")
    if client is None:
        raise LabError("ssh is not installed on this machine: lab/prerequisites.sh installs what the lab needs")
    os.execv(client, ["ssh", "-F", str(checkout.state / "ssh" / "config"), HOST])
