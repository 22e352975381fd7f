"""What ends a run, in one sentence."""


class SnapshotError(Exception):
    """The snapshot is not in its place; the sentence says why, and what to do where that is known."""
