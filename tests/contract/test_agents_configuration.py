"""What the role writes for the agents is what they read: limits, a database and a bus that several hosts share."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from mev.runtime.config import Config, StrategyName, read
from mev.runtime.structure import StructureError

from tests.contract.rendering import ROLES, rendered

WETH = "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2"
MARKET = {
    "wrapped_native": WETH,
    "tokens": [
        {"symbol": "WETH", "address": WETH, "decimals": 18},
        {"symbol": "USD.e", "address": "0x2791Bca1f2de4661ED88A30C99A7a9449Aa84174", "decimals": 6},
    ],
    "v2_factories": [
        {
            "name": "uniswap_v2",
            "address": "0x5C69bEe701ef814a2B6a3EDD4B1652CB9cc5aA6f",
            "fee_numerator": 997,
            "fee_denominator": 1000,
        }
    ],
    "max_hops": 4,
    "aave_v3": [{"name": "aave_v3", "pool": "0x87870Bca3F3fD6335C3F4ce8392D69350B4fA4E2", "first_block": 16291127}],
    "compound_v3": [{"name": "usdc", "pool": "0xc3d688B66703497DAA19211EEdff47f25384cdc3"}],
    "discovery": {"first_block": 17},
    "routers": [{"address": "0x" + "55" * 20, "factories": ["other_v3", "uniswap_v2"]}],
    "algebra_factories": [{"name": "algebra", "address": "0x" + "53" * 20}],
    "v4_managers": [{"name": "uniswap_v4", "address": "0x" + "52" * 20, "pools": [{"fee": 500, "tick_spacing": 10}]}],
    "balancer_vaults": [{"name": "balancer_v2", "address": "0x" + "51" * 20, "pools": ["0x" + "50" * 32]}],
    "curve_pools": [{"name": "threepool", "address": "0x" + "49" * 20}],
    "solidly_factories": [{"name": "aerodrome", "address": "0x" + "54" * 20}],
    "v3_factories": [
        {"name": "uniswap_v3", "address": "0x1F98431c8aD98523631AE4a59f267346ea31F984", "fees": [500, 3000]},
        {"name": "other_v3", "address": "0xdB1d10011AD0Ff90774D0C6Bb92e5C5c8b4461F7"},
    ],
}


def options(**more: Any) -> dict[str, Any]:
    markets = {"ethereum": MARKET, "base": MARKET}
    return {"mev_agents_markets": markets, "role_path": str(ROLES / "mev_agents"), "ansible_managed": "here", **more}


def configuration(**more: Any) -> Config:
    return read(tomllib.loads(rendered("_mev_agents_config_file", options(**more))["content"]))


def test_without_options_there_are_files_no_bus_and_no_further_limit() -> None:
    config = configuration()
    assert isinstance(config.storage.ledger, Path)
    assert config.bus.location is None
    assert config.chains["base"].risk == config.common_risk
    assert config.snapshots is not None
    assert config.snapshots.directory == config.logging.directory / "snapshots"
    discovery = config.chains["base"].discovery
    assert discovery is not None
    assert (discovery.first_block, discovery.max_tokens, config.chains["base"].max_hops) == (17, 100, 4)
    (lending,) = config.chains["base"].aave_v3
    assert (lending.name, lending.pool[:2].hex(), lending.first_block) == ("aave_v3", "8787", 16291127)
    (router,) = config.chains["base"].routers
    assert (router.address, router.factories) == (b"\x55" * 20, ("other_v3", "uniswap_v2"))
    (solidly,) = config.chains["base"].solidly_factories
    assert (solidly.name, solidly.address) == ("aerodrome", b"\x54" * 20)
    (algebra,) = config.chains["base"].algebra_factories
    assert (algebra.name, algebra.address) == ("algebra", b"\x53" * 20)
    (v4,) = config.chains["base"].v4_managers
    assert (v4.name, v4.address, len(v4.pools), v4.pools[0].fee) == ("uniswap_v4", b"\x52" * 20, 1, 500)
    (vault,) = config.chains["base"].balancer_vaults
    assert (vault.name, vault.address, vault.pools) == ("balancer_v2", b"\x51" * 20, (b"\x50" * 32,))
    (curve,) = config.chains["base"].curve_pools
    assert (curve.name, curve.address) == ("threepool", b"\x49" * 20)
    (comet,) = config.chains["base"].compound_v3
    assert (comet.name, comet.pool[:2].hex(), comet.first_block) == ("usdc", "c3d6", 0)
    assert [made.fees for made in config.chains["base"].v3_factories] == [(500, 3000), (100, 500, 3000, 10000)]
    assert (config.common_risk.max_gas, config.common_risk.breaker_failures) == (None, 0)
    assert rendered("_mev_agents_component", options()) == "mev"


def test_each_agent_serves_metrics_on_the_catalogue_s_listener() -> None:
    metrics = configuration().metrics
    assert (metrics.strategy_engine, metrics.analytics_engine) == ("127.0.0.1:9111", "127.0.0.1:9112")


def test_an_inventory_chooses_strategies() -> None:
    assert configuration().strategies == (StrategyName.ATOMIC_ARBITRAGE,)
    both = configuration(mev_agents_strategies=["atomic_arbitrage", "sandwich"])
    assert both.strategies == (StrategyName.ATOMIC_ARBITRAGE, StrategyName.SANDWICH)


def test_limits_reach_the_agents_to_the_wei() -> None:
    config = configuration(
        mev_agents_limits={
            "max_in_flight": 2,
            "max_flash_wei": "5" + 20 * "0",
            "max_arbitrage_flash_wei": "6" + 20 * "0",
            "max_daily_gas_wei": "123456789012345678901234567890",
            "breaker_failures": 5,
            "breaker_seconds": 30,
            "deny_tokens": [WETH],
            "tokens": {"USD.e": {"max_amount_in_wei": "1" + 30 * "0", "max_daily_trades": 7}},
            "strategies": {"atomic_arbitrage": {"max_daily_loss_wei": 9}},
        },
        mev_agents_chain_limits={"base": {"max_in_flight": 1, "tokens": {"WETH": {"max_daily_trades": 3}}}},
    )
    ethereum, base = config.chains["ethereum"].risk, config.chains["base"].risk
    assert (ethereum.max_in_flight, base.max_in_flight) == (2, 1)
    assert ethereum.max_daily_gas_wei == 123456789012345678901234567890
    assert (ethereum.max_flash_wei, base.max_flash_wei) == (5 * 10**20, 5 * 10**20)
    assert (ethereum.max_arbitrage_flash_wei, base.max_arbitrage_flash_wei) == (6 * 10**20, 6 * 10**20)
    assert (ethereum.breaker_failures, ethereum.breaker_seconds) == (5, 30.0)
    assert [bytes(token).hex() for token in ethereum.deny_tokens] == [WETH[2:].lower()]
    assert (ethereum.tokens["USD.e"].max_amount_in_wei, ethereum.tokens["USD.e"].max_daily_trades) == (10**30, 7)
    assert ethereum.strategies["atomic_arbitrage"].max_daily_loss_wei == 9
    assert base.tokens["WETH"].max_daily_trades == 3
    assert base.max_daily_gas_wei == ethereum.max_daily_gas_wei


def test_a_fleet_shares_a_database_and_a_bus_and_their_passwords_come_as_credentials() -> None:
    shared = {
        "mev_agents_database_url": "postgresql://mev@10.0.0.5:5432/mev?sslmode=verify-full",
        "mev_agents_database_password_source": "/controller/postgres",
        "mev_agents_bus_url": "rediss://10.0.0.5:6379/0",
        "mev_agents_bus_password_source": "/controller/redis",
    }
    config = configuration(**shared)
    assert config.storage.opportunities == config.storage.performance == shared["mev_agents_database_url"]
    assert (config.storage.password, config.bus.password) == (
        "credential:postgres_password",
        "credential:redis_password",
    )
    assert rendered("_mev_agents_component", options(**shared)) == "mev-fleet"
    handed = rendered("_mev_agents_password_credentials", options(**shared))
    files = rendered("_mev_agents_password_files", options(**shared))
    assert [credential["id"] for credential in handed] == ["postgres_password", "redis_password"]
    assert [credential["path"] for credential in handed] == [file["path"] for file in files]
    assert {(file["group"], file["mode"]) for file in files} == {("root", "0600")}


def test_traces_are_off_until_a_collector_is_named() -> None:
    assert configuration().traces is None
    named = {
        "mev_agents_traces_url": "http://10.0.0.5:4318",
        "mev_agents_traces_sample_ratio": 0.25,
        "mev_agents_traces_authorization_source": "/controller/collector",
    }
    traces = configuration(**named).traces
    assert traces is not None
    assert (traces.endpoint, traces.sample_ratio) == ("http://10.0.0.5:4318", 0.25)
    assert traces.authorization == "credential:traces_authorization"
    assert rendered("_mev_agents_component", options(**named)) == "mev-traces"
    (handed,) = rendered("_mev_agents_password_credentials", options(**named))
    (file,) = rendered("_mev_agents_password_files", options(**named))
    assert (handed["id"], handed["path"]) == ("traces_authorization", file["path"])
    assert (file["source"], file["group"], file["mode"]) == ("/controller/collector", "root", "0600")


def test_the_kill_switch_listens_where_a_token_is_named() -> None:
    assert configuration().control is None
    named = {"mev_agents_control_token_source": "/controller/control"}
    control = configuration(**named).control
    assert control is not None
    assert (control.listen, control.token) == ("127.0.0.1:9114", "credential:control_token")
    assert rendered("_mev_agents_component", options(**named)) == "mev"
    (handed,) = rendered("_mev_agents_password_credentials", options(**named))
    (file,) = rendered("_mev_agents_password_files", options(**named))
    assert (handed["id"], handed["path"]) == ("control_token", file["path"])
    assert (file["source"], file["group"], file["mode"]) == ("/controller/control", "root", "0600")


LIVE = {"mev_agents_mode": "live", "mev_agents_signer_key_source": "/controller/signer.key"}


def test_in_live_mode_trades_are_handed_to_builders_with_what_they_need() -> None:
    builder = {
        "name": "one",
        "kind": "bundles",
        "url": "https://one.example",
        "identity_source": "/controller/identity",
    }
    other = {**builder, "name": "two", "url_source": "/controller/url", "timeout_seconds": 1}
    named = {**LIVE, "mev_agents_submitters": {"ethereum": [builder, other]}}
    config = configuration(**named)
    first, second = config.chains["ethereum"].submitters
    assert (first.name, first.kind, first.url) == ("one", "bundles", "https://one.example")
    assert first.identity == "credential:submitter_identity_ethereum_one"
    assert (second.url, second.timeout_seconds) == ("credential:submitter_url_ethereum_two", 1.0)
    assert config.chains["base"].submitters == ()
    files = rendered("_mev_agents_signing_files", options(**named))
    assert [file["source"] for file in files] == [
        "/controller/signer.key",
        "/controller/identity",
        "/controller/url",
        "/controller/identity",
    ]
    assert {(file["group"], file["mode"]) for file in files} == {("root", "0600")}
    handed = rendered("_mev_agents_signing_credentials", options(**named))
    assert [each["id"] for each in handed] == [
        "signer_key",
        "submitter_identity_ethereum_one",
        "submitter_url_ethereum_two",
        "submitter_identity_ethereum_two",
    ]
    assert [each["path"] for each in handed] == [file["path"] for file in files]
    assert configuration(mev_agents_submitters=named["mev_agents_submitters"]).chains["ethereum"].submitters == ()


def test_a_plug_in_and_a_private_rpc_are_what_the_inventory_says() -> None:
    plugin = {"name": "lane", "kind": "plugin", "plugin": "own.lane:make", "settings": {"round": 60}}
    private = {"name": "p", "kind": "private_rpc", "url": "https://p.example", "method": "eth_sendPrivateTransaction"}
    config = configuration(**LIVE, mev_agents_submitters={"ethereum": [private], "base": [plugin]})
    (lane,) = config.chains["base"].submitters
    assert (lane.plugin, lane.settings) == ("own.lane:make", {"round": "60"})
    (kept,) = config.chains["ethereum"].submitters
    assert (kept.kind, kept.method) == ("private_rpc", "eth_sendPrivateTransaction")


def test_a_key_that_is_held_elsewhere_is_not_handed_to_the_engine() -> None:
    held = {
        "mev_agents_mode": "live",
        "mev_agents_signer_url": "http://127.0.0.1:9000",
        "mev_agents_signer_address": "0x" + "19" * 20,
    }
    signer = configuration(**held).signer
    assert signer is not None
    assert (signer.key, signer.url, signer.address) == (None, "http://127.0.0.1:9000", b"\x19" * 20)
    assert rendered("_mev_agents_signing_credentials", options(**held)) == []
    assert rendered("_mev_agents_signing_files", options(**held)) == []
    here = configuration(**LIVE).signer
    assert here is not None
    assert (here.key, here.url) == ("credential:signer_key", None)


def test_the_way_back_leaves_no_credential_that_is_not_named_any_more() -> None:
    """Once the agents run without it: the listener went with its table, and the unit hands nothing over."""
    keys = "/data/blockchain/nodes/security/signing_keys"
    every = [
        f"{keys}/{name}" for name in ("postgres_password", "redis_password", "traces_authorization", "control_token")
    ]
    unnamed = options()
    assert rendered("_mev_agents_password_credentials", unnamed) == []
    assert rendered("_mev_agents_passwords_unnamed", unnamed) == every
    assert (
        rendered("_mev_agents_passwords_unnamed", options(mev_agents_control_token_source="/controller/control"))
        == every[:3]
    )
    tasks = yaml.safe_load((ROLES / "mev_agents" / "tasks" / "main.yml").read_text())
    names = [task["name"] for task in tasks]
    assert names.index("No secret stays that the inventory names no more") > names.index(
        "The package runs, or the version before runs again"
    )
    assert tasks[-1]["ansible.builtin.file"]["state"] == "absent"


def test_a_feed_is_of_the_chain_that_the_inventory_names() -> None:
    config = configuration(mev_agents_sequencer_feeds={"base": "ws://127.0.0.1:9642"})
    assert (config.chains["base"].sequencer_feed, config.chains["ethereum"].sequencer_feed) == (
        "ws://127.0.0.1:9642",
        None,
    )


def test_secrets_of_submitters_go_with_them() -> None:
    keys = "/data/blockchain/nodes/security/signing_keys"
    builder = {"name": "one", "kind": "bundles", "url_source": "/controller/url", "identity_source": "/controller/id"}
    there = [f"{keys}/submitter_{kind}_ethereum_{name}" for kind in ("identity", "url") for name in ("one", "two")]
    found = {"__mev_agents_submitters_found": {"files": [{"path": path} for path in there]}}
    assert rendered("_mev_agents_submitters_unnamed", {**options(), **found}) == there
    named = options(**LIVE, mev_agents_submitters={"ethereum": [builder]})
    assert rendered("_mev_agents_submitters_unnamed", {**named, **found}) == [there[1], there[3]]


def test_a_limit_of_what_there_is_not_is_refused_by_its_name() -> None:
    with pytest.raises(StructureError, match=r"risk\.tokens\.DOGE is not known"):
        configuration(mev_agents_limits={"tokens": {"DOGE": {"max_daily_trades": 1}}})
