"""The forms of what a plan holds. The role reads them from here too, by this file's path, so it imports nothing of this package."""

import re

URL = re.compile(r"https://[^\s/]+/\S+")
SHA256 = re.compile(r"[0-9a-f]{64}")
STRIP = range(17)
DOWNLOADS = range(1, 17)
CONNECTIONS = range(1, 17)
ATTEMPTS = range(1, 101)
# Where the directory is named that the client's own download is to fill.
DATA = "{data}"


def is_inside(path: object) -> bool:
    """Whether it is a relative path that stays where it is put."""
    return isinstance(path, str) and bool(path) and not path.startswith("/") and ".." not in path.split("/")
