"""What is wrong with how an empty Nitro is to come by its data, in sentences: in the inventory, and on the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Facts = Mapping[str, Any]

GIB = 1 << 30
# Where Nitro keeps its databases, below its chain's directory, and which one is there once it has started from a snapshot.
PLACE = "nitro"
DATABASE = "l2chaindata"
LEFTOVER = "tmp"
DATABASES = (DATABASE, "arbitrumdata", "classic-msg", "wasm")


def nitro_init_problems(told: Facts) -> list[str]:
    """One sentence for each option of the first start that does not fit the others; no host is asked."""
    return list(_init_problems(told))


def nitro_first_start_problems(told: Facts, found: Sequence[str], file_system: Facts) -> list[str]:
    """One sentence for each thing on a host that stands in the way of a first start; none where Nitro has its database already.

    `found` are paths below the chain's directory, two levels of it; `file_system` is the data path's, as the module host_resources gives it.
    """
    if f"{PLACE}/{DATABASE}" in found:
        return []
    return list(_first_start_problems(told, found, file_system))


def _init_problems(told: Facts) -> Iterator[str]:
    if told["state_scheme"] == "path" and not told["url"]:
        yield (
            "nitro_state_scheme is path, and every snapshot that nitro_init_latest names is of scheme hash, so that an empty node could not start; "
            "allowed: nitro_init_url, the address of a snapshot of scheme path."
        )
    if told["state_scheme"] == "path" and told["prune"]:
        yield "nitro_init_prune is set with nitro_state_scheme path, which prunes as it goes; allowed: one of them."
    if told["url"] and told["latest_base"]:
        yield "nitro_init_latest_base is set beside nitro_init_url, which is not looked for there; allowed: one of them."
    if told["again"] and told["again"] != told["directory"]:
        yield f"nitro_init_again is '{told['again']}'; allowed: {told['directory']}, by name, or nothing."
    if any(str(flag).lstrip("-").partition("=")[0] == "init.force" for flag in told["extra_flags"]):
        yield (
            "nitro_extra_flags has --init.force, which initialises where data is; "
            f"allowed: nitro_init_again: {told['directory']}, which names what it is done to."
        )


def _first_start_problems(told: Facts, found: Sequence[str], file_system: Facts) -> Iterator[str]:
    directory = told["directory"]
    if f"{PLACE}/{LEFTOVER}" in found:
        yield (
            f"{directory}/{PLACE}/{LEFTOVER} is what a first start left that was cut off while it unpacked, and Nitro does not start beside it; "
            "remove it, and the snapshot is unpacked again."
        )
    strays = sorted(set(DATABASES) & set(found))
    if strays:
        yield (
            f"{directory} holds {', '.join(strays)}, which Nitro looks for in {directory}/{PLACE} alone: it would start an empty database beside it; "
            f"move it there, or away."
        )
    if file_system["mount"] == "/" and not told["root_allowed"]:
        yield (
            f"{directory} is on the root file system, which a snapshot must not fill: is the chain's disk mounted? "
            "Where this is meant, nitro_init_root_allowed says so."
        )
    has = int(file_system["free_bytes"]) + sum(file_system["had_bytes"].values())
    if has < float(told["gib"]) * GIB:
        yield (
            f"the file system of {directory} ({file_system['mount']}) has {has / GIB:.2f} GiB for an empty node, what is downloaded already counted, and "
            f"nitro_init_gib says that {float(told['gib']):.2f} are needed; allowed: a larger one."
        )


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters by name."""
        return {"nitro_init_problems": nitro_init_problems, "nitro_first_start_problems": nitro_first_start_problems}
