"""The one exception whose text is meant for the person at the terminal."""


class LabError(Exception):
    """One sentence: what is wrong, where it is set or found, and what to do."""
