"""Sums, limits and sets: what services need of a host, what they are given, and what is said where a host lacks it."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.plugins import load_plugin

MAIN = Path(__file__).parents[3] / "roles" / "catalogue" / "defaults" / "main"

resources = load_plugin("catalogue", "filter_plugins", "catalogue_resources")
host_resources = load_plugin("catalogue", "library", "host_resources")
service_values = load_plugin("managed_service", "plugin_utils", "service_values")


def load(name: str) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load((MAIN / f"{name}.yml").read_text())
    return data


CHAINS = load("chains")["catalogue_default_chains"]
SERVICES = load("services")["catalogue_default_services"]
HOST_SERVICES = load("services")["catalogue_default_host_services"]
SYSTEM: int = load("resources")["catalogue_system_memory_mib"]
GIB = 2**30
# What a machine sold with so much memory has left for its kernel's own is a little less: about 97 %.
REAL = 0.97


def policy(**given: Any) -> dict[str, Any]:
    plain = {"host": "node1", "hosts": ["node1", "node2"], "system_memory_mib": SYSTEM, "uniform": {}, "exceptions": []}
    return {**plain, **given}


def running(*chains: str, groups: tuple[str, ...] = ("nodes",), services: dict[str, Any] | None = None) -> Any:
    return resources.running(services or SERVICES, HOST_SERVICES, chains, groups)


def changed(service: str, **given: Any) -> dict[str, Any]:
    services: dict[str, Any] = copy.deepcopy(SERVICES)
    services[service]["resources"].update(given)
    return services


def looked(memory_mib: int = 65536, cpus: str = "0-7", nodes: str = "0", **disks: tuple[int, dict[str, int]]) -> Any:
    """What a host says of itself; of a file system the free GiB, and the GiB of data there by path."""
    systems = [
        {
            "mount": f"/{mount}",
            "free_bytes": free * GIB,
            "had_bytes": {path: had * GIB for path, had in data.items()},
        }
        for mount, (free, data) in disks.items()
    ]
    return {"memory_mib": memory_mib, "cpus": cpus, "nodes": nodes, "file_systems": systems}


def fit(found: dict[str, Any], *chains: str, services: dict[str, Any] | None = None, **given: Any) -> Any:
    here = running(*chains, services=services)
    return resources.fit(found, here, resources.data_of(chains, CHAINS), policy(**given))


def problems(services: dict[str, Any], *chains: str, **given: Any) -> list[str]:
    every = {**services, **HOST_SERVICES}
    found: list[str] = resources.problems(every, CHAINS, running(*chains, services=services), policy(**given))
    return found


def test_the_catalogue_s_own_figures_are_whole() -> None:
    assert problems(SERVICES, *CHAINS) == []
    assert all("disk_gib" in chain for chain in CHAINS.values())
    assert all("memory_mib" in service["resources"] for service in SERVICES.values())


@pytest.mark.parametrize(
    ("chain", "gigabytes"), [("ethereum", 16), ("base", 32), ("polygon", 32), ("arbitrum", 64), ("optimism", 16)]
)
def test_a_chain_alone_fits_on_the_machine_that_upstream_asks_for(chain: str, gigabytes: int) -> None:
    rows = fit(looked(int(gigabytes * 1024 * REAL)), chain)
    assert resources.shortage(rows) == ""


def test_64_gigabytes_do_not_hold_six_nodes() -> None:
    rows = fit(looked(65536), *CHAINS)
    [memory] = [row for row in rows if row["resource"] == "memory"]
    assert (memory["state"], memory["needed"]) == ("short", sum(need for need, _ in memory["parts"].values()))


def test_a_host_runs_the_services_of_its_chains_and_of_its_groups() -> None:
    assert list(running("base")) == ["base", "base-execution", "base-consensus", "node-health"]
    assert list(running(groups=("edge", "mev"))) == ["nginx", "strategy_engine", "analytics_engine"]


def test_the_message_has_the_sums_and_what_is_allowed() -> None:
    found = looked(20000, data=(1000, {"/data/blockchain/ethereum/erigon": 700, "/data/blockchain/base": 0}))
    assert resources.shortage(fit(found, "ethereum", "base")).splitlines() == [
        "node1 is too small for what it is to run.",
        "memory, MiB:",
        "  erigon          12288",
        "  base              128",
        "  base-execution  26624",
        "  base-consensus   2048",
        "  node-health       128",
        "  the system       2048",
        "  needed          43264",
        "  the host has    20000",
        "disk on /data, GiB:",
        "  ethereum      1800  (has 700 already)",
        "  base          1800",
        "  needed        3600",
        "  the host has  1700",
        (
            "Allowed: fewer chains in node_chains, a larger host, other figures in catalogue_service_overrides (resources) or "
            "catalogue_chain_overrides (disk_gib), or host, shortage and reason in catalogue_resource_exceptions."
        ),
    ]


@pytest.mark.parametrize(("memory_mib", "state"), [(14463, "short"), (14464, "fits")])
def test_memory_is_enough_at_the_very_sum(memory_mib: int, state: str) -> None:
    rows = fit(looked(memory_mib), "ethereum")
    assert [(row["resource"], row["needed"], row["state"]) for row in rows] == [("memory", 14464, state)]


@pytest.mark.parametrize(
    ("free", "had", "state"), [(1800, 0, "fits"), (1799, 0, "short"), (1000, 800, "fits"), (1000, 799, "short")]
)
def test_what_a_chain_has_on_its_disk_counts(free: int, had: int, state: str) -> None:
    rows = fit(looked(data=(free, {"/data/blockchain/base": had})), "base")
    assert [row["state"] for row in rows if row["resource"] == "disk"] == [state]


def test_parts_of_a_gibibyte_add_up() -> None:
    found = looked(data=(2639, {"/data/blockchain/base": 0, "/data/blockchain/optimism": 0}))
    file_system = found["file_systems"][0]
    file_system["had_bytes"] = {"/data/blockchain/base": GIB // 2, "/data/blockchain/optimism": GIB // 2}
    assert fit(found, "base", "optimism")[1]["state"] == "fits"
    file_system["free_bytes"] -= 1
    assert fit(found, "base", "optimism")[1]["state"] == "short"


def test_what_a_chain_has_beyond_its_need_is_no_room_for_another() -> None:
    found = looked(data=(100, {"/data/blockchain/base": 5000, "/data/blockchain/optimism": 0}))
    [disk] = [row for row in fit(found, "base", "optimism") if row["resource"] == "disk"]
    assert (disk["needed"], disk["has"], disk["state"]) == (2640, 1900, "short")


def test_each_file_system_has_a_sum_of_its_own() -> None:
    found = looked(one=(1800, {"/data/blockchain/base": 0}), two=(10, {"/data/blockchain/optimism": 0}))
    rows = fit(found, "base", "optimism")
    assert [(row["where"], row["state"]) for row in rows[1:]] == [("/one", "fits"), ("/two", "short")]


def test_cpus_and_nodes_that_the_host_lacks_are_named() -> None:
    services = changed("erigon", cpus="2-9", numa_policy="bind", numa_mask="1")
    message = resources.shortage(fit(looked(cpus="0-7"), "ethereum", services=services))
    assert "cpus of erigon: 2-9 is asked for, the host has 0-7." in message
    assert "numa of erigon: 1 is asked for, the host has 0." in message
    assert resources.shortage(fit(looked(cpus="0-15", nodes="0-1"), "ethereum", services=services)) == ""


def test_a_shortage_passes_by_host_name_and_reason_and_is_reported() -> None:
    exceptions = [{"host": "node1", "shortage": "memory", "reason": "more comes on Monday"}]
    rows = fit(looked(4096), "ethereum", exceptions=exceptions)
    assert resources.shortage(rows) == ""
    assert resources.summary(rows) == [
        "memory: 14464 of 4096 MiB; too little, by the operator's word: more comes on Monday"
    ]
    for other in ({"host": "node2"}, {"shortage": "disk"}):
        rows = fit(looked(4096), "ethereum", exceptions=[{**exceptions[0], **other}])
        assert resources.shortage(rows)


def test_an_exception_is_not_reported_where_nothing_is_short() -> None:
    rows = fit(looked(), "ethereum", exceptions=[{"host": "node1", "shortage": "memory", "reason": "old"}])
    assert [(row["state"], row["reason"]) for row in rows] == [("fits", "")]


def bytes_of(size: str, memory_mib: int) -> float:
    if size.endswith("%"):
        return float(size[:-1]) / 100 * memory_mib * 2**20
    return int(size[:-1]) * 2**20


@pytest.mark.parametrize("chains", [("ethereum",), ("ethereum", "sepolia"), tuple(CHAINS)])
@pytest.mark.parametrize("times", [1, 1.5, 8])
def test_limits_leave_each_what_it_needs_and_the_system_the_rest(chains: tuple[str, ...], times: float) -> None:
    here = running(*chains, groups=("nodes", "edge", "mev"))
    every = {**SERVICES, **HOST_SERVICES}
    given = resources.placement(every, here, SYSTEM)
    memory_mib = int((SYSTEM + sum(each["memory_mib"] for each in here.values())) * times)
    total = 0.0
    for name, each in here.items():
        high, maximum = (bytes_of(given[name][key], memory_mib) for key in ("memory_high", "memory_max"))
        assert high < maximum
        # Percentages have two decimals.
        assert maximum >= each["memory_mib"] * 2**20 - memory_mib * 2**20 / 10_000
        total += maximum
    assert total + SYSTEM * 2**20 <= memory_mib * 2**20


def test_every_limit_is_one_that_a_unit_takes() -> None:
    given = resources.placement({**SERVICES, **HOST_SERVICES}, running(*CHAINS), SYSTEM)
    assert list(given) == [*SERVICES, *HOST_SERVICES]
    for name, each in given.items():
        for key in ("memory_high", "memory_max"):
            assert each[key] == "" or service_values.MEMORY.fullmatch(each[key]), name
    assert (given["ssh"]["memory_high"], given["ssh"]["memory_max"]) == ("", "")


@pytest.mark.parametrize(
    ("own", "limits"),
    [
        ({}, ("76.45%", "84.95%")),
        ({"memory_max": "20G"}, ("18432M", "20G")),
        ({"memory_max": "50%"}, ("45%", "50%")),
        ({"memory_high": "18G"}, ("18G", "20480M")),
        ({"memory_high": "95%"}, ("95%", "100%")),
        ({"memory_high": "", "memory_max": "20G"}, ("", "20G")),
        ({"memory_high": 0, "memory_max": 0}, ("", "")),
        ({"memory_mib": 0}, ("", "")),
    ],
)
def test_what_is_set_wins_and_the_other_follows(own: dict[str, Any], limits: tuple[str, str]) -> None:
    services = changed("erigon", **own)
    given = resources.placement(services, running("ethereum", services=services), SYSTEM)["erigon"]
    assert (given["memory_high"], given["memory_max"]) == limits


def test_a_service_that_the_host_does_not_run_has_limits_as_if_it_did() -> None:
    given = resources.placement(SERVICES, running("ethereum"), SYSTEM)
    alone = resources.placement(SERVICES, running("ethereum", "sepolia"), SYSTEM)
    assert given["sepolia-erigon"]["memory_max"] == alone["sepolia-erigon"]["memory_max"]


def test_uniform_needs_replace_the_catalogue_s_figures_and_nothing_else() -> None:
    needs = {"memory_mib": 128, "disk_gib": 1}
    assert {each["resources"]["memory_mib"] for each in resources.sized(SERVICES, needs).values()} == {128}
    assert {each["disk_gib"] for each in resources.sized(CHAINS, needs).values()} == {1}
    assert resources.sized(SERVICES, needs)["erigon"]["resources"]["io_weight"] == 200
    assert resources.sized(SERVICES, {}) == SERVICES


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"memory_mib": -1}, ["memory_mib", "-1", "16777216"]),
        ({"memory_mib": 15}, ["memory_mib", "15", "from 16"]),
        ({"memory_mib": True}, ["memory_mib", "True"]),
        ({"memory_mib": "12G"}, ["memory_mib", "'12G'"]),
        ({"memory_mb": 100}, ["memory_mb", "the keys memory_mib"]),
        ({"memory_max": "lots"}, ["memory_max", "'lots'", "a percentage"]),
        ({"memory_max": "101%"}, ["memory_max", "'101%'"]),
        ({"memory_high": "2G", "memory_max": "2048M"}, ["memory_high", "less than memory_max, 2048M"]),
        ({"memory_high": "50%", "memory_max": "49.99%"}, ["memory_high", "less than memory_max, 49.99%"]),
        ({"io_weight": 0}, ["io_weight", "0", "1 to 10000"]),
        ({"cpu_weight": 10001}, ["cpu_weight", "10001", "1 to 10000"]),
        ({"cpus": "2-"}, ["cpus", "'2-'", "2-7,10"]),
        ({"cpus": "7-2"}, ["cpus", "'7-2'"]),
        ({"cpus": "0-99999999999"}, ["cpus", "99999999999"]),
        ({"exclusive_cpus": True}, ["exclusive_cpus", "with cpus only"]),
        ({"numa_policy": "near", "numa_mask": ""}, ["numa_policy", "'near'", "interleave"]),
        ({"numa_policy": "bind"}, ["numa_mask", "a mask with"]),
        ({"numa_mask": "0"}, ["numa_mask", "'0'", "none with default"]),
    ],
)
def test_a_figure_that_cannot_be_carried_out_is_named(given: dict[str, Any], words: list[str]) -> None:
    found = problems(changed("erigon", **given), "ethereum")
    assert len(found) == 1, found
    assert all(word in found[0] for word in [*words, "service 'erigon'", "host 'node1'", "services.yml"]), found


@pytest.mark.parametrize("size", ["1M", "24G", "0.01%", "12.5%", "100%", "", 0])
def test_sizes_that_systemd_takes_are_taken(size: object) -> None:
    assert problems(changed("erigon", memory_max=size), "ethereum") == []


def test_exclusive_sets_collide_with_any_set_on_their_host_and_on_no_other() -> None:
    services = changed("erigon", cpus="2-5", exclusive_cpus=True)
    services["arbitrum"]["resources"]["cpus"] = "5-7"
    [sentence] = problems(services, "ethereum", "arbitrum")
    assert all(word in sentence for word in ("erigon (2-5)", "arbitrum (5-7)", "exclusive_cpus", "no CPU in common"))
    assert problems(services, "ethereum") == []
    services["erigon"]["resources"]["exclusive_cpus"] = False
    assert problems(services, "ethereum", "arbitrum") == []


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"system_memory_mib": -1}, "catalogue_system_memory_mib"),
        ({"uniform": {"memory": 1}}, "catalogue_uniform_needs"),
        ({"exceptions": [{"host": "node9", "shortage": "memory", "reason": "why"}]}, "names no host"),
        ({"exceptions": [{"host": "node1", "shortage": "ram", "reason": "why"}]}, "memory, disk, cpus, numa"),
        ({"exceptions": [{"host": "node1", "shortage": "memory", "reason": " "}]}, "has no reason"),
    ],
)
def test_a_policy_that_cannot_be_carried_out_is_named(given: dict[str, Any], word: str) -> None:
    [sentence] = problems(SERVICES, "ethereum", **given)
    assert word in sentence
    assert "inventory" in sentence


def test_a_disk_that_is_no_number_is_named() -> None:
    chains = {**CHAINS, "base": {**CHAINS["base"], "disk_gib": "2T"}}
    [sentence] = resources.problems(SERVICES, chains, running("base"), policy())
    assert "disk_gib of chain 'base' is '2T'" in sentence


def test_a_container_s_limit_is_its_memory() -> None:
    meminfo = "MemFree: 1 kB\nMemTotal:       24684084 kB\n"
    assert host_resources.memory_mib(meminfo, "max") == 24105
    assert host_resources.memory_mib(meminfo, "") == 24105
    assert host_resources.memory_mib(meminfo, str(2**31)) == 2048


def write(path: Path) -> None:
    """A mebibyte that is on the disk: some file systems count blocks only then."""
    with path.open("wb") as file:
        file.write(os.urandom(1 << 20))
        file.flush()
        os.fsync(file.fileno())


def test_data_is_counted_once_without_links_and_no_further_than_needed(tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    (data / "deep").mkdir(parents=True)
    elsewhere.mkdir()
    for path in (data / "one", data / "deep" / "two", elsewhere / "three"):
        write(path)
    os.link(data / "one", data / "again")
    (data / "link").symlink_to(elsewhere)
    # A file that is long and holds nothing takes nothing.
    with (data / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 30)
    assert host_resources.used_bytes(data, 1 << 40) >> 20 == 2
    assert host_resources.used_bytes(data, 1) >> 20 < 2
    assert host_resources.used_bytes(tmp_path / "none", 1 << 40) == 0


def test_file_systems_are_those_of_directories_that_are_to_come(tmp_path: Path) -> None:
    data = [{"path": str(tmp_path / "a" / "b"), "need_gib": 0}, {"path": str(tmp_path / "c"), "need_gib": 1 << 30}]
    (tmp_path / "c").mkdir()
    write(tmp_path / "c" / "block")
    [found] = host_resources.file_systems(data)
    assert Path(found["mount"]).is_mount()
    assert found["free_bytes"] > 0
    assert {path: had >> 20 for path, had in found["had_bytes"].items()} == {data[0]["path"]: 0, data[1]["path"]: 1}


def test_data_is_not_looked_into_where_there_is_room(tmp_path: Path) -> None:
    write(tmp_path / "block")
    [found] = host_resources.file_systems([{"path": str(tmp_path), "need_gib": 0}])
    assert found["had_bytes"] == {str(tmp_path): 0}
