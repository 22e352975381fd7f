"""What the edge lets pass and how often, from outside and at each limit's edge: methods, batches, rates, connections, keys, answers kept."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.edge_probe import (
    EDGE,
    FREE,
    GIVEN,
    NAME,
    PASSED,
    PROBE,
    PROXY,
    SOCKETS,
    metrics,
    refusal,
    rpc,
    run,
    send,
    until,
)
from tests.plays import play

if TYPE_CHECKING:
    from testinfra.host import Host

LOGS = "/var/log/edge"

# Sends bytes as they are and prints each answer's first line and its body's last 200 characters.
RAW = (
    GIVEN
    + """
import json, socket, ssl, sys
context = ssl._create_unverified_context()
said = []
for text in given:
    plain = socket.create_connection(("127.0.0.1", 8443), timeout=20, source_address=("127.66.0.6", 0))
    link = context.wrap_socket(plain, server_hostname="NAME")
    link.sendall(text.encode("latin-1"))
    answer = b""
    while part := link.recv(65536):
        answer += part
    said.append(answer.decode("latin-1"))
    link.close()
print(json.dumps(said))
"""
)

# Holds requests open whose bodies never come, as many as it is told, until so many of them are answered as it is told. Prints the answers' first
# lines; of one too many it does not matter which one nginx looks at last.
HOLDER = (
    EDGE
    + """
def begin():
    link = connect(given["source"])
    # What has come may be a part of TLS alone.
    link.settimeout(0.2)
    link.sendall(b"POST / HTTP/1.1\\r\\nHost: NAME\\r\\nContent-Length: 10\\r\\n\\r\\n")
    return link
held, said = [begin() for _ in range(given["held"])], []
end = time.monotonic() + (SECONDS if given["answered"] else 1)
while len(said) < given["answered"] + 1 and time.monotonic() < end:
    for link in select.select(held, [], [], 0.1)[0]:
        try:
            said.append(link.recv(4096).split(b"\\r\\n")[0].decode())
        except TimeoutError:
            continue
        held.remove(link)
        # Another one's answer would come at the same time.
        end = min(end, time.monotonic() + 1)
print(json.dumps(said))
"""
)


@pytest.fixture(scope="module", autouse=True)
def _a_pool(host: Host) -> None:
    until("a node in the pool", lambda: metrics(host).get('edge_pool_members{chain="ethereum"}', 0) >= 1)


@pytest.fixture
def key(host: Host) -> Iterator[str]:
    """A partner's key."""
    host.run("edge-keys revoke tester")
    yield host.check_output("edge-keys create tester --tier partner")
    host.check_output("edge-keys revoke tester")


def test_only_listed_methods_pass_and_each_refusal_has_the_id(host: Host) -> None:
    methods = [
        "admin_peers",
        "debug_traceTransaction",
        "personal_listAccounts",
        "miner_start",
        "engine_newPayloadV4",
        "trace_block",
        "txpool_content",
    ]
    methods += ["eth_sendTransaction", "anvil_mine", "evm_revert", "nonsense"]
    for method, answer in zip(methods, send(host, *(rpc(method, identity=method) for method in methods)), strict=True):
        assert refusal(answer) == (403, -32601, method)
    good, bad = rpc(identity=1), rpc("admin_peers", identity=2)
    (answer,) = send(host, [good, bad, good])
    assert answer["status"] == 403
    assert [(one["id"], one["error"]["code"]) for one in json.loads(answer["text"])] == [
        (1, -32600),
        (2, -32601),
        (1, -32600),
    ]


def test_what_is_no_call_is_refused_and_no_process_dies(host: Host) -> None:
    before = host.check_output("pgrep -x nginx")
    bodies = {
        "": -32600,
        "{": -32700,
        "[]": -32600,
        "[" * 100_000: -32700,
        '{"jsonrpc":"2.0","id":1,"method":"eth_chainId","method":"admin_peers"}': -32700,
        '{"jsonrpc":"2.0","id":1,"method":"eth_chainId","Method":"admin_peers"}': -32600,
        '{"jsonrpc":"2.0","id":99999999999999999999,"method":"eth_chainId"}': -32600,
        '{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":{"a":1}}': -32602,
    }
    for (body, code), answer in zip(bodies.items(), send(host, *bodies), strict=True):
        assert (answer["status"], json.loads(answer["text"])["error"]["code"]) == (400, code), body[:80]
    (large,) = send(host, " " * 1_048_577)
    assert refusal(large) == (413, -32005, None)
    # One that nginx holds on disk is read too.
    long, longest = send(host, rpc("admin_peers", "x" * 500_000), json.dumps(rpc("eth_chainId")) + " " * 900_000)
    assert refusal(long) == (403, -32601, 1)
    assert json.loads(longest["text"])["result"] == "0x1"
    assert host.check_output("pgrep -x nginx") == before


def test_a_request_has_one_length_and_one_reading(host: Host) -> None:
    head, body = f"POST / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n", json.dumps(rpc("admin_peers"))
    smuggled = f"GET /smuggled HTTP/1.1\r\nHost: {NAME}\r\n\r\n"
    answers = json.loads(
        run(
            host,
            RAW,
            [
                head + f"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}",
                head + f"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{smuggled}",
                head + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
                head + f"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n{smuggled}",
                head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
                "GARBAGE\r\n\r\n",
                "\x00\x01\r\n\r\n",
                head + f"Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n{body}\r\n0\r\n\r\n",
                f"POST /{'a' * 9000} HTTP/1.1\r\nHost: {NAME}\r\n\r\n",
                head + f"X: {'a' * 9000}\r\n\r\n",
                f"POST / HTTP/3.0\r\nHost: {NAME}\r\n\r\n",
                head.replace("1.1", "1.9") + f"Content-Length: {len(body)}\r\n\r\n{body}",
            ],
        )
    )
    refused = ["400", "400", "400", "501", "400", "400", "400", "403", "414", "431", "505", "403"]
    assert [answer.split()[1] for answer in answers] == refused
    assert all(answer.count("HTTP/1.1 ") == 1 and '"error"' in answer for answer in answers)


def test_an_address_has_its_burst_and_each_call_of_a_batch_counts(host: Host) -> None:
    full, five = [rpc(identity=at) for at in range(20)], [rpc(identity=at) for at in range(5)]
    # By one program, one after the other: the rate gives five back in three seconds.
    passed, refused = send(host, full, five, source="127.3.0.1")
    (other,) = send(host, five, source="127.3.0.2")
    assert (passed["status"] in PASSED, len(json.loads(passed["text"]))) == (True, 20)
    assert (refused["status"], int(refused["retry_after"]) >= 1) == (429, True)
    assert [(one["id"], one["error"]["code"]) for one in json.loads(refused["text"])] == [
        (at, -32005) for at in range(5)
    ]
    assert other["status"] in PASSED
    assert refusal(send(host, [rpc()] * 21, source="127.3.0.3")[0]) == (413, -32005, None)


def test_of_a_hundred_and_thirty_calls_at_once_a_burst_passes(host: Host) -> None:
    answers = send(host, *[rpc("eth_blockNumber")] * 130, source="127.3.0.4", at_once="4")
    passed = [answer for answer in answers if answer["status"] in PASSED]
    # What the rate gives back meanwhile passes too.
    assert 20 <= len(passed) <= 100
    assert all(refusal(answer)[:2] == (429, -32005) for answer in answers if answer["status"] not in PASSED)


def test_the_caller_is_who_a_trusted_proxy_says_and_ipv6_counts_by_64(host: Host) -> None:
    full, five = [rpc()] * 20, [rpc()] * 5

    def are_refused(source: str, *asked: tuple[object, str]) -> list[bool]:
        # By one program: the rate gives five back in three seconds.
        requests = [
            {"source": source, "body": json.dumps(body), "headers": {"X-Forwarded-For": said}} for body, said in asked
        ]
        statuses = [answer["status"] for answer in json.loads(run(host, PROBE, requests, "1"))]
        assert set(statuses) <= {429, *PASSED}
        return [status == 429 for status in statuses]

    same, other = "2001:db8:0:1:ffff::2", "2001:db8:0:2::1"
    assert are_refused(PROXY, (full, "2001:db8:0:1::1"), (five, same), (five, other)) == [False, True, False]
    # What anybody else says about himself is nothing.
    assert are_refused("127.3.0.6", (full, "192.0.2.1"), (five, "192.0.2.2")) == [False, True]


def test_an_address_has_so_many_requests_at_once(host: Host) -> None:
    assert json.loads(run(host, HOLDER, {"source": "127.7.0.1", "held": 8, "answered": 0})) == []
    one_too_many = {"source": "127.7.0.2", "held": 9, "answered": 1}
    assert json.loads(run(host, HOLDER, one_too_many)) == ["HTTP/1.1 429 Too Many Requests"]


def test_a_key_gives_its_tier_at_once_and_no_longer_than_it_is_valid(host: Host, key: str) -> None:
    trace = rpc("trace_block", "latest", identity="mine")
    for headers in ({"X_API_Key": key}, {"Authorization": f"Bearer {key}"}):
        (answer,) = send(host, trace, source="127.3.1.1", **headers)
        assert answer["status"] in PASSED, answer
    # Its rate is its own.
    (many,) = send(host, [rpc()] * 100, source="127.3.1.1", X_API_Key=key)
    assert many["status"] in PASSED
    assert host.check_output("edge-keys list tester").count("valid") == 1
    second = host.check_output("edge-keys create tester --tier public")
    third = host.run("edge-keys create tester --tier public")
    assert (third.rc, "has 2 keys already" in third.stderr) == (1, True)
    assert {send(host, rpc(), X_API_Key=each)[0]["status"] for each in (key, second)} <= PASSED
    records = json.loads(host.check_output("edge-keys list tester --json"))
    first = next(record["sha256"] for record in records if record["tier"] == "partner")
    host.check_output("edge-keys revoke tester --id %s", first[:12])
    answers: list[dict[str, Any]] = []

    def is_over() -> bool:
        answers.extend(send(host, trace, X_API_Key=key))
        return bool(answers[-1]["status"] == 401)

    # Each of nginx's workers may believe a little longer what it has read.
    until("the end of the key", is_over)
    assert refusal(answers[-1]) == (401, -32001, "mine")
    assert send(host, rpc(), X_API_Key=second)[0]["status"] in PASSED
    assert refusal(send(host, rpc(), X_API_Key="edge_" + "x" * 43)[0])[:2] == (401, -32001)


def test_a_key_is_in_no_log_and_on_no_disk(host: Host, key: str) -> None:
    send(host, rpc(), X_API_Key=key)
    run(
        host,
        PROBE,
        [
            {"source": FREE, "body": json.dumps(rpc()), "path": f"/{key}"},
            {"source": FREE, "body": json.dumps(rpc()), "path": f"/?key={key}"},
            {"source": FREE, "body": "{", "path": f"/{key}/%00"},
        ],
        "1",
    )
    time.sleep(1)
    # Its second half, so that no command line that looks for it holds it whole.
    assert host.run("grep -rqF -- %s /var/log/edge /var/lib/nginx /etc/nginx", key[24:]).rc == 1
    assert key[24:] not in host.check_output("journalctl -b -u nginx -o cat; journalctl -b -t edge-keys -o cat")
    audit = host.check_output("journalctl -b -t edge-keys -o cat")
    assert 'created {"name": "tester", "tier": "partner"' in audit
    assert 'revoked {"name": "tester"' in audit
    folder = host.file("/var/lib/nginx/keys")
    assert (folder.user, folder.mode) == ("root", 0o710)


def test_the_chain_has_a_ceiling_for_all(host: Host, key: str) -> None:
    (refused,) = send(host, [rpc()] * 1001, X_API_Key=key)
    assert refusal(refused) == (429, -32005, None)
    assert "limit for all callers" in refused["text"]


def test_logs_are_of_so_many_blocks(host: Host, key: str) -> None:
    def code(first: str, last: str, **headers: str) -> int | None:
        (answer,) = send(host, rpc("eth_getLogs", {"fromBlock": first, "toBlock": last}), **headers)
        found: int | None = json.loads(answer["text"]).get("error", {}).get("code")
        return found

    assert [code("0x1", "0x64"), code("0x1", "0x65"), code("earliest", "latest")] == [None, -32005, -32005]
    assert [code("0x1", "0x3e8", X_API_Key=key), code("0x1", "0x3e9", X_API_Key=key)] == [None, -32005]


def test_websockets_are_held_to_the_same_rules(host: Host) -> None:
    messages = [
        json.dumps(rpc(identity="a")),
        json.dumps(rpc("admin_peers", identity="b")),
        json.dumps([rpc(identity=1), rpc("debug_x", identity=2)]),
        "{",
        json.dumps(rpc("eth_getLogs", {"fromBlock": "0x1", "toBlock": "0x65"}, identity="c")),
        json.dumps(rpc("eth_call", "x" * 70_000, identity="d")),
        json.dumps(rpc(identity="e")),
        "x" * 262_145,
    ]
    seen = json.loads(run(host, SOCKETS, messages, FREE, "1"))["said"]
    said = [json.loads(text) for text in seen[:-1]]
    assert (said[0]["id"], said[0]["result"]) == ("a", "0x1")
    assert (said[1]["id"], said[1]["error"]["code"]) == ("b", -32601)
    assert [(one["id"], one["error"]["code"]) for one in said[2]] == [(1, -32600), (2, -32601)]
    assert (said[3]["id"], said[3]["error"]["code"]) == (None, -32700)
    assert (said[4]["id"], said[4]["error"]["code"]) == ("c", -32005)
    assert said[5]["id"] == "d"
    assert said[6]["result"] == "0x1"
    # RFC 6455: too big.
    assert seen[-1] == 1009


def test_an_address_has_so_many_websockets_and_their_messages_count(host: Host) -> None:
    seen = json.loads(
        run(
            host,
            SOCKETS,
            [json.dumps([rpc(identity=at) for at in range(16)]), json.dumps([rpc()] * 20)],
            "127.3.2.1",
            "4",
        )
    )
    assert seen["statuses"] == [101, 101, 101, 429]
    # Three handshakes and one batch are nineteen of twenty.
    assert len(json.loads(seen["said"][0])) == 16
    assert {one["error"]["code"] for one in json.loads(seen["said"][1])} == {-32005}


def test_a_final_block_is_fetched_once_for_all_who_ask_together(host: Host) -> None:
    def asked(number: int, count: int) -> list[dict[str, Any]]:
        return send(
            host,
            *[rpc("eth_getBlockByNumber", hex(number), False, identity=at) for at in range(count)],
            at_once=str(count),
        )

    def outcomes() -> dict[str, float]:
        start = 'edge_cache_total{chain="ethereum",method="eth_getBlockByNumber",outcome="'
        return {name.removeprefix(start)[:-2]: value for name, value in metrics(host).items() if name.startswith(start)}

    def counted(before: dict[str, float]) -> float:
        return sum(outcomes().values()) - sum(before.values())

    def are_counted(before: dict[str, float]) -> bool:
        return counted(before) >= 20

    # Which block is final is asked every four seconds.
    until("a kept block", lambda: (asked(1, 2), outcomes().get("hit"))[1])
    for number in range(2, 40):
        before, begun = outcomes(), calls_begun(host)
        answers = [json.loads(answer["text"]) for answer in asked(number, 20)]
        if not all("result" in answer for answer in answers):
            continue
        # Each of nginx's workers hands its counts over twice a second, and may have had some of what was asked before.
        until("the counts", partial(are_counted, before))
        if counted(before) == 20:
            break
    assert [answer["id"] for answer in answers] == list(range(20))
    assert {answer["result"]["number"] for answer in answers} == {hex(number)}
    after = outcomes()
    assert after["miss"] - before["miss"] == 1
    assert calls_begun(host) - begun == 1
    assert sum(after.values()) - sum(before.values()) == 20


def calls_begun(host: Host) -> float:
    """Calls that were sent to nodes."""
    return sum(value for name, value in metrics(host).items() if name.startswith("edge_node_calls_total"))


def test_the_log_and_the_figures_hold_words_of_ours_alone(host: Host, key: str) -> None:
    bodies: list[object] = []
    for at in range(30):
        bodies += [rpc(f"invented_{at}"), rpc("eth_call", {"data": "0xfeedface"}), [rpc(), rpc("eth_blockNumber")]]
    send(host, *bodies, X_API_Key=key)

    def newest() -> list[dict[str, Any]]:
        return [json.loads(line) for line in host.check_output("tail -qn 90 %s/access-*.log", LOGS).splitlines()]

    # Each worker writes twice a second.
    until("their lines", lambda: {line["key"] for line in newest()} == {"tester"})
    lines = newest()
    assert {tuple(line["methods"]) for line in lines} <= {
        ("other",),
        ("eth_call",),
        ("eth_chainId", "eth_blockNumber"),
        ("eth_chainId",),
    }
    assert set(lines[0]) == {
        *(
            "time",
            "chain",
            "client",
            "network",
            "transport",
            "calls",
            "methods",
            "key",
            "tier",
            "status",
            "refused",
            "cache",
            "node",
        ),
        *("seconds", "bytes"),
    }
    text = host.check_output("cat %s/*; edge-pools show --metrics", LOGS)
    assert "invented" not in text
    assert "feedface" not in text
    least = {
        'edge_calls_total{chain="ethereum",method="other"}': 30,
        'edge_refusals_total{chain="ethereum",method="other",reason="method"}': 30,
        'edge_key_calls_total{chain="ethereum",key="tester",tier="partner"}': 120,
        'edge_request_seconds_count{chain="ethereum",method="eth_call"}': 1,
    }

    def are_counted() -> bool:
        found = metrics(host)
        return all(found.get(name, 0) >= count for name, count in least.items())

    until("their counts", are_counted)


def test_a_transaction_that_is_sent_once_has_its_call_in_the_log(host: Host) -> None:
    (answer,) = send(host, rpc("eth_sendRawTransaction", "0x00"), source="127.3.3.1")
    assert "error" in json.loads(answer["text"])
    until("its line", lambda: host.run('grep -hF \'"client":"127.3.3.1"\' %s/*', LOGS).rc == 0)
    line = json.loads(host.check_output('grep -hF \'"client":"127.3.3.1"\' %s/* | tail -1', LOGS))
    assert (line["calls"], line["methods"]) == (1, ["eth_sendRawTransaction"])


def test_a_play_makes_a_key_for_every_edge_and_ends_it(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "key"
    made = play(
        "nginx",
        "../../playbooks/api_keys.yml",
        {"api_keys_create": {"name": "played", "tier": "partner"}, "api_keys_file": str(file)},
    )
    assert made.code == 0, made.output
    key = file.read_text().strip()
    assert (key not in made.output, file.stat().st_mode & 0o777) == (True, 0o600)
    assert send(host, rpc("txpool_status"), X_API_Key=key)[0]["status"] in PASSED
    ended = play("nginx", "../../playbooks/api_keys.yml", {"api_keys_revoke": {"name": "played"}})
    assert (ended.code, ended.changed) == (0, 1), ended.output
    until("the end of the key", lambda: send(host, rpc(), X_API_Key=key)[0]["status"] == 401)
