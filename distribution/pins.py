"""What upstream says its releases hash to, as the catalogue's table of pins.

    python -m distribution.pins --check                       # what `make pin-releases ARGS=--check` runs: say it, write nothing
    python -m distribution.pins --version erigon=3.8.2        # one more version
    python -m distribution.pins --registry oplabs=HOST        # where a registry of the catalogue's images is

Exit status: 0 the table is as upstream says (or is now), 1 it would change (--check), 2 something is wrong and nothing was written.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
import re
import shutil
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from distribution import signatures
from distribution.signatures import ROOT, SignatureError
from roles.release.filter_plugins.release import release_plan
from roles.release.module_utils.releases import fetch, verify
from roles.release.module_utils.releases.errors import ReleaseError

CATALOGUE = ROOT / "roles" / "catalogue" / "defaults" / "main"
RELEASES = "roles/catalogue/defaults/main/releases.yml"
TABLE = "catalogue_release_pins"
HEADER = """\
---
# What each release's artefact hashes to, or an image's digest: {component: {version: {machine: sha256:…}}}. Written by `make pin-releases` from
# upstream's checksum files, signatures and registries. An inventory's release_pins go before it.
"""
MANIFESTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
MANIFEST_BYTES = 4 << 20
# More than any client is packed into.
ARTEFACT_BYTES = 1 << 30
TIMEOUT_SECONDS = 30
CHALLENGE = re.compile(r'(\w+)="([^"]*)"')

Facts = Mapping[str, Any]
Pins = dict[str, dict[str, dict[str, str]]]


class PinError(Exception):
    """One sentence: what cannot be pinned, and why."""


@dataclass(frozen=True)
class Row:
    """One artefact: what it must hash to, and what says so."""

    component: str
    version: str
    machine: str
    pin: str
    proof: str
    change: str = ""


@dataclass(frozen=True)
class Places:
    """Where upstream's files and images are asked for."""

    mirror: str = ""
    registries: Mapping[str, str] | None = None
    upstream: bool = True

    def settings(self, component: str, release: Facts, machine: str) -> dict[str, Any]:
        """As the role `release` has them on a host of this machine."""
        version = release["version"]
        # An image's plan is not made without a pin, which is what is being looked for.
        pins = {component: {version: {machine: f"sha256:{'0' * 64}"}}} if release["kind"] == "oci" else {}
        return {
            "component": component,
            "version": version,
            "machine": machine,
            "mirror": self.mirror,
            "oci_mirror": "",
            "registries": dict(self.registries or {}),
            "upstream_allowed": self.upstream,
            "pins": pins,
            "directory": "",
            "proxy": "",
            "timeout_seconds": TIMEOUT_SECONDS,
            "attempts": 3,
            "keep": 3,
            "spare_mib": 0,
            "root": "/opt",
            "log": "/var/log/deployments.jsonl",
            "host": machine,
            "known": [],
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Read, compare, and write the table; return the process's exit code."""
    options = command_line().parse_args(argv)
    try:
        releases = wanted(options.component, dict(options.version))
        places = Places(options.mirror.rstrip("/"), dict(options.registry), upstream=not options.mirror_only)
        table = read(options.table)
        rows = [compared(row, table) for name, release in releases.items() for row in pinned(name, release, places)]
        refuse_republished(rows, table, dict(options.accept_republished))
    except (PinError, SignatureError, ReleaseError, OSError) as error:
        print(f"pin-releases: {error}", file=sys.stderr)
        return 2
    before = options.table.read_text() if options.table.exists() else ""
    after = text(merged(table, rows))
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        for row in rows:
            print(f"{row.change:9} {row.component} {row.version} {row.machine} {row.pin} ({row.proof})")
        name = options.table.name
        sys.stdout.writelines(
            difflib.unified_diff(before.splitlines(True), after.splitlines(True), f"a/{name}", f"b/{name}")
        )
    if options.check:
        return int(before != after)
    if before != after:
        beside = options.table.with_suffix(".new")
        beside.write_text(after)
        beside.replace(options.table)
    return 0


def command_line() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m distribution.pins",
        description="Pin the catalogue's releases to what upstream says they hash to.",
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the table would change")
    parser.add_argument(
        "--json", action="store_true", help="print the rows as JSON in place of words and the difference"
    )
    parser.add_argument(
        "--component", action="append", default=[], help="only this component of the catalogue; may be said again"
    )
    for name, what in (
        ("version", "COMPONENT=VERSION: pin this version instead of the catalogue's"),
        ("registry", "NAME=HOST: the registry that the catalogue's images of NAME come from"),
        (
            "accept-republished",
            "COMPONENT=VERSION: take the new sha256 of an artefact that upstream has published again",
        ),
    ):
        parser.add_argument(
            f"--{name}", action="append", default=[], type=_pair, metavar=what.partition(":")[0], help=what
        )
    parser.add_argument("--mirror", default="", help="HTTPS address of a mirror, laid out as release_mirror's")
    parser.add_argument("--mirror-only", action="store_true", help="ask the mirror and never upstream")
    parser.add_argument("--table", type=Path, default=CATALOGUE / "pins.yml", help="the file to write")
    return parser


def wanted(components: Sequence[str], versions: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The releases to pin, with their versions: all of the catalogue's, or those that are named."""
    known = yaml.safe_load((CATALOGUE / "releases.yml").read_text())["catalogue_default_releases"]
    for name in (*components, *versions):
        if name not in known:
            raise PinError(f"there is no component {name!r}; allowed: {', '.join(known)}")
    chosen = list(components or versions or known)
    return {name: {**known[name], "version": versions.get(name, known[name]["version"])} for name in chosen}


def pinned(name: str, release: Facts, places: Places) -> Iterator[Row]:
    """Each machine's artefact of a release, with what upstream says of it."""
    for machine in release["arch"]:
        plan = release_plan(release, places.settings(name, release, machine))
        if plan["problems"]:
            raise PinError(" ".join(plan["problems"]))
        if plan["repositories"]:
            tag = release["image"].rpartition(":")[2].replace("{version}", release["version"])
            digest, proof = image_digest(plan["repositories"][-1], tag)
        else:
            digest, proof = artefact_digest(release, plan)
        yield Row(name, release["version"], machine, f"sha256:{digest}", proof)


def artefact_digest(release: Facts, plan: Facts) -> tuple[str, str]:
    """The sha256 that upstream's checksum file gives, and what proves it: the list alone, or a signature over the list or the artefact.

    Where the catalogue says whose signature it has to be, a list without it is taken for nothing.
    """
    network = fetch.Network(timeout_seconds=TIMEOUT_SECONDS, attempts=3, most_bytes=ARTEFACT_BYTES)
    listed, source = fetch.fetch_text(plan["checksum_urls"], network)
    name = Path(plan["urls"][0]).name
    digest = verify.listed_checksum(listed, name, source)
    signature = release["verify"].get("signature")
    if not signature:
        return digest, f"list only, {source}"
    missing = signatures.unset(signature)
    if missing and set(missing) != set(signatures.needed(signature)):
        raise PinError(f"{source}: verify.signature in {RELEASES} does not say {' and '.join(missing)}")
    if missing:
        return (
            digest,
            f"list only, {source}; its signature is held against nobody: set {', '.join(missing)} in {RELEASES}",
        )
    of = signature.get("of", "checksums")
    if of not in ("checksums", "artefact"):
        raise PinError(f"verify.signature in {RELEASES} is of {of!r}; allowed: checksums, artefact")
    of_list = of == "checksums"
    addresses = plan["checksum_urls"] if of_list else plan["urls"]

    def read(ending: str) -> str:
        return fetch.fetch_text([address + ending for address in addresses], network)[0]

    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, name)
        if of_list:
            file.write_text(listed)
        else:
            source = fetch.fetch(plan["urls"], file, network, _room(file.parent)).source
            held = verify.sha256_of(file)
            if held != digest:
                raise PinError(f"{source} hashes to sha256:{held}, and its checksum file says sha256:{digest}")
        who = signatures.check(file, signature, plan["version"], source, read)
    return digest, f"{'list' if of_list else 'artefact'} {who}, {source}"


def image_digest(repository: str, tag: str) -> tuple[str, str]:
    """The digest of what a tag names in a registry; it is computed here, from what the registry sent."""
    host, _, name = repository.partition("/")
    url = f"https://{host}/v2/{name}/manifests/{urllib.parse.quote(tag)}"
    headers = {"Accept": ", ".join(MANIFESTS)}
    try:
        body, told = _get(url, headers)
    except urllib.error.HTTPError as error:
        if error.code != 401:
            raise PinError(f"{url} answers {error.code}") from None
        token = _token(url, error.headers.get("WWW-Authenticate", ""))
        try:
            body, told = _get(url, {**headers, "Authorization": f"Bearer {token}"})
        except urllib.error.URLError as again:
            raise PinError(f"{url}: {again}") from None
    except urllib.error.URLError as error:
        raise PinError(f"{url}: {error.reason}") from None
    digest = hashlib.sha256(body).hexdigest()
    if told and told != f"sha256:{digest}":
        raise PinError(f"{url} says that its digest is {told}, and what it sends hashes to sha256:{digest}")
    try:
        manifest = json.loads(body)
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict) or not {"manifests", "layers"} & set(manifest):
        raise PinError(f"{url} sends no manifest of an image")
    return digest, f"registry only, {repository}:{tag}"


def read(path: Path) -> Pins:
    """The table as it stands."""
    if not path.exists():
        return {}
    told = yaml.safe_load(path.read_text()) or {}
    table = told.get(TABLE, {})
    if not isinstance(table, dict):
        raise PinError(f"{path} holds no table {TABLE}")
    return table


def compared(row: Row, table: Pins) -> Row:
    """The row, and whether the table has it, has another, or has none."""
    before = table.get(row.component, {}).get(row.version, {}).get(row.machine)
    change = "new" if before is None else "same" if before == row.pin else "CHANGED"
    return Row(**{**asdict(row), "change": change})


def refuse_republished(rows: Sequence[Row], table: Pins, accepted: Mapping[str, str]) -> None:
    """A version that was pinned and has another sha256 now is the alarm that pins exist for."""
    for row in rows:
        if row.change == "CHANGED" and accepted.get(row.component) != row.version:
            before = table[row.component][row.version][row.machine]
            raise PinError(
                f"{row.component} {row.version} for {row.machine} was pinned to {before}, and upstream says {row.pin} now ({row.proof}): "
                f"ask upstream why; --accept-republished {row.component}={row.version} takes it"
            )


def merged(table: Pins, rows: Sequence[Row]) -> Pins:
    """The table with the rows in it; versions that were pinned before stay, for the way back."""
    found = {name: {version: dict(machines) for version, machines in each.items()} for name, each in table.items()}
    for row in rows:
        found.setdefault(row.component, {}).setdefault(row.version, {})[row.machine] = row.pin
    return found


def text(table: Pins) -> str:
    """The file, sorted; the same for the same table."""
    return HEADER + yaml.safe_dump({TABLE: table}, sort_keys=True, default_flow_style=False, width=160)


def _room(directory: Path) -> Callable[[int], None]:
    def check(size: int) -> None:
        free = shutil.disk_usage(directory).free
        if size > free:
            raise PinError(f"{directory} has {free} bytes free, and {size} are to come: set TMPDIR to a larger place")

    return check


def _get(url: str, headers: Mapping[str, str]) -> tuple[bytes, str]:
    request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310 - always https
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310
        body = response.read(MANIFEST_BYTES + 1)
        told = response.headers.get("Docker-Content-Digest", "")
    if len(body) > MANIFEST_BYTES:
        raise PinError(f"{url} sends more than {MANIFEST_BYTES} bytes")
    return body, told


def _token(url: str, challenge: str) -> str:
    """An anonymous token, as a registry's challenge says where to get one."""
    told = dict(CHALLENGE.findall(challenge))
    realm = told.pop("realm", "")
    if not challenge.startswith("Bearer ") or not realm.startswith("https://"):
        raise PinError(f"{url} wants credentials of a kind that is not known here")
    query = urllib.parse.urlencode({name: told[name] for name in ("service", "scope") if name in told})
    try:
        answer = json.loads(_get(f"{realm}?{query}", {})[0])
        return str(answer.get("token") or answer["access_token"])
    except (urllib.error.URLError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise PinError(f"{realm} gives no token: {error}") from None


def _pair(told: str) -> tuple[str, str]:
    name, equals, value = told.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{told!r} is not NAME=VALUE")
    return name, value


if __name__ == "__main__":
    sys.exit(main())
