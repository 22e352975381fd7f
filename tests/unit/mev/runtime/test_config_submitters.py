"""By which way a chain's trades leave, as the configuration says it: one kind a chain, keys by reference, nothing that leaks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mev.runtime.config import ConfigError, SecretError, load
from mev.runtime.config_submitters import PrivateMethod, RelayUrl, SubmitterKind, relay_url

from tests.unit.mev.runtime.test_config import example

BUILDER = '{ name = "one", kind = "bundles", url = "https://one.example", identity = "credential:identity" }'


def configured(path: Path, *submitters: str) -> Path:
    text = example()
    start = text.index("submitters = [")
    end = text.index("\n]", start) + 2
    path.write_text(text[:start] + f"submitters = [{', '.join(submitters)}]" + text[end:], encoding="utf-8")
    return path


def test_the_documented_example_sends_bundles(tmp_path: Path) -> None:
    path = tmp_path / "mev.toml"
    path.write_text(example(), encoding="utf-8")
    (builder,) = load(path).chains["ethereum"].submitters
    assert (builder.name, builder.kind, builder.url) == (
        "flashbots",
        SubmitterKind.BUNDLES,
        "https://relay.flashbots.net",
    )
    assert builder.timeout_seconds == 2.0


def test_they_can_be_written_as_tables_of_their_own(tmp_path: Path) -> None:
    path = configured(tmp_path / "mev.toml")
    text = path.read_text().replace("submitters = []", "")
    path.write_text(
        text + '\n[[chains.ethereum.submitters]]\nname = "p"\nkind = "private_rpc"\nurl = "https://p.example/k"\n'
        'method = "eth_sendPrivateTransaction"\n',
        encoding="utf-8",
    )
    (private,) = load(path).chains["ethereum"].submitters
    assert private.method is PrivateMethod.PRIVATE
    path.write_text(path.read_text().replace("https://p.example/k", "ftp://p.example/5e5a4e"), encoding="utf-8")
    with pytest.raises(ConfigError, match=rf":{path.read_text().count(chr(10)) - 1}: chains.*submitters\[0\]\.url is"):
        load(path)


@pytest.mark.parametrize(
    ("submitters", "what", "allowed"),
    [
        (
            (BUILDER, '{ name = "p", kind = "private_rpc", url = "https://p.example" }'),
            "submitters[1].kind is private_rpc, and another one's is bundles",
            "one kind a chain",
        ),
        ((BUILDER, BUILDER), "name is one, that of another one too", "each once"),
        (
            ('{ name = "a", kind = "public" }', '{ name = "b", kind = "public" }'),
            "kind is public, and there are others",
            "public by itself",
        ),
        (('{ name = "a", kind = "public", url = "https://a.example" }',), "url is set and kind is public", "with"),
        (('{ name = "a", kind = "private_rpc" }',), "url is missing", "https:// URL"),
        (('{ name = "a", kind = "bundles", url = "https://a.example" }',), "identity is missing", "credential:NAME"),
        (('{ name = "a", kind = "plugin" }',), "plugin is missing", "MODULE:FUNCTION"),
        (('{ name = "a", kind = "plugin", plugin = "x" }',), "plugin is 'x'", "MODULE:FUNCTION"),
        (('{ name = "a", kind = "fastest" }',), "kind is 'fastest'", "public, private_rpc, bundles, plugin"),
        ((BUILDER.replace("}", ', method = "eth_sendPrivateTransaction" }'),), "method is set", "with private_rpc"),
        ((BUILDER.replace("}", ', settings = { a = "b" } }'),), "settings is set and kind is bundles", "with plugin"),
        ((BUILDER.replace("https://one", "http://one"),), "url is wrong", "http:// with localhost"),
        ((BUILDER.replace("https://one", "https://u:5e5a4e@one"),), "url is wrong", "https://HOST"),
        ((BUILDER.replace('"credential:identity"', '"5e5a4e"'),), "identity is wrong", "credential:NAME"),
        (
            tuple(BUILDER.replace('"one"', f'"b{number}"') for number in range(17)),
            "submitters has 17",
            "at most 16",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, submitters: tuple[str, ...], what: str, allowed: str) -> None:
    path = configured(tmp_path / "mev.toml", *submitters)
    with pytest.raises(ConfigError) as caught:
        load(path)
    message = str(caught.value)
    assert re.match(rf"{re.escape(str(path))}:[0-9]+: chains\.ethereum\.submitters", message)
    assert what in message
    assert allowed in message
    assert "5e5a4e" not in message


def test_a_url_with_a_key_is_kept_as_a_secret(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.touch(mode=0o600)
    file.write_text("https://relay.example/5e5a4e5e5a4e\n")
    assert relay_url(RelayUrl(f"file:{file}")) == "https://relay.example/5e5a4e5e5a4e"
    for content in ("http://relay.example/5e5a4e", f"file:{file}", "5e5a4e", "https://relay.example/5e5a4e\udcff"):
        file.write_bytes(content.encode(errors="surrogateescape"))
        with pytest.raises(SecretError) as caught:
            relay_url(RelayUrl(f"file:{file}"))
        assert "5e5a4e" not in str(caught.value)
