"""Bring an image's layers by digest, each verified here and not only by the program that fetched it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from .archive import Layer
from .errors import ReleaseError
from .fetch import Network
from .verify import sha256_of

POLICY = Path("/etc/containers/policy.json")
FATAL = re.compile(r'msg="((?:[^"\\]|\\.)*)"')
LONGEST_COPY = "2h"


class Image(NamedTuple):
    """Layers on this host, lowest first, and where they came from."""

    layers: list[Layer]
    source: str


def fetch_image(
    repositories: list[str],
    digest: str,
    architecture: str,
    directory: Path,
    network: Network,
    check_space: Callable[[int], None],
) -> Image:
    """Copy the image `digest` (of a manifest, or of an index with one for this architecture) from the first repository that has it."""
    reasons = []
    for repository in repositories:
        try:
            manifest, chosen = _manifest(repository, digest, architecture, network)
        except _SkopeoError as error:
            reasons.append(f"{repository}@{digest}: {error}")
            continue
        check_space(sum(int(layer["size"]) for layer in manifest["layers"]))
        target = directory / "image"
        try:
            _skopeo(
                [
                    "copy",
                    "--quiet",
                    "--retry-times",
                    str(network.attempts),
                    f"docker://{repository}@{chosen}",
                    f"dir:{target}",
                ],
                network,
            )
        except _SkopeoError as error:
            reasons.append(f"{repository}@{digest}: {error}")
            continue
        return Image([_layer(target, layer, repository) for layer in manifest["layers"]], f"{repository}@{digest}")
    raise ReleaseError("; ".join(reasons))


class _SkopeoError(Exception):
    """What skopeo said when it failed."""


def _manifest(repository: str, digest: str, architecture: str, network: Network) -> tuple[dict[str, Any], str]:
    """The image manifest for this architecture, and its own digest."""
    document = _raw(repository, digest, network)
    if "manifests" not in document:
        return document, digest
    platforms = []
    for entry in document["manifests"]:
        platform = entry.get("platform", {})
        if platform.get("os") == "linux" and platform.get("architecture") == architecture:
            return _raw(repository, str(entry["digest"]), network), str(entry["digest"])
        platforms.append(f"{platform.get('os')}/{platform.get('architecture')}")
    message = f"{repository}@{digest} has no image for linux/{architecture}; it has {', '.join(platforms) or 'none'}"
    raise ReleaseError(message)


def _raw(repository: str, digest: str, network: Network) -> dict[str, Any]:
    text = _skopeo(["inspect", "--raw", f"docker://{repository}@{digest}"], network)
    got = "sha256:" + hashlib.sha256(text).hexdigest()
    if got != digest:
        message = f"{repository}@{digest} has another digest: expected {digest}, got {got}"
        raise ReleaseError(message)
    document = json.loads(text)
    if not isinstance(document, dict) or not isinstance(document.get("layers", document.get("manifests")), list):
        message = f"{repository}@{digest} is no image that this role knows (mediaType {document.get('mediaType')})"
        raise ReleaseError(message)
    return document


def _layer(directory: Path, layer: dict[str, Any], repository: str) -> Layer:
    digest = str(layer["digest"])
    path = directory / digest.removeprefix("sha256:")
    if not path.is_file():
        message = f"{repository} did not hand out the layer {digest}"
        raise ReleaseError(message)
    got = "sha256:" + sha256_of(path)
    if got != digest:
        message = f"the layer {digest} from {repository} is not what its manifest says: got {got}"
        raise ReleaseError(message)
    return Layer(path)


def _skopeo(arguments: list[str], network: Network) -> bytes:
    # Images are pinned by digest; a host without a signature policy of its own needs none, and one that has it keeps it.
    policy = [] if POLICY.exists() else ["--insecure-policy"]
    done = subprocess.run(
        ["skopeo", *policy, "--command-timeout", LONGEST_COPY, *arguments],
        env=_environment(network),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise _SkopeoError(_words(done.stderr.decode("utf-8", "replace")))
    return done.stdout


def _environment(network: Network) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    if network.proxy:
        kept |= {"HTTPS_PROXY": network.proxy, "HTTP_PROXY": network.proxy, "NO_PROXY": ",".join(network.no_proxy)}
    return kept


def _words(stderr: str) -> str:
    last = stderr.strip().splitlines()[-1:] or ["skopeo failed without a word"]
    found = FATAL.search(last[0])
    text = found[1].replace('\\"', '"').replace("\\n", " ").strip() if found else last[0]
    return text.rsplit("pinging container registry ", 1)[-1]
