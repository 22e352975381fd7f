"""What a release's definition means for one host: addresses, proof, paths; and what is wrong with it, in sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

Facts = Mapping[str, Any]

RELEASES_FILE = "roles/catalogue/defaults/main/releases.yml, catalogue_release_overrides or release_definition"
FETCHED = ("tar", "deb")
PINNED = ("oci",)
FROM_CONTROLLER = ("wheelhouse", "directory")
KINDS = (*FETCHED, *PINNED, *FROM_CONTROLLER)
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_~-]*")
RESERVED_VERSIONS = ("current", "previous")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
RANGES = {"keep": range(2, 51), "timeout_seconds": range(1, 601), "attempts": range(1, 21)}


def release_plan(definition: Facts, settings: Facts) -> dict[str, Any]:
    """The arguments of the role's modules for one host, and `problems`: one sentence for each thing that cannot be carried out.

    `settings` are the role's variables without their prefix, with `machine` (the host's architecture) and `known` (components of the
    catalogue).
    """
    problems = list(_setting_problems(settings))
    component = str(settings["component"])
    if not definition:
        known = ", ".join(sorted(settings["known"]))
        problems.append(f"release_component is '{component}'; allowed: a key of catalogue_releases ({known}).")
        return _plan(component, "", "", problems)
    version = str(settings["version"] or definition.get("version", ""))
    kind = str(definition.get("kind", ""))
    problems += _definition_problems(definition, component, version, kind, settings)
    if problems:
        return _plan(component, version, kind, problems)
    architecture = str(definition.get("arch", {}).get(settings["machine"], ""))
    filled = _Filler(version, architecture)
    pin = _pin(settings, component, version)
    plan = _plan(component, version, kind, problems)
    plan["files"] = {filled(source): str(target) for source, target in definition.get("files", {}).items()}
    plan["architecture"] = architecture
    plan["sha256"] = "" if kind in FROM_CONTROLLER else pin.removeprefix("sha256:")
    if kind in FETCHED:
        plan["urls"] = _addresses(filled(definition["source"]), settings, upstream_first=False)
        if not pin:
            plan["checksum_urls"] = _addresses(filled(definition["verify"]["checksums"]), settings, upstream_first=True)
    if kind in PINNED:
        plan["repositories"] = _repositories(filled(definition["image"]), str(definition["registry"]), settings)
    return plan


class _Filler:
    """Fills {version} and {arch} into upstream's names."""

    def __init__(self, version: str, architecture: str) -> None:
        self.version = version
        self.architecture = architecture

    def __call__(self, template: str) -> str:
        return template.replace("{version}", self.version).replace("{arch}", self.architecture)


def _plan(component: str, version: str, kind: str, problems: list[str]) -> dict[str, Any]:
    return {
        "component": component,
        "version": version,
        "kind": kind,
        "files": {},
        "architecture": "",
        "sha256": "",
        "urls": [],
        "checksum_urls": [],
        "repositories": [],
        "problems": problems,
    }


def _setting_problems(settings: Facts) -> Iterator[str]:
    for name, allowed in RANGES.items():
        if int(settings[name]) not in allowed:
            yield f"release_{name} is {settings[name]}; allowed: {allowed.start} to {allowed.stop - 1}."
    if int(settings["spare_mib"]) < 0:
        yield f"release_spare_mib is {settings['spare_mib']}; allowed: 0 or more."
    for name in ("root", "log"):
        if not re.fullmatch(r"(/[^/\s]+)+", str(settings[name])) or ".." in str(settings[name]).split("/"):
            yield f"release_{name} is '{settings[name]}'; allowed: an absolute path without spaces or '..'."
    if settings["mirror"] and not _is_address(str(settings["mirror"]), ("https",)):
        yield f"release_mirror is '{settings['mirror']}'; allowed: an address that begins with https://, or nothing."
    if settings["proxy"] and not _is_address(str(settings["proxy"]), ("http", "https")):
        yield f"release_proxy is '{settings['proxy']}'; allowed: http://host:port, or nothing."
    if not NAME.fullmatch(str(settings["component"])):
        yield f"release_component is '{settings['component']}'; allowed: small letters, digits, '.', '_' and '-'."


def _definition_problems(definition: Facts, component: str, version: str, kind: str, settings: Facts) -> Iterator[str]:
    if kind not in KINDS:
        yield f"{component}: kind is '{kind}' ({RELEASES_FILE}); allowed: {', '.join(KINDS)}."
    if not VERSION.fullmatch(version) or version in RESERVED_VERSIONS:
        yield (
            f"{component}: version is '{version}' (release_version, {RELEASES_FILE}); "
            "allowed: letters, digits, '.', '+', '_', '~' and '-', beginning with a letter or digit."
        )
    for target in definition.get("files", {}).values():
        if str(target).startswith("/") or ".." in str(target).split("/"):
            yield f"{component}: files leads to '{target}' ({RELEASES_FILE}); allowed: a path below the version's directory."
    if kind in FROM_CONTROLLER:
        if not settings["directory"]:
            yield f"{component}: release_directory is not set; allowed: the controller's directory that kind {kind} installs."
        return
    if not definition.get("files"):
        yield f"{component}: files is empty ({RELEASES_FILE}); allowed: at least one path in the artefact."
    machines = definition.get("arch", {})
    if settings["machine"] not in machines:
        yield (
            f"{component} is not published for {settings['machine']}, which {settings['host']} is "
            f"({RELEASES_FILE}); allowed: {', '.join(machines) or 'none'}."
        )
    yield from _proof_problems(definition, component, version, kind, settings)
    yield from _source_problems(definition, component, kind, settings)


def _proof_problems(definition: Facts, component: str, version: str, kind: str, settings: Facts) -> Iterator[str]:
    pin = _pin(settings, component, version)
    if pin and not DIGEST.fullmatch(pin):
        yield f"release_pins has '{pin}' for {component} {version} on {settings['machine']}; allowed: sha256: and 64 hex digits."
    elif not pin and kind in PINNED:
        yield (
            f"release_pins has no digest for {component} {version} on {settings['machine']}, and an image is installed by digest only; "
            f"set release_pins.{component}.{settings['machine']} to upstream's sha256:… in the inventory."
        )
    elif not pin and not definition.get("verify", {}).get("checksums"):
        yield (
            f"Nothing proves {component} {version}: set release_pins.{component}.{settings['machine']} to its sha256:… in the inventory, "
            f"or verify.checksums to upstream's checksum file ({RELEASES_FILE})."
        )


def _source_problems(definition: Facts, component: str, kind: str, settings: Facts) -> Iterator[str]:
    upstream = bool(settings["upstream_allowed"])
    if kind in FETCHED:
        for address in (definition.get("source", ""), definition.get("verify", {}).get("checksums", "")):
            if address and not str(address).startswith("https://"):
                yield f"{component}: '{address}' ({RELEASES_FILE}); allowed: an address that begins with https://."
        if not definition.get("source"):
            yield f"{component}: source is not set ({RELEASES_FILE}); allowed: upstream's https:// address."
        if not upstream and not settings["mirror"]:
            yield f"{component} has no place to come from: release_upstream_allowed is false and release_mirror is not set."
    if kind in PINNED:
        registry = str(definition.get("registry", ""))
        if not definition.get("image"):
            yield f"{component}: image is not set ({RELEASES_FILE}); allowed: repository:tag."
        reachable = upstream and settings["registries"].get(registry)
        if not reachable and not settings["oci_mirror"]:
            yield (
                f"{component} has no registry to come from: set release_registries.{registry} (host that upstream names) with "
                "release_upstream_allowed true, or release_oci_mirror."
            )


def _pin(settings: Facts, component: str, version: str) -> str:
    """The inventory's pin, or else the catalogue's."""
    of_catalogue = settings.get("catalogue_pins", {}).get(component, {}).get(version, {})
    return _own_pin(settings, component, version) or str(of_catalogue.get(settings["machine"], ""))


def _own_pin(settings: Facts, component: str, version: str) -> str:
    pins = settings["pins"].get(component, {})
    if not isinstance(pins, Mapping):
        return str(pins)
    of_version = pins.get(version)
    chosen = of_version if isinstance(of_version, Mapping) else pins
    return str(chosen.get(settings["machine"], ""))


def _addresses(upstream: str, settings: Facts, *, upstream_first: bool) -> list[str]:
    """Where a file may be had. A checksum is better had from upstream: a mirror should not vouch for itself where that can be helped."""
    mirror = str(settings["mirror"]).rstrip("/")
    mirrored = [f"{mirror}/{upstream.removeprefix('https://')}"] if mirror else []
    direct = [upstream] if settings["upstream_allowed"] else []
    return _unique(direct + mirrored if upstream_first else mirrored + direct)


def _repositories(image: str, registry: str, settings: Facts) -> list[str]:
    repository = image.rpartition(":")[0] or image
    hosts = [settings["oci_mirror"]]
    if settings["upstream_allowed"]:
        hosts.append(settings["registries"].get(registry, ""))
    return _unique(f"{host}/{repository}" for host in hosts if host)


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _is_address(text: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in schemes and bool(parts.hostname) and not re.search(r"\s", text)


class FilterModule:
    """Ansible's way in."""

    def filters(self) -> dict[str, Any]:
        """The filters by name."""
        return {"release_plan": release_plan}
