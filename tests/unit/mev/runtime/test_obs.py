"""Logs are JSON lines that a program can read, without secrets."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from mev.domain import V2State
from mev.runtime import obs
from mev.runtime.secret import Secret


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "analytics.log"


def fail(key: Secret) -> None:
    raise RuntimeError(f"signing with {key} failed at https://user:sesame@host/")


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_the_same_lines_go_to_the_journal_and_to_the_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    obs.configure("info", file)
    structlog.get_logger("mev.test").info("loaded", chain="base", pools=7)
    logging.getLogger("a.library").warning("slow: %s", "disk")
    ours, theirs = lines(file)
    assert (ours["event"], ours["chain"], ours["pools"], ours["level"], ours["logger"]) == (
        "loaded",
        "base",
        7,
        "info",
        "mev.test",
    )
    assert ours["timestamp"].endswith("Z")
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("slow: disk", "warning", "a.library")
    journal = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [{**line, "timestamp": ""} for line in journal] == [{**line, "timestamp": ""} for line in lines(file)]


def test_without_a_file_it_is_standard_error_alone(capsys: pytest.CaptureFixture[str]) -> None:
    obs.configure("warning")
    log = structlog.get_logger("mev.test")
    log.info("not worth it")
    log.warning("worth it")
    captured = capsys.readouterr()
    assert json.loads(captured.err)["event"] == "worth it"
    assert captured.out == ""


def test_configured_again_it_writes_each_line_once(file: Path) -> None:
    obs.configure("info", file)
    obs.configure("info", file)
    structlog.get_logger().info("once")
    assert [line["event"] for line in lines(file)] == ["once"]


def test_a_file_that_is_a_link_is_turned_where_it_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent may write in its own directory alone."""
    own = tmp_path / "analytics"
    own.mkdir()
    link = tmp_path / "analytics.log"
    link.symlink_to("analytics/analytics.log")
    monkeypatch.setattr(obs, "FILE_BYTES", 1)
    obs.configure("info", link)
    log = structlog.get_logger()
    log.info("one")
    log.info("two")
    assert {path.name for path in own.iterdir()} >= {"analytics.log", "analytics.log.1"}
    assert [line["event"] for line in lines(link)] == ["two"]
    assert link.is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"analytics", "analytics.log"}


def test_addresses_and_structs_are_readable(file: Path) -> None:
    obs.configure("info", file)
    structlog.get_logger().info(
        "seen", pool=b"\xab" * 20, state=V2State(2**112 - 1, 2, 3), pair=(b"\x01", None, 1.5), path=file
    )
    (line,) = lines(file)
    assert line["pool"] == "0x" + 20 * "ab"
    assert line["state"] == {"reserve0": 2**112 - 1, "reserve1": 2, "block_number": 3}
    assert line["pair"] == ["0x01", None, 1.5]
    assert line["path"] == str(file)


def test_secrets_do_not_get_into_logs(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    obs.configure("debug", file)
    log = structlog.get_logger()
    key = Secret(b"\x12" * 32)
    log.info(
        "a",
        held=key,
        nested={"deep": [key]},
        private_key="sesame",
        password="sesame",
        api_secret="sesame",
        options={"jwt_secret": "sesame"},
    )
    log.info("b", url="wss://user:sesame@host/path", reason="cannot reach wss://user:sesame@host")
    try:
        fail(key)
    except RuntimeError:
        log.exception("c")
    logging.getLogger("library").error("connecting to %s", "wss://user:sesame@host/")
    for written in (file.read_text(encoding="utf-8"), capsys.readouterr().err):
        assert "sesame" not in written
        assert "12121212" not in written
        assert written.count("<secret>") >= 6
        assert "signing with <secret> failed" in written


def test_a_token_s_symbol_is_no_secret(file: Path) -> None:
    obs.configure("info", file)
    structlog.get_logger().info("loaded", token="WETH", monkey="fine")
    assert (lines(file)[0]["token"], lines(file)[0]["monkey"]) == ("WETH", "fine")


def test_large_integers_stay_exact(file: Path) -> None:
    obs.configure("info", file)
    structlog.get_logger().info("sized", amount_in=10**24 + 1)
    assert lines(file)[0]["amount_in"] in {10**24 + 1, str(10**24 + 1)}
