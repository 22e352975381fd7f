"""Recorded mainnet blocks: they stand beside a checkout, not in it."""

from pathlib import Path

import pytest

BLOCKS = Path(__file__).parents[1].parent / "shared" / "recorded" / "blocks"

needs_recorded_blocks = pytest.mark.skipif(
    not BLOCKS.is_dir(), reason="the recorded blocks (../shared/recorded/blocks) are not beside this checkout"
)
