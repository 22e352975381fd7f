"""A real SQLite file: durable, checked, one version, read by others while it is written."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mev.runtime.storage import Database, NoDatabaseError, StorageError
from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, insert, select, text
from sqlalchemy.exc import IntegrityError

metadata = MetaData()
notes = Table("notes", metadata, Column("id", Integer, primary_key=True), Column("text", Text, nullable=False))
NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notes.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    made = Database(path)
    made.create(metadata)
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
def process(program: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run a program beside the test, up to its first line of output."""
    head = "import sys\nfrom pathlib import Path\nfrom mev.runtime.storage import Database\n"
    command = [sys.executable, "-c", head + textwrap.dedent(program), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline()
            yield running
        finally:
            running.kill()


def test_the_journal_survives_power_and_keeps_readers_going(database: Database) -> None:
    with database.begin() as connection:
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


def test_what_is_committed_outlives_kill_9(path: Path, database: Database) -> None:
    program = """
        from sqlalchemy import text
        database = Database(Path(sys.argv[1]))
        for number in range(10**6):
            with database.begin() as connection:
                connection.execute(text("INSERT INTO notes (id, text) VALUES (:id, 'x')"), {"id": number + 1})
            print(number + 1, flush=True)
    """
    with process(program, path) as writer:
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(20)][-1]
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        told = max([told, *(int(line) for line in writer.stdout if line.endswith("\n"))])
    assert len(read(database)) in {told, told + 1}


def test_another_process_reads_while_this_one_writes(path: Path, database: Database) -> None:
    write(database, "first")
    with database.begin() as connection:
        connection.execute(insert(notes).values(text="not committed"))
        reader = Database(path, read_only=True)
        assert read(reader) == ["first"]
    assert read(reader) == ["first", "not committed"]
    with pytest.raises(StorageError, match="readonly"):
        write(reader, "never")
    reader.close()


def test_short_transactions_of_two_processes_wait_for_each_other(path: Path, database: Database) -> None:
    program = """
        from sqlalchemy import text
        database = Database(Path(sys.argv[1]))
        print("begun", flush=True)
        for number in range(50):
            with database.begin() as connection:
                connection.execute(text("INSERT INTO notes (text) VALUES ('theirs')"))
        database.close()
    """
    with process(program, path) as writer:
        for _ in range(50):
            write(database, "ours")
        assert writer.wait(timeout=30) == 0
    assert sorted(read(database)) == ["ours"] * 50 + ["theirs"] * 50


def test_a_reader_does_not_make_a_file(path: Path) -> None:
    with pytest.raises(NoDatabaseError, match=r"notes\.db is not there: the agent that writes it makes it"):
        Database(path, read_only=True)
    assert not path.exists()


def test_a_directory_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="its directory is not there"):
        Database(tmp_path / "nowhere" / "notes.db")


def test_a_file_of_another_kind(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 400)
    with pytest.raises(StorageError, match="cannot be opened as a database: file is not a database"):
        Database(path)


def test_a_damaged_file_is_not_used(path: Path) -> None:
    database = Database(path)
    database.create(metadata)
    write(database, *("x" * 1000 for _ in range(200)))
    database.close()
    content = bytearray(path.read_bytes())
    content[3 * 4096 : 9 * 4096] = bytes(range(256)) * (6 * 4096 // 256)
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"is damaged|cannot be opened"):
        Database(path)


def test_a_full_disk_is_an_error_of_ours_and_undoes_all(database: Database) -> None:
    write(database, "kept")

    def fill() -> None:
        with database.begin() as connection:
            pages = connection.execute(text("PRAGMA page_count")).scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
            connection.execute(insert(notes), [{"text": "x" * 4096}] * 100)

    with pytest.raises(StorageError, match="full"):
        fill()
    assert read(database) == ["kept"]


def test_making_the_tables_twice_is_making_them_once(path: Path, database: Database) -> None:
    write(database, "kept")
    database.create(metadata)
    again = Database(path)
    again.create(metadata)
    assert read(again) == ["kept"]
    again.close()


def test_another_version_is_refused(path: Path, database: Database) -> None:
    with database.begin() as connection:
        connection.exec_driver_sql("PRAGMA user_version = 7")
    for read_only in (False, True):
        other = Database(path, read_only=read_only)
        with pytest.raises(StorageError, match="schema version 7, this program reads version 1: run the release"):
            other.create(metadata)
        other.close()


def test_tables_that_are_not_ours_are_refused(path: Path) -> None:
    database = Database(path)
    with database.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE stranger (id INTEGER)")
    with pytest.raises(StorageError, match="schema version 0"):
        database.create(metadata)
    database.close()


def test_an_old_file_is_brought_to_the_new_version(path: Path, database: Database) -> None:
    def add_author(connection: Connection) -> None:
        connection.exec_driver_sql("ALTER TABLE notes ADD COLUMN author TEXT")

    write(database, "kept")
    reader = Database(path, read_only=True)
    with pytest.raises(StorageError, match="schema version 1, this program reads version 2"):
        reader.create(metadata, [add_author])
    database.create(metadata, [add_author])
    database.create(metadata, [add_author])
    reader.create(metadata, [add_author])
    reader.close()
    with database.begin() as connection:
        assert connection.execute(text("SELECT text, author FROM notes")).all() == [("kept", None)]


def test_a_migration_that_fails_leaves_the_old_version(database: Database) -> None:
    def fail(connection: Connection) -> None:
        connection.exec_driver_sql("ALTER TABLE notes ADD COLUMN author TEXT")
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError):
        database.create(metadata, [fail])
    database.create(metadata)
    with database.begin() as connection:
        assert [column[1] for column in connection.execute(text("PRAGMA table_info(notes)"))] == ["id", "text"]


def test_one_engine_a_database(path: Path, database: Database) -> None:
    program = """
        database = Database(Path(sys.argv[1]))
        database.claim()
        print("claimed", flush=True)
        sys.stdin.read()
    """
    with process(program, path) as engine:
        with pytest.raises(StorageError, match="has an engine already: stop it first"):
            database.claim()
        engine.kill()
        engine.wait()
    database.claim()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_makes_belongs_to_the_directory_s_owner(path: Path) -> None:
    os.chown(path.parent, NOBODY, NOBODY)
    database = Database(path)
    database.create(metadata)
    database.claim()
    write(database, "x")
    owners = {made.stat().st_uid for made in path.parent.iterdir()}
    database.close()
    assert owners == {NOBODY}
