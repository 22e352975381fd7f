"""Secrets by reference: "credential:NAME" is systemd's LoadCredential, "file:/absolute/path" a file of its own."""

import os
import re
import stat
from pathlib import Path

MAX_SECRET_BYTES = 64 * 1024
KEY_BYTES = 32
_CREDENTIAL = re.compile(r"credential:([A-Za-z0-9_][A-Za-z0-9_.-]{0,254})")
_FILE = re.compile(r"file:(/.+)")


class SecretError(Exception):
    """A secret cannot be read; the message names its reference and the way out, never its content."""


class Secret(bytes):
    """Bytes that do not show themselves in messages and logs."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__


def is_reference(text: str) -> bool:
    """Whether a text has the form of a reference."""
    return bool(_CREDENTIAL.fullmatch(text) or _FILE.fullmatch(text))


def secret(reference: str) -> Secret:
    """Return a secret's content, without the line end of its file; raises SecretError."""
    path = _path(reference)
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & stat.S_IRWXO:
                raise SecretError(
                    f"{reference}: everyone may use {path}: chmod o= it, and think of the secret as known"
                )
            content = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise SecretError(f"{reference}: {path} cannot be read: {error.strerror}") from None
    content = content.rstrip(b"\r\n")
    if not content or len(content) > MAX_SECRET_BYTES:
        raise SecretError(f"{reference}: {path} is empty or larger than {MAX_SECRET_BYTES} bytes")
    return Secret(content)


def signing_key(reference: str) -> Secret:
    """Return the 32 bytes of a key that is kept as 64 hex digits; raises SecretError."""
    try:
        text = secret(reference).decode("ascii").removeprefix("0x")
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES or len(text) != 2 * KEY_BYTES:
        raise SecretError(f"{reference} holds no signing key: {2 * KEY_BYTES} hex digits are expected")
    return Secret(key)


def _path(reference: str) -> Path:
    if named := _FILE.fullmatch(reference):
        return Path(named[1])
    if named := _CREDENTIAL.fullmatch(reference):
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            raise SecretError(
                f"{reference}: CREDENTIALS_DIRECTORY is not set: systemd sets it for units with LoadCredential="
            )
        return Path(directory, named[1])
    raise SecretError('a secret\'s reference is "credential:NAME" or "file:/absolute/path"')
