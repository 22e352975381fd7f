"""The edge on a host with one chain: TLS, headers, limits, and nothing else that listens outside."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests import chain_checks as checks
from tests.edge_probe import refusal, rpc, send, until
from tests.plays import play

if TYPE_CHECKING:
    from testinfra.backend.base import CommandResult
    from testinfra.host import Host

NAME = "ethereum.rpc.lyftium.com"
POOLS, SEEN = "/etc/nginx/pools.json", "/run/seen-by-a-node"
# In the nodes' place: writes down what reaches it, a line of JSON a call.
WITNESS = """
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with open(sys.argv[1], "a") as file:
            print(json.dumps({"method": body["method"], "path": self.path, "headers": [[name.lower(), value] for name, value in self.headers.items()]}), file=file)
        answer = json.dumps({"jsonrpc": "2.0", "id": body.get("id"), "result": "0x7"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
http.server.ThreadingHTTPServer(("127.0.66.9", 8545), Handler).serve_forever()
"""
BODY = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []})
# The second number of each kind is the neighbour's, which would be on a host of its own.
PUBLIC_PORTS = {22, 8443, 30303, 42069, 4001, 30403, 42169, 4101}


def call(host: Host, *options: str) -> CommandResult:
    """One JSON-RPC call through the edge, from the host itself."""
    words = " ".join(f"'{word}'" for word in (*options, "-H", "content-type: application/json", "-d", BODY))
    return host.run(f"curl -s --max-time 10 --resolve {NAME}:8443:127.0.0.1 {words} https://{NAME}:8443/")


def test_edge_runs_without_root(host: Host) -> None:
    assert host.check_output("ps -o user= -C nginx | sort -u") == "www-data"
    known = checks.properties(host, "nginx")
    assert (known["ActiveState"], known["UnitFileState"]) == ("active", "enabled")
    assert known.get("CapabilityBoundingSet", "") == ""


def test_edge_answers_with_the_chain_s_id(host: Host) -> None:
    assert json.loads(call(host).stdout)["result"] == "0x1"


def test_who_names_another_host_in_his_request_gets_no_file_and_no_chain(host: Host) -> None:
    """After a handshake for one of the edge's names, as the one for another name is refused."""
    day = host.check_output("ls /var/log/edge | grep ^access- | tail -1")
    text = json.dumps(
        {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "no chain has this name"}},
        separators=(",", ":"),
    )
    ways = ("--http1.1 -H 'Host: other.example'", "--http2 -H 'Host: base.rpc.lyftium.com'", "--http1.0 -H 'Host:'")
    asked = [
        (way, path)
        for way in (*ways, f"-H 'Host: _' -d '{BODY}'")
        for path in ("", day, "metrics", "pools", "refused", f"x/../{day}")
    ]
    common = (
        f"-s --path-as-is --max-time 10 --resolve {NAME}:8443:127.0.0.1 --interface 127.66.0.9 -w ' %{{http_code}}\\n'"
    )
    said = host.check_output("; ".join(f"curl {common} {way} 'https://{NAME}:8443/{path}'" for way, path in asked))
    assert said.replace("\n 421", " 421").splitlines() == [f"{text} 421"] * len(asked)
    # What the configuration alone may go to is nothing for callers.
    (refused,) = send(host, rpc(), path="/refused")
    assert refusal(refused) == (404, -32600, None)


def test_a_node_is_told_the_call_and_nothing_else_of_its_caller(host: Host) -> None:
    host.run("edge-keys revoke witness")
    key = host.check_output("edge-keys create witness --tier partner")
    host.check_output(f"cp -a {POOLS} /run/pools.before; rm -f {SEEN}")
    pools = json.loads(host.file(POOLS).content_string)
    for node in pools["pools"]["ethereum"]["nodes"]:
        node["rpc"] = "http://127.0.66.9:8545"
    host.check_output(f"systemd-run --quiet --collect --unit=witness python3 -c %s {SEEN}", WITNESS)
    try:
        until("the witness", lambda: host.socket("tcp://127.0.66.9:8545").is_listening)
        host.check_output(f"printf %%s %s > {POOLS} && systemctl reload nginx", json.dumps(pools))
        until("pools with the witness", lambda: host.run("edge-pools loaded").rc == 0)
        said = [
            "X-Forwarded-For: 192.0.2.1",
            "Forwarded: for=192.0.2.1",
            "X-Real-IP: 192.0.2.1",
            "Cookie: a=b",
            f"X-API-Key: {key}",
            "X-HTTP-Method-Override: GET",
            "Content-Encoding: gzip",
            "X-ERIGON-HEALTHCHECK: synced",
            "Accept-Encoding: gzip",
        ]
        words = " ".join(f"-H '{header}'" for header in said)
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []})
        answer = host.check_output(
            f"curl -s --max-time 10 --resolve {NAME}:8443:127.0.0.1 {words} -d '{body}' 'https://{NAME}:8443/?more'"
        )
        assert json.loads(answer)["result"] == "0x7"
    finally:
        host.check_output(
            f"cp -a /run/pools.before {POOLS} && touch {POOLS} && systemctl reload nginx && systemctl stop witness"
        )
        until("pools without it", lambda: host.run("edge-pools loaded").rc == 0)
        host.check_output("edge-keys revoke witness")
    # The edge itself asks each node now and then which block is final.
    lines = [json.loads(line) for line in host.file(SEEN).content_string.splitlines()]
    (seen,) = [line for line in lines if line["method"] == "eth_blockNumber"]
    told = {
        "host": "localhost",
        "content-type": "application/json",
        "accept-encoding": "gzip",
        "content-length": str(len(body)),
    }
    assert (seen["path"], dict(seen["headers"])) == ("/", told)
    assert len(seen["headers"]) == len(told)


def test_edge_needs_no_more_than_its_sandbox_gives(host: Host) -> None:
    verdict = host.run("systemd-analyze security --no-pager nginx.service").stdout
    exposure = float(
        next(line for line in verdict.splitlines() if "Overall exposure level" in line).split(":")[1].split()[0]
    )
    assert exposure <= 2.6


def test_nothing_but_catalogued_public_ports_listens_outside(host: Host) -> None:
    sockets = host.check_output("ss -Htln | awk '{print $4}'").split()
    outside = {
        int(port)
        for address, port in (socket.rsplit(":", 1) for socket in sockets)
        if not address.startswith(("127.", "[::1]"))
    }
    assert outside <= PUBLIC_PORTS


def test_key_is_readable_by_the_edge_and_root_alone(host: Host) -> None:
    key = host.file("/data/blockchain/nodes/security/ssl_keys/edge/edge.pem")
    assert (key.user, key.group, key.mode) == ("certificates", "www-data", 0o640)


def test_the_hundred_and_first_request_of_a_minute_is_refused(host: Host) -> None:
    asked = f"curl -s -o /dev/null -w '%{{http_code}} ' --resolve {NAME}:8443:127.0.0.1 'https://{NAME}:8443/?[1-100]'"
    codes = host.check_output(f"begun=$(date +%s); {asked}; echo $(($(date +%s) - begun))").split()
    seconds = int(codes.pop()) + 1
    assert len(codes) == 100
    assert "429" in codes
    # The burst of twenty and what the rate of a hundred a minute gives back meanwhile get through, and no more.
    assert 15 <= len([code for code in codes if code != "429"]) <= 20 + seconds * 100 / 60 + 1


def test_an_oversized_body_is_refused(host: Host) -> None:
    code = host.check_output(
        f"head -c 2000000 /dev/zero | curl -s -o /dev/null -w '%{{http_code}}' --resolve {NAME}:8443:127.0.0.1 --data-binary @- https://{NAME}:8443/"
    )
    assert code in {"413", "429"}


def test_an_unknown_name_gets_no_handshake(host: Host) -> None:
    assert (
        host.run("curl -sk --resolve other.rpc.lyftium.com:8443:127.0.0.1 https://other.rpc.lyftium.com:8443/").rc == 35
    )


def test_a_client_on_the_wrong_chain_stops_the_play_before_the_edge(host: Host) -> None:
    before = host.file("/etc/nginx/nginx.conf").content_string
    # The node still serves chain 1; a rate of one's own would rewrite the edge's configuration, if the play got that far.
    wrong = {"catalogue_chain_overrides": {"ethereum": {"id": 2}}, "nginx_requests_per_minute": 77}
    done = play("nginx", "converge.yml", wrong)
    assert done.code != 0
    assert "answers with chain id 1, expected 2" in done.messages, done.output
    assert host.file("/etc/nginx/nginx.conf").content_string == before
    mended = play("nginx", "converge.yml", {})
    assert mended.code == 0, mended.output
    assert host.file("/etc/nginx/nginx.conf").content_string == before
