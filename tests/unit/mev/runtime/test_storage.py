"""One suite for both kinds of database, SQLite and PostgreSQL, real ones: durable, checked, one version, read while written."""

from __future__ import annotations

import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from mev.runtime.secret import SecretError
from mev.runtime.storage import Database, NoDatabaseError, PostgresLocation, Schema, StorageError, refuse_changes
from mev.runtime.storage.sqlite import copy
from sqlalchemy import Column, Integer, MetaData, Table, Text, insert, inspect, select, text, update
from sqlalchemy.exc import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mev.runtime.storage import Location

    from tests.servers import Postgres

metadata = MetaData()
notes = Table("notes", metadata, Column("id", Integer, primary_key=True), Column("text", Text, nullable=False))
NOBODY = 65534

FIRST = """
from alembic import op
import sqlalchemy as sa
revision, down_revision = "0001", None
def upgrade():
    op.create_table("notes", sa.Column("id", sa.Integer, primary_key=True), sa.Column("text", sa.Text, nullable=False))
"""
SECOND = """
from alembic import op
import sqlalchemy as sa
revision, down_revision = "0002", "0001"
def upgrade():
    op.add_column("notes", sa.Column("author", sa.Text))
"""
FAILS = SECOND + "    raise RuntimeError('half way')\n"


def schema(directory: Path, *migrations: str) -> Schema:
    """Notes, with these migrations."""
    versions = directory / f"versions{len(migrations)}{abs(hash(migrations))}"
    versions.mkdir(exist_ok=True)
    for number, migration in enumerate(migrations, 1):
        (versions / f"v{number:04d}_notes.py").write_text(migration)
    return Schema("notes", versions)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notes.db"


@pytest.fixture
def notes_schema(tmp_path: Path) -> Schema:
    return schema(tmp_path, FIRST)


@pytest.fixture
def database(location: Location, notes_schema: Schema) -> Iterator[Database]:
    made = Database(location)
    made.prepare(notes_schema)
    yield made
    made.close()


@pytest.fixture
def file(path: Path, notes_schema: Schema) -> Iterator[Database]:
    """A SQLite file."""
    made = Database(path)
    made.prepare(notes_schema)
    yield made
    made.close()


def write(database: Database, *texts: str) -> None:
    with database.begin() as connection:
        for one in texts:
            connection.execute(insert(notes).values(text=one))


def read(database: Database) -> list[str]:
    with database.begin() as connection:
        return list(connection.execute(select(notes.c.text).order_by(notes.c.id)).scalars())


@contextmanager
def process(program: str, location: Location) -> Iterator[subprocess.Popen[str]]:
    """Run a program beside the test, up to its first line of output."""
    head = "import pickle, sys\nfrom mev.runtime.storage import Database\nlocation = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
    command = [sys.executable, "-c", head + textwrap.dedent(program), pickle.dumps(location).hex()]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    # A pipe that nobody writes to: what waits for its input's end waits, whatever the test's own is.
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline()
            yield running
        finally:
            running.kill()


def test_a_file_s_journal_survives_power_and_keeps_readers_going(file: Database) -> None:
    with file.begin() as connection:
        settings = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_an_exception_undoes_the_transaction(database: Database) -> None:
    def fail() -> None:
        with database.begin() as connection:
            connection.execute(insert(notes).values(text="lost"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    write(database, "kept")
    assert read(database) == ["kept"]


def test_constraints_stay_the_caller_s_matter(database: Database) -> None:
    with pytest.raises(IntegrityError):
        write(database, None)  # type: ignore[arg-type]


def test_what_is_committed_outlives_kill_9(location: Location, database: Database) -> None:
    program = """
        from sqlalchemy import text
        database = Database(location)
        for number in range(10**6):
            with database.begin() as connection:
                connection.execute(text("INSERT INTO notes (id, text) VALUES (:id, 'x')"), {"id": number + 1})
            print(number + 1, flush=True)
    """
    with process(program, location) as writer:
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(20)][-1]
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        told = max([told, *(int(line) for line in writer.stdout if line.endswith("\n"))])
    assert len(read(database)) in {told, told + 1}


def test_a_reader_reads_while_another_writes(location: Location, database: Database) -> None:
    write(database, "first")
    with database.begin() as connection:
        connection.execute(insert(notes).values(text="not committed"))
        reader = Database(location, read_only=True)
        assert read(reader) == ["first"]
    assert read(reader) == ["first", "not committed"]
    with pytest.raises(StorageError, match=r"read-?only"):
        write(reader, "never")
    reader.close()


def test_short_transactions_of_two_processes_wait_for_each_other(location: Location, database: Database) -> None:
    program = """
        from sqlalchemy import text
        database = Database(location)
        print("begun", flush=True)
        for number in range(50):
            with database.begin() as connection:
                connection.execute(text("INSERT INTO notes (text) VALUES ('theirs')"))
        database.close()
    """
    with process(program, location) as writer:
        for _ in range(50):
            write(database, "ours")
        assert writer.wait(timeout=30) == 0
    assert sorted(read(database)) == ["ours"] * 50 + ["theirs"] * 50


def test_rows_are_numbered_in_the_order_of_their_commits(location: Location, database: Database) -> None:
    """Who has seen row n and asks for what is newer misses none: no smaller number shows up later."""
    program = """
        from sqlalchemy import text
        database = Database(location)
        print("begun", flush=True)
        for number in range(60):
            with database.begin() as connection:
                connection.execute(text("INSERT INTO notes (text) VALUES ('theirs')"))
        database.close()
    """
    reader, last, seen = Database(location, read_only=True), 0, 0
    with process(program, location) as writer:
        for number in range(60):
            write(database, str(number))
            with reader.begin() as connection:
                new = (
                    connection.execute(select(notes.c.id).where(notes.c.id > last).order_by(notes.c.id)).scalars().all()
                )
            last, seen = max([last, *new]), seen + len(new)
        assert writer.wait(timeout=30) == 0
    with reader.begin() as connection:
        seen += len(connection.execute(select(notes.c.id).where(notes.c.id > last)).all())
    reader.close()
    assert seen == 120


def test_a_reader_sees_one_moment(location: Location, database: Database) -> None:
    write(database, "first")
    reader = Database(location, read_only=True)
    with reader.begin() as connection:
        before = connection.execute(select(notes.c.text)).scalars().all()
        write(database, "second")
        assert connection.execute(select(notes.c.text)).scalars().all() == before
    reader.close()


def test_a_reader_does_not_make_a_file(path: Path) -> None:
    with pytest.raises(NoDatabaseError, match=r"notes\.db is not there: the agent that writes it makes it"):
        Database(path, read_only=True)
    assert not path.exists()


def test_a_reader_that_may_not_write_beside_the_file_waits_for_its_writer(path: Path, notes_schema: Schema) -> None:
    writer = Database(path)
    writer.prepare(notes_schema)
    write(writer, "first")
    writer.close()
    # SQLite follows no link there: root in a test may write anywhere.
    index = path.with_name(f"{path.name}-shm")
    index.symlink_to("nowhere")
    with pytest.raises(
        NoDatabaseError, match=r"notes\.db is read while the agent that writes it runs, which it does not"
    ):
        Database(path, read_only=True)
    index.unlink()
    writer = Database(path)
    reader = Database(path, read_only=True)
    assert read(reader) == ["first"]
    writer.close()
    # What a reader has open stays, so the next one needs no writer.
    assert index.exists()
    another = Database(path, read_only=True)
    assert read(another) == ["first"]
    another.close()
    reader.close()


def test_a_directory_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="its directory is not there"):
        Database(tmp_path / "nowhere" / "notes.db")


def test_a_file_of_another_kind(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 400)
    with pytest.raises(StorageError, match="cannot be opened as a database: file is not a database"):
        Database(path)


def test_a_damaged_file_is_not_used(path: Path, notes_schema: Schema) -> None:
    database = Database(path)
    database.prepare(notes_schema)
    write(database, *("x" * 1000 for _ in range(200)))
    database.close()
    content = bytearray(path.read_bytes())
    content[3 * 4096 : 9 * 4096] = bytes(range(256)) * (6 * 4096 // 256)
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"is damaged|cannot be opened"):
        Database(path)


def test_a_full_disk_is_an_error_of_ours_and_undoes_all(file: Database) -> None:
    database = file
    write(database, "kept")

    def fill() -> None:
        with database.begin() as connection:
            pages = connection.execute(text("PRAGMA page_count")).scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
            connection.execute(insert(notes), [{"text": "x" * 4096}] * 100)

    with pytest.raises(StorageError, match="full"):
        fill()
    assert read(database) == ["kept"]


def test_making_the_tables_twice_is_making_them_once(
    location: Location, database: Database, notes_schema: Schema
) -> None:
    write(database, "kept")
    database.prepare(notes_schema)
    again = Database(location)
    again.prepare(notes_schema)
    assert read(again) == ["kept"]
    again.close()


def test_processes_that_start_together_migrate_once(location: Location, notes_schema: Schema) -> None:
    program = f"""
        from pathlib import Path
        from mev.runtime.storage import Schema
        database = Database(location)
        print("opened", flush=True)
        database.prepare(Schema("notes", Path({str(notes_schema.versions)!r})))
        database.close()
    """
    with process(program, location) as one, process(program, location) as other:
        assert (one.wait(60), other.wait(60)) == (0, 0)
    database = Database(location)
    assert database.revision(notes_schema) == "0001"
    database.close()


def test_a_newer_database_is_refused(location: Location, database: Database, notes_schema: Schema) -> None:
    with database.begin() as connection:
        connection.execute(text("UPDATE notes_version SET version_num = '0007'"))
    for read_only in (False, True):
        other = Database(location, read_only=read_only)
        with pytest.raises(StorageError, match="schema version 0007, newer than this program's, 0001: run the release"):
            other.prepare(notes_schema)
        other.close()


def test_strangers_tables_in_a_file_are_refused(path: Path, notes_schema: Schema) -> None:
    database = Database(path)
    with database.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE stranger (id INTEGER)")
    with pytest.raises(StorageError, match=r"another program's database: it has the table stranger"):
        database.prepare(notes_schema)
    database.close()


def test_an_old_database_is_brought_to_the_new_version(location: Location, database: Database, tmp_path: Path) -> None:
    newer = schema(tmp_path, FIRST, SECOND)
    write(database, "kept")
    reader = Database(location, read_only=True)
    with pytest.raises(
        StorageError, match="schema version 0001, this program reads version 0002: the agent that writes"
    ):
        reader.prepare(newer)
    database.prepare(newer)
    database.prepare(newer)
    reader.prepare(newer)
    reader.close()
    with database.begin() as connection:
        assert connection.execute(text("SELECT text, author FROM notes")).all() == [("kept", None)]


def test_a_migration_that_fails_leaves_the_old_version(
    database: Database, tmp_path: Path, notes_schema: Schema
) -> None:
    with pytest.raises(RuntimeError, match="half way"):
        database.prepare(schema(tmp_path, FIRST, FAILS))
    database.prepare(notes_schema)
    with database.begin() as connection:
        assert [column["name"] for column in inspect(connection).get_columns("notes")] == ["id", "text"]


def test_a_reader_says_that_nothing_is_there_yet(location: Location, notes_schema: Schema) -> None:
    Database(location).close()
    reader = Database(location, read_only=True)
    with pytest.raises(StorageError, match="has schema version none, this program reads version 0001"):
        reader.prepare(notes_schema)
    reader.close()


def test_what_may_not_change_does_not(database: Database) -> None:
    write(database, "kept")
    with database.begin() as connection:
        refuse_changes(connection, "notes")
    for statement in (update(notes).values(text="changed"), notes.delete()):
        with pytest.raises(IntegrityError, match="notes is append-only"), database.begin() as connection:
            connection.execute(statement)
    write(database, "more")
    assert read(database) == ["kept", "more"]


def test_a_copy_is_of_one_moment_while_others_write(path: Path, file: Database, tmp_path: Path) -> None:
    write(file, "kept")
    target = tmp_path / "copy.db"
    with file.begin() as connection:
        connection.execute(insert(notes).values(text="not committed"))
        copy(path, target)
    other = Database(target, read_only=True)
    assert read(other) == ["kept"]
    other.close()
    assert sorted(found.name for found in tmp_path.glob("copy*")) == ["copy.db"]


def test_a_copy_that_fails_leaves_the_one_before(path: Path, file: Database, tmp_path: Path) -> None:
    write(file, *("x" * 1000 for _ in range(200)))
    target = tmp_path / "copy.db"
    copy(path, target)
    before = target.read_bytes()
    file.close()
    content = bytearray(path.read_bytes())
    content[2 * 4096 : 6 * 4096] = b"\xff" * 4 * 4096
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"is damaged|cannot be copied"):
        copy(path, target)
    assert target.read_bytes() == before
    with sqlite3.connect(target) as kept:
        assert kept.execute("SELECT count(*) FROM notes").fetchone() == (200,)


def test_the_password_is_read_from_its_file_and_never_told(postgres: Postgres, tmp_path: Path) -> None:
    location = postgres.new()
    wrong = tmp_path / "wrong"
    wrong.touch(mode=0o600)
    wrong.write_text("hunter2")
    with pytest.raises(StorageError, match="password authentication failed") as refused:
        Database(msgspec.structs.replace(location, password=f"file:{wrong}"))
    assert "hunter2" not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "swordfish" not in Database(location).name


def test_a_new_role_takes_over_from_the_old_one_while_the_engine_runs(
    postgres: Postgres, tmp_path: Path, notes_schema: Schema
) -> None:
    """Both passwords are good for a while: that of one role, and that of another with the same rights."""
    url = postgres.new().url
    name, one = url.rpartition("/")[2], f"{url.rpartition('/')[2]}_a"
    other = f"{name}_b"
    with postgres.admin() as admin:
        # Whoever logs in is the role that owns the tables.
        admin.execute(f"CREATE ROLE {name} NOLOGIN")
        admin.execute(f"ALTER DATABASE {name} OWNER TO {name}")
        admin.execute(f"GRANT CREATE ON DATABASE {name} TO {name}")
        for role in (one, other):
            admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{role}-secret' IN ROLE {name}")
            admin.execute(f"ALTER ROLE {role} SET role = {name}")
    file = tmp_path / "password"
    file.touch(mode=0o600)
    file.write_text(f"{one}:{one}-secret\n")
    location = PostgresLocation(url.replace("mev@", ""), f"file:{file}")
    database = Database(location)
    database.prepare(notes_schema)
    write(database, "by the old one")
    file.write_text(f"{other}:{other}-secret\n")
    with postgres.admin() as admin:
        admin.execute(f"ALTER ROLE {one} NOLOGIN")
        admin.execute("SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE usename = %s", (one,))
    write(database, "by the new one")
    assert read(database) == ["by the old one", "by the new one"]
    database.close()
    file.write_text("no user\n")
    with pytest.raises(SecretError, match=r"is not USER:PASSWORD, and postgresql://127\.0\.0\.1.* names no user"):
        Database(location)


def test_a_server_that_is_down_is_one_sentence() -> None:
    with pytest.raises(
        StorageError, match=r"postgresql://mev@127\.0\.0\.1:9/mev cannot be opened: .*refused"
    ) as refused:
        Database(PostgresLocation("postgresql://mev@127.0.0.1:9/mev"))
    assert "\n" not in str(refused.value)


def test_an_engine_whose_claim_is_gone_writes_nothing_more(postgres: Postgres, notes_schema: Schema) -> None:
    database = Database(postgres.new())
    database.prepare(notes_schema)
    database.claim()
    write(database, "kept")
    with postgres.admin() as admin:
        # It returns once the connection has ended, or false after the milliseconds.
        ended = admin.execute(
            "SELECT pg_terminate_backend(pid, 30000) FROM pg_locks WHERE locktype = 'advisory' AND objid = 2 AND granted"
            " AND database = (SELECT max(oid) FROM pg_database)"
        ).fetchall()
    assert ended == [(True,)]
    with pytest.raises(StorageError, match="the connection that made this engine the only one is gone"):
        write(database, "lost")
    assert database.name.startswith("postgresql://")
    database.close()


def test_one_engine_a_database(location: Location, database: Database) -> None:
    program = """
        database = Database(location)
        database.claim()
        print("claimed", flush=True)
        sys.stdin.read()
    """
    with process(program, location) as engine:
        with pytest.raises(StorageError, match="has an engine already: stop it first"):
            database.claim()
        engine.kill()
        engine.wait()
    database.claim()


def test_an_engine_waits_for_the_session_of_the_one_before_to_end(postgres: Postgres) -> None:
    """A killed engine's session is the server's to end, which takes it a moment: held open here for one."""
    location = postgres.new()
    database, before = Database(location), Database(location)
    before.claim()
    threading.Timer(0.5, before.close).start()
    database.claim()
    with pytest.raises(StorageError, match="has an engine already: stop it first"):
        Database(location).claim()
    database.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_makes_belongs_to_the_directory_s_owner(path: Path, notes_schema: Schema) -> None:
    os.chown(path.parent, NOBODY, NOBODY)
    database = Database(path)
    database.prepare(notes_schema)
    database.claim()
    write(database, "x")
    owners = {made.stat().st_uid for made in path.parent.glob("notes.db*")}
    database.close()
    assert owners == {NOBODY}
