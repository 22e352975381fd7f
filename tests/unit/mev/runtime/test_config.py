"""The configuration: what is right is typed, whatever is wrong is one sentence with the place and what is allowed."""

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mev.domain import Token
from mev.runtime import config as module
from mev.runtime.config import ConfigError, Mode, StrategyName, load
from mev.runtime.structure import StructureError


def example() -> str:
    """Return the configuration that the module's documentation shows."""
    shown = module.__doc__ or ""
    return textwrap.dedent(shown[shown.index("    mode =") : shown.rindex("Addresses with")])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mev.toml"


def changed(path: Path, old: str, new: str) -> Path:
    text = example()
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


def test_the_documented_example_is_a_configuration(path: Path) -> None:
    path.write_text(example(), encoding="utf-8")
    config = load(path)
    chain = config.chains["ethereum"]
    assert (config.mode, config.strategies) == (Mode.OBSERVE, (StrategyName.ATOMIC_ARBITRAGE,))
    assert (chain.id, chain.block_seconds, chain.wrapped_native.hex()[:8]) == (1, 12.0, "c02aaa39")
    assert isinstance(chain.tokens[1], Token)
    assert (chain.tokens[1].symbol, chain.tokens[1].decimals, len(chain.tokens[1].address)) == ("USDC", 6, 20)
    assert (chain.v2_factories[0].fee_numerator, chain.v2_factories[0].fee_denominator) == (997, 1000)
    assert config.snapshots is not None
    assert (config.snapshots.every_minutes, config.snapshots.directory.name) == (10.0, "snapshots")
    assert [(made.name, made.fees) for made in chain.v3_factories] == [("uniswap_v3", (500, 3000))]
    assert config.storage.ledger == Path("/data/blockchain/nodes/logs/mev_opportunities.db")


def test_a_chain_s_own_limits_go_over_the_common_ones(path: Path) -> None:
    path.write_text(example(), encoding="utf-8")
    config = load(path)
    assert (config.common_risk.max_in_flight, config.chains["ethereum"].risk.max_in_flight) == (1, 2)
    assert config.chains["ethereum"].risk.max_daily_loss_wei == config.common_risk.max_daily_loss_wei == 10**17


def test_amounts_are_not_bound_by_64_bits(path: Path) -> None:
    config = load(changed(path, "max_amount_in_wei = 1_000_000_000_000_000_000", f"max_amount_in_wei = {10**24}"))
    assert config.chains["ethereum"].risk.max_amount_in_wei == 10**24


def test_v3_factories_are_optional_and_so_are_their_fees(path: Path) -> None:
    assert load(changed(path, ", fees = [500, 3000]", "")).chains["ethereum"].v3_factories[0].fees == (
        100,
        500,
        3000,
        10000,
    )
    block = example()[example().index("v3_factories") : example().index("[chains.ethereum.risk]")]
    assert load(changed(path, block, "")).chains["ethereum"].v3_factories == ()


LEDGER = 'opportunities = "/data/blockchain/nodes/logs/mev_opportunities.db"'
METRICS = 'performance = "/data/blockchain/nodes/logs/performance_metrics.db"'


def test_one_end_point_is_enough_and_several_come_in_order(path: Path) -> None:
    path.write_text(example(), encoding="utf-8")
    ws, *others = load(path).chains["ethereum"].end_points
    assert ws == "ws://127.0.0.1:8546"
    assert others == ["ws://10.0.0.2:8546", "ipc:///run/erigon/erigon.ipc", "https://rpc.example/key"]
    block = example()[example().index("more_end_points") : example().index("http = ")]
    assert load(changed(path, block, "")).chains["ethereum"].end_points == ("ws://127.0.0.1:8546",)


WRONG = [
    ('"ipc:///run/erigon/erigon.ipc"', '"ipc://erigon.ipc"', "more_end_points is wrong", "absolute path"),
    ('"https://rpc.example/key"', '"ftp://rpc.example/key"', "more_end_points[2] is no end point", "ws://, wss://"),
    ('"ws://10.0.0.2:8546"', '"ws://127.0.0.1:8546"', "more_end_points[0] stands there twice", "each once"),
    ('mode = "observe"', 'mode = "auto"', "mode is 'auto'", "allowed: observe, paper, live"),
    ('mode = "observe"', 'colour = "red"', "colour is not a known key", "allowed: mode, strategies"),
    ('["atomic_arbitrage"]', '["arson"]', "strategies is", "allowed: a list, each atomic_arbitrage, sandwich"),
    ("[storage]", "[storage]\nbackup = 1", "storage.backup is not a known key", "allowed: opportunities, performance"),
    (
        'opportunities = "/data',
        'opportunities = "data',
        "storage.opportunities is wrong (it is no postgresql:// URL)",
        "allowed: an absolute path, or postgresql://",
    ),
    (
        LEDGER,
        'opportunities = "postgresql://mev:hunter2@db/mev"',
        "is wrong (it holds a password)",
        "without a password",
    ),
    (LEDGER, 'opportunities = "postgresql://db/mev?password=hunter2"', "is wrong (it says password=)", "sslmode="),
    (LEDGER, 'opportunities = "postgresql://db"', "is wrong (it names no host or no database)", "allowed: an absolute"),
    (
        METRICS,
        LEDGER.replace("opportunities =", "performance ="),
        "storage.performance is the file of",
        "a file of its own",
    ),
    (
        "[storage]",
        '[storage]\npassword = "file:/x"',
        "storage.password is set, and no place is",
        "only with such a URL",
    ),
    (
        "[storage]",
        '[storage]\npassword = "hunter2"',
        "storage.password is wrong (it is no ref",
        "never the secret itself",
    ),
    ("6379/0", "6379/zero", "bus.url is wrong (its database is no number)", "allowed: redis://"),
    ("redis://", "redis://:hunter2@", "bus.url is wrong (it holds a password or parameters)", "without a password"),
    ('url = "redis', '# url = "redis', "bus.password is set without bus.url", "allowed: only with bus.url"),
    ("max_length = 10_000", "max_length = 0", "bus.max_length is 0", "allowed: a whole number from 1 to 10000000"),
    ('"127.0.0.1:9111"', '"0.0.0.0:9111"', "metrics.strategy_engine is '0.0.0.0:9111' (everyone", "allowed: IP:PORT"),
    (
        '"127.0.0.1:9111"',
        '"127.0.0.1:0"',
        "metrics.strategy_engine is '127.0.0.1:0' (it has no port",
        "allowed: IP:PORT",
    ),
    ('"127.0.0.1:9111"', '"localhost:9111"', "metrics.strategy_engine is 'localhost:9111' (", "allowed: IP:PORT"),
    ('"127.0.0.1:9111"', '"::1:9111"', "metrics.strategy_engine is '::1:9111' (it is not written so", "[IPv6]:PORT"),
    ('"127.0.0.1:9114"', '"10.0.0.1:9114"', "control.listen is 10.0.0.1:9114", "allowed: a loopback address"),
    ("credential:control_token", "hunter2", "control.token is wrong (it is no reference)", "never the secret itself"),
    ("strategy_plugins = []", 'strategy_plugins = ["a b"]', "strategy_plugins is ['a b']", "each MODULE:FUNCTION"),
    ("directory = ", "folder = ", "logging.folder is not a known key", "allowed: directory, level"),
    ('level = "info"', 'level = "loud"', "logging.level is 'loud'", "allowed: debug, info, warning, error"),
    ('"credential:signer_key"', '"0x1234"', "signer.key is wrong (it is no reference)", "never the key itself"),
    ("min_profit_wei = 100_000_000_000_000 ", "", "risk.min_profit_wei is missing", "allowed: a whole number of wei"),
    ("max_in_flight = 1", "max_in_flight = 0", "risk.max_in_flight is 0", "allowed: a whole number from 1 to 1000"),
    ("max_in_flight = 1", 'max_in_flight = "1"', "risk.max_in_flight is '1'", "allowed: a whole number"),
    (
        "max_in_flight = 2",
        "max_in_fligth = 2",
        "chains.ethereum.risk.max_in_fligth is not",
        "allowed: max_amount_in_wei",
    ),
    ("max_in_flight = 2", "max_in_flight = -2", "chains.ethereum.risk.max_in_flight is -2", "allowed: a whole number"),
    (
        "max_gas_price_wei = 200_000_000_000",
        "max_gas_price_wei = 2e11",
        "max_gas_price_wei is 2",
        "allowed: a whole number",
    ),
    ("max_daily_loss_wei = 1", "max_daily_loss_wei = -1", "risk.max_daily_loss_wei is -1", "0 or more"),
    (
        "deny_tokens = []",
        'deny_tokens = ["0x12"]',
        "risk.deny_tokens is ['0x12']",
        "allowed: a list, each 0x and 40 hex",
    ),
    ("\nid = 1", "\nid = 0", "chains.ethereum.id is 0", "allowed: a chain id of 1 or more"),
    ("\nid = 1", "\nid = true", "chains.ethereum.id is True", "allowed: a chain id"),
    (
        'ws = "ws://127.0.0.1:8546"',
        'ws = "http://127.0.0.1:8546"',
        "chains.ethereum.ws is no WebSocket",
        "a ws:// or wss://",
    ),
    (
        'ws = "ws://127.0.0.1:8546"',
        'ws = "ws://"',
        "chains.ethereum.ws is wrong (it names no host)",
        "a ws:// or wss:// URL",
    ),
    (
        'ws = "ws://127.0.0.1:8546"',
        'ws = "ws://h:99999"',
        "chains.ethereum.ws is wrong (Port out of range",
        "a ws:// or wss:// URL",
    ),
    ('http = "http:', 'http = "ftp:', "chains.ethereum.http is no HTTP", "an http:// or https://"),
    (
        "block_seconds = 12.0",
        "block_seconds = 0",
        "chains.ethereum.block_seconds is 0",
        "allowed: seconds, more than 0",
    ),
    (
        "block_seconds = 12.0",
        "block_seconds = nan",
        "chains.ethereum.block_seconds is nan",
        "allowed: seconds, more than 0",
    ),
    (
        "block_seconds = 12.0",
        "block_seconds = inf",
        "chains.ethereum.block_seconds is inf",
        "allowed: seconds, more than 0",
    ),
    ("0xC02aaA39b223FE8D0A0e", "0xc02aaA39b223FE8D0A0e", "chains.ethereum.wrapped_native is", "EIP-55"),
    (
        "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2",
        "0x" + 40 * "0",
        "chains.ethereum.wrapped_native is",
        "not all zero",
    ),
    (
        "decimals = 6",
        "decimals = 37",
        "chains.ethereum.tokens[1].decimals is 37",
        "allowed: a whole number from 0 to 36",
    ),
    ("decimals = 6", "decimal = 6", "chains.ethereum.tokens[1].decimal is not", "allowed: "),
    (
        'symbol = "USDC"',
        'symbol = "US DC"',
        "chains.ethereum.tokens[1].symbol is 'US DC'",
        "allowed: 1 to 32 printable",
    ),
    (
        "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
        "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2",
        "chains.ethereum.tokens[1].address is 0xc02aaa39",
        "both WETH and USDC; allowed: each once",
    ),
    (
        "fee_numerator = 997",
        "fee_numerator = 1001",
        "chains.ethereum.v2_factories[0].fee_numerator is 1001",
        "allowed: at most",
    ),
    (
        "fee_numerator = 997",
        "fee_numerator = 0",
        "chains.ethereum.v2_factories[0].fee_numerator is 0",
        "allowed: a whole number",
    ),
    ("every_minutes = 10.0", "every_minutes = 0.0", "snapshots.every_minutes is 0.0", "allowed: minutes, more than 0"),
    ('mev/snapshots"', 'mev/snapshots"\nfiles = 3', "snapshots.files is not a known key", "allowed: directory"),
    ("max_hops = 3", "max_hops = 5", "chains.ethereum.max_hops is 5", "allowed: 2, 3 or 4 swaps"),
    ("max_tokens = 100", "max_tokens = 0", "chains.ethereum.discovery.max_tokens is 0", "from 1 to 10000"),
    ("first_block = 10_000_835", "first_block = -1", "discovery.first_block is -1", "allowed: a block's number"),
    ("first_block = 15_331_586", "first_block = -1", "compound_v3[0].first_block is -1", "allowed: a block's number"),
    ('name = "usdc"', 'name = "aave_v3"', "chains.ethereum.compound_v3[0].name is aave_v3", "allowed"),
    (
        "0xc3d688B66703497DAA19211EEdff47f25384cdc3",
        "0x87870Bca3F3fD6335C3F4ce8392D69350B4fA4E2",
        "chains.ethereum.compound_v3[0].pool is 0x87870bca3f3fd6335c3f4ce8392d69350b4fa4e2",
        "allowed",
    ),
    (
        'factories = ["uniswap_v2", "uniswap_v3"]',
        'factories = ["uniswap_v2", "sushi"]',
        "chains.ethereum.routers[0].factories names sushi",
        "allowed: aerodrome, algebra, uniswap_v2, uniswap_v3, uniswap_v4 (the chain's factories)",
    ),
    (
        'factories = ["uniswap_v2", "uniswap_v3"]',
        'factories = ["uniswap_v2", "uniswap_v2"]',
        "chains.ethereum.routers[0].factories names uniswap_v2 and uniswap_v2",
        "allowed: one factory of a kind (V2, V3, Solidly, Algebra, V4) at most",
    ),
    ('factories = ["uniswap_v2", "uniswap_v3"]', "factories = []", "routers[0].factories is []", "1 to 5 names"),
    (
        'name = "aerodrome"',
        'name = "uniswap_v2"',
        "solidly_factories[0].name is uniswap_v2, that of both",
        "allowed: each once",
    ),
    (
        'pools = ["0x96646936b91d6b9d7d0c47c496afbf3d6ec7b6f8000200000000000000000019"]',
        'pools = ["0x96646936b91d6b9d7d0c47c496afbf3d6ec7b6f8"]',
        "chains.ethereum.balancer_vaults[0].pools is ['0x9664",
        "allowed: a list of 1 to 256 pools' ids, each 0x and 64 hexadecimal digits",
    ),
    (
        'pools = ["0x96646936b91d6b9d7d0c47c496afbf3d6ec7b6f8000200000000000000000019"]',
        "pools = []",
        "chains.ethereum.balancer_vaults[0].pools is []",
        "allowed: a list of 1 to 256",
    ),
    (
        '"0x96646936b91d6b9d7d0c47c496afbf3d6ec7b6f8000200000000000000000019"]',
        f'"{2 * "0x96646936B91d6b9d7d0c47c496afbf3d6ec7b6f8000200000000000000000019"}"]'.replace("190x", '19", "0x'),
        "chains.ethereum.balancer_vaults[0].pools[1] is 0x96646936b91d6b9d7d0c47c496afbf3d6ec7b6f8000200000000000000000019",
        "both balancer_v2 and balancer_v2; allowed: each once",
    ),
    ('name = "balancer_v2"', 'name = "uniswap_v2"', "balancer_vaults[0].name is uniswap_v2", "allowed: each once"),
    ('name = "threepool"', 'name = "balancer_v2"', "curve_pools[0].name is balancer_v2", "allowed: each once"),
    ('name = "threepool"', 'name = "3pool"', "curve_pools[0].name is '3pool'", "allowed: 1 to 32 of a-z"),
    (
        "0xbEbc44782C7dB0a1A60Cb6fe97d0b483032FF1C7",
        "0xBA12222222228d8Ba445958a75a0704d566BF2C8",
        "curve_pools[0].address is 0xba12222222228d8ba445958a75a0704d566bf2c8",
        "both balancer_v2 and threepool; allowed: each once",
    ),
    ("fees = [500, 3000]", "fees = []", "v3_factories[0].fees is []", "allowed: 1 to 16 fees in millionths"),
    ("fees = [500, 3000]", "fees = [500.5]", "v3_factories[0].fees is [500.5]", "allowed: 1 to 16 fees"),
    ("fees = [500, 3000]", "fees = [0]", "v3_factories[0].fees[0] is 0", "allowed: from 1 to 999999 millionths"),
    ("fees = [500, 3000]", "fees = [500, 10**6]".replace("10**6", "1000000"), "fees[1] is 1000000", "from 1 to 999999"),
    ("fees = [500, 3000]", "fees = [500, 500]", "fees[1] is 500, which stands there twice", "allowed: each once"),
    ("fees = [500, 3000]", "fee = [500]", "v3_factories[0].fee is not a known key", "allowed: name, address, fees"),
    (
        'name = "uniswap_v3"',
        'name = "uniswap_v2"',
        "v3_factories[0].name is uniswap_v2, that of both",
        "allowed: each once",
    ),
    (
        "0x1F98431c8aD98523631AE4a59f267346ea31F984",
        "0x5C69bEe701ef814a2B6a3EDD4B1652CB9cc5aA6f",
        "v3_factories[0].address is 0x5c69bee7",
        "both uniswap_v2 and uniswap_v3; allowed: each once",
    ),
    ("[chains.ethereum]", "[chains.base]\n[chains.ethereum]", "chains.base.id is missing", "allowed: a chain id"),
    (
        "[chains.ethereum]",
        "[chains]\nbase = 7\n[chains.ethereum]",
        "chains.base is no table but int",
        "allowed: a table",
    ),
    *(
        (
            "http://127.0.0.1:4318",
            url,
            "traces.endpoint is wrong",
            "allowed: https://HOST:PORT, or http:// with localhost",
        )
        for url in (
            "http://collector.example:4318",
            "http://203.0.113.7:4318",
            "http://[::ffff:203.0.113.7]:4318",
            "http://[2001:db8::7]:4318",
            "http://u:p@127.0.0.1:4318",
            "https://collector.example/?key=5e5a4e",
            "grpc://127.0.0.1:4317",
            "https://",
        )
    ),
    ("sample_ratio = 1.0", "sample_ratio = 0.0", "traces.sample_ratio is 0.0", "more than 0 and at most 1"),
    ("sample_ratio = 1.0", "sample_ratio = 1.5", "traces.sample_ratio is 1.5", "more than 0 and at most 1"),
    ('endpoint = "http://127.0.0.1:4318"', "", "traces.endpoint is missing", "allowed: https://HOST:PORT"),
    (
        '# authorization = "credential:traces_authorization"',
        'authorization = "Bearer 5e5a4e"',
        "traces.authorization is wrong",
        'allowed: "credential:NAME"',
    ),
    ('mode = "observe"', "mode = ", "mode is not TOML: Invalid value", "allowed: TOML 1.0"),
]


@pytest.mark.parametrize(("old", "new", "what", "allowed"), WRONG)
def test_what_is_wrong_is_one_sentence(path: Path, old: str, new: str, what: str, allowed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(changed(path, old, new))
    message = str(caught.value)
    assert re.match(rf"{re.escape(str(path))}:[0-9]+: ", message)
    assert what in message
    assert allowed in message
    assert "\n" not in message


ON_LINES = [
    ('mode = "observe"', 'mode = "auto"', 'mode = "auto"'),
    ("[storage]", "[storage]\nbackup = 1", "backup = 1"),
    # What is missing is missing in its table.
    ("min_profit_wei = 100_000_000_000_000 ", "", "[risk]"),
    ("decimals = 6", "decimal = 6", "decimal = 6"),
    ('symbol = "USDC", ', "", "decimals = 6"),
    ('"https://rpc.example/key"', '"ftp://rpc.example/key"', "ftp://rpc.example"),
    ('"ipc:///run/erigon/erigon.ipc"', '"ipc://erigon.ipc"', "more_end_points = ["),
    ("max_in_flight = 2", "max_in_flight = 0", "max_in_flight = 0"),
    ("[risk.tokens.WETH]", "[risk.tokens.DOGE]", "[risk.tokens.DOGE]"),
    ("fee_numerator = 997", "fee_numerator = 1001", "fee_numerator = 1001"),
    ('level = "info"', 'level = "info', 'level = "info'),
    ('level = "info"', 'level = "info"\nlevel="info"', 'level="info"'),
    ("[bus]", "[storage]", "[storage]                                    # optional"),
    ("[risk]", '[[risk]]\n[risk.x]\ny = """\n\n"""\n', "[[risk]]"),
]


@pytest.mark.parametrize(("old", "new", "row"), ON_LINES)
def test_what_is_wrong_is_told_with_its_line(path: Path, old: str, new: str, row: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(changed(path, old, new))
    text = path.read_text(encoding="utf-8")
    assert str(caught.value).startswith(f"{path}:{text[: text.index(row)].count(chr(10)) + 1}: ")


def test_what_the_whole_document_lacks_is_on_no_line(path: Path) -> None:
    path.write_text("# nothing yet\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: storage is missing; allowed: a table"


def test_metrics_are_served_where_it_says(path: Path) -> None:
    config = load(changed(path, '"127.0.0.1:9112"', '"[::1]:9112"'))
    served = config.metrics.strategy_engine, config.metrics.analytics_engine
    assert [(listen.address, listen.port) for listen in served if listen] == [("127.0.0.1", 9111), ("::1", 9112)]


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:4318",
        "http://10.8.0.1:4318/",
        "http://[::1]:4318",
        "http://[fd00::1]:4318",
        "https://collector.example:4318",
        "https://203.0.113.7",
    ],
)
def test_spans_go_to_this_site_or_over_tls(path: Path, url: str) -> None:
    traces = load(changed(path, "http://127.0.0.1:4318", url)).traces
    assert traces is not None
    assert (traces.url, traces.sample_ratio) == (f"{url.rstrip('/')}/v1/traces", 1.0)


def test_without_a_table_there_are_no_traces(path: Path) -> None:
    text = example()
    path.write_text(text[: text.index("[traces]")] + text[text.index("[logging]") :], encoding="utf-8")
    assert load(path).traces is None


def test_live_needs_a_signer(path: Path) -> None:
    text = example().replace('mode = "observe"', 'mode = "live"')
    path.write_text(text, encoding="utf-8")
    assert load(path).mode is Mode.LIVE
    path.write_text(re.sub(r"\[signer\][^\[]*", "", text), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"signer is missing and mode is live; allowed: \[signer\]"):
        load(path)


def test_two_chains_are_not_one(path: Path) -> None:
    text = example()
    chain = text[text.index("[chains.ethereum]") :].replace("chains.ethereum", "chains.base")
    path.write_text(text + chain, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"chains\.base\.id is 1, that of both ethereum and base"):
        load(path)


def test_a_chain_s_name_is_for_ledgers_and_command_lines(path: Path) -> None:
    path.write_text(example().replace("chains.ethereum", 'chains."Ethereum 1"'), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"chains\.Ethereum 1 is no chain's name; allowed: 1 to 32 of a-z"):
        load(path)


def test_no_message_shows_a_key_or_a_url(path: Path) -> None:
    for old, new in (
        ('"credential:signer_key"', '"5e5a4e"'),
        ('"ws://127.0.0.1:8546"', '"://5e5a4e"'),
        ("[signer]", "signer = '5e5a4e'\n[x]"),
        ('key = "credential:signer_key"', 'key = "5e5a4e'),
        ('key = "credential:signer_key"', "key = 5e5a4e5e"),
    ):
        with pytest.raises(ConfigError) as caught:
            load(changed(path, old, new))
        assert "5e5a4e" not in str(caught.value)


def test_some_chain_must_be_there(path: Path) -> None:
    text = example()
    path.write_text(text[: text.index("[chains.ethereum]")] + "[chains]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="chains has no chain"):
        load(path)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml cannot be read: No such file or directory; name the file"):
        load(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)
    (tmp_path / "binary").write_bytes(b"# one\n\xff\xfe\x00")
    with pytest.raises(
        ConfigError, match=r"binary:2: is not TOML: invalid start byte in UTF-8; allowed: text in UTF-8"
    ):
        load(tmp_path / "binary")


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from(["mode", "strategies", "storage", "logging", "risk", "signer", "chains", "tokens", "ethereum"])


@given(st.dictionaries(keys, values | st.dictionaries(keys, values, max_size=3), max_size=7))
def test_no_document_raises_anything_else(document: dict[str, Any]) -> None:
    with pytest.raises(StructureError):
        module.read(document)
