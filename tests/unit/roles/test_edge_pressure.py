"""What all workers of the edge hold together, and who is refused for it: the edge's own Lua, a LuaJIT a worker over one shared memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.roles.lua import runtime

NOBODY = 2**22 + 1


class Memory:
    """nginx' shared dictionaries: numbers, and lists."""

    def __init__(self) -> None:
        self.numbers: dict[str, float] = {}
        self.lists: dict[str, list[Any]] = {}

    def _incr(self, key: str, by: float, start: float | None = None) -> float | None:
        if key not in self.numbers and start is None:
            return None
        self.numbers[key] = self.numbers.get(key, start or 0) + by
        return self.numbers[key]

    def table(self, lua: Any) -> Any:
        """Itself as Lua calls it: dict:incr(...)."""
        calls: dict[str, Callable[..., Any]] = {
            "get": lambda _, key: self.numbers.get(key),
            "incr": lambda _, *rest: self._incr(*rest),
            "delete": lambda _, key: self.numbers.pop(key, None) and None,
            "llen": lambda _, key: len(self.lists.get(key, [])),
            "lpop": lambda _, key: self.lists[key].pop(0),
            "rpush": lambda _, key, value: self.lists.setdefault(key, []).append(value),
        }
        return lua.table_from(calls)


class Edge:
    """Workers by process id over one memory."""

    def __init__(self, **bounds: int) -> None:
        self._shared = Memory(), Memory()
        self._bounds = {"requests": 10, "chain_requests": 8, "public_percent": 75, "websockets": 4, **bounds}

    def worker(self, pid: int) -> Any:
        lua = runtime()
        held, pools = (memory.table(lua) for memory in self._shared)
        shared = lua.table_from({"held": held, "pools": pools})
        lua.globals().ngx = lua.table_from({"shared": shared, "worker": lua.table_from({"pid": lambda: pid})})
        worker = lua.table_from(
            {
                "held": lua.execute('return require("edge.held")'),
                "pressure": lua.execute('return require("edge.pressure")'),
            }
        )
        worker.pressure.start(lua.table_from(self._bounds))
        worker.held.work()
        return worker


def entered(worker: Any, chain: str, kind: str, times: int) -> int:
    return sum(bool(worker.pressure.enter(chain, kind)) for _ in range(times))


def test_a_chain_takes_so_many_and_a_key_finds_room_when_the_public_does_not() -> None:
    edge = Edge()
    one, two = edge.worker(os.getpid()), edge.worker(os.getpid())
    assert entered(one, "ethereum", "public", 4) + entered(two, "ethereum", "public", 4) == 6
    assert (two.pressure.is_full("ethereum", "public"), two.pressure.is_full("ethereum", "keyed")) == (True, False)
    assert entered(two, "ethereum", "keyed", 4) == 2
    # The operators' own are counted and pass.
    assert entered(one, "ethereum", "free", 5) == 5
    assert one.held.get("requests:ethereum") == 13
    for _ in range(8):
        one.pressure.leave("ethereum")
    assert entered(one, "ethereum", "public", 4) == 1


def test_the_edge_takes_so_many_of_all_chains_together() -> None:
    worker = Edge().worker(os.getpid())
    assert entered(worker, "ethereum", "keyed", 9) == 8
    assert entered(worker, "base", "keyed", 9) == 2
    # What is refused by one bound is not held by the other.
    assert (worker.held.get("requests"), worker.held.get("requests:base")) == (10, 2)


def test_there_are_so_many_websockets() -> None:
    worker = Edge().worker(os.getpid())
    assert [bool(worker.pressure.open(kind)) for kind in ("public",) * 4 + ("keyed",) * 2 + ("free",)] == [
        *(True, True, True, False),
        *(True, False),
        True,
    ]
    worker.pressure.close()
    worker.pressure.close()
    assert worker.pressure.open("keyed")


@pytest.mark.parametrize("turn", ["before", "after"])
def test_what_a_worker_held_that_died_is_held_no_more(turn: str) -> None:
    edge = Edge()
    alive, dead = edge.worker(os.getpid()), edge.worker(NOBODY)
    assert entered(alive, "ethereum", "keyed", 3) + entered(dead, "ethereum", "keyed", 5) == 8
    assert not alive.pressure.enter("ethereum", "keyed")
    if turn == "before":
        alive.pressure.leave("ethereum")
    alive.held.mend()
    alive.held.follow()
    if turn == "after":
        alive.pressure.leave("ethereum")
    assert alive.held.get("requests:ethereum") == 2
    assert entered(alive, "ethereum", "keyed", 9) == 6
    # Once is enough.
    alive.held.mend()
    alive.held.follow()
    assert alive.held.get("requests:ethereum") == 8
