"""Where a database is."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

DEFAULT_PORT = 5432
QUERY = ("host", "sslmode", "sslrootcert")


class PostgresLocation(msgspec.Struct, frozen=True):
    """A postgresql:// URL without a password, and where the password is (a secret's reference), if there is one.

    Where the URL names no user the secret is USER:PASSWORD: PostgreSQL has one password a role, so a new one that is good beside the old one is
    another role's.
    """

    url: str
    password: str | None = None

    def parameters(self) -> dict[str, Any]:
        """Return what libpq is told, but for the password; raises ValueError with what is wrong with the URL."""
        parts = urlsplit(self.url)
        query = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        if parts.scheme != "postgresql":
            raise ValueError("it is no postgresql:// URL")
        if parts.password is not None:
            raise ValueError("it holds a password")
        for key in query:
            if key not in QUERY:
                raise ValueError(f"it says {key}=")
        host, name = query.pop("host", parts.hostname), parts.path.removeprefix("/")
        if not host or not name or "/" in name:
            raise ValueError("it names no host or no database")
        user = {"user": parts.username} if parts.username else {}
        return {"host": host, "port": parts.port or DEFAULT_PORT, "dbname": name, **user, **query}


Location = Path | PostgresLocation
