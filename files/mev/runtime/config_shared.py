"""What the configuration says of databases, of the bus and of traces: on one host files, for several hosts servers that they share."""

from collections.abc import Callable, Iterable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from mev.runtime.bus import RedisLocation
from mev.runtime.secret import is_reference
from mev.runtime.storage import Location, PostgresLocation

MAX_PORT = 65535
IPV6 = 6
# What goes to these in clear text stays on the host, in a site's own network or within a VPN.
_OWN_NETWORKS = tuple(
    ip_network(network)
    for network in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "::1/128",
        "fc00::/7",
    )
)

# A key, and what is wrong with its value and allowed for it.
Problem = tuple[str, str]


class Listen(str):
    """An IP address and a port to listen on."""

    __slots__ = ()

    @property
    def address(self) -> str:
        """The IP address, without brackets."""
        return str(self).rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self.rpartition(":")[2])


class BusUrl(str):
    """A Redis URL, which holds no password either."""

    __slots__ = ()


class CollectorUrl(str):
    """Where an OpenTelemetry collector takes OTLP over HTTP; it holds no secret."""

    __slots__ = ()


class Place(str):
    """Where a database is: an absolute path, or a postgresql:// URL; whoever writes a password there must not find it in a log."""

    __slots__ = ()


class SecretReference(str):
    """Where a secret is: "credential:NAME" or "file:/absolute/path" (see mev.runtime.secret)."""

    __slots__ = ()


_Place = Annotated[
    Place,
    Meta(
        description="an absolute path, or postgresql://USER@HOST:PORT/DATABASE without a password, with sslmode=, sslrootcert= "
        "and host= (a socket's directory) at most"
    ),
]
_RedisUrl = Annotated[
    BusUrl, Meta(description="redis://HOST:PORT/NUMBER or rediss:// (TLS), without a password and without parameters")
]
_CollectorUrl = Annotated[
    CollectorUrl,
    Meta(
        description="https://HOST:PORT, or http:// with localhost, a loopback, private or VPN address; without a password and without "
        "parameters"
    ),
]
_Listen = Annotated[
    Listen, Meta(description="IP:PORT or [IPv6]:PORT of this host, a port from 1 to 65535; not an address for everyone")
]
_Reference = Annotated[
    SecretReference, Meta(description='"credential:NAME" or "file:/absolute/path", never the secret itself')
]


class StorageConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Databases: the ledger's, and that of what analytics computes from it."""

    opportunities: _Place
    performance: _Place
    password: _Reference | None = None

    @property
    def ledger(self) -> Location:
        """Where the ledger is."""
        return self._location(self.opportunities)

    @property
    def metrics(self) -> Location:
        """Where analytics writes."""
        return self._location(self.performance)

    def _location(self, place: str) -> Location:
        return Path(place) if place.startswith("/") else PostgresLocation(place, self.password)


class BusConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Redis, where agents on several hosts tell each other what happens; without it each process tells itself."""

    url: _RedisUrl | None = None
    password: _Reference | None = None
    max_length: Annotated[int, Meta(ge=1, le=10**7, description="a whole number from 1 to 10000000")] = 10_000

    @property
    def location(self) -> RedisLocation | None:
        """Where Redis is; None where there is none."""
        return None if self.url is None else RedisLocation(self.url, self.password)


class MetricsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where each agent serves its metrics for Prometheus; one without an address serves none."""

    strategy_engine: _Listen | None = None
    analytics_engine: _Listen | None = None


class ControlConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where the strategy engine's kill switch is thrown over HTTP, and the token that this takes."""

    listen: _Listen
    token: _Reference


class TracesConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The collector that is sent spans, over OTLP with protobuf, and of how many blocks; `authorization` is that header's whole value."""

    endpoint: _CollectorUrl
    sample_ratio: Annotated[float, Meta(gt=0, le=1, description="a part of all blocks, more than 0 and at most 1")] = (
        1.0
    )
    authorization: _Reference | None = None

    @property
    def url(self) -> str:
        """Where spans are posted: the path that OTLP has for them, below the end point's own."""
        return f"{self.endpoint.rstrip('/')}/v1/traces"


def shared_problems(storage: StorageConfig, bus: BusConfig, control: ControlConfig | None) -> Iterable[Problem]:
    """Yield what no single value of them shows."""
    if control is not None and not ip_address(control.listen.address).is_loopback:
        yield "control.listen", f"is {control.listen}; allowed: a loopback address, such as 127.0.0.1:9114"
    places = (storage.opportunities, storage.performance)
    if storage.opportunities == storage.performance and isinstance(storage.ledger, Path):
        yield "storage.performance", "is the file of storage.opportunities too; allowed: a file of its own"
    if storage.password is not None and all(place.startswith("/") for place in places):
        yield "storage.password", "is set, and no place is a postgresql:// URL; allowed: only with such a URL"
    if bus.password is not None and bus.url is None:
        yield "bus.password", "is set without bus.url; allowed: only with bus.url"


def _place(text: str) -> Place:
    if not text.startswith("/"):
        PostgresLocation(text).parameters()
    return Place(text)


def _bus_url(text: str) -> BusUrl:
    parts = urlsplit(text)
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname:
        raise ValueError("it is no redis:// URL")
    if parts.password is not None or parts.query:
        raise ValueError("it holds a password or parameters")
    if not parts.path.removeprefix("/").isdigit() and parts.path.removeprefix("/"):
        raise ValueError("its database is no number")
    return BusUrl(text)


def _collector_url(text: str) -> CollectorUrl:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise ValueError("it is no HTTP URL with a host")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError("it holds a user, a password or parameters")
    if parts.scheme == "http" and not is_own(parts.hostname):
        raise ValueError("spans would cross foreign networks in clear text")
    return CollectorUrl(text)


def is_own(host: str) -> bool:
    """Whether a host is this one, or of a site's own network or a VPN, by its address; a name but localhost is not."""
    if host == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        # Where a name leads is not ours to say.
        return False
    return any(address in network for network in _OWN_NETWORKS)


def _listen(text: str) -> Listen:
    listen = Listen(text)
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= MAX_PORT:
        raise ValueError("it has no port")
    address = ip_address(listen.address)
    if host != (f"[{address}]" if address.version == IPV6 else str(address)):
        raise ValueError("it is not written so")
    if address.is_unspecified:
        raise ValueError("everyone could read it")
    return listen


def _reference(text: str) -> SecretReference:
    if not is_reference(text):
        raise ValueError("it is no reference")
    return SecretReference(text)


SHARED_PARSERS: dict[object, Callable[[str], object]] = {
    Place: _place,
    BusUrl: _bus_url,
    CollectorUrl: _collector_url,
    Listen: _listen,
    SecretReference: _reference,
}
