"""What tests of an edge's certificate ask its host and the authority there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testinfra.host import Host

NAME = "ethereum.rpc.lyftium.com"
SECURITY = "/data/blockchain/nodes/security"
PAIR = f"{SECURITY}/ssl_keys/edge/edge.pem"
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
    return str(host.check_output(f"journalctl --quiet --output=cat _SYSTEMD_INVOCATION_ID={run}"))
