"""What the tests of secrets share, in the scenario `mev_agents`: its variables, and a way to run Python on its host that leaves no trace of what it is given."""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import ssh
from lab.checkout import Checkout
from tests.plays import ROOT

SCENARIO = "mev_agents"
SECURITY = "/data/blockchain/nodes/security"
BUS = f"{SECURITY}/signing_keys/redis_password"
JWT = f"{SECURITY}/jwt_secrets/ethereum.hex"
DATABASE = f"{SECURITY}/signing_keys/postgres_password"
SOURCE = ROOT / ".lab/secrets/bus-password"
DATABASE_SOURCE = ROOT / ".lab/secrets/database-password"
CONTROL_SOURCE = ROOT / ".lab/secrets/control-token"
# As converge.yml has them.
VARIABLES: dict[str, Any] = {
    "node_chains": ["ethereum"],
    "mev_agents_chains": ["ethereum"],
    "mev_agents_mode": "observe",
    "mev_agents_limits": {"max_in_flight": 2, "breaker_failures": 5, "tokens": {"WETH": {"max_daily_trades": 100}}},
    "mev_agents_chain_limits": {"ethereum": {"max_in_flight": 1}},
    "mev_agents_database_url": "postgresql://127.0.0.1:5432/mev",
    "mev_agents_database_password_source": str(DATABASE_SOURCE),
    "mev_agents_bus_url": "redis://127.0.0.1:6379/0",
    "mev_agents_bus_password_source": str(SOURCE),
    "mev_agents_traces_url": "http://127.0.0.1:4318",
    "mev_agents_control_token_source": str(CONTROL_SOURCE),
}
REDIS = """
import socket
with socket.create_connection(("127.0.0.1", 6379), timeout=10) as server:
    for words in {commands!r}:
        server.sendall(b"".join([b"*%d\\r\\n" % len(words), *(b"$%d\\r\\n%s\\r\\n" % (len(word), word.encode()) for word in words)]))
        answer = server.recv(4096)
        assert answer.startswith((b"+OK", b":")), answer
"""


# The name server takes a key beside those that it has, or one less.
BIND = """
import pathlib, re, subprocess
conf, name, secret = pathlib.Path("/etc/bind/named.conf"), {name!r}, {secret!r}
text = conf.read_text()
grant = f"grant {{name}} name _acme-challenge.rpc.lyftium.com. TXT; "
assert (f'key "{{name}}"' in text) is not bool(secret), "the key is there already, or is not"
if secret:
    text = f'key "{{name}}" {{{{ algorithm hmac-sha256; secret "{{secret}}"; }}}};\\n' + text
    text = text.replace("update-policy {{ ", "update-policy {{ " + grant)
else:
    text = re.sub('key "' + re.escape(name) + '" [{{].*?[}}];', "", text, flags=re.DOTALL).replace(grant, "")
conf.write_text(text)
subprocess.run(["rndc", "reconfig"], check=True)
"""
SQL = """
import subprocess
done = subprocess.run(
    ["runuser", "-u", "postgres", "--", "psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "mev"],
    input={statements!r}, capture_output=True, text=True, check=False, cwd="/")
assert done.returncode == 0, done.stderr
print(done.stdout, end="")
"""


def on_host(script: str, host: str = SCENARIO) -> str:
    """Run Python on the host, as root; by standard input, which sudo does not log and no other process sees."""
    command = ["ssh", "-F", str(ssh.config(Checkout.here())), host, "sudo", "python3", "-IB", "-"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def redis(*commands: tuple[str, ...], host: str = SCENARIO) -> None:
    """Tell the bus's server, one command after the other over one connection."""
    on_host(REDIS.format(commands=commands), host)


def sql(*statements: str, host: str = SCENARIO) -> str:
    """Tell the database's server, as its own administrator."""
    return on_host(SQL.format(statements="\n".join(f"{each};" for each in statements)), host)


def new_role(name: str, password: str, host: str = SCENARIO) -> None:
    """Make a role that has the agents' rights and a password of its own, as docs/secrets.md has it."""
    sql(f"CREATE ROLE {name} LOGIN PASSWORD '{password}' IN ROLE mev", f"ALTER ROLE {name} SET role = mev", host=host)


def end_role(name: str, host: str = SCENARIO) -> None:
    """Let a role log in no more, and end what it has open."""
    sql(
        f"ALTER ROLE {name} NOLOGIN",
        f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = '{name}'",  # noqa: S608 - a test's own name
        host=host,
    )


@dataclass(frozen=True)
class DnsKey:
    """A TSIG key: its name, and its secret in base64."""

    name: str
    secret: str

    def ini(self) -> str:
        """What certbot is given."""
        told = {"server": "127.0.0.1", "port": 53, "name": self.name, "secret": self.secret, "algorithm": "HMAC-SHA256"}
        return "".join(f"dns_rfc2136_{key} = {value}\n" for key, value in told.items())


def dns_key_name(source: Path) -> str:
    """The name of the key that a file for certbot holds."""
    return source.read_text().partition("dns_rfc2136_name = ")[2].split()[0]


def new_dns_key(host: str) -> DnsKey:
    """Have the name server of the scenario `certbot` take a key beside those that it has."""
    key = DnsKey(f"certbot-{secrets.token_hex(2)}.", base64.b64encode(secrets.token_bytes(32)).decode())
    on_host(BIND.format(name=key.name, secret=key.secret), host)
    return key


def end_dns_key(name: str, host: str) -> None:
    """Have the name server take a key no more."""
    on_host(BIND.format(name=name, secret=""), host)


def search(decoy: str = "") -> dict[str, Any]:
    """Look for the host's secrets on it, and for a decoy."""
    script = (ROOT / "molecule" / SCENARIO / "search.py").read_text()
    found: dict[str, Any] = json.loads(on_host(f"{script}\n\nmain({decoy!r})\n"))
    return found
