"""Six chains answer behind TLS on the host's one open port, over HTTP and WebSocket."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest
import requests
from websockets.sync.client import connect

from tests.e2e.conftest import CHAINS, DOMAIN, EDGE_PORT, SERVICES, Host, edge_url

LOCAL_PORTS = [
    pytest.param(entry["port"], id=f"{service}.{listener}")
    for service, facts in SERVICES.items()
    for listener, entry in facts["listeners"].items()
    if entry["exposure"] != "public" and "tcp" in entry.get("protocols", ["tcp"])
]


@pytest.mark.parametrize("chain", CHAINS)
def test_each_name_answers_with_its_chain_s_id(chain: str, rpc: Callable[..., Any]) -> None:
    assert int(rpc(chain, "eth_chainId"), 16) == CHAINS[chain]["id"]


@pytest.mark.parametrize("chain", CHAINS)
def test_a_subscription_on_the_same_name_hears_new_heads(chain: str, mev1: Host, tls: ssl.SSLContext) -> None:
    url = edge_url(chain).replace("https", "wss")
    raw = socket.create_connection((mev1.address, EDGE_PORT), timeout=10)
    with connect(
        url, sock=raw, ssl=tls, server_hostname=f"{CHAINS[chain]['public_name']}.{DOMAIN}", proxy=None
    ) as socket_:
        socket_.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]}))
        subscription = json.loads(socket_.recv(timeout=10))["result"]
        heads = [json.loads(socket_.recv(timeout=30))["params"] for _ in range(2)]
    assert all(head["subscription"] == subscription for head in heads)
    assert int(heads[1]["result"]["number"], 16) == int(heads[0]["result"]["number"], 16) + 1


def test_an_unknown_name_gets_no_handshake(mev1: Host, tls: ssl.SSLContext) -> None:
    with socket.create_connection((mev1.address, EDGE_PORT), timeout=10) as raw, pytest.raises(ssl.SSLError):
        tls.wrap_socket(raw, server_hostname=f"unknown.{DOMAIN}")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_tls_is_refused(mev1: Host, version: ssl.TLSVersion, tls: ssl.SSLContext) -> None:
    name = f"{CHAINS['ethereum']['public_name']}.{DOMAIN}"
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(tls.get_ca_certs(binary_form=True)[0]))
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = version
    with (
        socket.create_connection((mev1.address, EDGE_PORT), timeout=10) as raw,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        old.wrap_socket(raw, server_hostname=name)


def test_answers_carry_the_security_headers(edge: requests.Session) -> None:
    answer = edge.get(edge_url("ethereum"), timeout=10)
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Server"] == "nginx"


@pytest.mark.parametrize("port", LOCAL_PORTS)
def test_no_chain_port_is_reachable_from_outside(port: int, mev1: Host) -> None:
    with pytest.raises(OSError):  # noqa: PT011 - refused or filtered, as the host pleases
        socket.create_connection((mev1.address, port), timeout=2).close()
