"""The kill switch's acts in the ledger: nothing of it is in the way of a halt, which is a file and holds without a ledger."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from mev.runtime.config import Config
from mev.runtime.storage import Database, StorageError
from mev.trading import switch
from mev.trading.ledger import Audit, Switched, last_act, read_ledger, write_act

LOOK_SECONDS = 1.0

log = structlog.get_logger(__name__)


class SwitchAudit:
    """Holds the ledger's newest act on each switch against the switch's file."""

    def __init__(self, database: Database, config: Config, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._audit = Audit(database)
        self._files = switch.files(config)
        self._now_ns = now_ns
        # Which file was there when the ledger last agreed with it: while it is the same nothing is asked of the ledger.
        self._agreed: dict[Path, str | None] = {}

    async def run(self) -> None:
        """Look for ever; a ledger that cannot be written is told once and tried again."""
        told = False
        while True:
            try:
                self.look()
                told = False
            except StorageError as error:
                if not told:
                    log.warning("the ledger cannot take who halted or resumed", reason=str(error))
                told = True
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Write what the files say and the ledger does not. Raises StorageError."""
        for path, chains in self._files.items():
            seen = switch.thrown(path, chains)
            if path in self._agreed and self._agreed[path] == _mark(seen):
                continue
            with self._audit.writing() as connection:
                # Whoever resumes takes the file away while he holds the ledger: now nobody does.
                seen = switch.thrown(path, chains)
                last = last_act(connection, str(path))
                if seen is not None and (last is None or last.act == "resume" or not _same(last, seen)):
                    write_act(connection, seen)
                elif seen is None and last is not None and last.act == "halt":
                    write_act(connection, self._resumed(last, "", "by taking its file away", ""))
            self._agreed[path] = _mark(seen)

    def resume(self, config: Config, chain: str | None, reason: str) -> dict[str, Any]:
        """Take the switch back and write who did, both or neither. Raises StorageError, and what `switch.resume` does."""
        self.look()
        with self._audit.writing() as connection:
            before = {path: switch.thrown(path, chains) for path, chains in self._files.items()}
            document = switch.resume(config, chain)
            for path, halted in before.items():
                if halted is not None and switch.thrown(path, self._files[path]) is None:
                    write_act(connection, halted)
                    act = self._resumed(halted, switch.who(), f"by mev resume{switch.origin()}", reason)
                    write_act(connection, act)
        return document

    def _resumed(self, halted: Switched, who: str, origin: str, reason: str) -> Switched:
        return Switched(
            switch=halted.switch,
            act="resume",
            chains=halted.chains,
            mark=halted.mark,
            who=who,
            origin=origin,
            reason=reason,
            at_ns=self._now_ns(),
        )


def halt(config: Config, chain: str | None, reason: str) -> dict[str, Any]:
    """Halt as `switch.halt` does, and then have the ledger say so where it can be written (`in_ledger`)."""
    document = switch.halt(config, chain, reason)
    try:
        _writer(config).look()
    except Exception as error:  # noqa: BLE001 - it is halted, and whatever is wrong with the ledger must not say otherwise
        return {**document, "in_ledger": f"no: {error}; the strategy engine writes it there as soon as it can"}
    return {**document, "in_ledger": True}


def resume(config: Config, chain: str | None, reason: str) -> dict[str, Any]:
    """Resume as `switch.resume` does, and have the ledger say who did where it can be written (`in_ledger`)."""
    try:
        audit = _writer(config)
        audit.look()
    except Exception as error:  # noqa: BLE001 - as above: the files alone decide
        return {**switch.resume(config, chain), "in_ledger": f"no: {error}"}
    return {**audit.resume(config, chain, reason), "in_ledger": True}


def _writer(config: Config) -> SwitchAudit:
    # Making the ledger, or bringing it to a version, is its agent's.
    read_ledger(config.storage.ledger).close()
    return SwitchAudit(Database(config.storage.ledger), config)


def _mark(seen: Switched | None) -> str | None:
    return None if seen is None else seen.mark


def _same(last: Switched, seen: Switched) -> bool:
    return last.mark == seen.mark or seen.mark.startswith("unseen")
