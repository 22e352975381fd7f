"""What is true of every unit of a chain, whichever client runs in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from testinfra.host import Host

FACTS = Path(__file__).resolve().parent.parent / "roles" / "catalogue" / "defaults" / "main"
CHAINS: dict[str, dict[str, Any]] = yaml.safe_load((FACTS / "chains.yml").read_text())["catalogue_default_chains"]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((FACTS / "services.yml").read_text())["catalogue_default_services"]
RELEASES: dict[str, dict[str, Any]] = yaml.safe_load((FACTS / "releases.yml").read_text())["catalogue_default_releases"]
SECRETS = "/data/blockchain/nodes/security/jwt_secrets"
# systemd's own score, 0 to 10: below it a unit counts as well confined.
WORST_EXPOSURE = 1.5


def chain_of(unit: str) -> dict[str, Any]:
    """The chain that a unit belongs to."""
    return CHAINS[SERVICES[unit]["chain"]]


def properties(host: Host, unit: str) -> dict[str, str]:
    """What systemd knows of a unit."""
    return dict(
        line.split("=", 1) for line in host.check_output("systemctl show %s.service", unit).splitlines() if "=" in line
    )


def runs_as_the_catalogue_says(host: Host, unit: str) -> None:
    """The unit is up as the chain's user, from /opt, and stops by its client's own signal and time."""
    facts, known = SERVICES[unit], properties(host, unit)
    assert (known["ActiveState"], known["UnitFileState"]) == ("active", "enabled")
    assert known["User"] == facts["chain"]
    assert known["KillSignal"] == {"SIGTERM": "15", "SIGINT": "2"}[facts["kill_signal"]]
    assert known["TimeoutStopUSec"] == spoken(facts["stop_seconds"])
    assert known["NRestarts"] == "0"
    component = chain_of(unit)["components"][facts["part"]]
    current = host.check_output("readlink -f /opt/%s/current", component)
    assert current == f"/opt/{component}/{RELEASES[component]['version']}"


def spoken(seconds: int) -> str:
    """A time span as systemd prints it: 600 is 10min."""
    minutes, rest = divmod(seconds, 60)
    return " ".join(part for part in (f"{minutes}min" if minutes else "", f"{rest}s" if rest else "") if part)


def binds_its_listeners_and_nothing_wider(host: Host, unit: str) -> None:
    """Each listener of the catalogue is bound, and what is not public only on the chain's loopback address."""
    chain = chain_of(unit)
    for name, entry in SERVICES[unit]["listeners"].items():
        address = "0.0.0.0" if entry["exposure"] == "public" else chain["loopback"]  # noqa: S104 - what is expected of P2P alone
        for protocol in entry.get("protocols", ["tcp"]):
            assert host.socket(f"{protocol}://{address}:{entry['port']}").is_listening, f"{unit}.{name} {protocol}"
            if entry["exposure"] != "public":
                assert not host.socket(f"{protocol}://0.0.0.0:{entry['port']}").is_listening, (
                    f"{unit}.{name} {protocol}"
                )


def answers_with_its_chain_id(host: Host, unit: str) -> None:
    """The node's RPC answers with the id of the chain that the catalogue gives it."""
    chain, port = chain_of(unit), SERVICES[unit]["listeners"]["rpc"]["port"]
    call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []})
    answer = host.check_output(
        "curl -sf -H content-type:application/json -d %s http://%s:%s", call, chain["loopback"], str(port)
    )
    assert int(json.loads(answer)["result"], 16) == chain["id"]


def is_in_step(host: Host, unit: str) -> None:
    """The judge of health calls the unit in step, once this machine has let it catch up."""
    judged = host.run("node-health wait --timeout 60 --config /etc/node_health/%s.json --json", unit)
    assert judged.rc == 0, judged.stdout + judged.stderr
    assert json.loads(judged.stdout)["state"] == "in_step"


def is_confined(host: Host, unit: str) -> None:
    """systemd's own judge finds little that the unit may do."""
    verdict = host.run("systemd-analyze security --no-pager %s.service", unit).stdout
    exposure = float(
        next(line for line in verdict.splitlines() if "Overall exposure level" in line).split(":")[1].split()[0]
    )
    assert exposure <= WORST_EXPOSURE, f"{unit}: {exposure}"


def engine_secret_is_the_hosts_own(host: Host, chain: str) -> None:
    """32 random bytes that only root and the chain's group may read."""
    secret = host.file(f"{SECRETS}/{chain}.hex")
    assert (secret.user, secret.group, secret.mode) == ("root", chain, 0o640)
    assert len(bytes.fromhex(secret.content_string.strip())) == 32


def is_limited(host: Host, unit: str) -> None:
    """systemd has read limits of the unit's memory, in bytes: first it is slowed, then killed, and less than the host has."""
    known = properties(host, unit)
    memory = int(host.check_output("awk '/^MemTotal/ {print $2}' /proc/meminfo")) * 1024
    assert 0 < int(known["MemoryHigh"]) < int(known["MemoryMax"]) < memory
