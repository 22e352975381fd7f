"""Breakers open for the reasons they give and close again; heads that cannot be are told from those that can."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mev.chain.errors import HostileAnswerError, Offence
from mev.chain.health import (
    BEST_HEAD_SECONDS,
    FAILURES_AT_LEAST,
    HEAD_JUMP_BLOCKS,
    LAST_QUARANTINE_SECONDS,
    LAST_RETRY_SECONDS,
    Breaker,
    BreakerState,
    Heads,
    Latency,
)


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def breaker_of(clock: Clock) -> Breaker:
    return Breaker(now=clock, draw=lambda: 1.0)


def test_back_off_grows_to_its_bound_and_ends_with_a_connection_that_lasts() -> None:
    clock = Clock()
    breaker = breaker_of(clock)
    waits = []
    for _ in range(12):
        breaker.attempt()
        breaker.open("gone")
        waits.append(breaker.wait_seconds)
        clock.at += breaker.wait_seconds
    assert waits[:3] == pytest.approx([0.1, 0.2, 0.4])
    assert waits[-1] == pytest.approx(LAST_RETRY_SECONDS)
    assert (breaker.state, breaker.reason) == (BreakerState.OPEN, "gone")
    breaker.attempt()
    assert breaker.state is BreakerState.HALF_OPEN
    breaker.close()
    clock.at += LAST_RETRY_SECONDS + 1
    breaker.open("gone again")
    assert breaker.wait_seconds == pytest.approx(0.1)


def test_an_offence_costs_more_each_time_and_is_counted_by_its_name() -> None:
    clock = Clock()
    breaker = breaker_of(clock)
    waits = []
    for _ in range(12):
        breaker.close()
        breaker.open("it lies", Offence.HEAD_JUMP)
        waits.append(breaker.wait_seconds)
        clock.at += breaker.wait_seconds
    assert waits[:3] == pytest.approx([1, 2, 4])
    assert waits[-1] == pytest.approx(LAST_QUARANTINE_SECONDS)
    assert breaker.offences == {Offence.HEAD_JUMP: 12}


def test_the_breaker_opens_when_most_calls_have_no_answer() -> None:
    breaker = breaker_of(Clock())
    breaker.close()
    for _ in range(FAILURES_AT_LEAST - 1):
        assert breaker.record(answered=False) is None
    assert breaker.record(answered=False) == "5 of its last 5 calls had no answer"
    breaker.close()
    for _ in range(20):
        assert breaker.record(answered=True) is None
        assert breaker.record(answered=False) is None
    assert breaker.error_rate == 0.5


@given(st.lists(st.floats(0, 100), min_size=20, max_size=300))
def test_quantiles_are_those_of_the_last_answers(delays: list[float]) -> None:
    latency = Latency()
    for delay in delays:
        latency.see(delay)
    last = sorted(delays[-256:])
    assert latency.quantile_seconds(50) == last[len(last) // 2]
    assert latency.quantile_seconds(95) == last[len(last) * 95 // 100]


def heads_of(clock: Clock) -> Heads:
    return Heads(now=clock, wall=lambda: 1_700_000_000 + clock.at)


def test_a_head_far_beyond_a_fresh_one_is_a_lie() -> None:
    clock = Clock()
    heads = heads_of(clock)
    now = int(1_700_000_000 + clock.at)
    heads.see("honest", 100, now)
    heads.see("other", 100 + HEAD_JUMP_BLOCKS, now)
    with pytest.raises(HostileAnswerError, match="jumps to 1000000: 164 was the head") as caught:
        heads.see("liar", 1_000_000, now)
    assert caught.value.offence is Offence.HEAD_JUMP
    assert heads.best() == 164
    # After an hour without a word, an hour's blocks are no lie.
    clock.at += 3600
    heads.see("honest", 100 + 3600 * 4, now + 3600)


def test_a_syncing_node_s_heads_jump_and_judge_nobody() -> None:
    clock = Clock()
    heads = heads_of(clock)
    heads.see("syncing", 100, 1_600_000_000)
    heads.see("syncing", 500_000, 1_650_000_000)
    heads.see("synced", 9_000_000, int(1_700_000_000 + clock.at))
    assert (heads.lag("syncing"), heads.lag("synced"), heads.lag("unheard")) == (8_500_000, 0, 0)


def test_a_late_head_is_told_from_a_chain_that_turned_back() -> None:
    clock = Clock()
    heads = heads_of(clock)
    heads.see("first", 110, 0)
    heads.see("second", 100, 0)
    assert heads.is_late("second", 100)
    assert not heads.is_late("first", 105)
    clock.at += BEST_HEAD_SECONDS + 1
    heads.see("second", 101, 0)
    assert not heads.is_late("second", 101)
