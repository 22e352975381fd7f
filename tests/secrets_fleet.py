"""What the tests of secrets share, in the scenario `mev_agents`: its variables, and a way to run Python on its host that leaves no trace of what it is given."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from lab import ssh
from lab.checkout import Checkout
from tests.plays import ROOT

SCENARIO = "mev_agents"
SECURITY = "/data/blockchain/nodes/security"
BUS = f"{SECURITY}/signing_keys/redis_password"
JWT = f"{SECURITY}/jwt_secrets/ethereum.hex"
SOURCE = ROOT / ".lab/secrets/bus-password"
# As converge.yml has them.
VARIABLES: dict[str, Any] = {
    "node_chains": ["ethereum"],
    "mev_agents_chains": ["ethereum"],
    "mev_agents_mode": "observe",
    "mev_agents_limits": {"max_in_flight": 2, "breaker_failures": 5, "tokens": {"WETH": {"max_daily_trades": 100}}},
    "mev_agents_chain_limits": {"ethereum": {"max_in_flight": 1}},
    "mev_agents_bus_url": "redis://127.0.0.1:6379/0",
    "mev_agents_bus_password_source": str(SOURCE),
}
REDIS = """
import socket
with socket.create_connection(("127.0.0.1", 6379), timeout=10) as server:
    for words in {commands!r}:
        server.sendall(b"".join([b"*%d\\r\\n" % len(words), *(b"$%d\\r\\n%s\\r\\n" % (len(word), word.encode()) for word in words)]))
        answer = server.recv(4096)
        assert answer.startswith(b"+OK"), answer
"""


def on_host(script: str) -> str:
    """Run Python on the host, as root; by standard input, which sudo does not log and no other process sees."""
    command = ["ssh", "-F", str(ssh.config(Checkout.here())), SCENARIO, "sudo", "python3", "-IB", "-"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def redis(*commands: tuple[str, ...]) -> None:
    """Tell the bus's server, one command after the other over one connection."""
    on_host(REDIS.format(commands=commands))


def search(decoy: str = "") -> dict[str, Any]:
    """Look for the host's secrets on it, and for a decoy."""
    script = (ROOT / "molecule" / SCENARIO / "search.py").read_text()
    found: dict[str, Any] = json.loads(on_host(f"{script}\n\nmain({decoy!r})\n"))
    return found
