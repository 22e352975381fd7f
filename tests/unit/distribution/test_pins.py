"""Pins are what upstream says, proved where a key is named; what was pinned once and is another now is an alarm."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from distribution import pins
from roles.release.filter_plugins.release import release_plan
from tests.upstream import Key, Upstream

VERSION = "3.9.0"
LIST = f"/github.com/erigontech/erigon/releases/download/v{VERSION}/erigon_v{VERSION}_checksums.txt"
DIGESTS = {"x86_64": "11" * 32, "aarch64": "22" * 32}
LISTED = f"{DIGESTS['x86_64']}  erigon_v{VERSION}_linux_amd64.tar.gz\n{DIGESTS['aarch64']}  erigon_v{VERSION}_linux_arm64.tar.gz\n"
INDEX = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
IMAGE = "/v2/images/op-reth/manifests/v2.4.3"


@pytest.fixture(autouse=True)
def published(upstream: Upstream) -> None:
    upstream.files |= {LIST: LISTED.encode(), IMAGE: INDEX}


def erigon(upstream: Upstream, table: Path, *options: str) -> int:
    told = ["--version", f"erigon={VERSION}", "--mirror", upstream.base, "--mirror-only", "--table", str(table)]
    return pins.main([*told, *options])


def op_reth(upstream: Upstream, table: Path, *options: str) -> int:
    registry = upstream.base.removeprefix("https://")
    return pins.main(["--component", "op-reth", "--registry", f"oplabs={registry}", "--table", str(table), *options])


def held(table: Path) -> Any:
    return yaml.safe_load(table.read_text())[pins.TABLE]


def test_the_table_is_what_upstream_s_list_says(
    upstream: Upstream, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert erigon(upstream, table) == 0
    assert held(table) == {"erigon": {VERSION: {machine: f"sha256:{each}" for machine, each in DIGESTS.items()}}}
    said = capsys.readouterr().out
    assert f"+      x86_64: sha256:{DIGESTS['x86_64']}" in said
    assert f"(list only, {upstream.base}{LIST})" in said


def test_a_second_run_changes_nothing(upstream: Upstream, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    erigon(upstream, table)
    before = table.stat().st_mtime_ns
    capsys.readouterr()
    assert erigon(upstream, table, "--json") == 0
    assert table.stat().st_mtime_ns == before
    assert {row["change"] for row in json.loads(capsys.readouterr().out)} == {"same"}
    assert erigon(upstream, table, "--check") == 0


def test_a_check_says_it_and_writes_nothing(
    upstream: Upstream, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert erigon(upstream, table, "--check") == 1
    assert not table.exists()
    assert "+++ b/pins.yml" in capsys.readouterr().out


def test_versions_that_were_pinned_before_stay_and_all_is_sorted(upstream: Upstream, table: Path) -> None:
    older = {
        "erigon": {"3.8.1": {"x86_64": f"sha256:{'33' * 32}"}},
        "bor": {"2.9.0": {"x86_64": f"sha256:{'44' * 32}"}},
    }
    table.write_text(pins.text(older))
    assert erigon(upstream, table) == 0
    assert held(table)["erigon"]["3.8.1"] == older["erigon"]["3.8.1"]
    assert list(held(table)) == ["bor", "erigon"]
    assert table.read_text() == pins.text(held(table))


def test_an_artefact_that_was_published_again_is_an_alarm(
    upstream: Upstream, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    erigon(upstream, table)
    before = table.read_text()
    upstream.files[LIST] = LISTED.replace("11" * 32, "55" * 32).encode()
    assert erigon(upstream, table) == 2
    assert table.read_text() == before
    assert f"was pinned to sha256:{'11' * 32}, and upstream says sha256:{'55' * 32} now" in capsys.readouterr().err
    assert erigon(upstream, table, "--accept-republished", "erigon=1.0.0") == 2
    assert erigon(upstream, table, "--accept-republished", f"erigon={VERSION}") == 0
    assert held(table)["erigon"][VERSION]["x86_64"] == f"sha256:{'55' * 32}"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>Not found</html>", "holds no sha256 sum at all"),
        (LISTED.splitlines()[0].encode(), "gives no sha256 sum for erigon_v3.9.0_linux_arm64.tar.gz"),
        ((LISTED + LISTED.replace("11", "66")).encode(), "gives 2 different sha256 sums"),
        (LISTED.replace("11", "1z").encode(), "gives no sha256 sum for erigon_v3.9.0_linux_amd64.tar.gz"),
        (b"", "holds no sha256 sum at all"),
    ],
)
def test_a_list_that_proves_nothing_writes_nothing(
    upstream: Upstream, table: Path, capsys: pytest.CaptureFixture[str], content: bytes, words: str
) -> None:
    upstream.files[LIST] = content
    assert erigon(upstream, table) == 2
    assert not table.exists()
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_a_component_that_is_not_known_is_refused(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pins.main(["--component", "geth", "--table", str(table)]) == 2
    assert "there is no component 'geth'; allowed: erigon, " in capsys.readouterr().err


def test_an_image_is_pinned_by_the_digest_of_what_its_registry_sends(upstream: Upstream, table: Path) -> None:
    upstream.headers[IMAGE] = {"Docker-Content-Digest": f"sha256:{hashlib.sha256(INDEX).hexdigest()}"}
    assert op_reth(upstream, table) == 0
    digest = f"sha256:{hashlib.sha256(INDEX).hexdigest()}"
    assert held(table) == {"op-reth": {"2.4.3": {"x86_64": digest, "aarch64": digest}}}


def test_a_registry_that_wants_an_anonymous_token_is_given_one(upstream: Upstream, table: Path) -> None:
    upstream.tokens[IMAGE] = "abc"
    upstream.files["/token"] = b'{"token": "abc"}'
    assert op_reth(upstream, table) == 0


@pytest.mark.parametrize(
    ("files", "headers", "words"),
    [
        ({IMAGE: INDEX}, {"Docker-Content-Digest": f"sha256:{'0' * 64}"}, "and what it sends hashes to"),
        ({IMAGE: b"<html>"}, {}, "sends no manifest of an image"),
        ({IMAGE: b'{"errors": []}'}, {}, "sends no manifest of an image"),
        ({IMAGE: b"x" * (pins.MANIFEST_BYTES + 1)}, {}, "sends more than"),
        ({}, {}, "answers 404"),
    ],
)
def test_a_registry_that_lies_writes_nothing(
    upstream: Upstream,
    table: Path,
    capsys: pytest.CaptureFixture[str],
    files: dict[str, bytes],
    headers: dict[str, str],
    words: str,
) -> None:
    upstream.files, upstream.headers[IMAGE] = files, headers
    assert op_reth(upstream, table) == 2
    assert words in capsys.readouterr().err
    assert not table.exists()


def test_an_image_whose_registry_is_not_named_is_refused(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pins.main(["--component", "op-reth", "--table", str(table)]) == 2
    assert "op-reth has no registry to come from" in capsys.readouterr().err


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch, keys: tuple[Key, Key]) -> None:
    def wanted(*_: object) -> dict[str, Any]:
        release = yaml.safe_load((pins.CATALOGUE / "releases.yml").read_text())["catalogue_default_releases"]["erigon"]
        signature = {"ending": ".asc", "key": str(keys[0].file), "fingerprint": keys[0].fingerprint}
        return {"erigon": {**release, "version": VERSION, "verify": {**release["verify"], "signature": signature}}}

    monkeypatch.setattr(pins, "wanted", wanted)


@pytest.mark.usefixtures("signed")
def test_a_list_is_held_against_the_key_that_the_catalogue_names(
    upstream: Upstream, table: Path, keys: tuple[Key, Key], capsys: pytest.CaptureFixture[str]
) -> None:
    upstream.files[f"{LIST}.asc"] = keys[0].sign(LISTED.encode())
    assert erigon(upstream, table) == 0
    assert f"(list signed by {keys[0].fingerprint}, " in capsys.readouterr().out


@pytest.mark.usefixtures("signed")
@pytest.mark.parametrize("fault", ["another key", "list changed", "no signature", "garbage"])
def test_a_list_that_is_not_signed_by_that_key_writes_nothing(
    upstream: Upstream, table: Path, keys: tuple[Key, Key], capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    signature = {
        "another key": keys[1].sign(LISTED.encode()),
        "list changed": keys[0].sign(LISTED.replace("11", "77").encode()),
        "garbage": b"-----BEGIN PGP SIGNATURE-----\n",
    }.get(fault)
    if signature:
        upstream.files[f"{LIST}.asc"] = signature
    assert erigon(upstream, table) == 2
    assert not table.exists()
    said = capsys.readouterr().err
    assert (f"is not one of {keys[0].fingerprint}" in said) or (fault == "no signature" and "404" in said)


def test_the_release_role_takes_the_inventory_s_pin_then_the_catalogue_s() -> None:
    release = yaml.safe_load((pins.CATALOGUE / "releases.yml").read_text())["catalogue_default_releases"]["erigon"]
    settings = pins.Places().settings("erigon", release, "x86_64")
    of_catalogue = {"erigon": {release["version"]: {"x86_64": f"sha256:{'ab' * 32}"}}}
    assert release_plan(release, settings)["sha256"] == ""
    assert release_plan(release, {**settings, "catalogue_pins": of_catalogue})["sha256"] == "ab" * 32
    own = {"erigon": {"x86_64": f"sha256:{'cd' * 32}"}}
    assert release_plan(release, {**settings, "catalogue_pins": of_catalogue, "pins": own})["sha256"] == "cd" * 32
    other = {"erigon": {"0.0.1": {"x86_64": f"sha256:{'ab' * 32}"}}}
    assert release_plan(release, {**settings, "catalogue_pins": other})["sha256"] == ""
