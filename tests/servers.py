"""Fixtures: Debian's own PostgreSQL and Redis, throwaway servers on loopback that a test session starts and ends."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import redis
from mev.runtime.storage import PostgresLocation

from lab.evm.devnode import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mev.runtime.storage import Location

ROOT = Path(__file__).parents[1]
START_SECONDS = 60
DATABASES = count()


@dataclass
class Postgres:
    """A running server, its one user's password in a file, and databases on demand."""

    port: int
    password: str

    def admin(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="mev", password="swordfish", dbname="postgres", autocommit=True
        )

    def new(self) -> PostgresLocation:
        """A new, empty database."""
        name = f"test_{next(DATABASES)}"
        with self.admin() as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return PostgresLocation(f"postgresql://mev@127.0.0.1:{self.port}/{name}", self.password)


@pytest.fixture(scope="session")
def _server_programs() -> None:
    subprocess.run([ROOT / "lab" / "prerequisites.sh"], check=True)


@pytest.fixture(scope="session")
def postgres(_server_programs: None) -> Iterator[Postgres]:
    """A PostgreSQL server; not as root, which it refuses."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4])).parent
    account = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    with _directory() as directory:
        password = directory / "password"
        password.touch(mode=0o600)
        password.write_text("swordfish\n")
        os.chown(password, account.pw_uid, account.pw_gid)
        os.chown(directory, account.pw_uid, account.pw_gid)
        data, port = directory / "data", free_port()

        def as_account(*command: object) -> subprocess.Popen[bytes]:
            # Root may become it; anybody else is it already.
            who: Any = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            process: subprocess.Popen[bytes] = subprocess.Popen(
                [str(word) for word in command],
                cwd=directory,
                stdout=(directory / "log").open("ab"),
                stderr=subprocess.STDOUT,
                **(who if os.geteuid() == 0 else {}),
            )
            return process

        made = as_account(
            programs / "initdb", "-D", data, "-U", "mev", "-A", "scram-sha-256", "--pwfile", password,
            "-E", "UTF8", "--locale=C.UTF-8", "--no-sync",
        )  # fmt: skip
        assert made.wait(START_SECONDS) == 0, (directory / "log").read_text()
        settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": directory, "fsync": "off"}
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        server = as_account(programs / "postgres", "-D", data, *options)
        running = Postgres(port, f"file:{password}")
        try:
            _wait(lambda: running.admin().close(), server, directory / "log", psycopg.OperationalError)
            yield running
        finally:
            # At once, without writing what is thrown away.
            server.send_signal(signal.SIGQUIT)
            server.wait(START_SECONDS)


@pytest.fixture(scope="session")
def redis_server(_server_programs: None) -> Iterator[str]:
    """The redis:// URL of a Redis server that keeps nothing on disk."""
    with _directory() as directory:
        port = free_port()
        log = (directory / "log").open("ab")
        server = subprocess.Popen(
            ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(directory)],
            stdout=log,
            stderr=log,
        )
        url = f"redis://127.0.0.1:{port}/0"
        try:
            _wait(lambda: redis.Redis.from_url(url).ping(), server, directory / "log", redis.ConnectionError)
            yield url
        finally:
            server.terminate()
            server.wait(START_SECONDS)


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """Where a new database may be made, of each kind that there is."""
    if request.param == "sqlite":
        return tmp_path / "test.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new()


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    # Not pytest's: another account has to pass through it.
    directory = Path(tempfile.mkdtemp(prefix="mev-test-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def _wait(answers: Callable[[], object], server: subprocess.Popen[bytes], log: Path, not_yet: type[Exception]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert server.poll() is None, log.read_text()
        try:
            answers()
        except not_yet:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        else:
            return
