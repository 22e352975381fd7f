"""A host's secrets are held against the table: whose, which mode, which form, and what lies among them; no value is ever said."""

from __future__ import annotations

import getpass
import grp
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.plugins import load_plugin

fleet_secrets = load_plugin("secrets", "files", "fleet_secrets")
host_secrets = load_plugin("catalogue", "filter_plugins", "catalogue_secrets").host_secrets

VALUE = "0123456789abcdef" * 4
ME = {"owner": getpass.getuser(), "group": grp.getgrgid(os.getegid()).gr_name}


class Place:
    """A directory of secrets on this machine, in a host's place, and the program's configuration for it."""

    def __init__(self, top: Path) -> None:
        self.top = top / "security"
        self.jwt = self.top / "jwt_secrets" / "ethereum.hex"
        self.rows = [self.row("jwt", self.jwt, item="ethereum")]
        for each in (self.top, self.jwt.parent):
            each.mkdir(mode=0o711)
        self.write(self.jwt, VALUE)
        self.config = top / "secrets.json"

    def row(self, name: str, path: Path, **changed: Any) -> dict[str, Any]:
        return {
            "name": name, "item": "", "title": name, "path": str(path), "kind": "file", "form": "hex32", "mode": "0640",
            "beside": [], "trusts": [], "replace": False, "consumers": [], "days": 0, **ME, **changed,
        }  # fmt: skip

    def write(self, path: Path, text: str, mode: int = 0o640) -> None:
        path.write_text(text + "\n")
        path.chmod(mode)

    def check(self, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any]]:
        directories = [{"path": str(each), "mode": "0711", **ME} for each in (self.top, self.jwt.parent)]
        self.config.write_text(json.dumps({"top": str(self.top), "directories": directories, "secrets": self.rows}))
        code = fleet_secrets.check(fleet_secrets.parser().parse_args(["check", "--json", *options]))
        output = capsys.readouterr().out
        assert VALUE not in output
        return code, json.loads(output)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path)
    monkeypatch.setattr(fleet_secrets, "CONFIG", made.config)
    return made


def problems(said: dict[str, Any]) -> list[str]:
    return [problem for finding in said["findings"] for problem in finding["problems"]]


def test_a_host_as_it_has_to_be_is_well(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = place.check(capsys)
    assert (code, problems(said)) == (0, [])
    assert said["counts"] == {"ok": 3, "due": 0, "unknown": 0, "missing": 0, "wrong": 0}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda place: place.jwt.chmod(0o644), "the mode of {jwt} is 0644 and has to be 0640"),
        (lambda place: place.jwt.unlink(), "{jwt} is not there"),
        (lambda place: place.rows[0].update(owner="nobody"), "the owner of {jwt} is"),
        (lambda place: place.rows[0].update(group="nogroup"), "the group of {jwt} is"),
        (lambda place: place.write(place.jwt, VALUE[:-1]), "the content of {jwt} is not 64 hex digits (64 bytes)"),
        (lambda place: place.write(place.jwt, "0" * 64), "the content of {jwt} is one digit again and again"),
        (lambda place: place.jwt.parent.chmod(0o713), "{jwt.parent} above it is writable by others (mode 0713)"),
        (lambda place: os.link(place.jwt, place.top.parent / "copy"), "{jwt} has 2 names (hard links)"),
        (lambda place: place.write(place.jwt.with_suffix(".hex.previous"), VALUE), "was left by a rotation that did not end"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_and_ends_red(
    place: Place, capsys: pytest.CaptureFixture[str], change: Any, words: str
) -> None:
    change(place)
    code, said = place.check(capsys)
    assert code == fleet_secrets.WRONG
    assert any(words.format(jwt=place.jwt) in problem for problem in problems(said)), problems(said)


def test_a_link_is_no_secret_wherever_it_leads(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = place.top.parent / "elsewhere"
    place.write(elsewhere, VALUE)
    place.jwt.unlink()
    place.jwt.symlink_to(elsewhere)
    code, said = place.check(capsys)
    assert (code, problems(said)) == (fleet_secrets.WRONG, [f"{place.jwt} is a symbolic link"])


def test_what_is_in_no_table_is_named_and_what_is_due_is_said(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.write(place.top / "old.key", VALUE)
    long_ago = time.time() - 200 * 86400
    os.utime(place.jwt, (long_ago, long_ago))
    place.rows[0]["days"] = 180
    code, said = place.check(capsys)
    assert code == fleet_secrets.DUE
    assert problems(said) == [
        "it is 200.0 days old, a rotation is due after 180",
        f"{place.top / 'old.key'} is no secret that this host is to hold",
    ]
    assert place.check(capsys, "--only-wrong")[0] == 0


def test_a_directory_s_content_is_its_owner_s_and_shut(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    account = place.top / "certbot"
    (account / "archive").mkdir(parents=True)
    account.chmod(0o700)
    place.write(account / "archive" / "key1.pem", "a key")
    (account / "live").symlink_to("archive")
    place.rows.append(place.row("acme_account", account, kind="directory", mode="0700", form="lines"))
    assert place.check(capsys)[0] == 0
    (account / "archive" / "key1.pem").chmod(0o666)
    (account / "out").symlink_to(place.top.parent)
    code, said = place.check(capsys)
    assert code == fleet_secrets.WRONG
    assert problems(said) == [
        f"{account / 'out'} is a link that leads out of {account}",
        f"{account / 'archive' / 'key1.pem'} is open to others (mode 0666)",
    ]


def test_a_pipe_in_a_secret_s_place_is_not_waited_for(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.jwt.unlink()
    os.mkfifo(place.jwt, 0o640)
    assert problems(place.check(capsys)[1]) == [f"{place.jwt} is no regular file"]


def test_figures_name_secrets_and_no_value(place: Place, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    place.check(capsys, "--metrics", str(tmp_path / "out.prom"))
    written = (tmp_path / "out.prom").read_text()
    assert 'fleet_secret_age_days{name="jwt",item="ethereum"} 0.0' in written
    assert 'fleet_secrets_found{state="wrong"} 0' in written
    assert VALUE not in written


@pytest.mark.parametrize(
    ("form", "value", "is_well"),
    [
        ("hex32", b"0x" + b"a1" * 32, True),
        ("hex32", b"a1" * 32 + b"\n\n", False),
        ("line", b"correct horse battery\n", True),
        ("line", b"short\n", False),
        ("line", b"two lines\nof it\n", False),
        ("pem_key", b"-----BEGIN" + b" PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", True),
        ("pem_key", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", False),
        ("lines", b" \n", False),
        ("lines", b"x" * (1 << 16), False),
    ],
)
def test_forms(form: str, value: bytes, is_well: bool) -> None:
    said = fleet_secrets.shape(value, form)
    assert (said == "") is is_well
    assert value.decode().strip()[:8] == "" or value.decode().strip()[:8] not in said


def test_a_chain_s_secret_is_one_for_each_chain_of_the_host() -> None:
    row = {
        "title": "t", "path": "/s/{chain}.hex", "owner": "root", "group": "{chain}", "mode": "0640", "form": "hex32", "days": 1,
        "held": True, "consumers": ["its unit"],
    }  # fmt: skip
    rows = host_secrets({"jwt": row, "other": {**row, "held": False}}, ["base", "ethereum"])
    assert [(each["item"], each["path"], each["group"]) for each in rows] == [
        ("base", "/s/base.hex", "base"),
        ("ethereum", "/s/ethereum.hex", "ethereum"),
    ]
