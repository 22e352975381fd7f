"""Secrets come by reference and do not show themselves."""

from pathlib import Path

import pytest
from mev.runtime.secret import Secret, SecretError, secret, signing_key

DIGITS = "0123456789abcdef" * 4


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    return tmp_path


def keep(path: Path, content: bytes, mode: int = 0o400) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_credential_of_systemd(credentials: Path) -> None:
    keep(credentials / "signer_key", f"{DIGITS}\n".encode())
    assert secret("credential:signer_key") == DIGITS.encode()
    assert signing_key("credential:signer_key") == bytes.fromhex(DIGITS)


@pytest.mark.parametrize("content", [DIGITS, "0x" + DIGITS, DIGITS.upper() + "\r\n"])
def test_a_file(tmp_path: Path, content: str) -> None:
    path = keep(tmp_path / "key", content.encode())
    assert signing_key(f"file:{path}") == bytes.fromhex(DIGITS)


def test_nothing_shows_it(tmp_path: Path) -> None:
    held = signing_key(f"file:{keep(tmp_path / 'key', DIGITS.encode())}")
    assert isinstance(held, Secret)
    assert {repr(held), str(held), f"{held}", repr([held])} == {"<secret>", "[<secret>]"}


@pytest.mark.parametrize(
    "content", [DIGITS[:-1], DIGITS + "0", "x" * 64, DIGITS[:32] + " " + DIGITS[33:], "0x0x" + DIGITS[4:]]
)
def test_what_is_no_key_is_not_repeated(tmp_path: Path, content: str) -> None:
    path = keep(tmp_path / "key", content.encode())
    with pytest.raises(SecretError, match="holds no signing key: 64 hex digits are expected") as caught:
        signing_key(f"file:{path}")
    assert content not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_secret_that_everyone_may_read_is_refused(tmp_path: Path) -> None:
    path = keep(tmp_path / "key", DIGITS.encode(), 0o644)
    with pytest.raises(SecretError, match=r"everyone may use .*: chmod o="):
        secret(f"file:{path}")


def test_what_is_not_there(credentials: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SecretError, match=r"credential:other: .* cannot be read: No such file"):
        secret("credential:other")
    keep(credentials / "empty", b"\n")
    with pytest.raises(SecretError, match="is empty"):
        secret("credential:empty")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(SecretError, match="CREDENTIALS_DIRECTORY is not set"):
        secret("credential:signer_key")


@pytest.mark.parametrize(
    "reference", ["", "signer_key", "credential:", "credential:../key", "file:key", "env:KEY", DIGITS]
)
def test_what_is_no_reference(reference: str) -> None:
    with pytest.raises(SecretError, match="a secret's reference is"):
        secret(reference)
