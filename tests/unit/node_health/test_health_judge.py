import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from node_health.config import Kind, Node
from node_health.judge import Judge, State, Verdict, worst
from node_health.probes import Reading

from tests.unit.node_health.fake_node import Fake

Make = Callable[..., Node]

NOW = 1_800_000_000.0


def reading(head: int = 100, age: float = 0, *, syncing: bool = False, chain_id: int | None = 10) -> Reading:
    return Reading(chain_id, head, NOW - age, syncing)


@pytest.mark.parametrize("kind", [Kind.RETH, Kind.GETH, Kind.BOR, Kind.NITRO, Kind.ERIGON])
def test_a_fresh_head_is_in_step(fake: Fake, node: Make, kind: Kind) -> None:
    fake.on_chain(10, head=7)
    verdict = Judge(node(kind)).look(time.time())
    assert (verdict.state, verdict.head, verdict.chain_id) == (State.IN_STEP, 7, 10)


def test_an_object_as_eth_syncing_is_syncing_however_old_the_head(fake: Fake, node: Make) -> None:
    fake.on_chain(10, age=1e6, syncing={"currentBlock": "0x1"})
    assert Judge(node()).look(time.time()).state is State.SYNCING


def test_another_chain_id_is_the_wrong_chain(fake: Fake, node: Make) -> None:
    fake.on_chain(1)
    verdict = Judge(node()).look(time.time())
    assert verdict.state is State.WRONG_CHAIN
    assert "answers with chain id 1, expected 10" in verdict.detail


def test_nothing_on_the_port_is_down_or_starting_where_it_was_never_up(fake: Fake, node: Make) -> None:
    fake.server_close()
    assert Judge(node()).look(time.time()).state is State.DOWN
    assert Judge(node(), expected_up=False).look(time.time()).state is State.STARTING


def test_a_node_that_was_up_and_is_gone_is_down(node: Make, fake: Fake) -> None:
    judge = Judge(node(), expected_up=False)
    fake.on_chain(10)
    assert judge.look(time.time()).state is State.IN_STEP
    fake.shutdown()
    fake.server_close()
    assert judge.look(time.time()).state is State.DOWN


def test_an_error_for_an_answer_is_starting(fake: Fake, node: Make) -> None:
    assert Judge(node()).look(time.time()).state is State.STARTING
    fake.on_chain(10)
    fake.methods["eth_getBlockByNumber"] = None
    assert Judge(node()).look(time.time()).state is State.STARTING


def test_an_old_head_is_lagging_and_a_very_old_one_stuck_at_the_first_look(node: Make) -> None:
    assert Judge(node()).judge(reading(age=31), NOW).state is State.LAGGING
    assert Judge(node()).judge(reading(age=149), NOW).state is State.LAGGING
    assert Judge(node()).judge(reading(age=151), NOW).state is State.STUCK


def test_an_old_head_that_moves_is_lagging_however_old(node: Make) -> None:
    judge = Judge(node())
    assert judge.judge(reading(head=1, age=5000), NOW).state is State.STUCK
    assert judge.judge(reading(head=9, age=4000), NOW + 1).state is State.LAGGING


def test_a_head_that_stops_moving_is_stuck_after_the_limit(node: Make) -> None:
    judge = Judge(node(stuck_seconds=60))
    judge.judge(reading(head=5), NOW)
    states = [judge.judge(reading(head=5), NOW + after).state for after in (29, 31, 59, 61)]
    assert states == [State.IN_STEP, State.LAGGING, State.LAGGING, State.STUCK]
    assert judge.judge(Reading(10, 6, NOW + 61, syncing=False), NOW + 62).state is State.IN_STEP


def test_a_quiet_chain_with_a_fresh_head_is_not_stuck(node: Make) -> None:
    judge = Judge(node(allowed_lag_seconds=1000, stuck_seconds=10))
    judge.judge(reading(), NOW)
    assert judge.judge(reading(), NOW + 500).state is State.IN_STEP


def test_a_head_from_the_future_is_of_age_zero(node: Make) -> None:
    assert Judge(node()).judge(reading(age=-500), NOW).head_age_seconds == 0


def test_a_head_far_ahead_of_the_clock_is_not_in_step(node: Make) -> None:
    assert Judge(node()).judge(reading(age=-1000), NOW).state is State.LAGGING


def test_a_node_that_cannot_say_its_chain_is_not_on_the_wrong_one(node: Make) -> None:
    assert Judge(node()).judge(reading(chain_id=None), NOW).state is State.IN_STEP


def test_erigons_own_health_check_has_a_say(fake: Fake, node: Make) -> None:
    fake.on_chain(10)
    fake.pages["/health"] = (500, b"{}")
    verdict = Judge(node(Kind.ERIGON)).look(time.time())
    assert verdict.state is State.LAGGING
    assert "its own health check objects" in verdict.detail
    fake.pages["/health"] = (200, b"{}")
    assert Judge(node(Kind.ERIGON)).look(time.time()).state is State.IN_STEP


def sync_status(number: int, age: float) -> dict[str, Any]:
    return {"unsafe_l2": {"number": number, "timestamp": int(time.time() - age)}}


@pytest.mark.parametrize(
    ("number", "age", "state"), [(50, 0, State.IN_STEP), (0, 1e8, State.SYNCING), (50, 60, State.LAGGING)]
)
def test_op_node_is_judged_by_its_unsafe_head(fake: Fake, node: Make, number: int, age: float, state: State) -> None:
    fake.methods = {"optimism_syncStatus": sync_status(number, age), "optimism_rollupConfig": {"l2_chain_id": 10}}
    assert Judge(node(Kind.OP_NODE)).look(time.time()).state is state


def test_op_node_of_another_rollup_is_on_the_wrong_chain(fake: Fake, node: Make) -> None:
    fake.methods = {"optimism_syncStatus": sync_status(5, 0), "optimism_rollupConfig": {"l2_chain_id": 8453}}
    assert Judge(node(Kind.OP_NODE)).look(time.time()).state is State.WRONG_CHAIN


def test_a_consensus_client_without_rollup_config_is_judged_by_the_rest(fake: Fake, node: Make) -> None:
    fake.methods = {"optimism_syncStatus": sync_status(5, 0)}
    assert Judge(node(Kind.OP_NODE)).look(time.time()).state is State.IN_STEP


def heimdall_page(age: float, *, catching_up: bool, network: str = "heimdallv2-137") -> bytes:
    at = time.strftime("%Y-%m-%dT%H:%M:%S.123456789Z", time.gmtime(time.time() - age))
    info = {"catching_up": catching_up, "latest_block_height": "12", "latest_block_time": at}
    return json.dumps({"result": {"node_info": {"network": network}, "sync_info": info}}).encode()


@pytest.mark.parametrize(
    ("page", "state"),
    [
        (partial(heimdall_page, 0, catching_up=False), State.IN_STEP),
        (partial(heimdall_page, 1e6, catching_up=True), State.SYNCING),
        (partial(heimdall_page, 0, catching_up=False, network="heimdallv2-80002"), State.WRONG_CHAIN),
        (partial(bytes, b'{"result": {"sync_info": {"catching_up": "no"}}}'), State.STARTING),
        (partial(bytes, b"[]"), State.STARTING),
    ],
)
def test_heimdall_is_judged_by_its_status_page(fake: Fake, node: Make, page: Callable[[], bytes], state: State) -> None:
    fake.pages["/status"] = (200, page())
    assert Judge(node(Kind.HEIMDALL, chain_id=137)).look(time.time()).state is state


def test_the_worst_member_stands_for_the_pair() -> None:
    verdicts = [Verdict("a", "reth", State.IN_STEP, ""), Verdict("b", "op_node", State.STUCK, "")]
    assert worst(verdicts).name == "b"


@pytest.mark.parametrize(
    ("own_age", "their_age", "their_chain", "state"),
    [
        (20, 1, 10, State.LAGGING),
        (4, 0, 10, State.IN_STEP),
        (20, 18, 10, State.IN_STEP),
        (20, 25, 10, State.IN_STEP),
        (20, 1, 11, State.IN_STEP),
        (20, -3600, 10, State.IN_STEP),
    ],
    ids=["behind", "within what is allowed", "alike", "ahead", "another chain's", "a head that is yet to come"],
)
def test_a_pool_whose_heads_are_younger_makes_a_node_lag(
    fake: Fake, second: Fake, node: Make, own_age: float, their_age: float, their_chain: int, state: State
) -> None:
    fake.on_chain(10, age=own_age)
    second.on_chain(their_chain, age=their_age)
    verdict = Judge(node(pool=(second.url,), pool_lag_seconds=5.0)).look(time.time())
    assert verdict.state is state
    assert (f"s behind {second.url}, 5 s allowed" in verdict.detail) is (state is State.LAGGING)


def test_a_pool_that_does_not_answer_is_not_held_against_a_node(fake: Fake, second: Fake, node: Make) -> None:
    fake.on_chain(10, age=20)
    second.server_close()
    assert Judge(node(pool=(second.url,), pool_lag_seconds=5.0)).look(time.time()).state is State.IN_STEP


def test_too_few_peers_make_a_node_lag(fake: Fake, node: Make) -> None:
    fake.on_chain(10)
    fake.methods["net_peerCount"] = "0x2"
    assert Judge(node(least_peers=2)).look(time.time()).state is State.IN_STEP
    verdict = Judge(node(least_peers=3)).look(time.time())
    assert (verdict.state, "2 peers, at least 3 wanted" in verdict.detail) == (State.LAGGING, True)


def test_a_consensus_client_is_not_asked_for_peers_or_pool(fake: Fake, node: Make) -> None:
    fake.methods = {"optimism_syncStatus": {"unsafe_l2": {"number": 5, "timestamp": int(time.time())}}}
    verdict = Judge(node(Kind.OP_NODE, least_peers=3, pool=("http://127.0.0.1:1",), pool_lag_seconds=1.0)).look(
        time.time()
    )
    assert verdict.state is State.IN_STEP
