"""What tests of an edge's certificate ask its host and the authority there."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.plays import ROOT
from tests.waiting import journal

if TYPE_CHECKING:
    from testinfra.host import Host

NAME = "ethereum.rpc.lyftium.com"
SECURITY = "/data/blockchain/nodes/security"
PAIR = f"{SECURITY}/ssl_keys/edge/edge.pem"
CLIENTS = ROOT / "molecule" / "certbot" / "clients.py"
CREDENTIALS = f"{SECURITY}/certbot/dns.ini"


def shown(host: Host) -> dict[str, Any]:
    """What edge-certificate says of the pair."""
    told: dict[str, Any] = json.loads(host.check_output("edge-certificate show"))
    return told


def served(host: Host, name: str = NAME) -> str:
    """The serial number, in hex, of the certificate that a new handshake is answered with."""
    text = host.check_output(
        f"openssl s_client -connect 127.0.0.1:8443 -servername {name} </dev/null 2>/dev/null | openssl x509 -noout -serial"
    )
    return str(text.partition("=")[2].lower())


def status_at_authority(host: Host, serial: str) -> str:
    """What pebble says of a certificate: Valid or Revoked."""
    page = host.check_output("curl -sk https://localhost:15000/cert-status-by-serial/%s", serial)
    return str(json.loads(page)["Status"])


def words_of(host: Host, unit: str) -> str:
    """The journal of a unit's last run."""
    run = host.check_output("systemctl show -p InvocationID --value %s", unit)
    return journal(host, f"_SYSTEMD_INVOCATION_ID={run}")


@contextmanager
def clients(host: Host) -> Iterator[dict[str, dict[str, Any]]]:
    """A caller on a connection that is kept and a WebSocket, for as long as the context lasts; what they saw is known after it."""
    host.run("systemctl stop client-http client-websocket")
    host.check_output("rm -rf /run/clients && mkdir /run/clients")
    host.run("cat > /run/clients/clients.py <<'EOF'\n" + CLIENTS.read_text() + "\nEOF")
    for kind in ("http", "websocket"):
        host.check_output(
            f"systemd-run --quiet --collect --unit=client-{kind} python3 /run/clients/clients.py {kind} "
            f"/run/clients/{kind}.json /run/clients/stop"
        )
    host.check_output(
        "timeout 60 sh -c 'until test -e /run/clients/http.begun -a -e /run/clients/websocket.begun; do sleep 0.2; done'"
    )
    time.sleep(1)
    saw: dict[str, dict[str, Any]] = {}
    try:
        yield saw
        time.sleep(2)
    finally:
        host.check_output("touch /run/clients/stop")
        for kind in ("http", "websocket"):
            found = host.check_output(
                f"timeout 40 sh -c 'until test -s /run/clients/{kind}.json; do sleep 0.2; done'; cat /run/clients/{kind}.json"
            )
            saw[kind] = json.loads(found)
