"""The lab, seen from outside: over TLS, over SSH, never through podman."""

from __future__ import annotations

import json
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from requests.adapters import HTTPAdapter

ROOT = Path(__file__).parents[2]
LAB = ROOT / ".lab"
CATALOGUE = ROOT / "roles" / "catalogue" / "defaults" / "main"


def facts(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((CATALOGUE / f"{name}.yml").read_text())
    return loaded


CHAINS: dict[str, dict[str, Any]] = facts("chains")["catalogue_default_chains"]
SERVICES: dict[str, dict[str, Any]] = facts("services")["catalogue_default_services"]
DOMAIN: str = facts("chains")["catalogue_edge_domain"]
HOST_SERVICES: dict[str, dict[str, Any]] = facts("services")["catalogue_default_host_services"]
EDGE_PORT: int = HOST_SERVICES["nginx"]["listeners"]["https"]["port"]


class Host:
    """The lab host over SSH, as the playbooks reach it."""

    def __init__(self) -> None:
        connection = yaml.safe_load((ROOT / "inventories/lab/host_vars/mev1/connection.yml").read_text())
        self.address: str = connection["ansible_host"]
        self._ssh = [
            "ssh",
            "-i",
            connection["ansible_ssh_private_key_file"],
            "-o",
            "BatchMode=yes",
            "-o",
            "ConnectTimeout=5",
        ]
        self._ssh += [*connection["ansible_ssh_common_args"].split(), f"{connection['ansible_user']}@{self.address}"]

    def run(self, command: str, *, check: bool = True, timeout: float = 60) -> str:
        """Run a shell command as root and return what it printed."""
        done = subprocess.run(
            [*self._ssh, "sudo", "sh", "-c", f"'{command}'"],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command}: exit {done.returncode}: {done.stderr}"
        return done.stdout.strip()

    def python(self, program: str) -> str:
        """Run a Python program with the host's own interpreter and return what it printed."""
        done = subprocess.run(
            [*self._ssh, "python3", "-"], input=program, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def mev(self, *arguments: str) -> Any:
        """What a subcommand of `mev` says, as data."""
        return json.loads(self.run(f"mev {' '.join(arguments)} --json"))


class _PinnedAdapter(HTTPAdapter):
    """Sends each name to the lab host while certificate and SNI stay those of the name."""

    def __init__(self, address: str, context: ssl.SSLContext) -> None:
        self._address = address
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)

    def get_connection_with_tls_context(self, request: Any, *_: Any, **__: Any) -> Any:
        name = request.url.split("//")[1].split(":")[0]
        request.headers["Host"] = f"{name}:{EDGE_PORT}"
        return self.poolmanager.connection_from_host(
            self._address, EDGE_PORT, "https", pool_kwargs={"server_hostname": name, "assert_hostname": name}
        )


@pytest.fixture(scope="session")
def mev1() -> Host:
    return Host()


@pytest.fixture(scope="session")
def tls() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(LAB / "ca" / "ca.crt"))


@pytest.fixture(scope="session")
def edge(mev1: Host, tls: ssl.SSLContext) -> requests.Session:
    session = requests.Session()
    session.mount("https://", _PinnedAdapter(mev1.address, tls))
    session.trust_env = False
    return session


@pytest.fixture(scope="session")
def rpc(edge: requests.Session) -> Callable[..., Any]:
    """Call a chain through the edge: rpc("base", "eth_chainId")."""

    def call(chain: str, method: str, *params: Any) -> Any:
        answer = edge.post(
            edge_url(chain), json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, timeout=10
        )
        answer.raise_for_status()
        body = answer.json()
        assert "error" not in body, body
        return body["result"]

    return call


def edge_url(chain: str) -> str:
    return f"https://{CHAINS[chain]['public_name']}.{DOMAIN}:{EDGE_PORT}/"


def wait_for(what: str, condition: Callable[[], bool], seconds: float = 120) -> None:
    """Poll until the condition holds; what it raises on the way counts as not yet."""
    deadline = time.monotonic() + seconds
    last = "it never held"
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except (AssertionError, OSError, requests.RequestException, subprocess.SubprocessError, ValueError) as error:
            last = repr(error)
        time.sleep(1)
    pytest.fail(f"{what} did not come true within {seconds:.0f} s; last: {last}")
