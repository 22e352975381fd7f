"""What a stand-in takes and refuses before it starts: command line, configuration files, environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from lab.standins.client import plan
from lab.standins.client.arguments import (
    CLAP,
    COBRA,
    COLLECTED,
    FALSE,
    SUBCOMMANDS,
    SWITCHES,
    TRUE,
    VALUED,
    RefusedError,
    parse,
)
from lab.standins.client.plan import Api, Plan
from roles.chain_service.filter_plugins import client_names as names

PROGRAMS = tuple(names.FLAG_LISTS)
GO = tuple(program for program in PROGRAMS if program not in CLAP)
EVERYWHERE = "0.0.0.0"  # noqa: S104 - where the clients listen by default; nothing is bound here
LISTS = names.ROLE / "files"
# A flag that this client takes and that other one does not.
STRANGERS = [
    ("op-reth", "authrpc.vhosts", "geth"),
    ("op-reth", "http.vhosts", "geth"),
    ("base-reth-node", "l2.jwt-secret", "op-node"),
    ("geth", "rollup.sequencer", "op-reth"),
    ("op-node", "authrpc.jwtsecret", "op-reth"),
    ("base-consensus", "l1.rpckind", "op-node"),
    ("erigon", "ws.addr", "geth"),
    ("bor", "rest-server", "heimdalld"),
    ("heimdalld", "datadir", "bor"),
    ("nitro", "datadir", "erigon"),
]
BOR = """
chain = "mainnet"
datadir = "/srv/bor"
"db.engine" = "pebble"
[p2p]
port = 30306
[jsonrpc.http]
enabled = true
host = "127.0.0.3"
port = 8547
api = ["eth", "bor"]
[jsonrpc.auth]
addr = "127.0.0.3"
port = 8557
jwtsecret = "/srv/jwt"
[grpc]
addr = "127.0.0.3:3131"
"""
HEIMDALL = {
    "app.toml": '[api]\naddress = "tcp://127.0.0.3:1317"\n[grpc]\naddress = "127.0.0.3:9091"\n[custom]\nchain = "mainnet"\n',
    "config.toml": '[rpc]\nladdr = "tcp://127.0.0.3:26657"\npprof_laddr = "127.0.0.3:6061"\n[p2p]\nladdr = "tcp://127.0.0.3:26656"\n',
    "client.toml": 'chain-id = "heimdallv2-137"\n',
}
BASE_CONSENSUS = {
    "BASE_NODE_NETWORK": "base",
    "BASE_NODE_L1_ETH_RPC": "http://127.0.0.1:8545",
    "BASE_NODE_L2_ENGINE_RPC": "ws://127.0.0.2:8561",
    "BASE_NODE_L2_ENGINE_AUTH": "/srv/jwt",
}
NITRO = ["--chain.id=42161", "--parent-chain.id=1"]
OP_NODE = ["--network=op-mainnet", "--l1=http://127.0.0.1:8545", "--l2=http://127.0.0.5:8559"]


def line(program: str, *arguments: str) -> list[str]:
    """A command line after the program's name."""
    return [*SUBCOMMANDS.get(program, ()), *arguments]


def refusal(program: str, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """What the client says about these flags instead of starting."""
    with pytest.raises(RefusedError) as refused:
        plan.of(program, parse(program, line(program, *arguments)), environment or {})
    assert refused.value.code in (1, 2)
    # What clap says of its help follows the one sentence.
    return str(refused.value).partition("\n\nFor more information")[0]


def planned(program: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Plan:
    return plan.of(program, parse(program, line(program, *arguments)), environment or {})


def bor_with(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "bor.toml"
    path.write_text(text)
    return ["-config", str(path)]


def heimdall_with(tmp_path: Path, **more: str) -> list[str]:
    directory = tmp_path / "config"
    directory.mkdir()
    for name, text in HEIMDALL.items():
        # A key on top: after a table's header it would be the table's.
        (directory / name).write_text(more.get(name.removesuffix(".toml"), "") + text)
    return [f"--home={tmp_path}", "--chain=mainnet", "--rest-server"]


def nitro_with(tmp_path: Path, settings: object) -> list[str]:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(settings))
    return [f"--conf.file={path}"]


def listed(kind: str, name: str) -> set[str]:
    rows = (LISTS / kind / f"{name}.txt").read_text().splitlines()
    return {row.replace('"', "") for row in rows if row and not row.startswith("#")}


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_unknown_flag_is_refused_by_name(program: str) -> None:
    for arguments in (["--no-such-flag"], ["--no-such-flag=1"], ["--no-such-flag", "1"]):
        said = refusal(program, *arguments)
        assert "no-such-flag" in said
        assert "\n" not in said


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_family_of_parsers_refuses_with_its_own_words_and_exit_code(program: str) -> None:
    with pytest.raises(RefusedError) as refused:
        parse(program, line(program, "--no-such-flag"))
    if program in CLAP:
        expected = (2, "error: unexpected argument '--no-such-flag' found\n\nFor more information, try '--help'.")
    elif program in COBRA:
        expected = (1, "Error: unknown flag: --no-such-flag")
    else:
        expected = (1, "flag provided but not defined: -no-such-flag")
    assert (refused.value.code, str(refused.value)) == expected


@pytest.mark.parametrize(("program", "flag", "owner"), STRANGERS)
def test_another_client_s_flag_is_refused_by_name(program: str, flag: str, owner: str) -> None:
    word = f"--{flag}" if flag in SWITCHES else f"--{flag}=1"
    assert flag in parse(owner, line(owner, word)).flags
    assert flag in refusal(program, word)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_flag_of_the_client_s_list_is_taken(program: str) -> None:
    switches = SWITCHES - VALUED.get(program, set())
    # Released op-reth refuses this one although reth's list has it.
    for flag in names.flags_of(program) - ({"minimal"} if program == "op-reth" else set()):
        # A flag of one letter has one dash.
        dashes = "-" if len(flag) == 1 else "--"
        word, expected = (
            (f"{dashes}{flag}", "true") if flag in switches else (f"{dashes}{flag}=some,value=x", "some,value=x")
        )
        assert parse(program, line(program, word)).flags == {flag: expected}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_flag_without_its_value_is_refused_by_name(program: str) -> None:
    first, second = sorted(flag for flag in names.flags_of(program) - SWITCHES if len(flag) > 1)[:2]
    assert first in refusal(program, f"--{first}")
    # The next flag is no value, and is looked at itself.
    assert first in refusal(program, f"--{first}", f"--{second}=1")


def test_a_value_may_be_the_next_word() -> None:
    assert parse("erigon", ["--chain", "sepolia", "--ws", "--http.port", "1"]).flags == {
        "chain": "sepolia",
        "ws": "true",
        "http.port": "1",
    }


@pytest.mark.parametrize("program", ["op-reth", "base-reth-node"])
def test_reth_s_metrics_flag_takes_an_address(program: str) -> None:
    assert parse(program, ["node", "--metrics", "127.0.0.1:9010"]).text("metrics") == "127.0.0.1:9010"
    assert "metrics" in refusal(program, "--metrics", "--full")
    assert "'9010'" in refusal(
        program, "--chain=optimism" if program == "op-reth" else "--chain=base", "--metrics='9010'"
    )


@pytest.mark.parametrize(
    ("program", "flag"), [("op-reth", "full"), ("base-reth-node", "ws"), ("base-consensus", "metrics.enabled")]
)
def test_clap_s_switches_take_no_value(program: str, flag: str) -> None:
    said = refusal(program, f"--{flag}=true")
    assert f"'--{flag}'" in said
    assert "'true'" in said


@pytest.mark.parametrize(("program", "flag"), [("erigon", "ws"), ("geth", "metrics"), ("nitro", "metrics")])
def test_go_s_switches_take_a_boolean(program: str, flag: str) -> None:
    for word in TRUE:
        assert parse(program, [f"--{flag}={word}"]).has(flag)
    for word in FALSE:
        assert not parse(program, [f"--{flag}={word}"]).has(flag)
    for word in ("yes", "", "127.0.0.1:6060"):
        said = refusal(program, f"--{flag}={word}")
        assert f"-{flag}" in said
        assert f'"{word}"' in said


@pytest.mark.parametrize("program", sorted(CLAP))
def test_clap_hears_a_flag_once_unless_it_collects_it(program: str) -> None:
    flag = min(flag for flag in names.flags_of(program) - SWITCHES - COLLECTED if len(flag) > 1)
    assert f"'--{flag}'" in refusal(program, f"--{flag}=1", f"--{flag}=1")
    collected = sorted(names.flags_of(program) & COLLECTED - {"v"})
    assert collected
    for name in collected:
        assert parse(program, line(program, f"--{name}=a", f"--{name}=b")).text(name) == "b"


@pytest.mark.parametrize("program", GO)
def test_of_a_flag_given_twice_go_s_parsers_keep_the_last(program: str) -> None:
    flag = min(flag for flag in names.flags_of(program) - SWITCHES if len(flag) > 1)
    assert parse(program, line(program, f"--{flag}=a", f"--{flag}=b")).flags == {flag: "b"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_one_dash_is_enough_for_go_s_own_parsers_only(program: str) -> None:
    flag = min(flag for flag in names.flags_of(program) - SWITCHES if len(flag) > 1)
    if program in CLAP | COBRA:
        assert f"'-{flag}=1'" in refusal(program, f"-{flag}=1")
    else:
        assert parse(program, line(program, f"-{flag}=1")).flags == {flag: "1"}
    assert flag in refusal(program, f"---{flag}=1")


@pytest.mark.parametrize("program", sorted(CLAP))
def test_verbosity_is_counted_in_letters(program: str) -> None:
    parse(program, line(program, "-vvv", "-v"))


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("word", ["stray", "-", "--"])
def test_a_word_that_is_no_flag_is_refused(program: str, word: str) -> None:
    assert refusal(program, word) == f"{program}: unexpected argument '{word}'"


DOWNLOAD = ["download", "--full", "--datadir=/srv/base", "--chain=base", "--resumable"]


def test_a_download_takes_the_flags_that_are_known_and_no_other() -> None:
    told = parse("base-reth-node", DOWNLOAD)
    assert told.downloads
    assert told.flags == {"full": "true", "datadir": "/srv/base", "chain": "base", "resumable": "true"}
    for stranger in ("--http", "--authrpc.port=8561", "--url=https://snapshots.example.com", "--resumable"):
        with pytest.raises(RefusedError):
            parse("base-reth-node", [*DOWNLOAD, stranger])
    with pytest.raises(RefusedError, match="unexpected argument '--resumable'"):
        parse("base-reth-node", ["node", "--resumable"])
    with pytest.raises(RefusedError, match="expected the subcommand 'node', got 'download'"):
        parse("op-reth", DOWNLOAD)


@pytest.mark.parametrize("program", sorted(SUBCOMMANDS))
def test_the_subcommand_comes_first(program: str) -> None:
    wanted = SUBCOMMANDS[program][0]
    for words in ([], ["--help"], ["version", wanted]):
        with pytest.raises(RefusedError, match=f"expected the subcommand '{wanted}'"):
            parse(program, words)


def test_a_program_that_is_no_client_is_refused_with_those_there_are() -> None:
    with pytest.raises(RefusedError, match=r"there is no client 'lighthouse', only erigon, .*nitro"):
        parse("lighthouse", [])


def test_op_reth_has_no_minimal() -> None:
    assert "--minimal" in refusal("op-reth", "--chain=optimism", "--minimal")
    assert planned("base-reth-node", "--chain=base", "--minimal").chain_id == 8453


@pytest.mark.parametrize("value", ["", "0", "65536", "-1", "http", "8545 ", "0x10", "²", "9" * 5000])
def test_a_port_that_is_none_is_refused_by_its_flag(value: str) -> None:
    assert refusal("erigon", f"--http.port={value}").endswith("for flag -http.port: parse error")


@pytest.mark.parametrize(
    ("program", "flag"),
    [
        ("erigon", "private.api.addr"),
        ("op-reth", "metrics"),
    ],
)
@pytest.mark.parametrize("value", ["127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536"])
def test_an_address_without_a_port_is_refused(program: str, flag: str, value: str) -> None:
    assert f"address '{value}'" in refusal(program, f"--{flag}={value}")


@pytest.mark.parametrize(
    ("program", "arguments", "value"),
    [
        ("erigon", ["--chain=gnosis"], "gnosis"),
        ("op-reth", ["--chain=op-mainnet"], "op-mainnet"),
        ("base-reth-node", ["--chain=optimism"], "optimism"),
        ("geth", ["--op-network=optimism"], "optimism"),
        ("op-node", ["--network=optimism"], "optimism"),
        ("base-consensus", ["--chain=base-mainnet"], "base-mainnet"),
    ],
)
def test_a_network_that_the_client_calls_otherwise_is_refused(program: str, arguments: list[str], value: str) -> None:
    assert refusal(program, *arguments) == f"{program}: unknown network '{value}'"


def test_erigon_s_listeners_follow_from_its_flags() -> None:
    found = planned(
        "erigon", "--chain=sepolia", "--datadir=/srv/e", "--http.addr=127.0.0.6", "--http.port=1", "--http.api=eth, net",
        "--ws", "--ws.port=2", "--authrpc.addr=127.0.0.6", "--authrpc.port=3", "--authrpc.jwtsecret=/srv/jwt",
        "--private.api.addr=127.0.0.6:4", "--port=5", "--torrent.port=6", "--caplin.discovery.port=7",
        "--caplin.discovery.tcpport=8", "--caplin.discovery.quicport=9", "--sentinel.port=10", "--beacon.api=beacon",
        "--beacon.api.addr=127.0.0.6", "--beacon.api.port=11", "--metrics", "--metrics.addr=127.0.0.6", "--metrics.port=12",
    )  # fmt: skip
    assert found == Plan(
        program="erigon",
        chain_id=11155111,
        data=Path("/srv/e"),
        apis=(
            Api(("127.0.0.6", 1), frozenset({"eth", "net"})),
            Api(("127.0.0.6", 2), frozenset({"eth", "net"})),
            Api(("127.0.0.6", 3), frozenset({"engine", "eth"}), Path("/srv/jwt")),
        ),
        jwt=Path("/srv/jwt"),
        beacon=("127.0.0.6", 11),
        metrics=("127.0.0.6", 12),
        tcp=((EVERYWHERE, 5), (EVERYWHERE, 6), (EVERYWHERE, 8), ("127.0.0.6", 4), ("127.0.0.6", 10)),
        udp=((EVERYWHERE, 5), (EVERYWHERE, 6), (EVERYWHERE, 7), (EVERYWHERE, 9)),
    )


def test_erigon_serves_no_more_than_it_is_told() -> None:
    found = planned("erigon", "--http=false", "--authrpc.jwtsecret=/srv/jwt")
    assert [api.address[1] for api in found.apis] == [8551]
    assert (found.beacon, found.metrics) == (None, None)
    shared = planned("erigon", "--ws", "--ws.port=8545", "--authrpc.jwtsecret=/srv/jwt")
    assert [api.address[1] for api in shared.apis] == [8545, 8551]


@pytest.mark.parametrize(
    ("program", "chain", "chain_id"), [("op-reth", "optimism", 10), ("base-reth-node", "base", 8453)]
)
def test_reth_s_listeners_follow_from_its_flags(program: str, chain: str, chain_id: int) -> None:
    found = planned(
        program, f"--chain={chain}", "--datadir=/srv/r", "--http", "--http.addr=127.0.0.5", "--http.port=1", "--ws",
        "--ws.addr=127.0.0.5", "--ws.port=2", "--ws.api=eth,debug", "--authrpc.port=3", "--authrpc.jwtsecret=/srv/jwt",
        "--addr=127.0.0.5", "--port=4", "--discovery.addr=127.0.0.5", "--discovery.port=5", "--discovery.v5.port=6",
        "--metrics=127.0.0.5:7",
    )  # fmt: skip
    assert (found.chain_id, found.data, found.jwt) == (chain_id, Path("/srv/r"), Path("/srv/jwt"))
    assert [(api.address, sorted(api.namespaces)) for api in found.apis] == [
        (("127.0.0.5", 1), ["eth", "net", "web3"]),
        (("127.0.0.5", 2), ["debug", "eth"]),
        (("127.0.0.1", 3), ["engine", "eth"]),
    ]
    assert found.tcp == (("127.0.0.5", 4),)
    assert found.udp == (("127.0.0.5", 5), ("127.0.0.5", 6))
    assert found.metrics == ("127.0.0.5", 7)


def test_http_and_websocket_of_reth_are_off_until_they_are_asked_for() -> None:
    assert [api.address for api in planned("op-reth", "--http.port=1", "--ws.port=2").apis] == [("127.0.0.1", 8551)]


def test_op_geth_is_told_its_network_by_another_flag() -> None:
    found = planned("geth", "--op-network=op-mainnet", "--datadir=/srv/g", "--port=4", "--metrics", "--metrics.port=5")
    assert (found.chain_id, found.data, found.metrics) == (10, Path("/srv/g"), ("127.0.0.1", 5))
    # Its discovery is where its P2P is, unless it is told otherwise.
    assert (found.tcp, found.udp) == (((EVERYWHERE, 4),), ((EVERYWHERE, 4),))


def test_op_node_follows_whom_its_flags_name() -> None:
    found = planned(
        "op-node", *OP_NODE, "--l2.jwt-secret=/srv/jwt", "--rpc.addr=127.0.0.5", "--rpc.port=1", "--p2p.listen.ip=127.0.0.5",
        "--p2p.listen.tcp=2", "--p2p.listen.udp=3", "--p2p.peerstore.path=/srv/n/peerstore", "--metrics.enabled",
        "--metrics.addr=127.0.0.5", "--metrics.port=4",
    )  # fmt: skip
    assert found == Plan(
        program="op-node",
        chain_id=10,
        data=Path("/srv/n"),
        role="consensus",
        own_rpc=("127.0.0.5", 1),
        jwt=Path("/srv/jwt"),
        engine="http://127.0.0.5:8559",
        parent="http://127.0.0.1:8545",
        parent_id=1,
        metrics=("127.0.0.5", 4),
        tcp=(("127.0.0.5", 2),),
        udp=(("127.0.0.5", 3),),
    )


@pytest.mark.parametrize("missing", ["l1", "l2"])
def test_op_node_needs_both_of_those_it_follows(missing: str) -> None:
    arguments = [argument for argument in OP_NODE if not argument.startswith(f"--{missing}=")]
    assert refusal("op-node", *arguments) == f"op-node: {missing} is required and was not given"


def test_base_consensus_is_told_by_its_environment() -> None:
    found = planned(
        "base-consensus",
        environment={
            **BASE_CONSENSUS, "BASE_NODE_RPC_ADDR": "127.0.0.2", "BASE_NODE_RPC_PORT": "1", "BASE_NODE_P2P_LISTEN_IP": "127.0.0.2",
            "BASE_NODE_P2P_LISTEN_TCP_PORT": "2", "BASE_NODE_P2P_LISTEN_UDP_PORT": "3", "BASE_NODE_P2P_BOOTSTORE": "/srv/b/bootstore",
            "BASE_NODE_METRICS_ENABLED": "true", "BASE_NODE_METRICS_ADDR": "127.0.0.2", "BASE_NODE_METRICS_PORT": "4",
            "PATH": "/bin",
        },
    )  # fmt: skip
    assert found == Plan(
        program="base-consensus",
        chain_id=8453,
        data=Path("/srv/b"),
        role="consensus",
        own_rpc=("127.0.0.2", 1),
        jwt=Path("/srv/jwt"),
        engine="ws://127.0.0.2:8561",
        parent="http://127.0.0.1:8545",
        parent_id=1,
        metrics=("127.0.0.2", 4),
        tcp=(("127.0.0.2", 2),),
        udp=(("127.0.0.2", 3),),
    )


def test_base_consensus_s_flags_come_before_its_environment() -> None:
    short = ["-n=base", "--l1=http://127.0.0.1:1", "--l2=ws://127.0.0.2:2", "--l2.jwt-secret=/srv/other", "--port=3"]
    long = [
        "--chain=base", "--l1-eth-rpc=http://127.0.0.1:1", "--l2-engine-rpc=ws://127.0.0.2:2",
        "--l2-engine-jwt-secret=/srv/other", "--rpc.port=3",
    ]  # fmt: skip
    for arguments in (short, long):
        found = planned(
            "base-consensus",
            *arguments,
            environment={**BASE_CONSENSUS, "BASE_NODE_NETWORK": "other", "BASE_NODE_RPC_PORT": "9"},
        )
        assert (found.parent, found.engine, found.jwt, found.own_rpc) == (
            "http://127.0.0.1:1",
            "ws://127.0.0.2:2",
            Path("/srv/other"),
            (EVERYWHERE, 3),
        )


def test_an_unknown_variable_of_base_consensus_is_refused_by_name() -> None:
    # op-node's name for it; variables of other programs are nobody's business.
    said = refusal("base-consensus", environment={**BASE_CONSENSUS, "BASE_NODE_L1_RPC": "x", "OP_NODE_L1": "x"})
    assert said == "error: unknown environment variable BASE_NODE_L1_RPC"


@pytest.mark.parametrize("missing", ["BASE_NODE_L1_ETH_RPC", "BASE_NODE_L2_ENGINE_RPC"])
def test_base_consensus_needs_both_of_those_it_follows(missing: str) -> None:
    environment = {name: value for name, value in BASE_CONSENSUS.items() if name != missing}
    assert missing in refusal("base-consensus", environment=environment)


@pytest.mark.parametrize("name", ["RPC_PORT", "METRICS_PORT", "P2P_LISTEN_TCP_PORT", "P2P_LISTEN_UDP_PORT"])
def test_a_variable_that_is_no_port_is_refused_by_name(name: str) -> None:
    said = refusal("base-consensus", environment={**BASE_CONSENSUS, f"BASE_NODE_{name}": "many"})
    assert said == f'invalid value "many" for BASE_NODE_{name}: parse error'


def test_bor_is_told_by_its_file_whatever_that_is_called(tmp_path: Path) -> None:
    found = planned("bor", *bor_with(tmp_path, BOR))
    assert found == Plan(
        program="bor",
        chain_id=137,
        data=Path("/srv/bor"),
        apis=(
            Api(("127.0.0.3", 8547), frozenset({"eth", "bor"})),
            Api(("127.0.0.3", 8557), frozenset({"engine", "eth"}), Path("/srv/jwt")),
        ),
        jwt=Path("/srv/jwt"),
        tcp=((EVERYWHERE, 30306), ("127.0.0.3", 3131)),
        udp=((EVERYWHERE, 30306),),
    )


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("log-level = 'info'\n", "log-level"),
        ("[jsonrpc.ws]\nvhosts = []\n", "jsonrpc.ws.vhosts"),
        ("[jsonrpc.https]\nport = 1\n", "jsonrpc.https.port"),
    ],
)
def test_a_key_that_bor_does_not_know_is_refused_by_name(tmp_path: Path, text: str, key: str) -> None:
    assert f"unknown key '{key}' in {tmp_path}" in refusal("bor", *bor_with(tmp_path, text))


def test_a_key_that_only_one_age_of_bor_knows_is_refused() -> None:
    newer, older = listed("config", "bor"), listed("config", "bor-2.3")
    assert newer - older
    assert older - newer
    assert names.keys_of("bor", "config.toml") == newer & older


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("port = 8547", 'port = "8547"'), "'jsonrpc.http.port'"),
        (("port = 8557", "port = 85570"), "'jsonrpc.auth.port'"),
        (("port = 30306", "port = true"), "'p2p.port'"),
        (('chain = "mainnet"', 'chain = "amoy"'), "unknown network 'amoy'"),
        (('addr = "127.0.0.3:3131"', 'addr = "127.0.0.3"'), "address '127.0.0.3'"),
        (("enabled = true", "enabled = "), "cannot read"),
    ],
)
def test_a_setting_that_bor_cannot_take_is_refused_by_name(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    changed = BOR.replace(*change)
    assert changed != BOR
    assert said in refusal("bor", *bor_with(tmp_path, changed))


def test_a_file_that_is_not_there_is_refused_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "absent"
    for program, flag in (("bor", "-config"), ("nitro", "--conf.file"), ("heimdalld", "--home")):
        assert str(path) in refusal(program, f"{flag}={path}")
    path.write_bytes(b"\xff\xfe")
    for program, flag in (("bor", "-config"), ("nitro", "--conf.file")):
        assert str(path) in refusal(program, f"{flag}={path}")


def test_bor_without_a_port_listens_on_its_own(tmp_path: Path) -> None:
    text = "chain = 'mainnet'\n[jsonrpc.http]\nenabled = true\n[jsonrpc.ws]\nenabled = true\n"
    assert [api.address for api in planned("bor", *bor_with(tmp_path, text)).apis] == [
        ("localhost", 8545),
        ("localhost", 8546),
        ("localhost", 8551),
    ]


def test_heimdall_is_told_by_its_three_files(tmp_path: Path) -> None:
    found = planned("heimdalld", *heimdall_with(tmp_path))
    assert found == Plan(
        program="heimdalld",
        chain_id=137,
        data=tmp_path / "data",
        role="heimdall",
        own_rpc=("127.0.0.3", 26657),
        rest=("127.0.0.3", 1317),
        parent_id=1,
        tcp=(("127.0.0.3", 26656), ("127.0.0.3", 9091), ("127.0.0.3", 6061)),
    )


@pytest.mark.parametrize("name", ["app", "config", "client"])
def test_a_key_that_heimdall_does_not_know_is_refused_by_name_and_file(tmp_path: Path, name: str) -> None:
    said = refusal("heimdalld", *heimdall_with(tmp_path, **{name: "no_such_key = 1\n"}))
    assert said == f"heimdalld: unknown key 'no_such_key' in {tmp_path}/config/{name}.toml"


def test_heimdall_s_chain_id_and_chain_must_be_one(tmp_path: Path) -> None:
    arguments = heimdall_with(tmp_path)
    (tmp_path / "config" / "client.toml").write_text('chain-id = "heimdallv2-80002"\n')
    assert refusal("heimdalld", *arguments) == "heimdalld: chain-id is 'heimdallv2-80002', expected 'heimdallv2-137'"


def test_nitro_listens_where_it_has_an_address_and_nowhere_else() -> None:
    ways = ["--http.addr=127.0.0.4", "--http.port=1", "--ws.addr=127.0.0.4", "--ws.port=2", "--ws.api=arb"]
    found = planned("nitro", *NITRO, *ways, "--auth.addr=127.0.0.4", "--auth.port=3", "--auth.jwtsecret=/srv/jwt")
    assert [(api.address, sorted(api.namespaces), api.jwt) for api in found.apis] == [
        (("127.0.0.4", 1), ["arb", "eth", "net", "web3"], None),
        (("127.0.0.4", 2), ["arb"], None),
        (("127.0.0.4", 3), ["eth", "validation"], Path("/srv/jwt")),
    ]
    assert [api.address for api in planned("nitro", *NITRO).apis] == [("127.0.0.1", 8549)]


@pytest.mark.parametrize(
    "arguments",
    [[], ["--chain.id=42161"], ["--chain.id=10", "--parent-chain.id=1"], ["--chain.id=one", "--parent-chain.id=1"]],
)
def test_nitro_refuses_a_pair_of_chains_that_it_does_not_know(arguments: list[str]) -> None:
    said = refusal("nitro", *arguments)
    assert "chain.id '" in said
    assert "parent-chain.id '" in said


def test_nitro_s_file_says_what_flags_would_and_flags_come_first(tmp_path: Path) -> None:
    settings = {
        "chain": {"id": 42161},
        "parent-chain": {"id": 1},
        "http": {"addr": "127.0.0.4", "port": 1, "api": ["eth", "arb"]},
        "metrics": False,
    }
    found = planned("nitro", *nitro_with(tmp_path, settings), "--http.port=2")
    assert found.apis[0] == Api(("127.0.0.4", 2), frozenset({"eth", "arb"}))
    assert found.metrics is None
    assert planned("nitro", *nitro_with(tmp_path, {**settings, "metrics": True})).metrics == ("127.0.0.1", 6070)


def test_a_key_that_nitro_does_not_know_is_refused_by_name(tmp_path: Path) -> None:
    said = refusal("nitro", *nitro_with(tmp_path, {"http": {"addr": "127.0.0.4", "vhost": "x"}}))
    assert f"unknown key 'http.vhost' in {tmp_path}" in said
    assert "holds no object" in refusal("nitro", *nitro_with(tmp_path, ["http"]))
