"""Who signed a file of upstream's, held against who the catalogue says signs it.

Three kinds, as `verify.signature` of a release has them (roles/catalogue/defaults/main/releases.yml):

    {kind: openpgp, ending, key, fingerprint}                       a detached OpenPGP signature, by gpg
    {kind: cosign, ending, key}                                     cosign's detached signature with a key pair
    {kind: cosign, ending, certificate, authority, identity, issuer}    cosign's keyless one: the key is in a short-lived certificate

A keyless signature is held against the certificates in the file `authority`, without asking any server: the chain, the identity, the OIDC issuer, the
signature. What is not proven is that it was made while the certificate was valid: that stands in Sigstore's transparency log alone,
and files without a bundle carry no proof of it. Whoever had the certificate's key later could have signed as well.
"""

from __future__ import annotations

import base64
import binascii
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

ROOT = Path(__file__).parents[1]
# What each kind has to be told before it proves anything.
NEEDED = {
    "openpgp": ("key", "fingerprint"),
    "cosign with a key": ("key",),
    "cosign": ("authority", "identity", "issuer"),
}
# Fulcio's extensions: the OIDC issuer as a DER string, and as bare bytes in older certificates.
ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
ISSUER_BARE = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")

Facts = Mapping[str, Any]


class SignatureError(Exception):
    """One sentence: whose signature a file has not got, and why."""


def needed(signature: Facts) -> tuple[str, ...]:
    """The names of what a signature of this kind is held against."""
    return NEEDED[_kind(signature)]


def unset(signature: Facts) -> list[str]:
    """Those of them that the catalogue does not say."""
    return [name for name in needed(signature) if not signature.get(name)]


def check(file: Path, signature: Facts, version: str, source: str, read: Callable[[str], str]) -> str:
    """Hold `file` against its signature, and say who signed it. Raises SignatureError.

    `source` is the file's address, for words; `read` gives the text at that address with an ending. {version} in an identity is filled in.
    """
    signed = read(signature["ending"])
    kind = _kind(signature)
    if kind == "openpgp":
        check_openpgp(file, signed, ROOT / signature["key"], signature["fingerprint"], source)
        return f"signed by {signature['fingerprint']}"
    if kind == "cosign with a key":
        check_cosign(file, signed, _public_key(ROOT / signature["key"]), source)
        return f"signed with the key in {signature['key']}"
    identity = signature["identity"].replace("{version}", version)
    certificate = _certificate(read(signature["certificate"]), source)
    check_certificate(certificate, ROOT / signature["authority"], identity, signature["issuer"], source)
    check_cosign(file, signed, certificate.public_key(), source)
    return f"signed by {identity} ({signature['issuer']}; when is not proven)"


def check_openpgp(file: Path, signature: str, key: Path, fingerprint: str, source: str) -> None:
    """Hold a detached OpenPGP signature against one key, in a keyring that holds nothing else."""
    with tempfile.TemporaryDirectory() as home:
        detached = Path(home, "signature.asc")
        detached.write_text(signature)
        gpg = ["gpg", "--homedir", home, "--batch", "--no-tty", "--status-fd", "1"]
        try:
            subprocess.run([*gpg, "--import", str(key)], check=True, capture_output=True)
        except FileNotFoundError:
            raise SignatureError("gpg is missing, which checks upstream's signatures: install gnupg") from None
        except subprocess.CalledProcessError:
            raise SignatureError(f"{key} holds no OpenPGP key") from None
        done = subprocess.run([*gpg, "--verify", str(detached), str(file)], check=False, capture_output=True, text=True)
    valid = [line.split() for line in done.stdout.splitlines() if line.startswith("[GNUPG:] VALIDSIG ")]
    bad = re.search(r"\[GNUPG:\] (EXPKEYSIG|REVKEYSIG|EXPSIG|BADSIG|ERRSIG|KEYREVOKED)", done.stdout)
    # The last word is the primary key's fingerprint; a signature may be a subkey's.
    if done.returncode != 0 or bad or not any(fingerprint in (words[2], words[-1]) for words in valid):
        reason = bad[1] if bad else "no valid signature"
        raise SignatureError(f"the signature of {source} is not one of {fingerprint} ({reason})")


def check_cosign(file: Path, signature: str, key: object, source: str) -> None:
    """Hold cosign's detached signature, ECDSA over the file's SHA-256 in base64, against a public key."""
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise SignatureError(f"the key that {source} is signed with is no ECDSA key, which cosign's are")
    digest = hashes.Hash(hashes.SHA256())
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    try:
        signed = base64.b64decode("".join(signature.split()), validate=True)
        key.verify(signed, digest.finalize(), ec.ECDSA(Prehashed(hashes.SHA256())))
    except binascii.Error:
        raise SignatureError(f"the signature of {source} is no base64") from None
    except InvalidSignature:
        raise SignatureError(f"the signature of {source} was not made over this file with its signer's key") from None


def check_certificate(certificate: x509.Certificate, authority: Path, identity: str, issuer: str, source: str) -> None:
    """Hold a keyless signer's certificate against the authority's certificates, an identity and an OIDC issuer; each must be equal.

    The chain is judged at the moment from which the certificate is valid, since such a one is expired minutes later.
    """
    try:
        known = x509.load_pem_x509_certificates(authority.read_bytes())
    except (OSError, ValueError):
        raise SignatureError(f"{authority} holds no PEM certificates of an authority") from None
    anchors = [each for each in known if each.subject == each.issuer]
    if not anchors:
        raise SignatureError(f"{authority} holds no root certificate of an authority")
    builder = verification.PolicyBuilder().store(verification.Store(anchors))
    builder = builder.time(certificate.not_valid_before_utc).extension_policies(
        ca_policy=_code_signing(verification.ExtensionPolicy.webpki_defaults_ca(), required=False),
        ee_policy=_code_signing(verification.ExtensionPolicy.webpki_defaults_ee(), required=True),
    )
    try:
        builder.build_client_verifier().verify(certificate, [each for each in known if each not in anchors])
    except verification.VerificationError as error:
        raise SignatureError(
            f"the certificate of {source} is not one of the authority in {authority}: {error}"
        ) from None
    named = _identities(certificate)
    if identity not in named:
        raise SignatureError(f"{source} is signed by {', '.join(named) or 'nobody named'} instead of {identity}")
    told = _issuer(certificate)
    if told != issuer:
        raise SignatureError(f"the signer of {source} is vouched for by {told or 'nobody named'} instead of {issuer}")


def _kind(signature: Facts) -> str:
    kind = str(signature.get("kind", "openpgp"))
    kind = "cosign with a key" if kind == "cosign" and "key" in signature else kind
    if kind not in NEEDED:
        raise SignatureError(f"a signature of kind {kind!r} is not known; allowed: openpgp, cosign")
    return kind


def _code_signing(policy: verification.ExtensionPolicy, *, required: bool) -> verification.ExtensionPolicy:
    """The web's rules, for signers of code in place of servers and clients."""

    def judge(_: verification.Policy, __: x509.Certificate, usage: x509.ExtendedKeyUsage | None) -> None:
        if usage is not None and ExtendedKeyUsageOID.CODE_SIGNING not in usage:
            raise ValueError("it is not for signing code")

    held = policy.require_present if required else policy.may_be_present
    return held(x509.ExtendedKeyUsage, verification.Criticality.AGNOSTIC, judge)


def _certificate(text: str, source: str) -> x509.Certificate:
    """The first certificate of a .pem; cosign has written it plain and, for years, in base64 once more."""
    pem = text.encode()
    try:
        if b"-----BEGIN" not in pem:
            pem = base64.b64decode(b"".join(pem.split()), validate=True)
        return x509.load_pem_x509_certificate(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise SignatureError(f"the certificate of {source} cannot be read as PEM") from None


def _public_key(path: Path) -> object:
    try:
        return serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm):
        raise SignatureError(f"{path} holds no public key in PEM") from None


def _identities(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [str(name.value) for name in names if isinstance(name, x509.UniformResourceIdentifier | x509.RFC822Name)]


def _issuer(certificate: x509.Certificate) -> str:
    told = {each.oid: each.value for each in certificate.extensions}
    newer, older = told.get(ISSUER), told.get(ISSUER_BARE)
    try:
        if isinstance(newer, x509.UnrecognizedExtension):
            return asn1.decode_der(str, newer.value)
        return older.value.decode() if isinstance(older, x509.UnrecognizedExtension) else ""
    except ValueError:
        return ""
