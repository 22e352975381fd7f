"""The lab's certificate authority and the certificates it signs, under .lab/ca."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lab.progress import step

if TYPE_CHECKING:
    from pathlib import Path

    from lab.checkout import Checkout

CERTIFICATES = {
    "edge": ("rpc.lyftium.com", "*.rpc.lyftium.com"),
    "mirror": ("mirror.lab",),
}
_ROOT_DAYS = 3650
_LEAF_DAYS = 397
_RENEW_DAYS = 30


def ensure_ca(checkout: Checkout) -> Path:
    """Make what is missing or runs out within 30 days, and return the root certificate's path.

    Leaves `<name>.crt` and `<name>.key` (mode 0600) in .lab/ca for each of CERTIFICATES.
    """
    directory = checkout.state / "ca"
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    root = directory / "ca.crt"
    if not _lasts(root):
        with step("making the lab's certificate authority"):
            for stale in directory.glob("*.crt"):
                stale.unlink()
            _make_root(directory, checkout.prefix)
    for name, dns_names in CERTIFICATES.items():
        if not _lasts(directory / f"{name}.crt"):
            _make_leaf(directory, name, dns_names)
    return root


def _lasts(path: Path) -> bool:
    if not path.exists():
        return False
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=_RENEW_DAYS)


def _make_root(directory: Path, prefix: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _common_name(f"{prefix} lab root")
    builder = (
        _builder(name, name, key.public_key(), _ROOT_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
    )
    _write(directory, "ca", key, builder.sign(key, hashes.SHA256()))


def _make_leaf(directory: Path, name: str, dns_names: tuple[str, ...]) -> None:
    root = x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())
    root_key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), password=None)
    if not isinstance(root_key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{directory / 'ca.key'} holds no elliptic curve key")
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(_common_name(dns_names[0]), root.subject, key.public_key(), _LEAF_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in dns_names]), critical=False)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
    )
    _write(directory, name, key, builder.sign(root_key, hashes.SHA256()))


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        # A host whose clock is a little behind must not refuse a certificate made a moment ago.
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _write(directory: Path, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    key_path = directory / f"{name}.key"
    key_path.touch(mode=0o600)
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (directory / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
