"""Files of an earlier release go only once another pair is served in their place, and can be served again."""

from __future__ import annotations

import argparse
import datetime as dt
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.plugins import load_plugin

edge_certificate = load_plugin("nginx", "files", "edge_certificate")

NAME = "ethereum.rpc.example.com"


def made() -> tuple[bytes, bytes]:
    """A certificate that is its own authority, and its key; PEM."""
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), secret


@contextmanager
def serving(pair: Path) -> Iterator[int]:
    """Answer handshakes with a pair; give the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            try:
                context.wrap_socket(plain, server_side=True).close()
            except OSError:
                plain.close()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


class Edge:
    """An edge's files: the pair, and the two of an earlier release."""

    def __init__(self, top: Path) -> None:
        (top / "edge").mkdir()
        self.pair, self.previous = top / "edge/edge.pem", top / "edge/previous.pem"
        self.old = [top / "edge.crt", top / "edge.key"]
        self.pair.write_bytes(b"".join(made()))
        for path, text in zip(self.old, made(), strict=True):
            path.write_bytes(text)

    def retire(self, port: int, *, dry_run: bool = False) -> dict[str, Any]:
        settings = edge_certificate.Settings(
            pair=self.pair, previous=self.previous, names=[NAME], port=port, nginx_conf=self.pair.with_name("nginx.conf"),
            nginx_socket="", nginx_state="", state=self.pair.with_name("state"),
        )  # fmt: skip
        options = argparse.Namespace(certificate=self.old[0], key=self.old[1], dry_run=dry_run)
        told: dict[str, Any] = edge_certificate.retire(options, settings)
        return told


@pytest.fixture
def edge(tmp_path: Path) -> Edge:
    return Edge(tmp_path)


def test_they_go_once_the_new_pair_is_served_and_are_what_back_would_serve(edge: Edge) -> None:
    text = b"".join(path.read_bytes() for path in edge.old)
    with serving(edge.pair) as port:
        assert edge.retire(port, dry_run=True)["changed"]
        assert all(path.exists() for path in edge.old)
        assert edge.retire(port) == {"changed": True, "removed": [str(path) for path in edge.old]}
        assert not any(path.exists() for path in edge.old)
        assert edge.previous.read_bytes() == text
        assert edge.previous.stat().st_mode & 0o777 == 0o640
        assert edge.retire(port) == {"changed": False, "removed": []}


def test_what_is_newer_stays_what_back_would_serve(edge: Edge) -> None:
    edge.previous.write_bytes(b"newer")
    with serving(edge.pair) as port:
        edge.retire(port)
    assert edge.previous.read_bytes() == b"newer"


def test_a_key_alone_goes_as_well(edge: Edge) -> None:
    edge.old[0].unlink()
    with serving(edge.pair) as port:
        assert edge.retire(port)["removed"] == [str(edge.old[1])]
    assert not edge.previous.exists()


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("none", "does not exist, so nothing is served in its place"),
        ("another", "answers ethereum.rpc.example.com with another certificate"),
        ("stopped", "nginx does not run"),
    ],
)
def test_they_stay_while_the_new_pair_is_not_served(edge: Edge, tmp_path: Path, case: str, words: str) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(b"".join(made()))
    if case == "none":
        edge.pair.unlink()
    with serving(other) as port:
        if case != "stopped":
            with pytest.raises(edge_certificate.CertificateError, match=words):
                edge.retire(port)
    if case == "stopped":
        with pytest.raises(edge_certificate.CertificateError, match=words):
            edge.retire(port)
    assert all(path.exists() for path in edge.old)
