"""How often one may call, what is kept of answers, WebSocket frames and subscriptions: the edge's own Lua, run by LuaJIT."""

from __future__ import annotations

import ipaddress
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plugins import load_plugin
from tests.unit.roles.lua import EDGE, runtime

RULES: Any = load_plugin("nginx", "filter_plugins", "nginx_rules")
LUA = runtime()
LIMITS = LUA.execute('return require("edge.limits")')
CACHE = LUA.execute('return require("edge.cache")')
FRAMES = LUA.execute('return require("edge.frames")')
CALLS = LUA.execute('return require("edge.calls")')
SUBSCRIPTIONS = LUA.execute('return require("edge.subscriptions")')


class Shared:
    """A dictionary as nginx' workers share it: numbers whose time may end."""

    def __init__(self) -> None:
        self.now_ms = 1_700_000_000_000.0
        self._values: dict[str, tuple[float, float]] = {}

    def get(self, key: str) -> float | None:
        value, ends = self._values.get(key, (0.0, -1.0))
        return value if ends > self.now_ms else None

    def incr(self, key: str, by: float, start: float | None = None, seconds: float = math.inf) -> float | None:
        known = self.get(key)
        if known is None:
            if start is None:
                return None
            self._values[key] = (start + by, self.now_ms + seconds * 1000)
        else:
            self._values[key] = (known + by, self._values[key][1])
        return self._values[key][0]

    def expire(self, key: str, seconds: float) -> None:
        if self.get(key) is not None:
            self._values[key] = (self._values[key][0], self.now_ms + seconds * 1000)

    def table(self) -> Any:
        """Itself as Lua calls it: dict:incr(...)."""
        return LUA.table_from(
            {
                "get": lambda _, *rest: self.get(*rest),
                "incr": lambda _, *rest: self.incr(*rest),
                "expire": lambda _, *rest: self.expire(*rest),
            }
        )


def charge(shared: Shared, count: int, rate: Any) -> tuple[bool, int | None]:
    said = LIMITS.charge(shared.table(), "caller", count, rate, shared.now_ms)
    return (bool(said[0]), said[1]) if isinstance(said, tuple) else (bool(said), None)


def test_a_burst_passes_and_the_next_call_waits_for_its_turn() -> None:
    shared, rate = Shared(), LIMITS.rate(100, 60, 20)
    assert [charge(shared, 1, rate)[0] for _ in range(21)] == [True] * 20 + [False]
    shared.now_ms += 749
    assert charge(shared, 1, rate) == (False, 1)
    shared.now_ms += 1
    assert charge(shared, 1, rate)[0]
    assert not charge(shared, 1, rate)[0]


def test_each_call_of_a_batch_counts_and_a_batch_passes_whole_or_not() -> None:
    shared, rate = Shared(), LIMITS.rate(100, 60, 20)
    assert charge(shared, 15, rate)[0]
    assert charge(shared, 6, rate) == (False, 1)
    assert charge(shared, 5, rate)[0]
    assert charge(shared, 20, rate) == (False, 15)


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 22)), min_size=1, max_size=120))
def test_no_window_of_a_minute_holds_more_than_is_stated(steps: list[tuple[int, int]]) -> None:
    shared, rate = Shared(), LIMITS.rate(100, 60, 20)
    passed: list[tuple[float, int]] = []
    for pause, count in steps:
        shared.now_ms += pause
        if charge(shared, count, rate)[0]:
            passed.append((shared.now_ms, count))
    for start, _ in passed:
        assert sum(count for at, count in passed if start <= at < start + 60_000) <= 100


@settings(max_examples=100, deadline=None)
@given(pauses=st.lists(st.integers(0, 3000), min_size=1, max_size=60))
def test_one_who_keeps_to_the_rate_is_never_refused(pauses: list[int]) -> None:
    shared, rate = Shared(), LIMITS.rate(100, 60, 20)
    for pause in pauses:
        shared.now_ms += 750 + pause
        assert charge(shared, 1, rate)[0]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("c0000201", "192.0.2.1/32"),
        ("00000000000000000000ffffc0000201", "192.0.2.1/32"),
        ("20010db8000100020000000000000009", "2001:0db8:0001:0002::/64"),
        ("00000000000000000000000000000001", "0000:0000:0000:0000::/64"),
        ("", None),
        ("756e69783a", None),
    ],
)
def test_the_log_names_the_network_that_is_counted(address: str, network: str | None) -> None:
    assert LIMITS.network(bytes.fromhex(address).decode("latin-1")) == network


def test_callers_are_counted_by_address_and_ipv6_by_64() -> None:
    def address(*parts: int) -> str:
        return str(LIMITS.address(bytes(parts).decode("latin-1")))

    assert address(192, 0, 2, 1) == "c0000201"
    network = (0x20, 1, 0xD, 0xB8, 0, 1, 0, 2)
    assert address(*network, *range(8)) == address(*network, *range(8, 16)) == "20010db800010002"
    assert address(*network[:-1], 3, *range(8)) != address(*network, *range(8))
    assert address(*[0] * 10, 255, 255, 192, 0, 2, 1) == "c0000201"


@pytest.mark.parametrize("path", sorted(EDGE.glob("edge/*.lua")), ids=lambda path: path.stem)
def test_a_module_requires_what_it_uses(path: Path) -> None:
    code = re.sub(r"--[^\n]*|\"[^\"\n]*\"|'[^'\n]*'", "", path.read_text())
    used = {name for name in re.findall(r"(?<![\w.:])(\w+)\.\w+", code) if (EDGE / "edge" / f"{name}.lua").exists()}
    local = set(re.findall(r"\blocal (\w+)", code)) | set(re.findall(r"function[^(]*\(([^)]*)\)", code))
    assert used <= local | {name for names in local for name in re.findall(r"\w+", names)}


def test_an_address_is_in_a_range_of_its_own_family() -> None:
    ranges = LUA.table_from(
        RULES.address_ranges(["192.0.2.0/25", "2001:db8::/33", "198.51.100.7", "10.0.0.1/8"]), recursive=True
    )

    def is_within(text: str) -> bool:
        return bool(LIMITS.is_within(ipaddress.ip_address(text).packed.decode("latin-1"), ranges))

    inside = ["192.0.2.0", "192.0.2.127", "::ffff:192.0.2.9", "2001:db8:7fff:ffff::", "198.51.100.7", "10.255.255.255"]
    outside = ["192.0.2.128", "192.0.1.255", "2001:db8:8000::", "198.51.100.8", "11.0.0.0", "c000:200::", "::192.0.2.9"]
    assert [text for text in inside + outside if is_within(text)] == inside


HASH = "0x" + "aB" * 32


def lua_call(method: str, params: list[Any]) -> Any:
    return LUA.table_from({"method": method, "params": params, "id": "7"}, recursive=True)


def name(
    method: str, *params: Any, chain: str = "ethereum", tier: str = "public", finalised: int | None = 100
) -> str | None:
    said = CACHE.name(chain, tier, lua_call(method, list(params)), finalised)
    return None if said is None else str(said)


def test_only_what_cannot_change_has_a_name() -> None:
    assert name("eth_chainId") == "ethereum public eth_chainId"
    assert name("eth_getBlockByNumber", "0x64", False) is not None
    for method, params in [
        ("eth_getBlockByNumber", ("0x65", False)),
        ("eth_getBlockByNumber", ("latest", False)),
        ("eth_getBlockByNumber", ("finalized", False)),
        ("eth_getBlockByNumber", ("0x64",)),
        ("eth_getBlockByNumber", ("0x64", "yes")),
        ("eth_getBlockByHash", ("0x64", False)),
        ("eth_getTransactionReceipt", (HASH[:-1],)),
        ("eth_blockNumber", ()),
        ("eth_call", ("0x1",)),
        ("eth_chainId", ("0x1",)),
    ]:
        assert name(method, *params) is None, (method, params)
    assert name("eth_getBlockByNumber", "0x1", False, finalised=None) is None


def test_names_are_canonical_and_apart_by_chain_and_rights() -> None:
    assert name("eth_getBlockByHash", HASH, True) == name("eth_getBlockByHash", HASH.lower(), True)
    assert name("eth_getBlockByNumber", "0x0a", True) == name("eth_getBlockByNumber", "0xA", True)
    different = {
        name("eth_getBlockByHash", HASH, True),
        name("eth_getBlockByHash", HASH, False),
        name("eth_getBlockByHash", HASH, True, chain="base"),
        name("eth_getBlockByHash", HASH, True, tier="partner"),
    }
    assert len(different) == 4


def result(method: str, answer: str, identity: str = "7", finalised: int | None = 100, chain_id: int = 1) -> str | None:
    asked = LUA.table_from({"method": method, "id": identity})
    return CACHE.result(asked, answer, LUA.table_from({"chain_id": chain_id, "finalised": finalised}))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "form",
    [
        '{"jsonrpc":"2.0","id":7,"result":%s}',
        '{"jsonrpc": "2.0", "id": 7, "result": %s}\n',
        '{"jsonrpc":"2.0","result":%s,"id":7}',
        '{"id":7,"jsonrpc":"2.0","result":%s}',
    ],
)
def test_a_result_is_kept_as_the_node_wrote_it(form: str) -> None:
    block = '{"number":"0x64","extra":[],"big":123456789012345678901234567890,"o":{}}'
    assert result("eth_getBlockByHash", form % block) == block


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("eth_getBlockByHash", '{"jsonrpc":"2.0","id":7,"result":{"number":"0x65"}}'),
        ("eth_getBlockByHash", '{"jsonrpc":"2.0","id":7,"result":null}'),
        ("eth_getBlockByHash", '{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"x"}}'),
        ("eth_getBlockByHash", '{"jsonrpc":"2.0","id":8,"result":{"number":"0x1"}}'),
        ("eth_getBlockByHash", '{"jsonrpc":"2.0","id":7,"result":{"number":"0x1"},"more":1}'),
        ("eth_getBlockByHash", '{"jsonrpc":"2.0","id":7,"result":{"number":"0x1"'),
        ("eth_getTransactionReceipt", '{"jsonrpc":"2.0","id":7,"result":{"number":"0x1"}}'),
        ("eth_getBlockReceipts", '{"jsonrpc":"2.0","id":7,"result":[]}'),
        ("eth_chainId", '{"jsonrpc":"2.0","id":7,"result":"0x2"}'),
        ("net_version", '{"jsonrpc":"2.0","id":7,"result":"2"}'),
        ("eth_chainId", "not json"),
    ],
)
def test_what_may_change_or_is_wrong_is_not_kept(method: str, answer: str) -> None:
    assert result(method, answer) is None


def test_an_answer_has_the_asker_s_id() -> None:
    assert json.loads(CACHE.answer('"mine"', '{"a":[]}')) == {"jsonrpc": "2.0", "id": "mine", "result": {"a": []}}


@settings(max_examples=100, deadline=None)
@given(payload=st.binary(max_size=300), key=st.binary(min_size=4, max_size=4))
def test_a_mask_comes_off_as_it_went_on(payload: bytes, key: bytes) -> None:
    text, mask = payload.decode("latin-1"), key.decode("latin-1")
    masked = FRAMES.mask(text, mask)
    assert masked.encode("latin-1") == bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))
    assert FRAMES.mask(masked, mask) == text


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536, 2**31 + 5])
def test_a_frame_s_beginning_says_its_length(length: int) -> None:
    start = FRAMES.start(FRAMES.TEXT, length, None)
    frame = FRAMES.head(start[:2])
    assert (frame.final, frame.opcode, frame.masked, frame.more) == (True, 1, False, len(start) - 2)
    assert (FRAMES.length(start[2:]) if frame.more else frame.length) == length


@pytest.mark.parametrize("two", [b"\xc1\x80", b"\x83\x80", b"\x8b\x80", b"\x09\x80", b"\x89\xfe"])
def test_frames_that_the_standard_does_not_have_are_none(two: bytes) -> None:
    frame, fault = FRAMES.head(two.decode("latin-1"))
    assert frame is None
    assert fault


class Held:
    """A WebSocket's subscriptions, of which it may hold two, and the ids that its calls go to the node with."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._held = SUBSCRIPTIONS.new(2, self._name)

    def _name(self) -> str:
        self.names.append(f"edge-{len(self.names)}")
        return self.names[-1]

    @property
    def count(self) -> int:
        return int(self._held.count)

    def passes(self, *calls: dict[str, Any]) -> list[Any] | None:
        """What goes to the node: a call, or a batch of several; None where it is refused."""
        text = json.dumps(calls if len(calls) > 1 else calls[0])
        request = CALLS.read(text)
        trouble = SUBSCRIPTIONS.judge(self._held, request)
        if trouble:
            assert (trouble.code, trouble.reason) == (-32005, "subscriptions")
            return None
        sent = json.loads(SUBSCRIPTIONS["pass"](self._held, request, text))
        return sent if isinstance(sent, list) else [sent]

    def hears(self, identity: object, **said: object) -> Any:
        """What the caller gets of what the node says."""
        return json.loads(SUBSCRIPTIONS.answer(self._held, json.dumps({"jsonrpc": "2.0", "id": identity, **said})))

    @property
    def is_waiting(self) -> bool:
        return bool(SUBSCRIPTIONS.is_waiting(self._held))


def asks(method: str, identity: object = 1, *params: object) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identity, "method": f"eth_{method}", "params": list(params)}


def test_a_websocket_holds_so_many_subscriptions_until_the_node_says_that_one_has_ended() -> None:
    held = Held()
    for identity in (7, "mine"):
        (sent,) = held.passes(asks("subscribe", identity, {"topics": [], "id": 3}, '"id":1')) or [None]
        assert (sent["id"], sent["params"]) == (held.names[-1], [{"topics": [], "id": 3}, '"id":1'])
        assert held.hears(held.names[-1], result="0xab") == {"jsonrpc": "2.0", "id": identity, "result": "0xab"}
    assert (held.passes(asks("subscribe")), held.passes(asks("call"), asks("subscribe")), held.count) == (None, None, 2)
    assert held.passes(asks("unsubscribe", 9, "0xnone"))
    assert held.hears(held.names[-1], result=False)["id"] == 9
    assert held.count == 2
    assert held.passes(asks("unsubscribe", 9, "0xab"))
    held.hears(held.names[-1], result=True)
    assert (held.count, held.is_waiting) == (1, False)
    assert held.passes(asks("subscribe"))


def test_one_that_the_node_refuses_is_none() -> None:
    held = Held()
    held.passes(asks("subscribe", None, "newFoos"))
    assert held.hears(held.names[-1], error={"code": -32602, "message": "edge-1"})["id"] is None
    assert (held.count, held.is_waiting) == (0, False)


def test_an_id_of_a_caller_s_frees_no_place() -> None:
    held = Held()
    held.passes(asks("subscribe", 1))
    # Another call with the same id as one that ends what is not there; its answer comes first, as true as that one's would be.
    held.passes(asks("unsubscribe", 2, "0xnone"))
    (other,) = held.passes(asks("uninstallFilter", 2, "0x1")) or [None]
    assert other["id"] == 2
    assert held.hears(2, result=True) == {"jsonrpc": "2.0", "id": 2, "result": True}
    assert held.count == 1
    held.hears(held.names[1], result=False)
    held.hears(held.names[1], result=True)
    assert held.count == 1


def test_those_of_a_batch_and_notices_keep_their_ids_and_their_places() -> None:
    held = Held()
    notice = asks("subscribe")
    del notice["id"]
    assert held.passes(notice) == [notice]
    batch = [asks("subscribe", 1), asks("unsubscribe", 2, "0x1")]
    assert held.passes(*batch) == batch
    assert (held.count, held.is_waiting) == (2, False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.sampled_from(["id", '"id":2', "\\", '{"id":']),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "x", '"id"', "\\"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(
    identity=st.integers(-9, 9) | st.text(max_size=6) | st.none(),
    params=st.lists(JSON, max_size=3),
    order=st.permutations(["jsonrpc", "id", "method", "params"]),
    indent=st.sampled_from([None, 0, 2]),
)
def test_a_call_is_the_same_but_for_its_id(
    identity: object, params: list[Any], order: list[str], indent: int | None
) -> None:
    call = {"jsonrpc": "2.0", "id": identity, "method": "eth_subscribe", "params": params}
    text = json.dumps({name: call[name] for name in order}, indent=indent)
    renamed, own = CALLS.with_id(text, '"edge-1"')
    assert json.loads(renamed) == {**call, "id": "edge-1"}
    assert json.loads(own) == identity
