"""Put images into the world's registry, so that roles find them as they find upstream's."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from lab import ssh
from lab.files import replace
from lab.progress import step

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.checkout import Checkout

LAYOUTS = "oci"
"""Below .lab: <repository>/<tag>/ is an OCI image layout (index.json, oci-layout, blobs/)."""

MOUNTED_AT = "/srv/oci"
_PUSH_SECONDS = 180


def publish_all(checkout: Checkout) -> None:
    """Push each layout below .lab/oci to `<repository>:<tag>`, digests unchanged; what is there already is skipped."""
    published_path = checkout.state / "world" / "published.json"
    published = json.loads(published_path.read_text()) if published_path.exists() else {}
    for repository, tag, layout in layouts(checkout.state / LAYOUTS):
        reference = f"{repository}:{tag}"
        digest = hashlib.sha256((layout / "index.json").read_bytes()).hexdigest()
        if published.get(reference) == digest:
            continue
        with step(f"publishing the image {reference} in the lab's registry"):
            _push(checkout, repository, tag)
        replace(published_path, json.dumps({**published, reference: digest}, indent=2))
        published[reference] = digest


def layouts(root: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield (repository, tag, directory) of every image layout below `root`."""
    for index in sorted(root.glob("**/index.json")):
        layout = index.parent
        yield str(layout.parent.relative_to(root)), layout.name, layout


def _push(checkout: Checkout, repository: str, tag: str) -> None:
    ssh.run_on(
        checkout,
        "world",
        *("sudo", "skopeo", "copy", "--quiet", "--all", "--preserve-digests", "--insecure-policy", "--retry-times=5"),
        "--dest-tls-verify=false",
        f"oci:{MOUNTED_AT}/{repository}/{tag}",
        f"docker://127.0.0.1:5000/{repository}:{tag}",
        timeout_seconds=_PUSH_SECONDS,
    )
