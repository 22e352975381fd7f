"""Keep what anvil remembers of a chain loadable and short: its state file grows with each block, for ever.

Standard library only: the world container runs this.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def tidy(state: Path, blocks_kept: int, warn: Callable[[str], None]) -> None:
    """Make `state` a file that anvil can start from, without blocks older than the last `blocks_kept`.

    anvil writes the file in place: one that was cut off is replaced by the copy that the last start left beside it, and
    the chain goes back to there; without one it starts from nothing and has to be seeded. `warn` is told of either.
    """
    previous = state.with_name(state.name + ".previous")
    if not state.exists() and not previous.exists():
        return
    for candidate in (state, previous):
        try:
            document: dict[str, Any] = json.loads(candidate.read_text())
            shorten(document, blocks_kept)
        except (OSError, ValueError, KeyError, TypeError) as failure:
            warn(f"{candidate} is no state of a chain ({failure}): going back to the one before")
            continue
        text = json.dumps(document, separators=(",", ":"))
        for path in (previous, state):
            _replace(path, text)
        return
    warn(f"{state} and {previous.name} are both of no use: the chain starts from nothing, seed it")
    state.unlink(missing_ok=True)
    previous.unlink(missing_ok=True)


def shorten(document: dict[str, Any], blocks_kept: int) -> None:
    """Leave the genesis block and the last `blocks_kept` in a state document of anvil, with their transactions."""
    oldest = int(document["best_block_number"]) - blocks_kept + 1
    document["blocks"] = [
        block for block in document["blocks"] if (number := int(block["header"]["number"], 16)) == 0 or number >= oldest
    ]
    document["transactions"] = [item for item in document["transactions"] if item["block_number"] >= oldest]


def _replace(path: Path, text: str) -> None:
    beside = path.with_name(path.name + ".new")
    with beside.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
