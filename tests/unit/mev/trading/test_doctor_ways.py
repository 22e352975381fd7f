"""What the doctor sees of those who sign and take trades elsewhere: asked, never given anything, and no secret of theirs shown."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from mev.insight.doctor_ways import ways
from mev.runtime.config import load

from tests.builders import Taker
from tests.unit.mev.trading.test_cli import config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["config"]

ADDRESS = "0x" + "19" * 20
OTHER = "0x" + "18" * 20
KEY = "K" * 24
HARMLESS = {"eth_chainId", "eth_accounts", "account_version"}


class Place(Taker):
    """A signer or a submitter that answers what it is told to by method; an error's text where it is no answer."""

    def __init__(self, **says: object) -> None:
        super().__init__()
        self.says = says
        self.others = set(says)
        self.answer = self._answer

    def _answer(self, said: dict[str, Any]) -> bytes:
        method = self.received[-1][0]
        if method in self.says:
            answer = self.says[method]
            said |= {"result": answer} if not isinstance(answer, Exception) else {}
            if isinstance(answer, Exception):
                said.pop("result", None)
                said["error"] = {"code": -32000, "message": str(answer)}
        return json.dumps(said).encode()

    @property
    def methods(self) -> list[str]:
        return [method for method, _ in self.received]


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place(eth_chainId="0x1", eth_accounts=[OTHER, ADDRESS])
    yield made
    made.close()


def seen(config: Path, tables: str) -> dict[str, tuple[bool, str]]:
    """Findings of a configuration with further tables at its end."""
    path = config.with_name("ways.toml")
    path.write_text(config.read_text() + tables)
    return {each.check: (each.well, each.seen) for each in asyncio.run(ways(load(path)))}


def kept(config: Path, name: str, content: str, mode: int = 0o600) -> str:
    path = config.parent / name
    path.write_text(content)
    path.chmod(mode)
    return f"file:{path}"


def signer(url: str, method: str = "eth_signTransaction") -> str:
    return f'[signer]\nurl = "{url}"\naddress = "{ADDRESS}"\nmethod = "{method}"\ntimeout_seconds = 60\n'


def submitter(url: str, kind: str = "private_rpc", more: str = "") -> str:
    return f'[[chains.ethereum.submitters]]\nname = "one"\nkind = "{kind}"\nurl = "{url}"\ntimeout_seconds = 60\n{more}'


def test_nobody_is_asked_where_nobody_is_configured(config: Path) -> None:
    assert seen(config, "") == {}
    assert seen(config, '[[chains.ethereum.submitters]]\nname = "nodes"\nkind = "public"\n') == {}


def test_a_signer_is_well_where_it_holds_the_key_and_is_on_the_chain(config: Path, place: Place) -> None:
    well, told = seen(config, signer(place.url))["remote signer"]
    assert well
    assert told.lower() == f"it holds the key of {ADDRESS}, on chain 1"
    assert set(place.methods) <= HARMLESS


@pytest.mark.parametrize(
    ("says", "well", "words"),
    [
        ({"eth_accounts": [OTHER], "eth_chainId": "0x1"}, False, "does not hold the key of"),
        ({"eth_accounts": [ADDRESS], "eth_chainId": "0x7"}, False, "on chain 7; configured are 1"),
        ({"eth_accounts": [ADDRESS], "eth_chainId": ValueError("no")}, True, "it does not say on which chain"),
        ({"eth_accounts": ValueError("not for you")}, False, "not for you"),
        ({"eth_accounts": ["0x12"]}, False, "no addresses"),
        ({"eth_accounts": {"a": 1}}, False, ""),
    ],
)
def test_a_signer_is_told_from_one_that_would_not_sign(
    config: Path, says: dict[str, object], well: bool, words: str
) -> None:
    place = Place(**says)
    try:
        found = seen(config, signer(place.url))["remote signer"]
    finally:
        place.close()
    assert found[0] is well
    assert words in found[1]


def test_clef_is_asked_for_its_version_alone(config: Path) -> None:
    place = Place(account_version="6.1.0")
    try:
        assert seen(config, signer(place.url, "account_signTransaction"))["remote signer"][0]
    finally:
        place.close()
    assert place.methods == ["account_version"]


def test_who_is_away_is_named_and_its_url_s_key_is_not(config: Path, place: Place) -> None:
    place.close()
    url = place.url.replace("/relay", f"/{KEY}")
    found = seen(config, signer(url) + submitter(kept(config, "url", url)))
    assert [well for well, _ in found.values()] == [False, False]
    assert "no connection" in found["submitter one of ethereum"][1]
    assert KEY not in str(found)


@pytest.mark.parametrize(
    ("chain", "well", "words"),
    [
        ("0x1", True, "it answers, on chain 1"),
        ("0x89", False, "on chain 137; 1 is configured"),
        (ValueError(f"unknown key {KEY}"), True, "it does not say on which chain"),
        ("one", False, ""),
    ],
)
def test_a_submitter_s_chain_is_asked_and_nothing_is_handed_over(
    config: Path, chain: object, well: bool, words: str
) -> None:
    place = Place(eth_chainId=chain)
    try:
        found = seen(config, submitter(place.url.replace("/relay", f"/{KEY}")))["submitter one of ethereum"]
    finally:
        place.close()
    assert found[0] is well
    assert words in found[1]
    assert KEY not in found[1]
    assert set(place.methods) <= HARMLESS
    assert place.taken == {}


def test_a_builder_s_secrets_are_looked_at_and_not_shown(config: Path, place: Place) -> None:
    key = "19" * 32
    open_to_all = kept(config, "identity", key, 0o644)
    found = seen(config, submitter(place.url, "bundles", f'identity = "{open_to_all}"\n'))
    assert found["submitter one of ethereum"] == (
        False,
        f"{open_to_all}: everyone may use {open_to_all[5:]}: chmod o= it, and think of the secret as known",
    )
    assert place.received == [], "nobody is asked whose secrets are not well"
    closed = kept(config, "identity", key)
    found = seen(config, submitter(place.url, "bundles", f'identity = "{closed}"\n'))
    assert found["submitter one of ethereum"] == (True, "its secrets are there, and it answers, on chain 1")
    assert key not in str(found)
    with_key = f'[signer]\nkey = "{kept(config, "signer", key)}"\n'
    found = seen(config, with_key + submitter(place.url, "bundles", f'identity = "{closed}"\n'))
    assert found["submitter one of ethereum"][0] is False
    assert "its identity is the signer's own key" in found["submitter one of ethereum"][1]


def test_a_plug_in_that_makes_nothing_is_named(config: Path) -> None:
    tables = '[[chains.ethereum.submitters]]\nname = "one"\nkind = "plugin"\nplugin = "mev.trading.execution.timeboost:make"\n'
    well, told = seen(config, tables)["submitter one of ethereum"]
    assert not well
    assert "url and identity are missing" in told
