"""What callers and agents see while every secret of the catalogue's table is rotated, one after the other, in a fleet of two that is under load."""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import secrets_fleet as on
from tests.bench.figure import Figure
from tests.bench.scenario import ROOT, done, hosts
from tests.load import Load
from tests.plays import play

# Its hosts and their variables are in molecule/rotation.
SCENARIO = "rotation"
HOSTS = ("rotation", "rotation-b")
STRANGER = "rotation-c"
CALLS_A_SECOND = 25.0
SECRETS = ROOT / ".lab/secrets"
DNS_SOURCE = SECRETS / "rotation-dns.ini"
BUS_SOURCE = SECRETS / "rotation-bus"
DATABASE_SOURCE = SECRETS / "rotation-database"
# By these an agent says that something it asked of bus, database or node failed.
LOST = ("not published yet", "not heard", "message given up", "messages given up", "chain is tried again")
LOGS = ("strategy_engine.log", "analytics.log")
DIGESTS = """
import hashlib, json, pathlib
paths = [path for place in ("/data/blockchain/nodes/security/jwt_secrets", "/data/blockchain/nodes/security/signing_keys", "/etc/fleet-vpn")
         for path in pathlib.Path(place).glob("*") if path.suffix != ".json" and path.name != "signer_key"]
paths += [path for path in map(pathlib.Path, ("/data/blockchain/nodes/security/ssl_keys/edge/edge.pem",
          "/data/blockchain/nodes/security/certbot/dns.ini")) if path.exists()]
print(json.dumps({str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}))
"""
SAID = """
import json, pathlib, sys
lines = [json.loads(line) for name in {logs!r} for line in pathlib.Path("/data/blockchain/nodes/logs", name).read_text().splitlines()]
print(json.dumps([line for line in lines if line["level"] in ("warning", "error")]))
"""
HEARD = """
import os, subprocess
password = open("/data/blockchain/nodes/security/signing_keys/redis_password").read().strip()
print(subprocess.run(["redis-cli", "--raw", "XRANGE", "mev:settlements", "-", "+"], capture_output=True, text=True, check=True,
                     env={**os.environ, "REDISCLI_AUTH": password}).stdout)
"""


@contextmanager
def fleet() -> Iterator[Callable[[], None]]:
    """Two hosts, an edge, an engine that trades, and a stranger; they come up meanwhile, until who is given this calls it."""
    hosts("remove", *HOSTS, STRANGER)
    try:
        hosts("create", *HOSTS, STRANGER)
        with ThreadPoolExecutor(1) as beside:
            rising = beside.submit(play, SCENARIO, "converge.yml", {}, timeout_seconds=1800)
            yield lambda: done(rising.result())
    finally:
        hosts("remove", *HOSTS, STRANGER)


def measure() -> Iterator[Figure]:
    """Two callers at 25 calls a second each; the hosts are the benchmark's own, those of `fleet`."""
    before = _digests()
    included = len(_included())
    with tempfile.TemporaryDirectory() as directory:
        first, second = Path(directory, "first.key"), Path(directory, "second.key")
        _play("api_keys", api_keys_create={"name": "bench", "tier": "partner"}, api_keys_file=str(first))
        time.sleep(2)
        roots = authority()
        complaints = Counter(map(json.dumps, _complaints()))
        with Load(SCENARIO, "ethereum", CALLS_A_SECOND, key=first.read_text().strip(), roots=roots) as old:
            _play("api_keys", api_keys_rotate={"name": "bench", "overlap_days": 7}, api_keys_file=str(second))
            time.sleep(2)
            with Load(SCENARIO, "optimism", CALLS_A_SECOND, key=second.read_text().strip(), roots=roots) as new:
                _rotate_all()
                time.sleep(5)
    same = [path for path, digest in _digests().items() if before.get(path) == digest]
    if same:
        raise SystemExit(f"not rotated: {', '.join(same)}")
    said = Counter(map(json.dumps, _complaints())) - complaints
    events = Counter(json.loads(line)["event"] for line in said.elements())
    # Each fill is told once, whatever happened to the bus meanwhile.
    traded = _included()
    untold = traded - _told()
    sys.stderr.write(
        f"callers lost {dict(old.failures + new.failures)} of {old.sent + new.sent}; agents said {dict(events)}; "
        f"{len(traded) - included} fills meanwhile, {len(untold)} of them not on the bus\n"
    )
    if len(traded) == included:
        raise SystemExit("the engine filled nothing meanwhile, so that no message could have been lost")
    yield Figure("rotation_requests", old.sent + new.sent, "calls", 1)
    failed = old.failed + new.failed + sum(events[event] for event in LOST) + len(untold)
    yield Figure("rotation_failed_requests", failed, "calls", 1)


def _rotate_all() -> None:
    # Both keys of DNS are good; the certificate that is asked for afterwards needs the new one, as the old one has gone.
    former = on.dns_key_name(DNS_SOURCE)
    key = on.new_dns_key(SCENARIO)
    _write(DNS_SOURCE, key.ini())
    _play("rotate_secrets", rotate="dns_credentials")
    on.end_dns_key(former, SCENARIO)
    _play("rotate_secrets", rotate="edge_certificate")
    # The bus and the database take the old ones and the new ones.
    bus, password = BUS_SOURCE.read_text().strip(), secrets.token_hex(24)
    role, following = DATABASE_SOURCE.read_text().partition(":")[0], f"mev_{secrets.token_hex(2)}"
    login = secrets.token_hex(24)
    on.redis(("AUTH", bus), ("ACL", "SETUSER", "default", f">{password}"), host=SCENARIO)
    on.new_role(following, login, host=SCENARIO)
    _write(BUS_SOURCE, f"{password}\n")
    _write(DATABASE_SOURCE, f"{following}:{login}\n")
    _play("rotate_secrets", rotate="bus_password,database_password")
    on.redis(("AUTH", password), ("ACL", "SETUSER", "default", f"<{bus}"), host=SCENARIO)
    on.end_role(role, host=SCENARIO)
    _play("rotate_secrets", rotate="jwt")
    _play("rotate_vpn_keys")


def authority() -> str:
    """The root of the authority that the edge's certificate is of, PEM."""
    path = "/usr/local/share/ca-certificates/pebble.crt"
    return on.on_host(f"print(open({path!r}).read())", SCENARIO)


def _play(name: str, **variables: object) -> None:
    begun = time.monotonic()
    done(play(SCENARIO, f"../../playbooks/{name}.yml", variables, timeout_seconds=900))
    sys.stderr.write(f"{name} {variables.get('rotate', '')}: {time.monotonic() - begun:.0f} s\n")


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _digests() -> dict[str, str]:
    """Each secret's SHA-256 by host and path; values stay where they are."""
    return {
        f"{host}:{path}": digest for host in HOSTS for path, digest in json.loads(on.on_host(DIGESTS, host)).items()
    }


def _complaints() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(on.on_host(SAID.format(logs=LOGS), SCENARIO))
    return found


def _included() -> set[str]:
    return set(on.sql("SELECT opportunity FROM transitions WHERE state = 'included'", host=SCENARIO).split())


def _told() -> set[str]:
    lines = on.on_host(HEARD, SCENARIO).splitlines()
    messages = [json.loads(line) for line in lines if line.startswith("{")]
    return {message["opportunity"] for message in messages if message["state"] == "included"}
