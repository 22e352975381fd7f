"""What the configuration says of who signs from elsewhere, and of the way that a chain's trades leave: to its nodes, private RPCs, or builders."""

from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from mev.runtime.config_shared import Problem, SecretReference, is_own
from mev.runtime.secret import SecretError, is_reference, secret

MOST_SUBMITTERS = 16


class SubmitterKind(StrEnum):
    """Ways that a chain's trades can leave; the ledger writes it beside each transaction."""

    # eth_sendRawTransaction to the chain's own nodes: everybody may see it.
    PUBLIC = "public"
    PRIVATE_RPC = "private_rpc"
    BUNDLES = "bundles"
    PLUGIN = "plugin"


class PrivateMethod(StrEnum):
    """How a private RPC is asked."""

    RAW = "eth_sendRawTransaction"
    PRIVATE = "eth_sendPrivateTransaction"


class RelayUrl(str):
    """Where a private RPC or a builder is, or a reference to a secret that says it; it may hold a key, so it is not for messages."""

    __slots__ = ()


class SignerMethod(StrEnum):
    """How a program that holds the key is asked: as Web3Signer and nodes are, or as Clef is."""

    SIGN = "eth_signTransaction"
    CLEF = "account_signTransaction"


class SignerUrl(RelayUrl):
    """Where a program is that signs, or a reference to a secret that says it."""

    __slots__ = ()


class SubmitterConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One place that a chain's trades are handed to; all places of a chain are of one kind."""

    name: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}$", description="1 to 32 of a-z, 0-9, _ and -")]
    kind: SubmitterKind
    url: (
        Annotated[
            RelayUrl,
            Meta(
                description='https://HOST, http:// with localhost, a loopback, private or VPN address, or "credential:NAME" or '
                '"file:/absolute/path" of a secret that holds such a URL'
            ),
        ]
        | None
    ) = None
    method: PrivateMethod = PrivateMethod.RAW
    identity: (
        Annotated[SecretReference, Meta(description='"credential:NAME" or "file:/absolute/path", never the key itself')]
        | None
    ) = None
    timeout_seconds: Annotated[float, Meta(gt=0, le=60, description="seconds, more than 0 and at most 60")] = 2.0
    plugin: (
        Annotated[
            str,
            Meta(
                pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$",
                description="MODULE:FUNCTION, names of Python's",
            ),
        ]
        | None
    ) = None
    settings: dict[str, str] = {}


def relay_url(url: RelayUrl) -> str:
    """Return the URL itself; raises SecretError where the secret that holds it cannot be read, or holds none."""
    if not is_reference(url):
        return str(url)
    try:
        return parse_relay_url(secret(url).decode("ascii"), referred=False)
    except ValueError as error:
        raise SecretError(f"{url} holds no URL of a submitter: {error}") from None


def parse_relay_url(text: str, *, referred: bool = True) -> RelayUrl:
    """Return a URL, or a reference to one; raises ValueError, whose message never shows it."""
    if referred and is_reference(text):
        return RelayUrl(text)
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise ValueError("it is no HTTP URL with a host")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("it holds a user or a password")
    if parts.scheme == "http" and not is_own(parts.hostname):
        raise ValueError("trades would cross foreign networks in clear text")
    return RelayUrl(text)


def parse_signer_url(text: str) -> SignerUrl:
    """Return a URL, or a reference to one; raises ValueError, whose message never shows it."""
    parts = urlsplit(text)
    if parts.scheme == "ipc":
        if parts.netloc or not parts.path.startswith("/"):
            raise ValueError("ipc:// takes an absolute path and no host")
        return SignerUrl(text)
    return SignerUrl(parse_relay_url(text))


def submitter_problems(where: str, submitters: Sequence[SubmitterConfig]) -> Iterable[Problem]:
    """Yield what no single value shows; `where` is the list's key."""
    if len(submitters) > MOST_SUBMITTERS:
        yield where, f"has {len(submitters)}; allowed: at most {MOST_SUBMITTERS}"
    names = Counter(each.name for each in submitters)
    for number, each in enumerate(submitters):
        place = f"{where}[{number}]"
        if each.kind is not submitters[0].kind:
            # A trade that one of them shows to everybody, or can still bring later, is not what the other one promises.
            yield (
                f"{place}.kind",
                f"is {each.kind}, and another one's is {submitters[0].kind}; allowed: one kind a chain",
            )
        if names[each.name] > 1:
            yield f"{place}.name", f"is {each.name}, that of another one too; allowed: each once"
        if each.kind is SubmitterKind.PUBLIC and len(submitters) > 1:
            yield f"{place}.kind", "is public, and there are others; allowed: public by itself"
        for key, belongs, needed in (
            ("url", {SubmitterKind.PRIVATE_RPC, SubmitterKind.BUNDLES, SubmitterKind.PLUGIN}, each.kind in _TO_PLACES),
            (
                "identity",
                {SubmitterKind.PRIVATE_RPC, SubmitterKind.BUNDLES, SubmitterKind.PLUGIN},
                each.kind is SubmitterKind.BUNDLES,
            ),
            ("plugin", {SubmitterKind.PLUGIN}, each.kind is SubmitterKind.PLUGIN),
            ("settings", {SubmitterKind.PLUGIN}, False),
        ):
            given = bool(getattr(each, key))
            if given and each.kind not in belongs:
                yield f"{place}.{key}", f"is set and kind is {each.kind}; allowed: with {', '.join(sorted(belongs))}"
            if needed and not given:
                yield f"{place}.{key}", f"is missing; allowed: {_NEEDED[key]}"
        if each.method is not PrivateMethod.RAW and each.kind is not SubmitterKind.PRIVATE_RPC:
            yield f"{place}.method", f"is set and kind is {each.kind}; allowed: with private_rpc"


_TO_PLACES = frozenset({SubmitterKind.PRIVATE_RPC, SubmitterKind.BUNDLES})
_NEEDED = {
    "url": "the place's https:// URL, or a reference to a secret that holds it",
    "identity": '"credential:NAME" or "file:/absolute/path" of the key that signs what builders are sent',
    "plugin": "MODULE:FUNCTION",
}
