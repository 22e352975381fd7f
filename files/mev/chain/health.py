"""How an end point does: its circuit breaker, its latency and errors, and which heads can be believed."""

import random
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable
from enum import StrEnum

import msgspec

from mev.chain.errors import HostileAnswerError, Offence

FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 10.0
FIRST_QUARANTINE_SECONDS = 1.0
LAST_QUARANTINE_SECONDS = 300.0
# A node of another chain does not become one of ours within a second.
WRONG_CHAIN_SECONDS = 10.0

# Of so many calls, more than half without an answer opens the breaker.
JUDGED_CALLS = 20
FAILURES_AT_LEAST = 5

# What an end point's reason is before its first connection was made or failed.
FIRST_REASON = "not connected yet"

LATENCIES = 256
# Below so many, quantiles say nothing.
LATENCIES_AT_LEAST = 20
PERCENT = 100

# No chain makes more blocks in a second (Arbitrum: four); a node that was away for a moment may tell of some at once.
BLOCKS_A_SECOND = 20
HEAD_JUMP_BLOCKS = 64
# A head whose time is this near to ours is the chain's head, and nothing can be far beyond it.
FRESH_SECONDS = 60.0
# A head that nobody has told of for so long no longer makes the others late.
BEST_HEAD_SECONDS = 30.0


class BreakerState(StrEnum):
    """closed: calls pass. half_open: an attempt is being made. open: nothing is tried before its time."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class Breaker:
    """One end point's circuit breaker. It opens for a while: after lost connections with back-off, after offences much longer."""

    def __init__(
        self,
        *,
        quarantine_seconds: float = FIRST_QUARANTINE_SECONDS,
        now: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`quarantine_seconds` is for a first offence; `now` is seconds; `draw` gives the jitter, 0 to 1."""
        self._quarantine_seconds = quarantine_seconds
        self._now = now
        self._draw = draw
        self._outcomes: deque[bool] = deque(maxlen=JUDGED_CALLS)
        self._failures = 0
        self._strikes = 0
        self._until = 0.0
        self._closed_at = 0.0
        self.state = BreakerState.HALF_OPEN
        self.reason = FIRST_REASON
        self.offences: Counter[Offence] = Counter()

    def attempt(self) -> None:
        """An attempt begins."""
        self.state = BreakerState.HALF_OPEN

    def close(self) -> None:
        """The attempt was one: calls pass."""
        self.state, self.reason = BreakerState.CLOSED, ""
        self._closed_at = self._now()
        self._outcomes.clear()

    def record(self, *, answered: bool) -> str | None:
        """Count a call's outcome; returns why the breaker ought to open, where it ought to."""
        self._outcomes.append(answered)
        failed = len(self._outcomes) - sum(self._outcomes)
        if answered or failed < FAILURES_AT_LEAST or 2 * failed <= len(self._outcomes):
            return None
        return f"{failed} of its last {len(self._outcomes)} calls had no answer"

    def open(self, reason: str, offence: Offence | None = None) -> None:
        """Let nothing pass for a while, which grows with each time in a row."""
        lasted = self._now() - self._closed_at if self.state is BreakerState.CLOSED else 0.0
        if lasted > LAST_RETRY_SECONDS:
            self._failures = 0
        if lasted > LAST_QUARANTINE_SECONDS:
            self._strikes = 0
        if offence is None:
            seconds = min(FIRST_RETRY_SECONDS * 2**self._failures, LAST_RETRY_SECONDS)
            self._failures = min(self._failures + 1, 16)
        else:
            first = WRONG_CHAIN_SECONDS if offence is Offence.WRONG_CHAIN else self._quarantine_seconds
            seconds = min(first * 2**self._strikes, LAST_QUARANTINE_SECONDS)
            self._strikes = min(self._strikes + 1, 16)
            self.offences[offence] += 1
        self.state, self.reason = BreakerState.OPEN, reason
        self._until = self._now() + seconds * (0.5 + self._draw() / 2)

    @property
    def error_rate(self) -> float:
        """Which part of the last calls had no answer, 0 to 1."""
        return 1 - sum(self._outcomes) / len(self._outcomes) if self._outcomes else 0.0

    @property
    def wait_seconds(self) -> float:
        """How long the breaker stays open from now on."""
        return max(0.0, self._until - self._now()) if self.state is BreakerState.OPEN else 0.0


class Latency:
    """The last answers' delays."""

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=LATENCIES)
        self._sorted: list[float] | None = None
        self.mean_seconds = 0.0

    def __len__(self) -> int:
        return len(self._seen)

    def see(self, seconds: float) -> None:
        """Take one delay."""
        self._seen.append(seconds)
        self._sorted = None
        self.mean_seconds = seconds if len(self._seen) == 1 else 0.9 * self.mean_seconds + 0.1 * seconds

    def quantile_seconds(self, percent: int) -> float | None:
        """Return a quantile of what was seen; None where that is too little."""
        if len(self._seen) < LATENCIES_AT_LEAST:
            return None
        if self._sorted is None:
            self._sorted = sorted(self._seen)
        return self._sorted[min(len(self._sorted) - 1, len(self._sorted) * percent // PERCENT)]


class Heads:
    """What the end points of one chain say is its head, and which of that can be.

    A head far beyond one that is fresh (made within the last minute) is a lie: no chain is that fast. Where none is
    fresh, because all nodes are syncing or the clock is wrong, nothing is judged.
    """

    def __init__(self, *, now: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        """`now` is seconds of a clock that never goes back; `wall` is UTC seconds."""
        self._now = now
        self._wall = wall
        self._heads: dict[Hashable, tuple[int, float]] = {}
        self._highest: dict[Hashable, int] = {}
        self._fresh: tuple[int, float] | None = None

    def see(self, end_point: Hashable, number: int, timestamp: int) -> None:
        """Take what an end point told of; raises HostileAnswerError where it cannot be."""
        at = self._now()
        if self._fresh is not None:
            known, heard_at = self._fresh
            allowed = known + HEAD_JUMP_BLOCKS + int(BLOCKS_A_SECOND * (at - heard_at))
            if number > allowed:
                raise HostileAnswerError(
                    f"its head jumps to {number}: {known} was the head {at - heard_at:.0f} s ago", Offence.HEAD_JUMP
                )
        self._heads[end_point] = (number, at)
        self._highest[end_point] = max(number, self._highest.get(end_point, 0))
        if abs(self._wall() - timestamp) <= FRESH_SECONDS:
            self._fresh = (number, at)

    def head(self, end_point: Hashable) -> int | None:
        """Return the last head that an end point told of."""
        told = self._heads.get(end_point)
        return None if told is None else told[0]

    def lag(self, end_point: Hashable) -> int:
        """Return by how many blocks an end point is behind the best head; 0 where it has not told of one."""
        told = self._heads.get(end_point)
        return 0 if told is None else max(0, self.best() - told[0])

    def best(self) -> int:
        """Return the highest head that was told of lately; 0 where there is none."""
        since = self._now() - BEST_HEAD_SECONDS
        return max((number for number, at in self._heads.values() if at >= since), default=0)

    def is_late(self, end_point: Hashable, number: int) -> bool:
        """Whether a head is only late: others are beyond it, and this end point never was.

        An end point that was there and tells of less has seen its chain turn back; one that never was has not got there.
        """
        return number < self.best() and self._highest.get(end_point, 0) < self.best()


class NodeHealth(msgspec.Struct, frozen=True):
    """How an end point stands, for status and metrics; latencies are seconds, None before there are enough."""

    node: str
    transport: str
    state: BreakerState
    reason: str
    retry_seconds: float
    head: int | None
    lag_blocks: int
    latency_p50: float | None
    latency_p95: float | None
    error_rate: float
    calls: int
    hedges: int
    offences: dict[str, int]
