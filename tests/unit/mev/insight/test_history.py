"""Replays: the live detectors on blocks that are past, told as documents; a made-up block by hand, recorded ones by their labels."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from mev import cli
from mev.chain.traces import RecordingError, decode_recorded, read_recorded
from mev.insight.replay import pools_of, replay_recorded
from mev.market import amm
from mev.runtime.config import load

from tests.recorded import BLOCKS, needs_recorded_blocks

WETH, DAI = "0x" + "ee" * 20, "0x" + "da" * 20
NEAR, FAR, ROUTER, USER = ("0x" + digits * 20 for digits in ("a1", "a2", "70", "cc"))
WEI = 10**18
CONFIG = """
mode = "observe"
[storage]
opportunities = "{directory}/mev_opportunities.db"
performance = "{directory}/performance_metrics.db"
[logging]
directory = "{directory}"
[risk]
max_amount_in_wei = 1_000_000_000_000_000_000_000
min_profit_wei = {min_profit}
max_daily_loss_wei = 1
max_gas_price_wei = 200_000_000_000
[chains.ethereum]
id = 1
ws = "ws://127.0.0.1:9"
block_seconds = 12
wrapped_native = "{wrapped}"
tokens = [{{ symbol = "WETH", address = "{wrapped}", decimals = 18 }}]
v2_factories = []
"""


def word(*values: int | str) -> str:
    return "".join(f"{int(value, 16) if isinstance(value, str) else value:064x}" for value in values)


class Traces:
    """A block's traces as a node would tell them; each call is given where it stands among its transaction's."""

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []

    def call(
        self,
        position: int,
        path: list[int],
        sender: str,
        to: str,
        content: str,
        output: str = "",
        error: str | None = None,
    ) -> None:
        static = content[:8] in {"0902f1ac", "70a08231"}
        action = {"from": sender, "to": to, "callType": "staticcall" if static else "call", "value": "0x0"}
        self.all.append(
            {
                "type": "call",
                "action": {**action, "input": "0x" + content},
                "trace_address": path,
                "transaction_hash": f"0x{position + 1:064x}",
                "transaction_position": position,
                "result": {"output": "0x" + output},
                "error": error,
            }
        )

    def swap(
        self,
        position: int,
        pair: str,
        before: tuple[int, int],
        amount_in: int,
        *,
        limit: int = 0,
        error: str | None = None,
    ) -> tuple[int, int]:
        """A router's swap of DAI (token0) for WETH (token1) in a pair; returns the reserves afterwards."""
        moved = amm.swap(amount_in, *before, 997, 1000)
        deadline = 2**40
        path = word(2, DAI, WETH)
        asked = word(amount_in, limit, 160, USER, deadline) + path
        self.call(position, [], USER, ROUTER, "38ed1739" + asked, error=error)
        self.call(position, [0], ROUTER, pair, "0902f1ac", word(*before, 0))
        self.call(position, [1], ROUTER, DAI, "23b872dd" + word(USER, pair, amount_in), word(1))
        self.call(position, [2], ROUTER, pair, "022c0d9f" + word(0, moved.amount_out, USER, 128, 0))
        self.call(position, [2, 0], pair, WETH, "a9059cbb" + word(USER, moved.amount_out), word(1))
        self.call(position, [2, 1], pair, DAI, "70a08231" + word(pair), word(moved.reserve_in))
        self.call(position, [2, 2], pair, WETH, "70a08231" + word(pair), word(moved.reserve_out))
        return moved.reserve_in, moved.reserve_out

    def block(self, number: int = 7, base_fee: int = 10**9) -> bytes:
        # Nodes do not promise an order; miners' rewards are of no transaction.
        reward = {
            "type": "reward",
            "action": {"author": USER, "rewardType": "block", "value": "0x1"},
            "trace_address": [],
        }
        traces = [*reversed(self.all), reward]
        return json.dumps(
            {"block_number": number, "block_timestamp": 1700000000, "base_fee_per_gas": base_fee, "traces": traces}
        ).encode()


EQUAL = (1000 * WEI, 1000 * WEI)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A block in which two pairs at one price are moved apart, first by little, then by much; and a swap that reverts."""
    traces = Traces()
    traces.swap(0, FAR, EQUAL, WEI // 1000)
    traces.swap(1, NEAR, EQUAL, 100 * WEI, limit=80 * WEI)
    traces.swap(2, FAR, EQUAL, 500 * WEI, error="Reverted")
    folder = tmp_path / "blocks"
    folder.mkdir()
    (folder / "7.json.gz").write_bytes(gzip.compress(traces.block()))
    (folder / "labels.json").write_text("{}")
    return folder


def configured(tmp_path: Path, *, wrapped: str = WETH, min_profit: int = 1) -> Path:
    path = tmp_path / "mev.toml"
    path.write_text(CONFIG.format(directory=tmp_path, wrapped=wrapped, min_profit=min_profit))
    return path


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert cli.main([str(argument) for argument in arguments] + ["--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_replay_tells_what_each_block_opened(
    tmp_path: Path, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(capsys, "replay", "--config", configured(tmp_path), recorded)
    assert (found["chain"], found["source"]) == ("ethereum", "files")
    assert found["covers"] == {
        "first_block": 7,
        "last_block": 7,
        "blocks": 1,
        "pools": 2,
        "cycles": 2,
        "unknown_pools": 0,
        "strategies": ["atomic_arbitrage"],
    }
    (block,) = found["blocks"]
    assert (block["steps"], block["pools_touched"], block["opportunities"]) == (2, 2, 1)
    best = block["best"]
    # WETH has become dear in the near pair: what is bought with it there is sold in the far one.
    assert [pool.lower() for pool in best["pools"]] == [NEAR, FAR]
    assert found["totals"]["together_wei"] == best["expected_profit_wei"] == block["best_expected_profit_wei"]
    near = amm.swap(100 * WEI, *EQUAL, 997, 1000)
    far = amm.swap(WEI // 1000, *EQUAL, 997, 1000)
    amount = int(best["amount_in_wei"])
    dai = amm.amount_out(amount, near.reserve_out, near.reserve_in, 997, 1000)
    back = amm.amount_out(dai, far.reserve_in, far.reserve_out, 997, 1000)
    assert back - amount == int(best["expected_profit_wei"]) > 0


def test_a_backtest_holds_limits_against_it(tmp_path: Path, recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = configured(tmp_path)
    free = told(capsys, "backtest", "--config", path, recorded)
    assert (free["totals"]["taken"], free["refused"], free["gas_units"]) == (1, {}, 0)
    assert free["totals"]["expected_net_wei"] == free["totals"]["expected_profit_wei"]
    paid = told(capsys, "backtest", "--config", path, "--gas", 200_000, recorded)
    (block,) = paid["blocks"]
    # The base fee rises by an eighth at most.
    assert block["gas_price_wei"] == str(1_125_000_000)
    assert int(block["expected_profit_wei"]) - int(block["expected_net_wei"]) == 200_000 * 1_125_000_000
    path = configured(tmp_path, min_profit=10**21)
    assert told(capsys, "backtest", "--config", path, recorded)["refused"] == {"profit_under_minimum": 1}


def test_a_backtest_sends_no_second_trade_through_a_pool_in_flight(
    tmp_path: Path, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two pairs stand where one was left far behind: both sell to it, and one trade is sent."""
    third = "0x" + "a3" * 20
    traces = Traces()
    for position, pair, amount in ((0, FAR, WEI // 1000), (1, third, WEI // 1000), (2, NEAR, 100 * WEI)):
        traces.swap(position, pair, EQUAL, amount)
    (recorded / "7.json.gz").write_bytes(gzip.compress(traces.block()))
    path = configured(tmp_path)
    alone = told(capsys, "backtest", "--config", path, recorded)
    assert (alone["totals"]["taken"], {*alone["refused"]}) == (1, {"in_flight"})
    path.write_text(path.read_text().replace("[risk]", "[risk]\nmax_in_flight = 5"))
    several = told(capsys, "backtest", "--config", path, recorded)
    [block] = several["blocks"]
    assert (block["taken"], block["together"]) == (1, 1)
    assert several["refused"] == {"pool_in_flight": block["opportunities"] - 1}
    assert block["opportunities"] > 1


def test_swaps_are_told_what_they_exposed(tmp_path: Path, recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "sandwiches", "--config", configured(tmp_path), recorded)
    (block,) = found["blocks"]
    assert (block["trades"], block["sandwiches"], block["swaps_evaluated"]) == (2, [], 2)
    # The small swap is hidden by the fees, the reverted one never was.
    (exposed,) = block["exposed"]
    assert (exposed["limit"], exposed["token"].lower()) == (str(80 * WEI), DAI)
    assert int(exposed["quoted"]) == amm.amount_out(100 * WEI, *EQUAL, 997, 1000)
    assert block["paper_profit"] == {exposed["token"]: exposed["extractable"]}
    assert int(exposed["extractable"]) > 0


@pytest.mark.parametrize("command", ["replay", "backtest", "sandwiches"])
def test_tables_are_for_people(
    tmp_path: Path, recorded: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert cli.main([command, "--config", str(configured(tmp_path)), str(recorded)]) == 0
    shown = capsys.readouterr()
    assert "7" in shown.out
    assert shown.err == ""


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["replay", "nothing"], 2, "nothing is neither blocks nor a file; allowed: FIRST-LAST, files"),
        (["replay", "9-7"], 2, "9-7 are no blocks; allowed: FIRST-LAST, FIRST not after LAST, at most 100000 blocks"),
        (["replay", "1-2", "5-6"], 2, "2 ranges of blocks are given; allowed: one, FIRST-LAST, or files"),
        (["replay", "--chain", "base", "7"], 2, "--chain is 'base'; allowed: ethereum"),
        (["replay", "7"], 1, "127.0.0.1:9"),
        (["sandwiches", "7"], 2, "takes files of recorded blocks"),
        (["sandwiches", "{directory}"], 2, "holds no recorded block; allowed: files named NUMBER.json"),
        (["backtest", "{directory}/mev.toml"], 1, "mev.toml is no recorded block: JSON is malformed"),
    ],
)
def test_a_refusal_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, sentence: str
) -> None:
    path = configured(tmp_path)
    asked = [argument.format(directory=tmp_path) for argument in arguments]
    assert cli.main([*asked, "--config", str(path)]) == code
    shown = capsys.readouterr()
    assert sentence in shown.err
    assert shown.out == ""
    assert shown.err.splitlines()[-1].startswith("mev: ")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"block_number": 1}',
        b'{"block_number": 1, "traces": [{"type": "call"}]}',
        Traces().block().replace(b'"traces": [', b'"traces": [' + b"[" * 100_000),
        b'{"block_number": 1, "traces": [{"type": "call", "action": {"from": "0x12"}, "transaction_hash": "0x00", "transaction_position": 0}]}',
    ],
)
def test_a_file_that_is_no_block_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "7.json").write_bytes(content)
    with pytest.raises(RecordingError, match=r"7\.json is no recorded block: "):
        read_recorded(tmp_path / "7.json")
    (tmp_path / "7.json.gz").write_bytes(content + b"x")
    with pytest.raises(RecordingError, match=r"7\.json\.gz cannot be read: "):
        read_recorded(tmp_path / "7.json.gz")


def test_reverted_calls_and_transactions_never_were() -> None:
    traces = Traces()
    traces.swap(0, NEAR, EQUAL, WEI)
    traces.swap(1, NEAR, EQUAL, WEI, error="Out of gas")
    for trace in traces.all:
        if trace["transaction_position"] == 0 and trace["trace_address"] == [2]:
            trace["error"] = "Reverted"
    (transaction,) = decode_recorded(traces.block()).transactions
    assert [call.path for call in transaction.calls] == [(), (0,), (1,)]


@needs_recorded_blocks
def test_every_labelled_arbitrage_of_known_pairs_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of what an independent inspector labels: cycles of two or three Uniswap V2 pairs, from wrapped Ether and back."""
    wrapped = "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2"
    config = load(configured(tmp_path, wrapped=wrapped)).chains["ethereum"]
    found = total = others = 0
    for number, block in json.loads(gzip.decompress((BLOCKS / "labels.json.gz").read_bytes())).items():
        detected, _, _ = replay_recorded(BLOCKS / f"{number}.json.gz", "ethereum", config)
        best = {pools_of(each): each.expected_profit for each in reversed(detected.opportunities)}
        for label in block["arbitrages"]:
            if {swap["protocol"] for swap in label["swaps"]} != {"uniswap_v2"} or len(label["swaps"]) > 3:
                others += 1
                continue
            total += 1
            pools = frozenset(bytes.fromhex(swap["contract_address"][2:]) for swap in label["swaps"])
            # Whoever took it could not take more than the best amount leaves.
            found += best.get(pools, 0) >= label["profit_amount"] and pools in best
    with capsys.disabled():
        print(f"\narbitrages of V2 pairs: recall {found}/{total}; {others} more go through other kinds of pools")
    assert found == total > 0
