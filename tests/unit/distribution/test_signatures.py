"""A release whose signer the catalogue names is pinned with that signer's signature over the very artefact, or not at all."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from distribution import pins, signatures
from tests.upstream import Key, Upstream

IDENTITY = "https://github.com/0xPolygon/heimdall-v2/.github/workflows/any.yml@refs/tags/v0.14.0"
ISSUER = "https://token.actions.githubusercontent.com"
# Certificates of signers are expired long before anybody looks.
SIGNED = datetime(2026, 3, 1, tzinfo=UTC)
HEIMDALL = "/github.com/0xPolygon/heimdall-v2/releases/download/v0.14.0/heimdall-v0.14.0-{}.deb"
BASE = "/github.com/base/base/releases/download/v1.5.1/base-reth-node-v1.5.1-{}-unknown-linux-gnu.tar.gz"
PACKAGES = {"amd64": b"a package for amd64" * 5000, "arm64": b"a package for arm64" * 5000}
ARCHIVES = {"x86_64": b"an archive for x86_64", "aarch64": b"an archive for aarch64"}


class Fulcio:
    """A throwaway authority that plays Fulcio: a root, an intermediate that is for signing code, and certificates of ten minutes."""

    def __init__(self, name: str) -> None:
        self._root = ec.generate_private_key(ec.SECP384R1())
        self._key = ec.generate_private_key(ec.SECP384R1())
        self._names = [_name(f"{name}.test", part) for part in ("root", "intermediate")]
        root = _builder(self._names[0], self._names[0], self._root, self._root.public_key(), timedelta(days=3650))
        root = root.add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        root = root.add_extension(_usage(signs_certificates=True), critical=True)
        between = _builder(self._names[0], self._names[1], self._root, self._key.public_key(), timedelta(days=3000))
        between = between.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        between = between.add_extension(_usage(signs_certificates=True), critical=True)
        between = between.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        self.pem = b"".join(_pem(each.sign(self._root, hashes.SHA384())) for each in (root, between))

    def sign(
        self,
        data: bytes,
        identity: str = IDENTITY,
        issuer: str = ISSUER,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CODE_SIGNING,
        older: bool = False,
    ) -> tuple[bytes, bytes]:
        """What cosign writes: the signature in base64, and the certificate as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _builder(self._names[1], x509.Name([]), self._key, key.public_key(), timedelta(minutes=10))
        leaf = leaf.add_extension(_usage(signs_certificates=False), critical=True)
        leaf = leaf.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
        leaf = leaf.add_extension(names, critical=True)
        told = [(signatures.ISSUER_BARE, issuer.encode())]
        told += [] if older else [(signatures.ISSUER, asn1.encode_der(issuer))]
        for oid, value in told:
            leaf = leaf.add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
        return _signed(key, data), _pem(leaf.sign(self._key, hashes.SHA384()))


def _name(organisation: str, common: str) -> x509.Name:
    told = ((NameOID.ORGANIZATION_NAME, organisation), (NameOID.COMMON_NAME, common))
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in told])


def _builder(
    issuer: x509.Name,
    subject: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePublicKey,
    life: timedelta,
) -> x509.CertificateBuilder:
    begun = SIGNED if life < timedelta(days=1) else SIGNED - timedelta(days=100)
    told = x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number(), begun, begun + life)
    told = told.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    return told.add_extension(authority, critical=False)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    no = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
    rest = dict.fromkeys(("encipher_only", "decipher_only"), False)
    signs = {"key_cert_sign": signs_certificates, "crl_sign": signs_certificates}
    return x509.KeyUsage(digital_signature=not signs_certificates, **no, **signs, **rest)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _signed(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    return base64.b64encode(key.sign(data, ec.ECDSA(hashes.SHA256())))


@pytest.fixture(scope="module")
def fulcio() -> Fulcio:
    return Fulcio("fulcio")


def publish(upstream: Upstream, path: str, artefacts: dict[str, bytes], listing: str) -> None:
    """Each architecture's artefact beside its checksum file, as upstream lays them out."""
    for arch, data in artefacts.items():
        file = path.format(arch)
        upstream.files[file] = data
        listed = f"{hashlib.sha256(data).hexdigest()}  {Path(file).name}\n"
        upstream.files[file + listing] = listed.encode()


def publish_heimdall(upstream: Upstream, sign: Callable[[bytes], tuple[bytes, bytes]]) -> None:
    publish(upstream, HEIMDALL, PACKAGES, ".checksum")
    for arch, data in PACKAGES.items():
        file = HEIMDALL.format(arch)
        upstream.files[f"{file}.sig"], upstream.files[f"{file}.pem"] = sign(data)


def run(monkeypatch: pytest.MonkeyPatch, component: str, signature: dict[str, Any], *options: str) -> int:
    """Pin one component of the catalogue as it stands, with what an operator says of its signer."""
    release = yaml.safe_load((pins.CATALOGUE / "releases.yml").read_text())["catalogue_default_releases"][component]
    release["verify"]["signature"] |= signature
    monkeypatch.setattr(pins, "wanted", lambda *_: {component: release})
    return pins.main(options)


@pytest.fixture
def pin(
    monkeypatch: pytest.MonkeyPatch, upstream: Upstream, table: Path, tmp_path: Path, fulcio: Fulcio
) -> Callable[..., int]:
    authority = tmp_path / "authority.pem"
    authority.write_bytes(fulcio.pem)
    told = {"authority": str(authority), "identity": IDENTITY.replace("0.14.0", "{version}"), "issuer": ISSUER}

    def call(component: str = "heimdall", **signature: str) -> int:
        options = ("--mirror", upstream.base, "--mirror-only", "--table", str(table))
        return run(monkeypatch, component, {**(told if component == "heimdall" else {}), **signature}, *options)

    return call


def refused(status: int, table: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence with which a run ended that has written nothing."""
    assert status == 2
    assert not table.exists()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_a_keyless_signature_by_the_identity_that_the_catalogue_names_pins_the_artefact(
    upstream: Upstream, fulcio: Fulcio, pin: Callable[..., int], table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_heimdall(upstream, fulcio.sign)
    assert pin() == 0
    digests = {"x86_64": PACKAGES["amd64"], "aarch64": PACKAGES["arm64"]}
    held = yaml.safe_load(table.read_text())[pins.TABLE]
    assert held["heimdall"]["0.14.0"] == {
        machine: f"sha256:{hashlib.sha256(data).hexdigest()}" for machine, data in digests.items()
    }
    assert f"(artefact signed by {IDENTITY} ({ISSUER}; when is not proven), " in capsys.readouterr().out


def test_a_certificate_in_base64_and_one_with_the_older_extension_are_read(
    upstream: Upstream, fulcio: Fulcio, pin: Callable[..., int]
) -> None:
    def sign(data: bytes) -> tuple[bytes, bytes]:
        signature, pem = fulcio.sign(data, older=True)
        return signature + b"\n", base64.encodebytes(pem)

    publish_heimdall(upstream, sign)
    assert pin() == 0


OTHER = IDENTITY.replace("0xPolygon", "someone")


@pytest.mark.parametrize(
    ("sign", "words"),
    [
        (lambda fulcio, data: fulcio.sign(data, identity=OTHER), f"is signed by {OTHER} instead of {IDENTITY}"),
        (
            lambda fulcio, data: fulcio.sign(data, issuer="https://accounts.google.com"),
            f"is vouched for by https://accounts.google.com instead of {ISSUER}",
        ),
        (
            lambda fulcio, data: fulcio.sign(data, identity=IDENTITY.replace("v0.14.0", "v0.13.0")),
            "@refs/tags/v0.13.0 instead of",
        ),
        (lambda _, data: Fulcio("fulcio").sign(data), "is not one of the authority in "),
        (lambda _, data: Fulcio("another").sign(data), "is not one of the authority in "),
        (
            lambda fulcio, data: fulcio.sign(data, usage=ExtendedKeyUsageOID.CLIENT_AUTH),
            "is not one of the authority in ",
        ),
        (lambda fulcio, data: fulcio.sign(data + b"."), "was not made over this file with its signer's key"),
        (
            lambda fulcio, data: (fulcio.sign(data)[0], fulcio.sign(data)[1]),
            "was not made over this file with its signer's key",
        ),
        (lambda fulcio, data: (b"MEUCIQ", fulcio.sign(data)[1]), "no base64"),
        (lambda fulcio, data: (b"", fulcio.sign(data)[1]), "was not made over this file with its signer's key"),
        (lambda fulcio, data: (fulcio.sign(data)[0], b"<html>"), "cannot be read as PEM"),
        (lambda fulcio, data: (fulcio.sign(data)[0], b""), "cannot be read as PEM"),
    ],
    ids=[
        "wrong identity",
        "wrong issuer",
        "tag of another version",
        "an authority of the same name",
        "another authority",
        "not for signing code",
        "signature of another artefact",
        "certificate of another signature",
        "cut signature",
        "empty signature",
        "no certificate",
        "empty certificate",
    ],
)
def test_a_keyless_signature_that_proves_nothing_writes_nothing(
    upstream: Upstream,
    fulcio: Fulcio,
    pin: Callable[..., int],
    table: Path,
    capsys: pytest.CaptureFixture[str],
    sign: Callable[[Fulcio, bytes], tuple[bytes, bytes]],
    words: str,
) -> None:
    publish_heimdall(upstream, lambda data: sign(fulcio, data))
    assert words in refused(pin(), table, capsys)


@pytest.mark.parametrize("ending", ["", ".sig", ".pem", ".checksum"])
def test_a_release_with_a_file_missing_writes_nothing(
    upstream: Upstream,
    fulcio: Fulcio,
    pin: Callable[..., int],
    table: Path,
    capsys: pytest.CaptureFixture[str],
    ending: str,
) -> None:
    publish_heimdall(upstream, fulcio.sign)
    del upstream.files[HEIMDALL.format("arm64") + ending]
    said = refused(pin(), table, capsys)
    assert f"heimdall-v0.14.0-arm64.deb{ending} answers 404" in said


def test_an_artefact_that_its_list_does_not_describe_writes_nothing(
    upstream: Upstream, fulcio: Fulcio, pin: Callable[..., int], table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_heimdall(upstream, fulcio.sign)
    upstream.files[HEIMDALL.format("amd64")] += b"tampered"
    assert "and its checksum file says sha256:" in refused(pin(), table, capsys)


def test_a_list_that_was_made_to_fit_does_not_help_a_tampered_artefact(
    upstream: Upstream, fulcio: Fulcio, pin: Callable[..., int], table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_heimdall(upstream, fulcio.sign)
    publish(upstream, HEIMDALL, {arch: data + b"tampered" for arch, data in PACKAGES.items()}, ".checksum")
    assert "was not made over this file with its signer's key" in refused(pin(), table, capsys)


def test_an_artefact_larger_than_any_client_is_not_taken(
    upstream: Upstream,
    fulcio: Fulcio,
    pin: Callable[..., int],
    table: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pins, "ARTEFACT_BYTES", 1000)
    publish_heimdall(upstream, fulcio.sign)
    assert "sends more than 1000 bytes" in refused(pin(), table, capsys)


def test_a_signature_by_a_key_pair_of_cosign_is_held_against_that_key(
    upstream: Upstream, pin: Callable[..., int], tmp_path: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    public = tmp_path / "cosign.pub"
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    publish_heimdall(upstream, lambda data: (_signed(other, data), b""))
    assert "was not made over this file with its signer's key" in refused(pin(key=str(public)), table, capsys)
    publish_heimdall(upstream, lambda data: (_signed(key, data), b""))
    assert pin(key=str(public)) == 0
    assert f"artefact signed with the key in {public}" in capsys.readouterr().out


def test_an_openpgp_signature_over_the_artefact_is_held_against_the_key_that_the_catalogue_names(
    upstream: Upstream,
    pin: Callable[..., int],
    keys: tuple[Key, Key],
    table: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    publish(upstream, BASE, ARCHIVES, ".sha256")
    named = {"key": str(keys[0].file), "fingerprint": keys[0].fingerprint}
    for signer, data_of in ((keys[1], bytes), (keys[0], lambda data: data + b".")):
        for arch, data in ARCHIVES.items():
            upstream.files[BASE.format(arch) + ".asc"] = signer.sign(data_of(data))
        assert f"is not one of {keys[0].fingerprint}" in refused(pin("base-reth-node", **named), table, capsys)
    for arch, data in ARCHIVES.items():
        upstream.files[BASE.format(arch) + ".asc"] = keys[0].sign(data)
    assert pin("base-reth-node", **named) == 0
    assert f"(artefact signed by {keys[0].fingerprint}, " in capsys.readouterr().out


def test_the_catalogue_names_no_signer_and_that_is_said(
    upstream: Upstream, pin: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    publish(upstream, BASE, ARCHIVES, ".sha256")
    assert pin("base-reth-node") == 0
    said = capsys.readouterr().out
    assert f"(list only, {upstream.base}{BASE.format('x86_64')}.sha256; its signature is held against nobody: " in said
    assert "set key, fingerprint in roles/catalogue/defaults/main/releases.yml" in said


@pytest.mark.parametrize(
    ("signature", "words"),
    [
        ({"issuer": ""}, "verify.signature in roles/catalogue/defaults/main/releases.yml does not say issuer"),
        ({"of": "image"}, "is of 'image'; allowed: checksums, artefact"),
        ({"kind": "minisign"}, "of kind 'minisign' is not known; allowed: openpgp, cosign"),
        ({"authority": "/none"}, "/none holds no PEM certificates of an authority"),
        ({"key": "/none"}, "/none holds no public key in PEM"),
    ],
)
def test_a_signer_who_is_half_named_is_refused(
    upstream: Upstream,
    fulcio: Fulcio,
    pin: Callable[..., int],
    table: Path,
    capsys: pytest.CaptureFixture[str],
    signature: dict[str, str],
    words: str,
) -> None:
    publish_heimdall(upstream, fulcio.sign)
    assert words in refused(pin(**signature), table, capsys)
