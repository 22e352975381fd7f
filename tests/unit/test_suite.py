"""The test suite's own order."""

from __future__ import annotations

from tests import suite


def test_what_begins_first_is_there() -> None:
    parts = [part for group in ("unit", "molecule", "e2e") for part in suite.parts_of(group)]
    subjects = {part.name.rpartition(": ")[2] for part in parts}
    assert set(suite.LONG_FIRST) <= subjects
