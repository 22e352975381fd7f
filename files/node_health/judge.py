"""From what a node says to the one word that everything else acts on."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from enum import StrEnum

from node_health.config import Node
from node_health.probes import Reading, look
from node_health.transport import ProbeError


class State(StrEnum):
    """How a node is, from best to worst."""

    IN_STEP = "in_step"
    SYNCING = "syncing"
    LAGGING = "lagging"
    STUCK = "stuck"
    STARTING = "starting"
    DOWN = "down"
    WRONG_CHAIN = "wrong_chain"


SEVERITY = tuple(State)
# Clocks differ a little; a head from further ahead says nothing of being in step.
MAX_AHEAD_SECONDS = 900
# The estimate of a sync's end looks back so far, and says nothing before it has seen a little.
ESTIMATE_SECONDS = 600.0
ESTIMATE_LEAST_SECONDS = 10.0
ANSWERING = frozenset({State.IN_STEP, State.SYNCING, State.LAGGING, State.STUCK})


@dataclass(frozen=True)
class Verdict:
    """A node's state and the reason for it, with the head where there is one.

    `sync_seconds_left` is an estimate, for a node that syncs and gains on the chain.
    """

    name: str
    kind: str
    state: State
    detail: str
    chain_id: int | None = None
    head: int | None = None
    head_age_seconds: float | None = None
    sync_seconds_left: float | None = None

    @property
    def answering(self) -> bool:
        """Whether the node answers, on the right chain, whatever it answers."""
        return self.state in ANSWERING

    def __str__(self) -> str:
        return f"{self.name} {self.state}: {self.detail}"


class Judge:
    """Judges one node, and remembers when its head last moved.

    Without a look before, the head's age alone tells lagging from stuck.
    """

    def __init__(self, node: Node, *, expected_up: bool = True) -> None:
        """`expected_up` is false for a node that may not have opened its port yet: it is starting then, not down."""
        self.node = node
        self._up = expected_up
        self._head: int | None = None
        self._moved = 0.0
        self._looks = 0
        self._course: deque[tuple[float, float]] = deque()

    def look(self, now: float) -> Verdict:
        """Ask the node once and judge its answer; `now` is Unix time in seconds."""
        try:
            reading = look(self.node)
        except ProbeError as error:
            return self.refused(error)
        return self.judge(reading, now)

    def refused(self, error: ProbeError) -> Verdict:
        """Judge a node that gave no answer of use."""
        state = State.STARTING if error.answered or not self._up else State.DOWN
        return Verdict(self.node.name, self.node.kind, state, f"{self.node.rpc} {error}")

    def judge(self, reading: Reading, now: float) -> Verdict:
        """Judge what a node said."""
        if reading.chain_id is not None and reading.chain_id != self.node.chain_id:
            detail = f"{self.node.rpc} answers with chain id {reading.chain_id}, expected {self.node.chain_id}"
            return self._verdict(State.WRONG_CHAIN, detail, reading, now)
        self._up = True
        self._remember(reading, now)
        age = max(0.0, now - reading.head_time)
        where = f"head {reading.head}, {age:.0f} s old"
        if reading.syncing:
            left = self._seconds_left(reading, now)
            words = where if left is None else f"{where}, about {left:.0f} s to go"
            return replace(self._verdict(State.SYNCING, words, reading, now), sync_seconds_left=left)
        self._course.clear()
        ahead = reading.head_time - now
        if ahead > MAX_AHEAD_SECONDS:
            detail = f"head {reading.head}, {ahead:.0f} s ahead of this host's clock"
            return self._verdict(State.LAGGING, detail, reading, now)
        if age <= self.node.allowed_lag_seconds and not reading.complaint:
            return self._verdict(State.IN_STEP, where, reading, now)
        still = now - self._moved if self._looks > 1 else age
        if still > self.node.stuck_after and age > self.node.allowed_lag_seconds:
            return self._verdict(State.STUCK, f"{where}, no new one for {still:.0f} s", reading, now)
        allowed = f"{self.node.allowed_lag_seconds:g} s allowed"
        return self._verdict(State.LAGGING, f"{where}, {reading.complaint or allowed}", reading, now)

    def _remember(self, reading: Reading, now: float) -> None:
        self._looks += 1
        if reading.head != self._head:
            self._head, self._moved = reading.head, now

    def _seconds_left(self, reading: Reading, now: float) -> float | None:
        """Estimate from how fast the head's time gains on the clock; None while that is not known, or it gains nothing."""
        self._course.append((now, reading.head_time))
        while now - self._course[0][0] > ESTIMATE_SECONDS:
            self._course.popleft()
        begun, head_time = self._course[0]
        if now - begun < ESTIMATE_LEAST_SECONDS:
            return None
        gain = (reading.head_time - head_time) / (now - begun) - 1
        return round(max(0.0, now - reading.head_time) / gain, 1) if gain > 0 else None

    def _verdict(self, state: State, detail: str, reading: Reading, now: float) -> Verdict:
        age = round(max(0.0, now - reading.head_time), 1)
        return Verdict(self.node.name, self.node.kind, state, detail, reading.chain_id, reading.head, age)


def worst(verdicts: list[Verdict]) -> Verdict:
    """Give the verdict that stands for all of them."""
    return max(verdicts, key=lambda verdict: SEVERITY.index(verdict.state))
