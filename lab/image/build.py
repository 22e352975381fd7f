"""Build the lab's image from Debian's own packages: no image is pulled from anywhere."""

from __future__ import annotations

import hashlib
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import LabError
from lab.process import as_root, last_words, need, run
from lab.progress import step

if TYPE_CHECKING:
    from lab.checkout import Checkout
    from lab.podman import Podman

RECIPE = Path(__file__).with_name("recipe.toml")
DEFAULT_SUITE = "bookworm"
USER = "ops"
"""Whom the controller logs in as."""
USER_ID = 1000
_BUILD_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Recipe:
    """What goes into an image; `fingerprint` is short and changes with every ingredient."""

    suites: tuple[str, ...]
    packages: tuple[str, ...]
    disabled_units: tuple[str, ...]
    masked_units: tuple[str, ...]
    excluded_paths: tuple[str, ...]

    @classmethod
    def read(cls, path: Path = RECIPE) -> Recipe:
        """Read the recipe; an unknown or missing key raises TypeError."""
        return cls(**{key: tuple(value) for key, value in tomllib.loads(path.read_text()).items()})

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits over everything that shapes the image, except for the mirror that its packages come from."""
        return hashlib.sha256(repr(mmdebstrap_command(self, "any", [])).encode()).hexdigest()[:12]

    def tag(self, suite: str) -> str:
        """Return the image's name for `suite`; LabError when the recipe has no such suite."""
        if suite not in self.suites:
            raise LabError(f"the suite {suite!r} is not one that {RECIPE.name} offers: {', '.join(self.suites)}")
        return f"localhost/mev-lab-{suite}:{self.fingerprint}"


def ensure_image(checkout: Checkout, podman: Podman, suite: str = DEFAULT_SUITE) -> str:
    """Return the name of the image of `suite`, built first where this machine has none."""
    recipe = Recipe.read()
    tag = recipe.tag(suite)
    with checkout.locked("image"):
        if not podman.image_exists(tag):
            need("mmdebstrap")
            with step(f"building the lab image {tag} from Debian packages (about a minute)"):
                _build(checkout, podman, recipe, suite, tag)
    return tag


def mmdebstrap_command(recipe: Recipe, suite: str, mirrors: list[str]) -> list[str]:
    """Return the command that writes the image's files as a tar stream; no mirrors means mmdebstrap's default."""
    systemctl = 'systemctl --quiet --root="$1"'
    return [
        "mmdebstrap",
        "--variant=minbase",
        "--format=tar",
        f"--include={','.join(recipe.packages)}",
        *(f"--dpkgopt=path-exclude={path}" for path in recipe.excluded_paths),
        f"--customize-hook={systemctl} disable {' '.join(recipe.disabled_units)}",
        f"--customize-hook={systemctl} mask {' '.join(recipe.masked_units)}",
        f'--customize-hook=chroot "$1" useradd --create-home --shell /bin/bash --uid {USER_ID} {USER}',
        f'--customize-hook=chroot "$1" install --directory --owner={USER} --mode=0700 /home/{USER}/.ssh',
        # Each host gets keys of its own, which the controller knows before the first connection.
        '--customize-hook=rm -f "$1"/etc/ssh/ssh_host_*',
        suite,
        "-",
        *mirrors,
    ]


def _build(checkout: Checkout, podman: Podman, recipe: Recipe, suite: str, tag: str) -> None:
    log_path = checkout.state / "log" / f"image-{suite}.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    command = as_root(mmdebstrap_command(recipe, suite, _machine_mirrors(suite)))
    with log_path.open("wb") as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as build:
        imported = subprocess.run(
            podman.command("import", "--quiet", "-", tag),
            stdin=build.stdout,
            capture_output=True,
            check=False,
            timeout=_BUILD_SECONDS,
        )
    if build.returncode != 0:
        if imported.returncode == 0:
            podman.run("image", "rm", "--force", tag)
        raise LabError(f"mmdebstrap could not build {suite} ({log_path}): {last_words(log_path.read_bytes())}")
    if imported.returncode != 0:
        raise LabError(f"podman could not import the image {tag}: {last_words(imported.stderr)}")


def _machine_mirrors(suite: str) -> list[str]:
    """Return the source lines of this machine's own Debian mirror, where it is a Debian with `suite`'s packages."""
    try:
        listed = run(
            ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(CODENAME)|$(REPO_URI)", "Created-By: Packages"]
        )
    except LabError:
        return []
    rows = sorted({tuple(line.split("|")) for line in listed.splitlines()})
    return [f"deb {uri} {name} main" for origin, name, uri in rows if origin == "Debian" and _of_suite(name, suite)]


def _of_suite(codename: str, suite: str) -> bool:
    return codename in {suite, f"{suite}-updates", f"{suite}-security"}
