"""The agents as several hosts run them: one PostgreSQL, one Redis, and the same truths."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest
from mev.runtime.bus import SETTLEMENTS, RedisBus, RedisLocation

from tests.integration.mev.conftest import (
    CAPITAL_WEI,
    PATIENCE_SECONDS,
    Account,
    Installation,
    at_rest,
    filled,
    wait_for,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Postgres


@pytest.fixture
def shared(owner: Account, tmp_path: Path, postgres: Postgres, redis_server: str) -> Installation:
    """The agents configured for a database and a bus of their own servers."""
    location = postgres.new()
    made = Installation(owner.evm, tmp_path, owner.signer, owner.evm.ws)
    made.storage = (
        f'[storage]\nopportunities = "{location.url}"\nperformance = "{location.url}"\npassword = "{location.password}"\n'
        f'[bus]\nurl = "{redis_server}"'
    )
    made.write()
    made.mev("executor", "prepare", "--amount-wei", str(CAPITAL_WEI))
    return made


def heard(url: str) -> list[dict[str, str]]:
    """Every settlement that the bus holds."""

    async def take() -> list[dict[str, str]]:
        bus = RedisBus(RedisLocation(url), max_length=100)
        await bus.join(SETTLEMENTS, "test")
        found = [json.loads(each.data) for each in await bus.take(SETTLEMENTS, "test", "test", wait_seconds=0.1)]
        await bus.close()
        return found

    return asyncio.run(take())


def test_the_engine_trades_with_a_ledger_in_postgresql_and_says_so_over_redis(
    shared: Installation, redis_server: str
) -> None:
    second = [sys.executable, "-m", "mev.strategy_engine", "--config", str(shared.config)]
    with shared.agent("strategy_engine") as engine, shared.agent("analytics_engine"):
        first = filled(shared)
        refused = subprocess.run(second, check=False, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        assert (refused.returncode, "has an engine already" in refused.stderr) == (2, True)

        def recorded() -> object:
            url = shared.config.read_text().split('"')[3]
            with psycopg.connect(url, password="swordfish") as connection:
                return connection.execute("SELECT net_wei FROM performance WHERE included > 0").fetchall()

        wait_for("a row of analytics", recorded)
        engine.kill()
    with shared.agent("strategy_engine"):
        at_rest(shared)
        assert shared.mev("doctor")["well"]
    assert shared.mev("reconcile")["agrees"]
    settled = wait_for("a settlement", lambda: heard(redis_server))
    assert {"chain": "ethereum", "opportunity": first["opportunity"], "state": "included", "reason": ""} in settled
    told = shared.mev("explain", first["opportunity"])
    assert [leg["amount_in"] is not None for leg in told["legs"]] == [True] * len(told["legs"])
    assert told["legs"][0]["token_in"] == told["legs"][-1]["token_out"]
    days = shared.mev("pnl")["days"]
    assert sum(int(line["realised"]) for line in days if int(line["token"], 16)) >= int(first["profit_wei"])
    for path in shared.directory.iterdir():
        assert path.name == "signer.key" or not path.is_file() or b"swordfish" not in path.read_bytes(), path


def test_what_is_halted_sends_nothing_until_it_is_resumed(installation: Installation) -> None:
    assert installation.mev("halt", "--reason", "a test")["halted"] == ["ethereum"]
    with installation.agent("strategy_engine"):
        wait_for(
            "a refusal",
            lambda: any(each["reason"] == "kill_switch" for each in installation.mev("opportunities")["opportunities"]),
            meanwhile=installation.evm.trade,
        )
        assert installation.mev("pnl")["first_included"] is None
        installation.mev("resume")
        wait_for("a fill", lambda: installation.mev("pnl")["first_included"], meanwhile=installation.evm.trade)
        at_rest(installation)
    # Halted before there was a ledger: the engine found the switch thrown, and noted it.
    assert [(each["act"], each["reason"]) for each in installation.mev("halts")["halts"]] == [
        ("resume", ""),
        ("halt", "a test"),
    ]
    assert installation.mev("reconcile")["agrees"]
