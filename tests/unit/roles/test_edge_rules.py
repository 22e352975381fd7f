"""What the edge lets pass: its own Lua, run by LuaJIT with Debian's JSON library, over what callers may send."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from lupa.luajit21 import lua_type

from tests.unit.roles.lua import runtime

DEFAULTS = yaml.safe_load((Path(__file__).parents[3] / "roles/nginx/defaults/main.yml").read_text())
HEAD = 1000
TIERS: list[dict[str, Any]] = [
    {"name": "public", "batch_calls": 5, "log_blocks": 100, "method_sets": ["standard"]},
    {"name": "partner", "batch_calls": 50, "log_blocks": 500, "method_sets": ["standard", "erigon", "trace", "txpool"]},
    {"name": "careless", "batch_calls": 50, "log_blocks": 500, "method_sets": ["never"]},
]
NEVER = [
    "admin_peers",
    "engine_newPayloadV3",
    "miner_start",
    "personal_unlockAccount",
    "anvil_mine",
    "hardhat_reset",
    "evm_mine",
]


class Edge:
    """calls.lua and rules.lua as the gate uses them."""

    def __init__(self) -> None:
        self._lua = runtime()
        self._calls = self._lua.execute('return require("edge.calls")')
        self._rules = self._lua.execute('return require("edge.rules")')
        sets = [*DEFAULTS["nginx_method_sets"], {"name": "never", "methods": NEVER}]
        facts = {
            "pools": {"ethereum": {"family": "erigon"}, "base": {"family": "op_stack"}},
            "tiers": TIERS,
            "method_sets": sets,
        }
        self._rights, _ = self._rules.rights(self._lua.table_from(facts, recursive=True))
        self.final: int | None = None

    def methods(self, tier: str, chain: str = "ethereum") -> set[str]:
        return set(self._rights[chain][tier].methods)

    def pause(self, tier: str, method: str | None) -> None:
        self._rights.ethereum[tier].paused = self._lua.table_from({method: True}) if method else None

    def answer(self, body: bytes | str, tier: str = "public") -> tuple[int, Any]:
        """HTTP's status and the refusal; (200, None) for what passes."""
        text = body.decode("latin-1") if isinstance(body, bytes) else body
        read = self._calls.read(text)
        request, trouble = read if isinstance(read, tuple) else (read, None)
        if request is None:
            return trouble.status, self._read(self._calls.refusal(None, trouble))
        fault, is_whole = self._rules.judge(request, self._rights.ethereum[tier], lambda: HEAD, lambda: self.final)
        if fault is None:
            return 200, None
        refused = self._calls.refusal(None, fault) if is_whole else self._calls.refusal(request, None)
        return fault.status, self._read(refused)

    def seen(self, body: bytes) -> Any:
        """What the reader makes of a body, as plain data."""
        read = self._calls.read(body.decode("latin-1"))
        return self._plain(self._lua.table_from(read if isinstance(read, tuple) else (read,)))

    def _plain(self, value: Any) -> Any:
        if lua_type(value) == "table":
            return {key: self._plain(inner) for key, inner in value.items()}
        return repr(value) if lua_type(value) == "userdata" else value

    def is_usual(self, body: str) -> bool:
        """Whether a body is read without the rules for all others."""
        return self._calls.usual(body) is not None

    @staticmethod
    def _read(refusal: str) -> Any:
        return json.loads(refusal.encode("latin-1"))

    def repeatable(self, body: str) -> bool:
        return bool(self._calls.repeatable(self._calls.peek(body)))


@pytest.fixture(scope="module")
def edge() -> Edge:
    return Edge()


def call(method: str = "eth_blockNumber", params: Any = (), **other: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params), **other}


def test_no_tier_has_what_steers_a_node(edge: Edge) -> None:
    for tier in TIERS:
        names = {method.split("_")[0] for method in edge.methods(tier["name"])}
        assert names <= {"eth", "net", "web3", "erigon", "trace", "txpool", "bor"}, names
    assert edge.methods("careless") == set()
    assert {method.split("_")[0] for method in edge.methods("public")} == {"eth", "net", "web3"}


def test_sets_of_a_family_are_for_its_chains(edge: Edge) -> None:
    assert "erigon_blockNumber" in edge.methods("partner")
    assert "erigon_blockNumber" not in edge.methods("partner", "base")
    assert "trace_block" in edge.methods("partner", "base")


@pytest.mark.parametrize(
    "method",
    [*NEVER, "debug_traceTransaction", "trace_block", "txpool_content", "eth_sendTransaction", "eth_sign", "", "eth_"],
)
def test_a_method_that_the_tier_lacks_is_refused(edge: Edge, method: str) -> None:
    status, refusal = edge.answer(json.dumps(call(method, id="mine")))
    assert (status, refusal["error"]["code"], refusal["id"]) == (403, -32601, "mine")


def test_a_method_may_be_paused_and_is_said_to_be_so(edge: Edge) -> None:
    edge.pause("public", "eth_getLogs")
    status, refusal = edge.answer(json.dumps([call("eth_getLogs", [{}]), call("eth_call"), call("admin_peers")]))
    edge.pause("public", None)
    assert (status, [one["error"]["code"] for one in refusal]) == (503, [-32005, -32600, -32601])
    assert edge.answer(json.dumps(call("eth_getLogs", [{"fromBlock": "latest"}]))) == (200, None)


def test_a_tier_may_have_more(edge: Edge) -> None:
    assert edge.answer(json.dumps(call("trace_block", ["latest"])), "partner") == (200, None)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", -32600),
        ("{", -32700),
        ("[" * 100_000, -32700),
        ("[" + "[]," * 100_000 + "[]]", -32700),
        ('{"a":' * 40 + "1" + "}" * 40, -32700),
        ("null", -32600),
        ("[]", -32600),
        ("{}", -32600),
        ("5", -32600),
        ('"eth_blockNumber"', -32600),
        ('{"jsonrpc":"2.0","id":1,"method":"eth_chainId","method":"admin_peers"}', -32700),
        ('{"jsonrpc":"2.0","id":1,"method":"eth_chainId","m\\u0065thod":"admin_peers"}', -32700),
        ('{"jsonrpc":"2.0","id":1,"method":"eth_getLogs","params":[{"fromBlock":"0x1","fromBlock":"0x2"}]}', -32700),
        ('{"jsonrpc":"2.0","id":1,"method":"eth_chainId","Method":"admin_peers"}', -32600),
        ('{"jsonrpc":"2.0","id":1,"method":"eth_chainId","param\u017f":[]}'.encode(), -32600),
        ('{"jsonrpc":"1.0","id":1,"method":"eth_chainId"}', -32600),
        ('{"jsonrpc":"2.0","id":1,"method":["eth_chainId"]}', -32600),
        ('{"jsonrpc":"2.0","id":{"a":1},"method":"eth_chainId"}', -32600),
        ('{"jsonrpc":"2.0","id":123456789012345678901234567890,"method":"eth_chainId"}', -32600),
        # Read as a double it is another one.
        ('{"jsonrpc":"2.0","id":9007199254740993,"method":"eth_chainId"}', -32600),
        ('{"jsonrpc":"2.0","id":NaN,"method":"eth_chainId"}', -32700),
        ('{"jsonrpc":"2.0","id":0x10,"method":"eth_chainId"}', -32700),
        ('{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":{"a":1}}', -32602),
        ('{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":"latest"}', -32602),
        (b'{"jsonrpc":"2.0","id":"\xff","method":"eth_chainId"}', -32700),
        (b'{"jsonrpc":"2.0","id":"\xed\xa0\x80","method":"eth_chainId"}', -32700),
        (b'{"jsonrpc":"2.0","id":"\xc0\x80","method":"eth_chainId"}', -32700),
        (b'{"jsonrpc":"2.0","id":"a\x00","method":"eth_chainId"}', -32700),
        (b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}', -32700),
        ('{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}{"jsonrpc":"2.0","id":2,"method":"admin_peers"}', -32700),
    ],
    ids=range(30),
)
def test_what_is_no_plain_call_is_refused(edge: Edge, body: bytes | str, code: int) -> None:
    status, refusal = edge.answer(body)
    assert (status, refusal["error"]["code"]) == (400, code)


@pytest.mark.parametrize("identity", [7, 0, -1, "a\"b\\'/", "\u00fc\U0001f600", 9007199254740991, 1.5, 0.1 + 0.2, None])
def test_a_refusal_has_the_call_s_id(edge: Edge, identity: object) -> None:
    body = json.dumps(call("admin_peers", id=identity), ensure_ascii=False).encode()
    assert edge.answer(body)[1]["id"] == identity


def test_each_call_of_a_batch_is_judged(edge: Edge) -> None:
    good, bad = call(id=1), call("debug_storageRangeAt", id=2)
    for batch in ([good, bad], [bad, good], [good, good, good, bad]):
        status, refusal = edge.answer(json.dumps(batch))
        assert status == 403
        codes = {one["id"]: one["error"]["code"] for one in refusal}
        assert codes == {1: -32600, 2: -32601}
    assert edge.answer(json.dumps([good] * 5)) == (200, None)


def test_a_batch_is_as_long_as_the_tier_says(edge: Edge) -> None:
    status, refusal = edge.answer(json.dumps([call()] * 6))
    assert (status, refusal["error"]["code"], refusal["id"]) == (413, -32005, None)


def test_a_notice_is_judged_too(edge: Edge) -> None:
    notice = {"jsonrpc": "2.0", "method": "admin_peers"}
    assert edge.answer(json.dumps(notice))[0] == 403
    assert edge.answer(json.dumps([call(), notice]))[0] == 403


@pytest.mark.parametrize(
    ("filter_", "code"),
    [
        ({}, None),
        ({"fromBlock": "0x1", "toBlock": "0x64"}, None),
        ({"fromBlock": "0x1", "toBlock": "0x65"}, -32005),
        ({"fromBlock": hex(HEAD - 99)}, None),
        ({"fromBlock": hex(HEAD - 100)}, -32005),
        ({"fromBlock": "earliest"}, -32005),
        ({"fromBlock": "earliest", "toBlock": "finalized"}, -32005),
        ({"fromBlock": "earliest", "toBlock": "0x63"}, None),
        ({"toBlock": "0xffffffffffffff"}, -32602),
        ({"toBlock": "0xffffffffffff"}, -32005),
        ({"fromBlock": 1}, -32602),
        ({"fromBlock": "1"}, -32602),
        ({"FromBlock": "0x1"}, -32602),
        ({"fromBlock": "0x1", "toBlock": "newest"}, -32602),
        ({"blockHash": "0x" + "ab" * 32}, None),
        ({"blockHash": None, "fromBlock": "earliest"}, -32005),
        ({"blockHash": "0x" + "ab" * 32, "fromBlock": None}, None),
        ({"blockHash": "0x" + "ab" * 32, "fromBlock": "earliest"}, -32602),
        ({"blockHash": "0x" + "ab" * 32, "toBlock": "latest"}, -32602),
        ({"blockHash": "", "fromBlock": "earliest"}, -32602),
        ({"blockHash": False}, -32602),
        ({"blockHash": {}}, -32602),
        ({"blockHash": "0x" + "zz" * 32}, -32602),
        ({"fromBlock": None, "toBlock": None, "topics": [None, ["0x1"]]}, None),
    ],
    ids=range(24),
)
def test_logs_are_of_so_many_blocks(edge: Edge, filter_: dict[str, Any], code: int | None) -> None:
    for method in ("eth_getLogs", "eth_newFilter"):
        _, refusal = edge.answer(json.dumps(call(method, [filter_])))
        assert (refusal and refusal["error"]["code"]) == code


@pytest.mark.parametrize(("final", "code"), [(HEAD - 99, None), (HEAD - 100, -32005), (None, -32005)])
def test_logs_from_the_final_block_on_are_counted_from_there(
    edge: Edge, monkeypatch: pytest.MonkeyPatch, final: int | None, code: int | None
) -> None:
    monkeypatch.setattr(edge, "final", final)
    for tag in ("finalized", "safe"):
        _, refusal = edge.answer(json.dumps(call("eth_getLogs", [{"fromBlock": tag}])))
        assert (refusal and refusal["error"]["code"]) == code


def test_logs_need_a_filter_that_can_be_read(edge: Edge) -> None:
    for params in ([], ["0x1"], [["0x1"]], [None]):
        assert edge.answer(json.dumps(call("eth_getLogs", params)))[1]["error"]["code"] == -32602


def test_traces_are_bounded_as_logs_are(edge: Edge) -> None:
    def code(**filter_: Any) -> int | None:
        refusal = edge.answer(json.dumps(call("trace_filter", [filter_])), "partner")[1]
        return int(refusal["error"]["code"]) if refusal else None

    assert code(toBlock="0x1f3", fromAddress=["0x1"]) is None
    assert code(toBlock="0x1f4") == -32005
    assert code(fromblock="0x1") == -32602


def test_only_reads_are_repeated(edge: Edge) -> None:
    assert edge.repeatable(json.dumps([call(), call("eth_call")]))
    for method in ("eth_sendRawTransaction", "eth_submitWork", "eth_getFilterChanges", "admin_addPeer", "plain"):
        assert not edge.repeatable(json.dumps([call(), call(method)]))
    for body in ("", "{", "[]", " " * 70000 + json.dumps(call())):
        assert not edge.repeatable(body)


NAMES = st.sampled_from(
    ["eth_blockNumber", "eth_chainId", "admin_peers", "debug_x", "eth_getLogs", "engine_x", "personal_sign"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | NAMES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["method", "Method", "id", "params", "jsonrpc", "x"]), inner, max_size=5)
    ),
    max_leaves=20,
)
CALLS = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0"), "method": NAMES | JSON},
    optional={"id": JSON, "params": JSON, "METHOD": NAMES, "method\u0000": NAMES},
)


@settings(max_examples=400, deadline=None)
@given(value=CALLS | st.lists(CALLS | JSON, max_size=6) | JSON)
def test_of_any_json_nothing_forbidden_passes(value: Any) -> None:
    edge = FUZZED
    body = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    status, refusal = edge.answer(body)
    if status == 200:
        calls = value if isinstance(value, list) else [value]
        assert calls
        assert all(one["method"] in edge.methods("public") for one in calls)
        assert all(set(one) <= {"jsonrpc", "id", "method", "params"} for one in calls)
    else:
        answers = refusal if isinstance(refusal, list) else [refusal]
        assert all(isinstance(one["error"]["code"], int) for one in answers)


@settings(max_examples=400, deadline=None)
@given(
    start=st.sampled_from(
        ['{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}', '[{"jsonrpc":"2.0","id":1,"method":"admin_peers"}]']
    ),
    places=st.lists(st.tuples(st.integers(0, 60), st.binary(max_size=4)), max_size=6),
)
def test_of_any_bytes_nothing_forbidden_passes(start: str, places: list[tuple[int, bytes]]) -> None:
    edge = FUZZED
    body = start.encode()
    for at, bytes_ in places:
        body = body[:at] + bytes_ + body[at + len(bytes_) // 2 :]
    status, _ = edge.answer(body)
    if status == 200:
        # Python's own reader agrees that it is JSON, in UTF-8, of allowed methods.
        value = json.loads(body.decode())
        assert all(one["method"] in edge.methods("public") for one in (value if isinstance(value, list) else [value]))


MEMBERS = {
    "id": st.sampled_from(["1", "0", "007", "123456789012345", "1234567890123456", '"a"', "null", "-1", "1.5", "1e3"]),
    "method": st.sampled_from(["eth_chainId", "admin_peers", "", 'a"b', "eth_call\\u0041", "eth é"]),
    "params": st.lists(
        st.sampled_from(
            [
                "1",
                '"0x1"',
                '"latest"',
                "true",
                "null",
                "{}",
                '{"a":1}',
                "[]",
                "tru",
                "01",
                '"]"',
                '"\\u0041"',
                '"é"',
                "",
            ]
        ),
        max_size=3,
    ).map(lambda values: f"[{','.join(values)}]"),
}
ORDERS = st.sampled_from(
    ["id method params", "method params id", "params method id", "id method params params", "id method"]
)


@settings(max_examples=400, deadline=None)
@given(
    order=ORDERS,
    members=st.fixed_dictionaries(MEMBERS),
    gap=st.sampled_from(["", " "]),
    end=st.sampled_from(["}", "}}", "} "]),
)
def test_a_call_in_the_usual_form_is_read_as_every_other(
    order: str, members: dict[str, str], gap: str, end: str
) -> None:
    values = members | {"method": f'"{members["method"]}"'}
    named = [f'"{name}":{gap}{values[name]}' for name in order.split()]
    body = f'{{"jsonrpc":"2.0",{",".join(named)}{end}'.encode()
    # The space before it makes it unusual.
    assert FUZZED.seen(body) == FUZZED.seen(b" " + body)


def test_the_usual_form_is_what_programs_send(edge: Edge) -> None:
    for body in (
        '{"jsonrpc":"2.0","id":7,"method":"eth_getBalance","params":["0x00","latest"]}',
        '{"jsonrpc":"2.0","method":"eth_blockNumber","params":[],"id":7}',
    ):
        assert edge.is_usual(body)
        assert not edge.is_usual(f" {body}")


FUZZED: Any = None


@pytest.fixture(autouse=True)
def _fuzzed(edge: Edge) -> None:
    global FUZZED  # noqa: PLW0603 - Hypothesis takes no fixture of a test's for each example
    FUZZED = edge
